"""Gateway to the pipeline of a DVC repository: the stages of its `dvc.yaml` as a graph, which are stale, and why.

It compares `dvc.lock` with the working copy itself, because `dvc status` would wait for DVC's lock. It runs nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from posixpath import join, normpath
from typing import Any

from core.corpus.checkout import Checkout
from core.corpus.dvc_reading import params_of

_OUTPUTS = ("outs", "metrics", "plots")


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
    """A stage as in one `dvc.yaml` and its `dvc.lock`, with templates filled in.

    `values` are what its parameter files say now: None for one that is missing, and no entry for one outside.
    """

    name: str
    folder: str
    body: Mapping[str, Any]
    lock: Mapping[str, Any] | None
    values: Mapping[str, Mapping[str, Any] | None]

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
        return params_of(self.body)

    def place(self, name: str) -> str:
        return name if "://" in name else normpath(join(self.folder, name))


def list_stages(checkout: Checkout) -> tuple[Stage, ...]:
    """Return the stages of every `dvc.yaml`, in order; those of subfolders are named `folder/dvc.yaml:stage`.

    `foreach`, `matrix` and `${}` are filled in. Raises SourceUnavailable for an invalid file.
    """
    return _stages(tuple(_definitions(checkout)))


def _stages(definitions: tuple[_Definition, ...]) -> tuple[Stage, ...]:
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
    definitions = tuple(_definitions(checkout, with_params=True))
    reasons = {one.name: list(_own_reasons(one, checkout)) for one in definitions}
    stages = _stages(definitions)
    count = -1
    while count != (count := sum(map(len, reasons.values()))):  # until nothing is found any more
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
        yield from _changed_params(stage, lock.get("params") or {})
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


def _changed_params(stage: _Definition, locked: Mapping[str, Any]) -> Iterator[str]:
    for file, keys in stage.params.items():
        if file not in stage.values:
            continue
        path, before, now = stage.place(file), locked.get(file), stage.values[file]
        if now is None:
            yield f"parameter file {path} is missing"
            continue
        for key in keys or [*now, *(key for key in before or {} if key not in now)]:
            if before is None or key not in before:
                yield f"parameter {path}:{key} is new"
            elif key not in now:
                yield f"parameter {path}:{key} is gone"
            elif now[key] != before[key]:
                yield f"parameter {path}:{key} changed from {before[key]} to {now[key]}"


def _definitions(checkout: Checkout, *, with_params: bool = False) -> Iterator[_Definition]:
    for stage in checkout.stages(with_params=with_params):
        yield _Definition(
            stage["name"], stage["folder"], stage["body"], stage["lock"], stage.get("values") or {}
        )  # fmt: skip


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
