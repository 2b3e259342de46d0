"""Gateway to the pipeline of a DVC repository: the stages of its `dvc.yaml` as a graph, which are stale, and why.

It compares `dvc.lock` with the working copy itself, because `dvc status` would wait for DVC's lock. It runs nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from posixpath import join, normpath
from types import SimpleNamespace
from typing import Any

from core.corpus.checkout import Checkout
from core.errors import SourceUnavailable

_OUTPUTS = ("outs", "metrics", "plots")
_DEFAULT_PARAMS = "params.yaml"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. Paths are relative to the repository, params are `file:key`; `upstream` are names of stages."""

    name: str
    cmd: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]
    upstream: tuple[str, ...]
    is_frozen: bool = False


@dataclass(frozen=True, slots=True)
class StaleStage:
    """A stage that `dvc repro` would run, with all reasons."""

    name: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Definition:
    """A stage as in one `dvc.yaml` and its `dvc.lock`, with templates filled in."""

    name: str
    folder: str
    body: Mapping[str, Any]
    lock: Mapping[str, Any] | None

    @property
    def cmd(self) -> str:
        return _one_command(self.body["cmd"])

    @property
    def deps(self) -> dict[str, str]:
        """Paths relative to the repository, by their path in the file."""
        return {name: self.place(name) for name in _names(self.body.get("deps"))}

    @property
    def outs(self) -> dict[str, str]:
        return {name: self.place(name) for key in _OUTPUTS for name in _names(self.body.get(key))}

    @property
    def params(self) -> dict[str, list[str]]:
        """Keys by parameter file, as named by the stage; no keys mean all of them."""
        found: dict[str, list[str]] = {}
        for entry in self.body.get("params") or ():
            files = entry if isinstance(entry, Mapping) else {_DEFAULT_PARAMS: [entry]}
            for file, keys in files.items():
                found.setdefault(str(file), []).extend(keys or ())
        return found

    def place(self, name: str) -> str:
        return name if "://" in name else normpath(join(self.folder, name))


def list_stages(checkout: Checkout) -> tuple[Stage, ...]:
    """Return the stages of every `dvc.yaml`, in order; those of subfolders are named `folder/dvc.yaml:stage`.

    `foreach`, `matrix` and `${}` are filled in. Raises SourceUnavailable for an invalid file.
    """
    definitions = tuple(_definitions(checkout))
    return tuple(
        Stage(
            name=one.name,
            cmd=one.cmd,
            deps=tuple(one.deps.values()),
            outs=tuple(one.outs.values()),
            params=tuple(f"{one.place(file)}:{key}" for file, keys in one.params.items() for key in keys or ["*"]),
            upstream=tuple(other.name for other in definitions if other is not one and _feeds(other, one)),
            is_frozen=bool(one.body.get("frozen")),
        )
        for one in definitions
    )


def list_stale_stages(checkout: Checkout) -> tuple[StaleStage, ...]:
    """Return the stages that `dvc repro` would run, with reasons; a stage after a stale stage is stale too.

    Remote dependencies (`s3://`, `https://`) are not checked. Raises what `list_stages` raises.
    """
    reasons = {one.name: list(_own_reasons(one, checkout)) for one in _definitions(checkout)}
    stages = list_stages(checkout)
    for _ in stages:  # as many rounds as the longest chain can have
        for stage in stages:
            waiting = (f"stage {name} is stale" for name in stage.upstream if reasons[name] and not stage.is_frozen)
            reasons[stage.name] += [reason for reason in waiting if reason not in reasons[stage.name]]
    return tuple(StaleStage(name, tuple(why)) for name, why in reasons.items() if why)


def _own_reasons(stage: _Definition, checkout: Checkout) -> Iterator[str]:
    lock = stage.lock
    if lock is None:
        yield "was never run here: it is not in dvc.lock"
        return
    if stage.body.get("always_changed"):
        yield "is set to run always"
    if _one_command(lock.get("cmd", "")) != stage.cmd:
        yield "its command changed"
    if not stage.body.get("frozen"):
        yield from _changed_paths("dependency", stage.deps, lock.get("deps"), checkout)
        yield from _changed_params(stage, lock.get("params") or {}, checkout)
    yield from _changed_paths("output", stage.outs, lock.get("outs"), checkout)


def _changed_paths(role: str, paths: Mapping[str, str], locked: Any, checkout: Checkout) -> Iterator[str]:
    known = {str(entry["path"]): entry for entry in locked or ()}
    for name, path in paths.items():
        entry = known.get(name)
        if "://" in path or not checkout.holds(path):
            continue
        if entry is None:
            yield f"{role} {path} is new"
        elif not (checkout.root / path).exists():
            yield f"{role} {path} is missing"
        elif entry.get("md5") != checkout.hash_path(path, legacy=entry.get("hash") != "md5"):
            yield f"{role} {path} changed"


def _changed_params(stage: _Definition, locked: Mapping[str, Any], checkout: Checkout) -> Iterator[str]:
    from dvc.dependency.param import read_param_file

    for file, keys in stage.params.items():
        path, before = stage.place(file), locked.get(file)
        if not checkout.holds(path):
            continue
        if not (checkout.root / path).is_file():
            yield f"parameter file {path} is missing"
            continue
        with _understood(path):
            now = read_param_file(checkout.files_of_dvc(), str(checkout.root / path), keys or None, flatten=True)
        for key in keys or [*now, *(key for key in before or {} if key not in now)]:
            if before is None or key not in before:
                yield f"parameter {path}:{key} is new"
            elif key not in now:
                yield f"parameter {path}:{key} is gone"
            elif now[key] != before[key] and not (isinstance(now[key], tuple) and list(now[key]) == before[key]):
                yield f"parameter {path}:{key} changed from {before[key]} to {now[key]}"


def _definitions(checkout: Checkout) -> Iterator[_Definition]:
    for path in checkout.find_files("dvc.yaml"):
        folder = path.parent.relative_to(checkout.root).as_posix()
        folder = "" if folder == "." else folder
        relative = join(folder, "dvc.yaml")
        with _understood(relative):
            files = checkout.files_of_dvc()
            lock = _load(path.with_suffix(".lock"), files).get("stages") or {}
            for name, body in _resolve(path, files).items():
                label = f"{relative}:{name}" if folder else name
                yield _Definition(label, join(folder, str(body.get("wdir") or "")), body, lock.get(name))


def _resolve(path: Path, files: Any) -> dict[str, dict[str, Any]]:
    """Fill in templates with DVC's own resolver, which needs only files and settings of a repository."""
    from dvc.parsing import DataResolver
    from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA

    repository: Any = SimpleNamespace(fs=files, config={})
    resolver = DataResolver(repository, str(path.parent), COMPILED_MULTI_STAGE_SCHEMA(_load(path, files)))
    stages: dict[str, dict[str, Any]] = {}
    for key in resolver.get_keys():
        stages |= resolver.resolve_one(key)
    return stages


def _load(path: Path, files: Any) -> dict[str, Any]:
    from dvc.utils.serialize import load_yaml

    return (load_yaml(str(path), fs=files) or {}) if path.is_file() else {}


@contextmanager
def _understood(path: str) -> Iterator[None]:
    """Convert what DVC raises about an invalid file into one line."""
    from dvc.exceptions import DvcException
    from voluptuous import Invalid

    try:
        yield
    except (DvcException, Invalid, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceUnavailable(f"{path} is invalid: {reason}") from error


def _feeds(one: _Definition, other: _Definition) -> bool:
    outs = tuple(one.outs.values())
    return any(_overlap(dep, out) for dep in other.deps.values() for out in outs)


def _overlap(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _names(entries: Iterable[Any] | None) -> Iterator[str]:
    """Yield paths; an entry is a path, or a mapping from a path to its options."""
    for entry in entries or ():
        yield from map(str, entry if isinstance(entry, Mapping) else (entry,))


def _one_command(cmd: Any) -> str:
    return "\n".join(map(str, cmd)) if isinstance(cmd, list | tuple) else str(cmd)
