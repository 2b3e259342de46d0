"""Rule: turns another tool's flags into flagd definitions.

`unleash.py` and `growthbook.py` read the tools' own formats. A flag without a counterpart in flagd is refused with the
reason; nothing is converted halfway. Users land in flagd's buckets, not in the ones they had.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidInput
from core.flags.definition import say_state
from quarterdeck.validation import HASH_VERSION, validate_definition
from quarterdeck.weights import TOTAL_WEIGHT

TARGETING_KEY = "targetingKey"
ALWAYS = True


@dataclass(frozen=True, slots=True)
class RefusedFlag:
    """A flag that was left out, with the reason in one line."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Converted:
    """The flags of another tool's export as flagd definitions, and those that could not be converted."""

    source: str
    flags: dict[str, dict[str, Any]]
    refused: tuple[RefusedFlag, ...]


@dataclass(frozen=True, slots=True)
class TargetingStep:
    """One targeting step of a flag: who matches (JsonLogic, or ALWAYS), which share of them, and what they get.

    `gives` are variants with weights: a single one, or several among which users are split.
    """

    test: Any
    weight: int
    by: str
    gives: tuple[tuple[str, int], ...]


class NoCounterpart(Exception):
    """flagd has no equivalent."""


def make_definition(
    variants: Mapping[str, Any], default: str, steps: Sequence[TargetingStep], *, on: bool, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a flag in which the first step that matches a user decides; everybody else gets `default`."""
    targeting = _make_targeting(steps, default)
    return {
        "state": say_state(on=on),
        "variants": dict(variants),
        "defaultVariant": _default_of(steps, default),
        **({"targeting": targeting} if targeting else {}),
        "metadata": {"hash_version": HASH_VERSION, **metadata},
    }


def convert_each(source: str, found: Mapping[str, Any], convert: Callable[[Any], dict[str, Any]]) -> Converted:
    """Return the definitions of the flags that were found, by key, and a line for each that cannot be converted."""
    flags, refused = {}, []
    for key, flag in found.items():
        try:
            definition = convert(flag)
            validate_definition(key, definition)
            flags[key] = definition
        except (NoCounterpart, InvalidInput) as error:
            refused.append(RefusedFlag(key, str(error)))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            reason = f"it is not in {source}'s format: {type(error).__name__} {error}"
            refused.append(RefusedFlag(key, reason))
    return Converted(source, flags, tuple(refused))


def read_share(share: Any, *, whole: float, what: str) -> int:
    """Return a share of `whole` as a weight out of 100,000. Raises NoCounterpart."""
    try:
        exact = float(share) / whole * TOTAL_WEIGHT
    except (TypeError, ValueError):
        exact = -1.0
    if not 0 <= exact <= TOTAL_WEIGHT:
        raise NoCounterpart(f"{what}: {share!r} is not a share from 0 to {whole:g}")
    return round(exact)


def all_of(tests: Sequence[Any]) -> Any:
    """Return the test that holds if all of these hold."""
    real = [test for test in tests if test is not ALWAYS]
    return ALWAYS if not real else real[0] if len(real) == 1 else {"and": real}


def any_of(tests: Sequence[Any]) -> Any:
    """Return the test that holds if any of these holds."""
    return tests[0] if len(tests) == 1 else {"or": list(tests)}


def describe_kind(values: Sequence[Any]) -> str:
    """Return the single kind of the values, as flagd requires. Raises NoCounterpart for several."""
    kinds = {"boolean" if isinstance(v, bool) else "number" if isinstance(v, int | float) else
             "text" if isinstance(v, str) else "object" for v in values}  # fmt: skip
    if len(kinds) > 1:
        raise NoCounterpart(f"its values are of several types ({', '.join(sorted(kinds))}); flagd allows only one")
    return kinds.pop()


def _make_targeting(steps: Sequence[TargetingStep], default: str) -> Any:
    first, rest = list(steps), default
    guards: list[Any] = []
    if steps and (steps[-1].test is ALWAYS or _is_shared(steps[-1])):
        *first, last = steps
        # Users who do not match the last step get the default first, so its share stays an editable rollout.
        guards = [part for test in _list_tests(last.test) for part in (_opposite(test), default)]
        rest = _shared_out(last, default)
    parts = [*(part for step in first for part in (_condition(step), _choice(step))), *guards]
    if not parts:
        return None if isinstance(rest, str) else rest
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
    return inner[0] if isinstance(inner, list) and len(inner) == 1 else {"!": [test]}


def _default_of(steps: Sequence[TargetingStep], default: str) -> str:
    """What everybody gets if the only step is for everybody; it needs no targeting."""
    if len(steps) == 1 and steps[0].test is ALWAYS and isinstance(_shared_out(steps[0], default), str):
        return steps[0].gives[0][0]
    return default


def _condition(step: TargetingStep) -> Any:
    """Whether a user matches and is in the share."""
    inside: Any = ALWAYS
    if step.weight < TOTAL_WEIGHT:
        buckets = [["in", step.weight], ["out", TOTAL_WEIGHT - step.weight]]
        inside = {"==": [{"fractional": [_bucket_by(step.by, "/"), *buckets]}, "in"]}
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
    by = [] if step.by == TARGETING_KEY else [_bucket_by(step.by, "/")]
    return {"fractional": [*by, [choice, step.weight], [default, TOTAL_WEIGHT - step.weight]]}


def _bucket_by(attribute: str, salt: str) -> Any:
    """The value to hash: nothing, and so no bucket, for a user without the attribute."""
    salted = {"cat": [{"var": "$flagd.flagKey"}, salt, {"var": attribute}]}
    return {"if": [{"var": attribute}, salted, None]}
