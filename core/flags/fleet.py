"""Rule: the flagd document for a fleet whose SDKs all use one hash, and the flags that it cannot be given.

A fleet that hashes in another way than a flag means would put other users into the rollout, and nobody would notice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidInput
from quarterdeck.buckets import uses_fractional
from quarterdeck.hashing import BUCKETINGS, HASH_VERSIONS, STRING, read_hash_version

DEFAULT_BUCKETING = "cbor"


@dataclass(frozen=True, slots=True)
class FleetDocument:
    """The flags that a fleet evaluates as we do, and by key why others were left out."""

    flags: dict[str, Any]
    left_out: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the flagd document; `leftOut`, which flagd ignores, stands there only if it holds something."""
        return {"flags": self.flags, **({"leftOut": self.left_out} if self.left_out else {})}


def read_bucketing(name: str) -> str:
    """Return the hash version of a bucketing, "string" or "cbor". Raises InvalidInput."""
    if name not in BUCKETINGS:
        raise InvalidInput("bucketing", f"give {' or '.join(BUCKETINGS)}, not {name!r}")
    return BUCKETINGS[name]


def make_fleet_document(definitions: Mapping[str, Any], hash_version: str) -> FleetDocument:
    """Return the document for a fleet that buckets by this hash, in the order of the keys."""
    flags, left_out = {}, {}
    for key, definition in sorted(definitions.items()):
        if not isinstance(definition, Mapping) or not uses_fractional(definition.get("targeting")):
            flags[key] = definition
        elif problem := _find_problem(key, definition, hash_version):
            left_out[key] = problem
        else:
            flags[key] = _for_strings(definition) if hash_version == STRING else definition
    return FleetDocument(flags, left_out)


def _find_problem(key: str, definition: Mapping[str, Any], wanted: str) -> str | None:
    metadata = definition.get("metadata")
    found = read_hash_version(metadata if isinstance(metadata, Mapping) else {})
    if found not in HASH_VERSIONS:
        return f"its hash_version {found!r} is unknown"
    if found != wanted:
        return f"it buckets users by {found}, and this document is for fleets of {wanted}: other users would be chosen"
    if wanted == STRING and not key.isascii():
        return f"its key is hashed, and flagd's JavaScript SDKs hash {key!r} unlike the others: rename it in ASCII"
    return None


def _for_strings(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {**definition, "targeting": _guard(definition["targeting"])}


def _guard(logic: Any) -> Any:
    """The same targeting, in which no `fractional` is asked to bucket by null or by empty text.

    Go's flagd then falls back on the targeting key, and JavaScript's hashes the empty text; both should do neither.
    """
    if isinstance(logic, list):
        return [_guard(each) for each in logic]
    if not isinstance(logic, Mapping):
        return logic
    guarded = {name: _guard(each) for name, each in logic.items()}
    arguments = guarded.get("fractional")
    if not isinstance(arguments, list) or not arguments or not isinstance(arguments[0], Mapping):
        return guarded
    return {"if": [arguments[0], guarded, None]}
