"""Gateway to DVC's own code over files that others wrote. It runs in the processes of `readers.py`, and in no other.

A pipeline of ten lines can stand for a billion stages, and DVC reads YAML in Python: a process of its own, with limits
of time and memory, is what such a file ends. Nothing is run, fetched or written.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from posixpath import join
from types import SimpleNamespace
from typing import Any

from core.errors import InvalidInput
from core.safety.boundary import Boundary, confine_dvc
from core.safety.letters import quote_bytes
from core.safety.yaml_texts import MOST_BYTES, parse_yaml_texts

MOST_STAGES = 5_000
_MOST_PIPELINE_BYTES = 1_000_000
_DEFAULT_PARAMS = "params.yaml"


def list_outputs(git_dir: str, prefix: str, commit: str) -> list[dict[str, Any]]:
    """Return every output that DVC knows in a commit, `.dvc` files and stages alike, as entries of `outs`.

    Each has its path in the project, and `dvc_file`, `is_stage` and `is_import` beside what DVC recorded.
    """
    import pygit2
    from dvc.fs import GitFileSystem
    from dvc.repo import Repo
    from scmrepo.git import Git

    pygit2.option(pygit2.enums.Option.SET_OWNER_VALIDATION, 0)  # whoever asked has opened the repository already
    with _understood(f"the DVC project in commit {commit[:7]}"):
        _check_files(pygit2.Repository(git_dir)[commit].tree, prefix)
        scm = Git(git_dir, search_parent_directories=False)
        settings: Any = {"core": {"no_scm": True}, "cache": {"dir": "/nonexistent"}}
        repo = Repo(f"/{prefix}", fs=GitFileSystem(scm=scm, rev=commit), scm=scm, config=settings)
        outs = [out for out in repo.index.outs if out.use_cache and out.is_in_repo]
        if len(outs) > MOST_STAGES:
            raise InvalidInput("the project", f"has more than {MOST_STAGES:,} outputs")
        return [_describe(out, repo.root_dir) for out in outs]


def resolve_pipeline(
    root: str, files: Sequence[str], caches: Sequence[str], *, with_params: bool = False
) -> list[dict[str, Any]]:
    """Return the stages of these `dvc.yaml` files, templates filled in, each with its entry of `dvc.lock`.

    `with_params` adds the present values of its parameters by file: None for a file that is missing.
    """
    boundary = Boundary(Path(root), caches=lambda: map(Path, caches))
    stages: list[dict[str, Any]] = []
    for file in files:
        path, folder = Path(root) / file, file.rpartition("/")[0]
        with _understood(file):
            lock = _load(path.with_suffix(".lock"), boundary, MOST_BYTES).get("stages") or {}
            for name, body in _resolve(path, boundary):
                place = join(folder, str(body.get("wdir") or ""))
                label = f"{file}:{name}" if folder else name
                stages.append({"name": label, "folder": place, "body": body, "lock": lock.get(name), "dvc_file": file})
        if len(stages) > MOST_STAGES:
            raise InvalidInput(file, f"has more than {MOST_STAGES:,} stages")
    if with_params:
        for stage in stages:
            stage["values"] = dict(_read_params(stage, boundary))
    return stages


def params_of(body: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the keys by parameter file that a stage names; no keys mean all of them."""
    found: dict[str, list[str]] = {}
    for entry in body.get("params") or ():
        files = entry if isinstance(entry, Mapping) else {_DEFAULT_PARAMS: [entry]}
        for file, keys in files.items():
            found.setdefault(str(file), []).extend(keys or ())
    return found


def to_json(answer: Any, most_bytes: int) -> Any:
    """Return an answer of DVC as JSON has it. Raises InvalidInput when it is too long to be sent."""
    text = json.dumps(answer, default=str)
    if len(text) > most_bytes:
        raise InvalidInput("dvc.yaml", f"stands for more than {most_bytes:,} bytes of stages")
    return json.loads(text)


def _describe(out: Any, top: str) -> dict[str, Any]:
    info, meta = out.hash_info, out.meta
    found: dict[str, Any] = {
        "path": out.fs.relpath(out.fs_path, top), "md5": info.value if info else None, "size": meta.size,
        "nfiles": meta.nfiles, "hash": info.name if info else None, "remote": out.remote, "files": out.files,
        "dvc_file": out.repo.fs.relpath(out.stage.path, top), "is_stage": bool(out.stage.cmd),
        "is_import": bool(out.stage.is_import),
    }  # fmt: skip
    if meta.version_id:
        found["cloud"] = {meta.remote or out.remote: {"version_id": meta.version_id}}
    return found


def _check_files(tree: Any, prefix: str) -> None:
    """Raise InvalidInput for a file that DVC's parser cannot take: too large, too deep, or not named in UTF-8."""
    waiting = [("", tree[prefix] if prefix else tree)]
    while waiting:
        folder, below = waiting.pop()
        for entry in below:
            path = folder + entry.raw_name.decode(errors="surrogateescape")
            name = path.rpartition("/")[2]
            if entry.type_str == "tree":
                waiting.append((f"{path}/", entry))
            elif entry.type_str == "blob" and (name in ("dvc.yaml", "dvc.lock") or name.endswith(".dvc")):
                if quote_bytes(path) != path:
                    raise InvalidInput("name", f"has {quote_bytes(path)}, whose name is not UTF-8, as DVC needs it")
                most = _MOST_PIPELINE_BYTES if name == "dvc.yaml" else MOST_BYTES
                if entry.size > most:
                    raise InvalidInput("size", f"has {path}, which is larger than {most:,} bytes")
                parse_yaml_texts(entry.data, name, most_bytes=most)


def _resolve(path: Path, boundary: Boundary) -> Iterator[tuple[str, dict[str, Any]]]:
    """Fill in templates with DVC's own resolver, which needs only files and settings of a repository."""
    from dvc.parsing import DataResolver
    from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA

    repository: Any = SimpleNamespace(fs=confine_dvc(boundary), config={})
    document = COMPILED_MULTI_STAGE_SCHEMA(_load(path, boundary, _MOST_PIPELINE_BYTES))
    resolver = DataResolver(repository, str(path.parent), document)
    for key in resolver.get_keys():
        yield from resolver.resolve_one(key).items()


def _load(path: Path, boundary: Boundary, most_bytes: int) -> dict[str, Any]:
    from dvc.utils.serialize import load_yaml

    if not path.is_file():
        return {}
    with boundary.open(path) as stream:
        known = parse_yaml_texts(stream.read(most_bytes + 1), path.name, most_bytes=most_bytes)
    if isinstance(known, dict) and len(known.get("stages") or ()) > MOST_STAGES:
        raise InvalidInput(path.name, f"has more than {MOST_STAGES:,} stages")
    return load_yaml(str(path), fs=confine_dvc(boundary)) or {}


def _read_params(stage: Mapping[str, Any], boundary: Boundary) -> Iterator[tuple[str, dict[str, Any] | None]]:
    from dvc.dependency.param import read_param_file

    for file, keys in params_of(stage["body"]).items():
        path = boundary.root / stage["folder"] / file
        if not boundary.holds(path):
            continue
        if not path.is_file():
            yield file, None
            continue
        with _understood(join(stage["folder"], file)):
            yield file, read_param_file(confine_dvc(boundary), str(path), keys or None, flatten=True)


@contextmanager
def _understood(path: str) -> Iterator[None]:
    """Convert what DVC raises about an invalid file into one line. It has many kinds of errors, and no one base."""
    try:
        yield
    except MemoryError:
        raise
    except InvalidInput as error:
        raise InvalidInput(path, f"is invalid: it {error.problem}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise InvalidInput(path, f"is invalid: {reason}") from error
