"""What prompt versions do in production, read from every kind of log, compared with their evaluations."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.log.retrievals import last_days, list_live_figures
from core.log.values import Measured
from core.prompts.behavior import report_behavior
from core.tracking.gateway import Tracking
from core.tracking.runs import PromptVersion, Run
from quarterdeck.log import RetrievalLog
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.backends import BACKENDS

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
WINDOW = last_days(7, until=NOON.date())


def asked(version: str | None, hours_ago: int = 0, **figures: float | None) -> Retrieval:
    moment = NOON - timedelta(hours=hours_ago)
    return Retrieval(moment, "what is an mbuf", figures.pop("score", 0.5), prompt_version=version, **figures)


ROWS = [
    asked("v2", score=0.4, faithfulness=1.0, cost_usd=0.002, feedback=1.0, latency_ms=100.0),
    asked("v2", 1, score=0.6, faithfulness=0.5, feedback=-1.0),
    asked("v2", 2, score=None),
    asked("v3", 3, cost_usd=0.001),
    asked(None, 4),
    asked("v2", 24 * 7, faithfulness=0.0),
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_figures_are_means_over_the_queries_of_the_window_that_carry_them(
    backend: str,
    open_new_log: Callable[[str], RetrievalLog],
) -> None:
    log = open_new_log(backend)
    log.append([row.row for row in ROWS])
    unnamed, v2, v3 = list_live_figures(log, "prompt_version", WINDOW, most=1_000)
    assert (unnamed.value, unnamed.queries, v2.queries, v3.queries) == ("", 1, 3, 1)
    assert v2.score == Measured(2, pytest.approx(0.5))
    assert v2.faithfulness == Measured(2, pytest.approx(0.75))
    assert v2.cost_usd == Measured(1, pytest.approx(0.002))
    assert v2.feedback == Measured(2, pytest.approx(0.0))
    assert v2.latency_ms == Measured(1, pytest.approx(100.0))
    assert v3.faithfulness == Measured(0, None)
    newest = list_live_figures(log, "prompt_version", WINDOW, most=2)
    assert [(each.value, each.queries) for each in newest] == [("v2", 2)]


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_each_version_has_its_offline_figures_beside_the_live_ones(store: Store, tmp_path: Path) -> None:
    tracking = Tracking(f"sqlite:///{tmp_path}/mlflow.db")
    for number in (2, 3, 4):
        prompt = tracking.register_prompt("qa", f"Prompt {number}", tags={"version": str(number)})
        metrics = {"faithfulness_mean": number / 10, "cost_usd_mean": 0.001}
        tracking.log_evaluation(
            "trials", f"qa-v{number}", params={"prompt": "qa"}, metrics=metrics, artifacts={}, prompt=prompt
        )
    tracking.set_prompt_alias("qa", "production", 1)
    append_retrievals(store, [*ROWS, asked("3", 5), asked("blue-42", 6)])
    found = report_behavior(store, tracking, "qa", experiment="trials", window=WINDOW)
    seen = [(each.label, each.live.queries if each.live else 0, each.is_in_production) for each in found.versions]
    assert seen == [("v4", 0, False), ("v3", 1, False), ("v3", 1, False), ("v2", 3, True), ("", 1, False),
                    ("blue-42", 1, False)]  # fmt: skip
    assert [each.offline.metrics["faithfulness_mean"] for each in found.versions if each.offline] == [
        0.4,
        0.3,
        0.3,
        0.2,
    ]
    assert (found.queries, found.is_cut) == (7, False)
    assert found.compared_with is not None
    assert (found.compared_with.label, [each.differences for each in found.versions]) == ("v2", [()] * 6)
    crowd = [
        replace(each, session_id=f"s{number}") for number in range(40) for each in (asked("v2"), asked("3", score=0.7))
    ]
    append_retrievals(store, crowd)
    again = report_behavior(store, tracking, "qa", experiment="trials", window=WINDOW)
    ((label, difference),) = [(each.label, one) for each in again.versions for one in each.differences]
    assert (label, difference.figure, difference.days) == ("v3", "score", 1)
    assert difference.low > 0


class OnePrompt:
    """MLflow with one prompt of two versions, and no run."""

    def list_prompts(self, name: str, *, with_runs: bool) -> tuple[PromptVersion, ...]:
        assert not with_runs
        return tuple(PromptVersion(name, number, "", (), "", NOON, (), {}) for number in (3, 2))

    def list_runs(self, *_: object, **__: object) -> tuple[Run, ...]:
        return ()


def test_queries_of_services_that_do_not_use_the_prompt_are_left_out(store: Store) -> None:
    chat, search, mail = (Scope("production", name) for name in ("chat", "search", "mail"))
    rows = [asked("v2"), asked("v2", 1), asked("v3", 2), asked(None, 3)]
    append_retrievals(store, [replace(row, scope=chat) for row in rows])
    append_retrievals(store, [replace(asked(None, n), scope=search) for n in range(20)])
    append_retrievals(store, [replace(asked("v2", 5, score=0.8), scope=mail)])
    scope = Scope("production", "")
    found = report_behavior(store, OnePrompt(), "qa", experiment="", window=WINDOW, scope=scope)
    assert [(each.label, each.live.queries) for each in found.versions] == [("v3", 1), ("v2", 3), ("", 1)]
    assert found.versions[1].live.score == Measured(3, pytest.approx(0.6))
    assert found.queries == 5
