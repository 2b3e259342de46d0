"""The client's copy of the flags and index aliases: read from the store, saved to disk, replaced as one value.

Reading starts with a version counter; the rest is read only if the counter has moved.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from quarterdeck.documents import parse_document
from quarterdeck.errors import InvalidInput
from quarterdeck.flags import FlagSet
from quarterdeck.index_canaries import PREFIX, find_candidates
from quarterdeck.registry import SERVICE_SETTING, read_service
from quarterdeck.schema import aliases, flags, indexes, settings
from quarterdeck.scope import read_aliases
from quarterdeck.similarity import KINDS
from quarterdeck.store import Store

STATE_VERSION = "state_version"
_USABLE = "ready"  # the state of an index that may be searched


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The flags and aliases of one environment at one moment. `version` is -1 before anything was read.

    `score_kinds` say what the scores of services are where a row does not say it. `lineage` identifies the store that
    counted `version`: another store in the same place counts its own. `environment` is whose flags they are.
    `candidates` are the indexes that canaries try, by alias.
    """

    version: int
    definitions: dict[str, Any]
    flags: FlagSet
    aliases: dict[str, str]
    lineage: str = ""
    score_kinds: dict[str, str] = field(default_factory=dict)
    environment: str = ""
    candidates: dict[str, str] = field(default_factory=dict)

    def changed_flags(self, newer: "Snapshot") -> frozenset[str]:
        """Return the keys of the flags that were added, removed or redefined."""
        keys = self.definitions.keys() | newer.definitions.keys()
        return frozenset(key for key in keys if self.definitions.get(key) != newer.definitions.get(key))


def make_snapshot(
    version: int,
    definitions: dict[str, Any],
    aliases: dict[str, str],
    *,
    lineage: str = "",
    score_kinds: dict[str, str] | None = None,
    environment: str = "",
    candidates: dict[str, str] | None = None,
) -> Snapshot:
    """Return a snapshot whose flags can be evaluated."""
    evaluated = FlagSet.from_definitions({"flags": definitions})
    return Snapshot(version, definitions, evaluated, aliases, lineage, score_kinds or {}, environment, candidates or {})


EMPTY = make_snapshot(-1, {}, {})


def read_snapshot(store: Store, environment: str, *, current: Snapshot = EMPTY) -> Snapshot:
    """Return the newest snapshot, or `current` itself if nothing changed. Raises SourceUnavailable.

    An alias stands for its environment, unless there are flags under exactly this name.
    """
    with store.read() as connection:
        version, lineage = read_state_version(connection)
        if (version, lineage) == (current.version, current.lineage):
            return current
        taken, definitions = _read_flags(connection, environment)
        known = {row.alias: (row.index_name, row.version) for row in connection.execute(select(aliases))}
        candidates = _read_candidates(connection, definitions, known)
        kinds = _read_score_kinds(connection)
    live = {alias: index_name for alias, (index_name, _) in known.items()}
    return make_snapshot(
        version, definitions, live, lineage=lineage, score_kinds=kinds, environment=taken, candidates=candidates
    )


def read_state_version(connection: Connection) -> tuple[int, str]:
    """Return the counter that every change of a flag, an alias or a service moves, and the store's lineage.

    It is 0 in a new store.
    """
    counter = select(settings.c.version, settings.c.value).where(settings.c.name == STATE_VERSION)
    row = connection.execute(counter).first()
    return (row.version, row.value) if row else (0, "")


def default_snapshot_path(store: Store, environment: str) -> Path | None:
    """Return where the last good snapshot of a store is saved; None if the user has no home folder."""
    name = hashlib.sha256(f"{store.name}\n{environment}".encode()).hexdigest()[:24]
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return cache / "quarterdeck" / f"{name}.json"


def save_snapshot(snapshot: Snapshot, path: Path) -> None:
    """Write the snapshot atomically: a reader sees the old file or the new one. Raises OSError."""
    body = json.dumps(
        {
            "version": snapshot.version, "lineage": snapshot.lineage,
            "flags": snapshot.definitions, "aliases": snapshot.aliases, "score_kinds": snapshot.score_kinds,
            "environment": snapshot.environment, "candidates": snapshot.candidates,
        },
        sort_keys=True,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}")
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_snapshot(path: Path) -> Snapshot | None:
    """Return the snapshot saved at `path`, or None if there is none or the file is damaged."""
    try:
        digest, _, body = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if digest != hashlib.sha256(body.encode()).hexdigest():
        return None
    try:
        kept = json.loads(body)
        kinds = kept.get("score_kinds", {})
        return make_snapshot(
            kept["version"], kept["flags"], kept["aliases"], lineage=kept.get("lineage", ""), score_kinds=kinds,
            environment=kept.get("environment", ""), candidates=kept.get("candidates", {}),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):  # written by another release
        return None


def _read_flags(connection: Connection, environment: str) -> tuple[str, dict[str, Any]]:
    """Return whose flags they are, and their definitions by key."""
    meant = read_aliases().get(environment.casefold(), environment)
    by_name: dict[str, dict[str, Any]] = {environment: {}, meant: {}}
    query = select(flags.c.environment, flags.c.key, flags.c.definition).where(flags.c.environment.in_(by_name))
    for name, key, definition in connection.execute(query):
        by_name[name][key] = _parse_definition(definition)
    taken = environment if by_name[environment] else meant
    return taken, by_name[taken]


def _read_candidates(
    connection: Connection, definitions: Mapping[str, Any], known: Mapping[str, tuple[str, int]]
) -> dict[str, str]:
    """Return the candidate of each alias that has a canary which counts."""
    if not any(key.startswith(PREFIX) for key in definitions):
        return {}
    usable = set(connection.scalars(select(indexes.c.name).where(indexes.c.state == _USABLE)))
    return find_candidates(definitions, known, usable)


def _read_score_kinds(connection: Connection) -> dict[str, str]:
    """Return the kind of score that each service chose, unless it is none that exists."""
    named = select(settings.c.name, settings.c.value).where(settings.c.name.startswith(SERVICE_SETTING))
    kinds: dict[str, str] = {}
    for name, value in connection.execute(named):
        kind = read_service(value).get("score_kind")
        if kind in KINDS:
            kinds[name.removeprefix(SERVICE_SETTING)] = kind
    return kinds


def _parse_definition(stored: str) -> Any:
    """Parse a definition. Text that is not JSON stays text: that flag always fails, and no other flag with it."""
    try:
        return json.loads(stored)
    except ValueError:
        return stored


def load_definitions(source: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    """Return a flagd document, given as such or as the path of its JSON file. Raises InvalidInput."""
    if isinstance(source, Mapping):
        return source
    try:
        return parse_document(Path(source).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("definitions", f"{source} cannot be read: {error}") from error
