"""The commands `quarterdeck prompts …` on a real MLflow store and a real shared store."""

import pytest

from core.audit.trail import list_audit
from core.flags.store import get_flag, list_flags
from core.tracking.gateway import Tracking
from quarterdeck.definitions import rollout_pct
from quarterdeck.store import Store
from tests.app.commands.running import Run, only_line
from tests.core.prompts.test_promotion import look, run_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


@pytest.fixture
def prompts(
    tracking: Tracking,
    store: Store,
    url: str,
    quarterdeck: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Runs `quarterdeck prompts …` on the two stores."""

    def run(*arguments: str) -> object:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.tracking_uri)
        return quarterdeck("prompts", *arguments, "--database", url)

    return run  # type: ignore[return-value]


@pytest.mark.deep
def test_the_versions_are_listed_with_what_is_in_production(prompts: Run) -> None:
    lines = prompts("list").out.splitlines()
    assert [line.split()[:2] for line in lines] == [["qa", "v3"], ["qa", "v2"], ["qa", "v1"]]
    assert ["production" in line for line in lines] == [False, True, False]
    rows = prompts("list", "--json").json
    assert [(row["version"], row["aliases"], len(row["run_ids"])) for row in rows] == [
        (3, [], 1), (2, ["production"], 1), (1, [], 1),
    ]  # fmt: skip


@pytest.mark.deep
def test_a_promotion_and_its_roll_back_say_what_is_in_production_now(
    prompts: Run,
    store: Store,
    tracking: Tracking,
) -> None:
    said = prompts(
        "promote", "qa", "v3", "--flag", "new_prompt_v3", "--rollout", "100", "--reason", "as good, a third cheaper"
    )
    (entry,) = list_audit(store)
    assert (said.code, said.out) == (0, f"qa v3 is in production (audit entry {entry.entry_id}); was v2\n")
    assert (entry.actor, entry.action, entry.reason) == ("tester", "prompt.promote", "as good, a third cheaper")
    assert tracking.production_version("qa").version == 3  # type: ignore[union-attr]
    assert rollout_pct(get_flag(store, "production", "new_prompt_v3").definition) == 100
    assert "as good, a third cheaper" in tracking.get_run(run_of(tracking, 3)).description

    back = prompts("rollback", "qa", "--reason", "complaints")
    newest = list_audit(store, limit=1)[0]
    assert (back.code, back.out) == (0, f"in production of qa: v2 (audit entry {newest.entry_id})\n")
    assert (newest.action, newest.reason) == ("prompt.rollback", "complaints")
    assert tracking.production_version("qa").version == 2  # type: ignore[union-attr]
    assert get_flag(store, "production", "new_prompt_v3").definition["state"] == "DISABLED"


@pytest.mark.deep
def test_both_answer_in_json(prompts: Run, store: Store) -> None:
    promoted = prompts("promote", "qa", "1", "--reason", "shorter", "--json").json
    assert promoted == {"prompt": "qa", "version": 1, "audit_entry": list_audit(store, limit=1)[0].entry_id}
    back = prompts("rollback", "qa", "--reason", "complaints", "--json").json
    assert back == {"prompt": "qa", "version": 2, "audit_entry": list_audit(store, limit=1)[0].entry_id}
    assert list_flags(store, "production") == ()


@pytest.mark.deep
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("promote", "qa", "v9", "--reason", "why"), "'qa' has no version 'v9'; there are: v3, v2, v1"),
        (("promote", "nope", "v1", "--reason", "why"), "'nope' has no version 'v1'; there are: none"),
        (("promote", "qa", "v2", "--reason", "why"), "qa v2 is already in production"),
        (("promote", "qa", "v3", "--flag", "f", "--reason", "why"), "--flag and --rollout together"),
        (("promote", "qa", "v3", "--rollout", "20", "--reason", "why"), "--flag and --rollout together"),
        (("promote", "qa", "v3", "--flag", "a\nb", "--rollout", "20", "--reason", "why"), "control characters"),
        (("promote", "qa", "v3", "--run", "nope", "--reason", "why"), "no run 'nope'"),
        (("promote", "qa", "v3", "--reason", "  "), "reason"),
        (("rollback", "qa"), "reason"),
        (("rollback", "qa", "--reason", "why"), "nothing to roll back to"),
        (("rollback", "nope", "--reason", "why"), "no promotion of 'nope'"),
    ],
)
def test_wrong_input_is_one_line_and_changes_nothing(
    arguments: tuple[str, ...],
    named: str,
    prompts: Run,
    store: Store,
    tracking: Tracking,
) -> None:
    before = look(store, tracking)
    assert named in only_line(prompts(*arguments), 2)
    assert look(store, tracking) == before


@pytest.mark.parametrize(
    "arguments", [("promote", "qa"), ("promote", "qa", "v3"), ("promote", "qa", "v3", "--flag", "f",
    "--rollout", "101", "--reason", "why")],
)  # fmt: skip
def test_a_call_that_lacks_something_shows_the_usage(arguments: tuple[str, ...], prompts: Run, store: Store) -> None:
    answer = prompts(*arguments)
    assert (answer.code, "Error:" in answer.err) == (2, True)
    assert list_audit(store) == ()


def test_a_version_that_no_run_used_cannot_be_promoted(prompts: Run, tracking: Tracking) -> None:
    tracking.register_prompt("qa", "Prompt 4: {context} {question}", tags={"version": "4"}, experiment="trials")
    assert "no run used qa v4; `quarterdeck eval` makes one" in only_line(
        prompts("promote", "qa", "v4", "--reason", "why"), 2
    )


def test_a_store_that_is_not_there_is_named(
    prompts: Run,
    quarterdeck: Run,
    tracking: Tracking,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    assert "there is no file /nowhere/mlflow.db" in only_line(quarterdeck("prompts", "list"), 1)
    nowhere = ("--database", "sqlite:////nowhere/deck.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.tracking_uri)
    line = only_line(quarterdeck("prompts", "promote", "qa", "v3", "--reason", "why", *nowhere), 1)
    assert "No store at /nowhere/deck.db" in line
    assert tracking.production_version("qa").version == 2  # type: ignore[union-attr]


def test_a_comparison_of_means_is_told_in_text_and_in_json(prompts: Run, tracking: Tracking) -> None:
    answer = prompts("compare", "--experiment", "trials", "--rule", "faithfulness-per-cost", "--json").json
    assert (answer["verdict"], answer["winner"], answer["left_out"]) == ("means_only", None, [])
    assert answer["candidates"][0] == {
        "name": "qa-v3", "prompt": "qa", "version": "3", "run_id": run_of(tracking, 3), "faithfulness": 0.9,
        "cost_usd": 0.001, "cases": None,
    }  # fmt: skip
    lines = prompts("compare", "--experiment", "trials").out.splitlines()
    assert lines[0].startswith("means_only: No version is ahead by the means alone")
    assert lines[1].split()[:3] == ["qa-v3", "faithfulness", "0.900,"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--experiment", "nope"), "there is no 'nope'; there are: Default, trials"),
        (("--experiment", "trials", "--rule", "faithfulness-under-ceiling"), "give --ceiling with the rule"),
        (("--experiment", "trials", "--rule", "faithfulness", "--ceiling", "0.1"), "give --ceiling with the rule"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_one_line(options: tuple[str, ...], named: str, prompts: Run) -> None:
    assert named in only_line(prompts("compare", *options), 2)


@pytest.mark.deep
def test_an_experiment_without_evaluated_runs_says_what_was_looked_for(prompts: Run, tracking: Tracking) -> None:
    tracking.log_evaluation("other", "epoch", params={"lr": "1"}, metrics={"loss": 0.5}, artifacts={})
    answer = prompts("compare", "--experiment", "other", "--json").json
    assert (answer["verdict"], answer["winner"], answer["candidates"]) == ("nothing", None, [])
    assert "Found 1 run with the metrics loss and the parameters lr." in answer["reason"]
