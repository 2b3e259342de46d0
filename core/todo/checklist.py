"""Shell: the checklist of a new deck: which of its steps are done, and how far the others are."""

from dataclasses import dataclass
from datetime import date

from core.config import Config
from core.coverage.topics import FEWEST_ASKED
from core.errors import QuarterdeckError
from core.flags.store import list_flags
from core.log.retrievals import count_states, last_days, list_daily_scores
from core.todo.connections import Source, is_unconnected
from quarterdeck.scope import Scope
from quarterdeck.store import Store

DAYS_FOR_DRIFT = 14
_WINDOW_DAYS = 90


@dataclass(frozen=True, slots=True)
class SetupStep:
    """One step: its page, what it asks for, whether it is done, and how far it is."""

    page: str
    title: str
    is_done: bool
    progress: str = ""


def list_steps(store: Store, config: Config, *, scope: Scope, today: date) -> tuple[SetupStep, ...]:
    """Return the steps in their order. What used to work stays done while it is broken: that is told elsewhere."""
    is_empty = is_unconnected(Source.STORE, config, store)
    return (
        _count_questions(store, scope, today, is_empty=is_empty),
        SetupStep("corpus", "Connect the corpus", not is_unconnected(Source.CORPUS, config, store)),
        SetupStep(
            "prompts", "Connect MLflow, where prompts are evaluated", not is_unconnected(Source.TRACKING, config, store)
        ),
        SetupStep("rollouts", "Make or import a flag", _has_flags(store, scope.environment, is_empty=is_empty)),
    )


def _count_questions(store: Store, scope: Scope, today: date, *, is_empty: bool) -> SetupStep:
    title, asked, days = "Let questions come in", 0, 0
    if not is_empty:
        window = last_days(_WINDOW_DAYS, until=today)
        try:
            asked = count_states(store, window, scope).questions
            days = sum(bool(day.count) for day in list_daily_scores(store, window=window, scope=scope))
        except QuarterdeckError:
            return SetupStep("questions", title, True)
    told = f"{asked:,} so far; topics need {FEWEST_ASKED} low ones, drift {DAYS_FOR_DRIFT} days and has {days}"
    return SetupStep("questions", title, days >= DAYS_FOR_DRIFT, told)


def _has_flags(store: Store, environment: str, *, is_empty: bool) -> bool:
    try:
        return not is_empty and bool(list_flags(store, environment))
    except QuarterdeckError:
        return True
