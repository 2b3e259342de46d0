"""Rule: layers, whose experiments never share a user, and the holdout, whose users no experiment or canary touches.

Both are slices of flags (`quarterdeck.slices`), so what a flag's definition says is what every SDK does.
`layer_store.py` keeps the names; `core.rollouts.layers` makes and removes them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.errors import Conflict, InvalidInput
from core.flags.definition import FlagDefinition
from quarterdeck.definitions import experiment_variants
from quarterdeck.hashing import CBOR, HASH_VERSIONS, hash_bucket, read_hash_version
from quarterdeck.slices import Slice, set_slices
from quarterdeck.weights import TOTAL_WEIGHT, to_weight

MOST_HELD_OUT_PCT = 50.0
NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
_NAME = re.compile(NAME_PATTERN)  # ASCII: flagd's JavaScript SDKs hash other letters unlike the others
_LAYER, _HOLDOUT = "layer/", "holdout/"


@dataclass(frozen=True, slots=True)
class Layer:
    """A space of all users, of which each experiment takes a slice of its own. Its name is the salt.

    `hash_version` is how its flags hash: another hash would put other users into a slice. Raises InvalidInput.
    """

    name: str
    hash_version: str = CBOR
    description: str = ""
    version: int = 0

    def __post_init__(self) -> None:
        _check_name("layer", self.name)
        _check_hash(self.hash_version)

    @property
    def space(self) -> str:
        """The space of the layer's slices."""
        return f"{_LAYER}{self.name}"


@dataclass(frozen=True, slots=True)
class Holdout:
    """A share of the users, in percent, whom no experiment and no canary of the environment touches.

    Raises InvalidInput.
    """

    name: str
    share_pct: float
    hash_version: str = CBOR
    since: datetime | None = None
    version: int = 0

    def __post_init__(self) -> None:
        _check_name("holdout", self.name)
        _check_hash(self.hash_version)
        if not 0 < to_weight(self.share_pct, "share") <= MOST_HELD_OUT_PCT / 100 * TOTAL_WEIGHT:
            raise InvalidInput("share", f"must be above 0 and at most {MOST_HELD_OUT_PCT:g} percent")

    @property
    def slice(self) -> Slice:
        """The slice of those who are not held out."""
        kept = TOTAL_WEIGHT - to_weight(self.share_pct, "share")
        return Slice(f"{_HOLDOUT}{self.name}", ((0, kept),))


def is_held_out(holdout: Holdout, user: str) -> bool:
    """Whether a user is one of those whom no rollout touches, as every SDK finds it in the flags."""
    kept = holdout.slice
    try:
        place = (hash_bucket(f"{kept.space}/{user}", hash_version=holdout.hash_version) * TOTAL_WEIGHT) >> 32
    except UnicodeEncodeError:
        return False
    return not any(start <= place < end for start, end in kept.ranges)


def find_layer(definition: FlagDefinition) -> str | None:
    """Return the name of the layer that a flag has a slice of; None where it has none."""
    return next((each.space.removeprefix(_LAYER) for each in definition.slices if each.space.startswith(_LAYER)), None)


def find_holdout(definition: FlagDefinition) -> str | None:
    """Return the name of the holdout that a flag keeps out of; None where it touches everybody."""
    spaces = (each.space for each in definition.slices)
    return next((space.removeprefix(_HOLDOUT) for space in spaces if space.startswith(_HOLDOUT)), None)


def describe_space(space: str) -> str:
    """Return a space in words."""
    if space.startswith(_HOLDOUT):
        return f"the holdout {space.removeprefix(_HOLDOUT)}"
    return f"the layer {space.removeprefix(_LAYER)}"


def is_holdout(space: str) -> bool:
    """Whether a space is that of a holdout."""
    return space.startswith(_HOLDOUT)


def take_slice(layer: Layer, key: str, definition: Mapping[str, Any], taken: Iterable[Slice], *, share_pct: float) -> (
    dict[str, Any]
):  # fmt: skip
    """Return the flag for a share of the layer's users that no other flag has; free users are taken from the start.

    Raises InvalidInput, and Conflict where less than the share is free.
    """
    _check_alike(key, definition, layer.hash_version, f"layer {layer.name}")
    weight = to_weight(share_pct, "layer_share")
    if not weight:
        raise InvalidInput("layer_share", "must be above 0 percent")
    ranges: list[tuple[int, int]] = []
    for start, end in list_free(layer, taken):
        part = min(end - start, weight)
        ranges += [(start, start + part)] if part else []
        weight -= part
    if weight:
        free = (to_weight(share_pct, "layer_share") - weight) * 100 / TOTAL_WEIGHT
        raise Conflict(f"layer {layer.name}: {free:g}% of its users are free, {share_pct:g}% are wanted")
    others = [each for each in FlagDefinition(definition).slices if is_holdout(each.space)]
    return set_slices(definition, [*others, Slice(layer.space, tuple(ranges))])


def leave_layer(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flag without its slice of a layer; it keeps out of its holdout as before."""
    said = FlagDefinition(definition)
    kept = [each for each in said.slices if is_holdout(each.space)]
    return set_slices(definition, kept) if find_layer(said) else dict(definition)


def list_free(layer: Layer, taken: Iterable[Slice]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a layer that no slice has."""
    at = 0
    for start, end in sorted(one for each in taken if each.space == layer.space for one in each.ranges):
        if start > at:
            yield at, start
        at = max(at, end)
    if at < TOTAL_WEIGHT:
        yield at, TOTAL_WEIGHT


def must_hold_out(definition: FlagDefinition) -> bool:
    """Whether a flag is an experiment or a canary that some users get, so that it has to keep out of a holdout."""
    if definition.is_canary:
        return definition.green_pct > 0
    return bool(experiment_variants(definition.raw))


def hold_out(holdout: Holdout | None, key: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flag as it may be saved while this holdout runs: an experiment or a canary touches nobody in it.

    Raises InvalidInput for a flag that hashes in another way, which would hold out other users.
    """
    said = FlagDefinition(definition)
    if holdout is None or not must_hold_out(said):
        return dict(definition)
    _check_alike(key, definition, holdout.hash_version, f"the holdout {holdout.name}")
    if holdout.slice in said.slices:
        return dict(definition)
    return set_slices(definition, [holdout.slice, *(each for each in said.slices if not is_holdout(each.space))])


def end_holdout_of(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flag for those who were held out too."""
    return set_slices(definition, [each for each in FlagDefinition(definition).slices if not is_holdout(each.space)])


def release(holdout: Holdout | None, definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flag for the users of a holdout that is over; it keeps out of the one that runs."""
    name = find_holdout(FlagDefinition(definition))
    is_over = name is not None and (holdout is None or holdout.name != name)
    return end_holdout_of(definition) if is_over else dict(definition)


def check_held_out(holdout: Holdout | None, key: str, definition: FlagDefinition) -> None:
    """Raise Conflict for an experiment or a canary that would touch users of the running holdout.

    Raises InvalidInput for one that hashes in another way, whose slice would hold out other users.
    """
    if holdout is None or not must_hold_out(definition):
        return
    _check_alike(key, definition.raw, holdout.hash_version, f"the holdout {holdout.name}")
    if holdout.slice not in definition.slices:
        raise Conflict(f"{key} would touch users of the holdout {holdout.name}, which began meanwhile; do it once more")


def check_disjoint(layer: Layer | None, key: str, definition: FlagDefinition, others: Mapping[str, FlagDefinition]) -> (
    None
):  # fmt: skip
    """Raise Conflict if a flag has users of its layer that another flag has, or if the layer is gone or hashes else."""
    name = find_layer(definition)
    if name is None:
        return
    if len({each.space for each in definition.slices if each.space.startswith(_LAYER)}) > 1:
        raise Conflict(f"{key} has users of two layers; a flag can be in one")
    if layer is None:
        raise Conflict(
            f"{key} has users of the layer {name}, which does not exist here; make it, or take the slice out"
        )
    _check_alike(key, definition.raw, layer.hash_version, f"layer {name}")
    for other, said in others.items():
        if other != key and any(
            one.overlaps(two) for one in definition.slices for two in said.slices if _is_of(layer, two)
        ):
            raise Conflict(
                f"{key} and {other} would share users of the layer {name}; nothing was changed, do it once more"
            )


def _is_of(layer: Layer, wanted: Slice) -> bool:
    return wanted.space == layer.space


def _check_alike(key: str, definition: Mapping[str, Any], hash_version: str, what: str) -> None:
    found = read_hash_version(FlagDefinition(definition).metadata)
    if found != hash_version:
        raise InvalidInput(
            "hash_version", f"{key} buckets users by {found} and {what} by {hash_version}: they would be other users"
        )


def _check_name(field: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(field, "name it with 1 to 63 of a-z, 0-9, dot, dash and underscore, and no other letters")


def _check_hash(hash_version: str) -> None:
    if hash_version not in HASH_VERSIONS:
        raise InvalidInput("hash_version", f"give {' or '.join(HASH_VERSIONS)}, not {hash_version!r}")
