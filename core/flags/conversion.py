"""Rule: turns another tool's flags into flagd definitions: what the importers of all tools have in common.

A flag without a counterpart in flagd is refused with the reason; nothing is converted halfway. What means something
slightly different here is stated in a note. Users land in flagd's buckets, not in the ones they had.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.errors import InvalidInput
from core.flags.conditions import ALWAYS, NEVER, NoCounterpart, all_of, any_of, negate
from core.flags.definition import say_state
from quarterdeck.buckets import uses_fractional
from quarterdeck.validation import HASH_VERSION, validate_definition
from quarterdeck.weights import TOTAL_WEIGHT, to_shares

TARGETING_KEY = "targetingKey"
FLAGD = "flagd"
OUTSIDE = "disabled"  # the variant of users whom a flag with named variants leaves out


@dataclass(frozen=True, slots=True)
class RefusedFlag:
    """A flag that was left out, with the reason in one line."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class FlagNote:
    """What is different here about a flag that was taken, in one line."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Converted:
    """The flags of another tool's export as flagd definitions, those that could not be converted, and notes."""

    source: str
    flags: dict[str, dict[str, Any]]
    refused: tuple[RefusedFlag, ...]
    notes: tuple[FlagNote, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """Whether the file is of another tool than flagd."""
        return self.source != FLAGD

    @property
    def are_drawn_anew(self) -> bool:
        """Whether some flag shares users out by weight: the tool's own hash had chosen others."""
        return self.is_foreign and any(
            uses_fractional(definition.get("targeting")) for definition in self.flags.values()
        )


@dataclass(frozen=True, slots=True)
class Importer:
    """How the exports of one tool are known and read.

    `recognizes` is asked about any parsed file, and `convert` gets it with the environment that is wanted.
    """

    name: str
    recognizes: Callable[[Any], bool]
    convert: Callable[[Any, str], Converted]


@dataclass(frozen=True, slots=True)
class TargetingStep:
    """One targeting step of a flag: who matches (JsonLogic, or ALWAYS), which share of them, and what they get.

    `gives` are variants with weights: a single one, or several among which users are split. The shares of all steps
    are drawn by one hash, so that a user of a smaller share is in a larger one too; a step with a `salt` has its own.
    """

    test: Any
    weight: int
    by: str
    gives: tuple[tuple[str, int], ...]
    salt: str = ""


def to_all(test: Any, variant: str) -> TargetingStep:
    """Return the step that gives one variant to everybody who matches."""
    return TargetingStep(test, TOTAL_WEIGHT, TARGETING_KEY, ((variant, 1),))


def make_definition(
    variants: Mapping[str, Any], default: str | None, steps: Sequence[TargetingStep], *, on: bool,
    metadata: Mapping[str, Any], gate: Any = ALWAYS,
) -> dict[str, Any]:  # fmt: skip
    """Return a flag in which the first step that matches a user decides; everybody else gets `default`.

    With None, everybody else gets the default in the caller's code, as does who does not pass the `gate`.
    """
    steps = [step for step in steps if step.test != NEVER and (step.weight or step is steps[-1])]
    targeting = _make_targeting(steps, default)
    chosen = _default_of(steps, default)
    if gate is not ALWAYS:
        targeting, chosen = {"if": [gate, targeting or chosen, None]}, None
    return {
        "state": say_state(on=on),
        "variants": dict(variants),
        **({"defaultVariant": chosen} if chosen is not None else {}),
        **({"targeting": targeting} if targeting else {}),
        "metadata": {"hash_version": HASH_VERSION, **metadata},
    }


def convert_each(
    source: str, found: Mapping[str, Any], convert: Callable[[str, Any, list[str]], dict[str, Any]]
) -> Converted:
    """Return the definitions of the flags that were found, by key, and a line for each that cannot be converted.

    `convert` gets the key, the flag and the list to which it may add notes.
    """
    flags: dict[str, dict[str, Any]] = {}
    refused, notes = [], []
    for key, flag in found.items():
        said: list[str] = []
        try:
            definition = convert(key, flag, said)
            validate_definition(key, definition)
            flags[key] = definition
            notes += [FlagNote(key, text) for text in dict.fromkeys(said)]
        except (NoCounterpart, InvalidInput) as error:
            refused.append(RefusedFlag(key, str(error)))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
            reason = f"it is not in {source}'s format: {type(error).__name__} {error}"
            refused.append(RefusedFlag(key, reason))
    return Converted(source, flags, tuple(refused), tuple(notes))


def choose_environment(names: Sequence[str], wanted: str) -> str:
    """Return the environment to read: the wanted one, or the only one. Raises InvalidInput."""
    if wanted in names or len(names) == 1:
        return wanted if wanted in names else names[0]
    raise InvalidInput("environment", f"the export has {', '.join(sorted(names))}; choose one with --environment")


def read_share(share: Any, *, whole: float, what: str) -> int:
    """Return a share of `whole` as a weight out of 100,000. Raises NoCounterpart."""
    try:
        exact = float(share) / whole * TOTAL_WEIGHT
    except (TypeError, ValueError):
        exact = -1.0
    if not 0 <= exact <= TOTAL_WEIGHT:
        raise NoCounterpart(f"{what}: {share!r} is not a share from 0 to {whole:g}")
    return round(exact)


def split_between(weights: Sequence[tuple[str, float]], what: str) -> tuple[tuple[str, int], ...]:
    """Return relative weights as whole ones that flagd takes, merged by variant; empty ones drop out."""
    merged: dict[str, float] = {}
    for name, weight in weights:
        merged[name] = merged.get(name, 0.0) + float(weight)
    try:
        shares = to_shares({name: weight for name, weight in merged.items() if weight})
    except InvalidInput as error:
        raise NoCounterpart(f"{what}: {error.problem}") from None
    return ((next(iter(shares)), 1),) if len(shares) == 1 else tuple(shares.items())


def describe_kind(values: Sequence[Any]) -> str:
    """Return the single kind of the values, as flagd requires. Raises NoCounterpart for several."""
    kinds = {"boolean" if isinstance(v, bool) else "number" if isinstance(v, int | float) else
             "text" if isinstance(v, str) else "null" if v is None else "object" for v in values}  # fmt: skip
    if len(kinds) > 1:
        raise NoCounterpart(f"its values are of several types ({', '.join(sorted(kinds))}); flagd allows only one")
    return kinds.pop()


def is_in_share(salt: str, weight: int, by: str = TARGETING_KEY) -> Any:
    """The test for a share of users that is drawn by a salt of its own, the same in every flag."""
    if weight in (0, TOTAL_WEIGHT):
        return ALWAYS if weight else NEVER
    hashed = {"if": [{"var": by}, {"cat": [salt, "/", {"var": by}]}, None]}
    return {"==": [{"fractional": [hashed, ["in", weight], ["out", TOTAL_WEIGHT - weight]]}, "in"]}


def when_outcome(steps: Sequence[TargetingStep], default: str | None, wanted: Callable[[str | None], bool]) -> Any:
    """The test for users to whom these steps give a variant that is wanted, for a flag that depends on this one.

    Raises NoCounterpart if a percentage decides: another flag's share cannot be asked for in flagd.
    """
    parts: list[Any] = []
    for step in steps:
        if not step.weight:
            continue
        outcomes = {wanted(name) for name, weight in step.gives if weight}
        if len(outcomes) > 1 or step.weight < TOTAL_WEIGHT:
            raise NoCounterpart("it depends on another flag's percentage; flagd's flags do not know each other")
        parts += [step.test, outcomes.pop()]
    last = wanted(default)
    if all(outcome == last for outcome in parts[1::2]):
        return ALWAYS if last else NEVER
    if not last and all(parts[1::2]):
        return any_of(parts[::2])
    return {"if": [*parts, last]}


def _make_targeting(steps: Sequence[TargetingStep], default: str | None) -> Any:
    first: list[TargetingStep] = list(steps)
    rest: Any = default
    guards: list[Any] = []
    if steps and default is not None and (steps[-1].test is ALWAYS or _is_shared(steps[-1])):
        *first, last = steps
        # Users who do not match the last step get the default first, so its share stays an editable rollout.
        guards = [part for test in _list_tests(last.test) for part in (_opposite(test), default)]
        rest = _shared_out(last, default)
    parts = [*(part for step in first for part in (_condition(step), _choice(step))), *guards]
    if not parts:
        return None if isinstance(rest, str) or rest is None else rest
    return {"if": [*parts, *([] if rest == default else [rest])]}


def _is_shared(step: TargetingStep) -> bool:
    return step.weight < TOTAL_WEIGHT or len(step.gives) > 1


def _list_tests(test: Any) -> list[Any]:
    """The tests that must all hold."""
    if test is ALWAYS:
        return []
    return list(test["and"]) if isinstance(test, Mapping) and set(test) == {"and"} else [test]


def _opposite(test: Any) -> Any:
    """The test that holds if this one does not."""
    inner = test.get("!") if isinstance(test, Mapping) else None
    return inner[0] if isinstance(inner, list) and len(inner) == 1 else negate(test)


def _default_of(steps: Sequence[TargetingStep], default: str | None) -> str | None:
    """What everybody gets if the only step is for everybody; it needs no targeting."""
    if len(steps) == 1 and steps[0].test is ALWAYS and not _is_shared(steps[0]) and default is not None:
        return steps[0].gives[0][0]
    return default


def _condition(step: TargetingStep) -> Any:
    """Whether a user matches and is in the share; who has nothing to be split by is not."""
    inside: Any = ALWAYS
    if step.weight < TOTAL_WEIGHT:
        buckets = [["in", step.weight], ["out", TOTAL_WEIGHT - step.weight]]
        inside = {"==": [{"fractional": [*_shared_by(step), *buckets]}, "in"]}
    elif len(step.gives) > 1:
        inside = {"!!": [{"var": step.by}]}
    return all_of([step.test, inside])


def _choice(step: TargetingStep) -> Any:
    """The variant, or the split over several, hashed independently of the share, so that growing it moves nobody."""
    if len(step.gives) == 1:
        return step.gives[0][0]
    return {"fractional": [_bucket_by(step.by, "/variant/"), *([name, weight] for name, weight in step.gives)]}


def _shared_out(step: TargetingStep, default: str) -> Any:
    """A step for everybody as a plain rollout, whose percentage people can change later."""
    choice = _choice(step)
    if step.weight == TOTAL_WEIGHT:
        return choice
    return {"fractional": [*_shared_by(step), [choice, step.weight], [default, TOTAL_WEIGHT - step.weight]]}


def _shared_by(step: TargetingStep) -> list[Any]:
    """What a share is drawn by: as in a rollout, or with the step's own salt."""
    if step.salt:
        return [_bucket_by(step.by, f"/{step.salt}/")]
    return [] if step.by == TARGETING_KEY else [_bucket_by(step.by, "/")]


def salt_apart(steps: Sequence[TargetingStep], seeds: Sequence[str]) -> list[TargetingStep]:
    """Return the steps with salts where the tool draws their shares by different seeds; the last one's stays plain."""
    return [step if seed == seeds[-1] else replace(step, salt=seed) for step, seed in zip(steps, seeds, strict=True)]


def _bucket_by(attribute: str, salt: str) -> Any:
    """The value to hash: nothing, and so no bucket, for a user without the attribute."""
    salted = {"cat": [{"var": "$flagd.flagKey"}, salt, {"var": attribute}]}
    return {"if": [{"var": attribute}, salted, None]}


def name_values(values: Sequence[Any]) -> list[str]:
    """Return a variant name for each value: on and off, the text or number itself, or a counter. Equal ones share it.

    Raises NoCounterpart for values of several types.
    """
    marks = [json.dumps(value, sort_keys=True) for value in values]
    kind = describe_kind(values)
    if kind == "null":
        raise NoCounterpart("its value is null")
    if kind == "boolean":
        return ["on" if value else "off" for value in values]
    texts = [str(value) for value in values]
    if kind == "object" or not all(0 < len(text) <= 64 and text.isprintable() for text in texts):
        known = list(dict.fromkeys(marks))
        return [f"variant-{known.index(mark)}" for mark in marks]
    return texts
