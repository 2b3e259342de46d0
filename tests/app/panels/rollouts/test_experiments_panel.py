"""The tab Experiments as a visitor sees it: with traffic, on an empty store, with a broken log."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.arms.arms import Metric
from core.audit.acts import Act
from core.audit.trail import list_audit
from core.flags.operations import create_flag
from core.flags.store import get_flag
from core.rollouts.experiment_design import plan_experiment
from core.rollouts.experiment_records import get_experiment
from core.rollouts.experiments import start_experiment
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag, split_flag
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.core.rollouts.test_experiments import ENVIRONMENT, KEY, NAME, SETUP, deck, serve, start
from tests.pages.opening import HOSTILE, assert_shown_as_text, cards_of, open_page, text_of, verdict

__all__ = ["deck"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


def shown(app: AppTest) -> str:
    return text_of(" ".join(m.value for m in app.markdown))


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if text_of(button.label) == label).click().run()


@pytest.mark.deep
def test_a_winner_stands_on_top_with_its_interval_its_arms_and_its_table(
    empty_url: str, store: Store, deck: Quarterdeck
) -> None:
    start(store, days_ago=1)
    serve(deck, gain=0.06)
    app = open_page("rollouts", tab="Experiments")
    assert verdict(app)
    assert f"{NAME}: long wins: its score is significantly better than short's, 0.76 against 0.70" in shown(app)
    assert len(app.get("plotly_chart")) == 2
    table = app.dataframe[0].value
    told = {row["metric"]: (row["role"], row["so"]) for _, row in table.iterrows()}
    assert told["score"] == ("decides", "significantly better")
    assert told["latency"] == ("guardrail", "confirmed")
    assert told["error rate"][0] == "shown only"
    assert set(table["unit"]) >= {"ms a query", "of retrievals"}
    caption = text_of(" ".join(each.value for each in app.caption))
    assert "Decides: score, higher is better, from 0.020 on. Guardrails: latency at most 15% worse." in caption
    assert f"Experiment {NAME}: long wins" in caption
    overview = open_page("overview")
    assert "long wins: its score is significantly better" in cards_of(overview)
    links = [element.proto.label for element in overview.get("page_link")]
    assert any(text_of(label).endswith(f"Decide the experiment {NAME}") for label in links), links


@pytest.mark.deep
def test_several_experiments_are_counted_on_top_by_their_verdict(
    empty_url: str, store: Store, deck: Quarterdeck
) -> None:
    start(store, days_ago=1)
    serve(deck, gain=0.1, slower_ms=60)
    create_flag(store, "other", boolean_flag(on=True, rollout_pct=50), SETUP)
    flag = get_flag(store, ENVIRONMENT, "other")
    design = plan_experiment("other", flag.view, name="other", metric=Metric.COST, effect=0.1)
    start_experiment(store, flag, design, Act("ada", "to see"))
    app = open_page("rollouts")
    assert "2 experiments run: 1 to be stopped, 1 without a verdict yet." in " ".join(c.value for c in app.caption)
    assert "Not healthy" in shown(app)


def test_too_few_users_are_said_with_what_is_missing(empty_url: str, store: Store, deck: Quarterdeck) -> None:
    start(store, min_run=timedelta(days=7))
    serve(deck, gain=0.0, users=20)
    app = open_page("rollouts", tab="Experiments")
    assert "7 days of the 7 days minimum run" in shown(app)
    assert app.error == []


@pytest.mark.deep
def test_deciding_takes_a_reason_and_is_then_told_with_it(empty_url: str, store: Store, deck: Quarterdeck) -> None:
    start(store, days_ago=1)
    serve(deck, gain=0.06)
    app = press(open_page("rollouts", tab="Experiments"), "Decide")
    assert "reason: is empty" in text_of(app.error[0].value)
    version = get_experiment(store, ENVIRONMENT, NAME).version
    key = f"experiment-decide-{NAME}-{version}"
    assert app.selectbox(key=f"{key}-arm").value == "long"
    app.text_input(key=f"{key}-reason").input("users score it higher")
    if any(each.key == f"{key}-name" for each in app.text_input):
        app.text_input(key=f"{key}-name").input(KEY)
    app = press(app, "Decide")
    assert not app.exception
    entry = list_audit(store, limit=1)[0]
    assert (entry.action, entry.actor, entry.reason) == ("experiment.decide", "tester", "users score it higher")
    assert get_flag(store, ENVIRONMENT, KEY).definition["defaultVariant"] == "long"
    assert "everybody gets long: users score it higher" in shown(app)
    assert "Decide" not in [button.label for button in app.button]


def test_an_experiment_is_stopped_with_its_reason(empty_url: str, store: Store) -> None:
    start(store)
    app = open_page("rollouts", tab="Experiments")
    assert "No exposures yet" in shown(app)
    app.text_input(key=f"experiment-stop-{NAME}-1-reason").input("the wrong question")
    app = press(app, "Stop the experiment")
    assert "no choice was made: the wrong question" in shown(app)
    assert not get_experiment(store, ENVIRONMENT, NAME).is_running


def test_an_experiment_is_started_by_the_form(empty_url: str, store: Store) -> None:
    create_flag(store, KEY, split_flag({"control": 1, "long": 1}), SETUP)
    app = open_page("rollouts", tab="Experiments")
    assert "No experiment was started yet" in app.info[0].value
    app.text_input(key="experiment-name").input("longer answers")
    app.text_input(key="experiment-guardrails").input("latency=much")
    app.text_input(key="experiment-start-reason").input("users ask for detail")
    app = press(app, "Start")
    assert "guardrail: write it as latency=0.15" in text_of(app.error[0].value)
    app.text_input(key="experiment-guardrails").input("latency=0.15, errors=0.02")
    app.multiselect(key="experiment-services").set_value(["Answers"])
    app = press(app, "Start")
    assert not app.error
    design = get_experiment(store, ENVIRONMENT, "longer answers").design
    assert (design.control, design.treatments, design.effect, design.min_run.days) == ("control", ("long",), 0.02, 7)
    assert design.services == ("answers",)
    assert [str(each.metric) for each in design.guardrails] == ["latency", "error rate"]
    assert list_audit(store, limit=1)[0].action == "experiment.start"


def test_without_a_flag_that_fits_the_form_says_how_to_get_one(empty_url: str, store: Store) -> None:
    create_flag(store, KEY, boolean_flag(on=True), SETUP)
    app = open_page("rollouts", tab="Experiments")
    assert not app.exception
    assert "No flag here splits its users at random" in " ".join(each.value for each in app.caption)


@pytest.mark.deep
def test_the_demo_has_no_experiment_and_says_how_to_start_one(as_demo: Demo) -> None:
    app = open_page("rollouts", tab="Experiments")
    assert verdict(app).startswith("2 of 5 flags are partly rolled out")
    assert "No experiment was started yet" in app.info[0].value


def test_a_log_that_cannot_be_read_is_one_line_and_the_flags_are_still_there(
    empty_url: str, store: Store, deck: Quarterdeck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(store)
    serve(deck, gain=0.0, users=50)
    monkeypatch.setenv("QUARTERDECK_LOG_URL", f"sqlite:///{tmp_path / 'nowhere' / 'log.db'}")
    app = open_page("rollouts", tab="Experiments")
    assert not app.exception
    (error,) = (text_of(each.value) for each in app.error)
    assert "The experiments could not be read" in error
    assert str(tmp_path / "nowhere" / "log.db") in error
    assert any(m.value.startswith("#### ") for m in app.markdown)


def test_who_only_looks_finds_every_form_locked(empty_url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    start(store)
    create_flag(store, "other", split_flag({"control": 1, "long": 1}), SETUP)
    monkeypatch.setenv("QUARTERDECK_OPERATOR_ROLE", "viewer")
    app = open_page("rollouts", tab="Experiments")
    locked = {text_of(button.label): button.disabled for button in app.button}
    assert {locked[label] for label in ("Decide", "Stop the experiment", "Start")} == {True}


def test_hostile_names_and_reasons_are_shown_as_text(empty_url: str, store: Store, deck: Quarterdeck) -> None:
    key = HOSTILE.replace(" ", "")
    flag = split_flag({HOSTILE: 1, "control": 1})
    create_flag(store, key, flag, Act(HOSTILE, HOSTILE, at=datetime.now(UTC) - timedelta(days=2)))
    start(store, name=HOSTILE[:90], days_ago=1, definition=split_flag({HOSTILE: 1, "short": 1}))
    serve(deck, gain=0.0, users=200)
    app = open_page("rollouts", tab="Experiments")
    assert_shown_as_text(app)
    assert len(app.get("plotly_chart")) == 2
