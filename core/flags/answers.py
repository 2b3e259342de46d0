"""Rule: what one user gets from every flag, and why, in one line for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quarterdeck.preview import explain


@dataclass(frozen=True, slots=True)
class UserAnswer:
    """What a user gets from a flag. Without a `variant` it is the default in the caller's code."""

    key: str
    variant: str | None
    value: Any
    why: str


def answer_all(definitions: Mapping[str, Mapping[str, Any]], context: Mapping[str, Any]) -> tuple[UserAnswer, ...]:
    """Return the answer of every flag to this context, by key. One that cannot be evaluated says why."""
    return tuple(_answer(key, definition, context) for key, definition in sorted(definitions.items()))


def _answer(key: str, definition: Mapping[str, Any], context: Mapping[str, Any]) -> UserAnswer:
    told = explain(key, definition, context)
    deciding = [step for step in told.steps if not step.endswith("does not fit.")]
    if len(deciding) > 1 and told.evaluation.error_code is None:
        deciding.pop()  # names the variant once more
    found = told.evaluation
    return UserAnswer(key, found.variant, found.value if found.variant is not None else None, " ".join(deciding))
