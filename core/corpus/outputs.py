"""Gateway to what only DVC itself knows of a repository: outputs of `dvc.yaml`, and what `.dvcignore` hides.

The processes of `readers.py` run DVC's code, with limits of time and memory, because a repository is a stranger's text.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from core.corpus.readers import share_readers
from core.corpus.tracked import Tracked, parse_out
from core.errors import InvalidInput, SourceUnavailable

_LOCK = "dvc.lock"


def is_lock(path: str) -> bool:
    """Tell whether a path is that of a `dvc.lock`, which records the outputs of a pipeline."""
    return path == _LOCK or path.endswith(f"/{_LOCK}")


def read_outputs(git_dir: str, prefix: str, commit: str) -> tuple[Tracked, ...]:
    """Return what a commit tracks, as DVC says: what was added, or the outputs of stages if nothing was.

    Raises SourceUnavailable when DVC cannot read the project, or takes too much time or memory to.
    """
    found = ask_dvc("outputs", f"commit {commit[:7]}", git_dir=git_dir, prefix=prefix, commit=commit)
    added = [out for out in found if not out["is_stage"]]
    return tuple(_tracked(out) for out in added or found if out["md5"] or out["files"] or out["is_import"])


def read_workspace_outputs(root: Path, files: Sequence[str], caches: Iterable[Path]) -> tuple[Tracked, ...]:
    """Return the outputs of the stages in these `dvc.yaml` files of a working copy, with the hashes of `dvc.lock`."""
    found = read_stages(root, files, caches)
    locked = ((stage, out) for stage in found for out in (stage["lock"] or {}).get("outs") or ())
    return tuple(
        _tracked({**out, "path": f"{stage['folder']}/{out['path']}".lstrip("/"), "dvc_file": stage["dvc_file"]})
        for stage, out in locked
        if out["path"] not in _uncached(stage["body"])
    )


def read_stages(
    root: Path, files: Sequence[str], caches: Iterable[Path], *, with_params: bool = False
) -> list[dict[str, Any]]:
    """Return what `dvc_reading.resolve_pipeline` does. Raises SourceUnavailable for a pipeline that it refuses."""
    if not files:
        return []
    folders = [str(cache) for cache in caches]
    answer = ask_dvc(
        "pipeline", "dvc.yaml", root=str(root), files=list(files), caches=folders, with_params=with_params
    )  # fmt: skip
    return list(answer)


def ask_dvc(what: str, about: str, **arguments: Any) -> Any:
    """Return what DVC's code answers in a process of its own. Raises SourceUnavailable with the reason."""
    try:
        return share_readers().ask_dvc(what, about, arguments)
    except InvalidInput as error:
        raise SourceUnavailable(f"{error.field} {error.problem}") from error


def _tracked(out: dict[str, Any]) -> Tracked:
    from posixpath import normpath

    known = {key: value for key, value in out.items() if value is not None}
    try:
        return parse_out(known, normpath(out["path"]), out["dvc_file"], is_import=bool(out.get("is_import")))
    except (KeyError, TypeError, ValueError) as error:
        raise SourceUnavailable(f"{out.get('dvc_file')} is invalid: {error}") from error


def _uncached(body: dict[str, Any]) -> set[str]:
    """Return the outputs that git keeps, not DVC."""
    entries = (entry for key in ("outs", "metrics", "plots") for entry in body.get(key) or ())
    named = (pair for entry in entries if isinstance(entry, dict) for pair in entry.items())
    return {path for path, options in named if isinstance(options, dict) and options.get("cache") is False}
