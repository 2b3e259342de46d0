"""The tab Canaries as a visitor sees it: on the demo, with traffic, on an empty store, with a broken log."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.flags.operations import create_flag
from core.flags.store import get_flag
from quarterdeck.definitions import canary_flag
from quarterdeck.flags import FlagSet
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.pages.opening import HOSTILE, assert_shown_as_text, open_page, text_of, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


def fill(store: Store, *, drop: float, key: str = "answers") -> None:
    """A canary of a day with its traffic: green scores lower by `drop`."""
    now, rng = datetime.now(UTC), random.Random(2)
    canary = canary_flag(20, metadata={"canary_steps": "20% for 1h, 100%", "canary_automation": "off"})
    create_flag(store, key, canary, Act("ada", "try it", at=now - timedelta(days=1)))
    flags = FlagSet.from_definitions({"flags": {key: canary}})
    rows = []
    for number in range(800):
        arm = flags.resolve(key, {"targetingKey": f"user-{number}"}).variant
        score = min(1.0, max(0.0, rng.gauss(0.7, 0.05) - (drop if arm == "green" else 0)))
        at = now - timedelta(seconds=rng.randrange(60, 80_000))
        rows.append(Retrieval(at, "what is an mbuf", score, session_id=f"user-{number}", arm=arm, latency_ms=90.0))
    append_retrievals(store, rows)


def test_the_demos_canary_says_how_it_stands_and_what_the_next_step_takes(as_demo: Demo) -> None:
    app = open_page("rollouts", tab="Canaries")
    assert verdict(app).startswith("2 of 5 flags are partly rolled out")
    shown = text_of(" ".join(m.value for m in app.markdown))
    assert "answer-service at 5%: Too early to tell:" in shown
    assert "Missing for the next step:" in shown
    assert "more users on green, of 100" in shown
    assert "Steps: **5%** → 25% → 50% → 100%." in " ".join(caption.value for caption in app.caption)


@pytest.mark.deep
def test_a_worse_green_is_called_on_the_page_the_overview_and_in_the_table(empty_url: str, store: Store) -> None:
    fill(store, drop=0.1)
    app = open_page("rollouts", tab="Canaries")
    shown = text_of(" ".join(m.value for m in app.markdown))
    assert "Not healthy" in shown
    assert "answers at 20%: Green's score is significantly worse: 0.60 against 0.70 on blue" in shown
    table = app.dataframe[0].value
    assert dict(zip(table["metric"], table["so"], strict=True)) == {
        "score": "significantly worse", "error rate": "not sure yet", "latency": "within the margin"
    }  # fmt: skip
    assert len(app.get("plotly_chart")) == 2
    overview = text_of(" ".join(m.value for m in open_page("overview").markdown))
    assert "Green's score is significantly worse" in overview


def test_a_green_without_a_verdict_is_not_called_healthy_on_the_overview(empty_url: str, store: Store) -> None:
    fill(store, drop=0.0)
    app = open_page("overview")
    assert "1 canary 20%, no verdict yet" in [text_of(caption.value) for caption in app.caption]


@pytest.mark.deep
def test_before_a_rollback_the_page_says_which_questions_would_change(empty_url: str, store: Store) -> None:
    fill(store, drop=0.1)
    app = open_page("rollouts", tab="Canaries")
    told = " ".join(text_of(caption.value) for caption in app.caption)
    assert "If rolled back to blue now: 0 questions would get worse, 1 better, and 0 would stay alike" in told
    assert app.dataframe[1].value["question"].tolist() == ["what is an mbuf"]


@pytest.mark.deep
def test_rolling_back_takes_a_reason_and_is_then_told_with_it(empty_url: str, store: Store) -> None:
    fill(store, drop=0.1)
    app = open_page("rollouts", tab="Canaries")
    version = get_flag(store, "production", "answers").version
    key = f"canary-rollback-answers-{version}"
    roll_back = next(button for button in app.button if "Roll back" in text_of(button.label))
    app = roll_back.click().run()
    assert "reason: is empty" in text_of(app.error[0].value)
    app.text_input(key=f"{key}-reason").input("users complain")
    app = next(button for button in app.button if "Roll back" in text_of(button.label)).click().run()
    assert not app.exception
    entry = list_audit(store, limit=1)[0]
    assert (entry.action, entry.actor, entry.reason) == ("canary.rollback", "tester", "users complain")
    shown = text_of(" ".join(m.value for m in app.markdown))
    assert "answers at 0%: Rolled back by tester. users complain" in shown


def test_the_next_step_says_which_services_judge_it(empty_url: str, store: Store) -> None:
    fill(store, drop=0.0)
    app = open_page("rollouts", tab="Canaries")
    assert "Judged by all services that report its arms." in text_of(" ".join(c.value for c in app.caption))
    key = f"canary-promote-answers-{get_flag(store, 'production', 'answers').version}"
    chosen = next(each for each in app.multiselect if each.key == f"{key}-services")
    assert "default" in chosen.options
    chosen.select("default")
    app.text_input(key=f"{key}-reason").input("the others are not ours")
    app = next(button for button in app.button if "Continue to" in text_of(button.label)).click().run()
    assert not app.exception
    entry = list_audit(store, limit=1)[0]
    assert entry.action == "canary.promote"
    assert (entry.after or {})["metadata"]["canary_services"] == "default"


def test_without_a_canary_the_tab_says_what_one_is(empty_url: str, store: Store) -> None:
    app = open_page("rollouts", tab="Canaries")
    assert not app.exception
    assert "There is no canary yet" in app.info[0].value


def test_a_log_that_cannot_be_read_is_one_line_and_the_flags_are_still_there(
    empty_url: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, drop=0.0)
    monkeypatch.setenv("QUARTERDECK_LOG_URL", f"sqlite:///{tmp_path / 'nowhere' / 'log.db'}")
    app = open_page("rollouts", tab="Canaries")
    assert not app.exception
    (error,) = (text_of(each.value) for each in app.error)
    assert "The canaries could not be read" in error
    assert str(tmp_path / "nowhere" / "log.db") in error
    assert any(m.value.startswith("#### 1 of 1 flags") for m in app.markdown)


def test_hostile_names_and_reasons_are_shown_as_text(empty_url: str, store: Store) -> None:
    key = HOSTILE.replace(" ", "")
    create_flag(store, key, canary_flag(5, metadata={"canary_steps": "5% for 1h, 100%"}), Act(HOSTILE, HOSTILE))
    app = open_page("rollouts", tab="Canaries")
    assert_shown_as_text(app)
    assert key in text_of(" ".join(m.value for m in app.markdown))
