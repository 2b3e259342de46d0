"""Promotion on a real MLflow store and a real shared store: all of it happens, or none, or what is left is said."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.arms.arms import Metric
from core.audit.acts import Act
from core.audit.settings import Family, get_setting, setting_key
from core.audit.trail import list_audit, list_broken_audit_entries
from core.errors import Conflict, HalfDone, InvalidInput, NotFound, SourceUnavailable
from core.flags.layers import Holdout, find_holdout
from core.flags.operations import change_rollout, create_flag, switch_flag
from core.flags.store import get_flag, list_flags
from core.prompts.promotion import (
    Serving,
    find_promotion,
    find_unfinished,
    get_promoted,
    promote,
    roll_back,
    suggest_flag,
)
from core.reverts import revert
from core.rollouts.experiment_records import get_experiment
from core.rollouts.experiments import decide_for
from core.rollouts.layers import start_holdout
from core.rollouts.ramps import PlannedExperiment
from core.tracking.client import open_client
from core.tracking.gateway import Tracking
from quarterdeck.definitions import boolean_flag, rollout_pct
from quarterdeck.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
BY_NOW = datetime.now(UTC)
BY = Act("ann", "v3 is as faithful at two thirds of the cost")
FLAG = Serving("new_prompt_v3", 100)
PART = Serving("new_prompt_v3", 20)


def run_of(tracking: Tracking, version: int) -> str:
    return tracking.get_prompt("qa", version).run_ids[0]


def promote_3(store: Store, tracking: Tracking, serving: Serving | None = FLAG, by: Act = BY) -> int:
    return promote(store, tracking, run_of(tracking, 3), by, serving=serving, expected=2)


def look(store: Store, tracking: Tracking) -> dict[str, Any]:
    """All that a promotion can change."""
    live = tracking.production_version("qa")
    return {
        "live": live and live.version,
        "release": tracking.production_release("qa"),
        "descriptions": {run.name: run.description for run in tracking.list_runs()},
        "flags": {flag.key: flag.definition for flag in list_flags(store, "production")},
        "audit": [(entry.action, entry.target) for entry in list_audit(store)],
    }


@pytest.mark.deep
def test_a_promotion_moves_alias_registry_description_and_flag_with_one_audit_entry(
    store: Store, tracking: Tracking
) -> None:
    create_flag(store, "new_prompt_v3", boolean_flag(on=True, rollout_pct=5, metadata={"prompt_version": "v3"}), BY)
    entry_id = promote_3(store, tracking)
    run = tracking.get_run(run_of(tracking, 3))
    assert tracking.production_version("qa").version == 3  # type: ignore[union-attr]
    entry = open_client(tracking.tracking_uri).get_model_version_by_alias("qa-release", "production")
    assert (entry.run_id, entry.tags["stage"], entry.tags["prompt_version"]) == (run.run_id, "production", "3")
    assert run.description.startswith("Promoted to production by ann on ")
    assert "new_prompt_v3 in production: 100% of users" in run.description
    assert run.description.endswith(BY.reason)
    assert rollout_pct(get_flag(store, "production", "new_prompt_v3").definition) == 100
    newest, former = list_audit(store)
    assert (newest.entry_id, newest.action, newest.target, newest.reason) == (
        entry_id, "prompt.promote", "qa", BY.reason,
    )  # fmt: skip
    assert former.action == "flag.create"
    assert (newest.before["version"], newest.after["version"], newest.after["label"]) == (2, 3, "v3")  # type: ignore[index]
    assert list_broken_audit_entries(store) == ()


@pytest.mark.deep
def test_a_flag_that_is_not_there_is_made_and_says_which_version_it_serves(store: Store, tracking: Tracking) -> None:
    promote_3(store, tracking)
    definition = get_flag(store, "production", "new_prompt_v3").definition
    assert (rollout_pct(definition), definition["metadata"]["prompt_version"]) == (100, "v3")
    assert definition["metadata"]["description"] == "Answer with qa v3"


@pytest.mark.deep
def test_a_flag_that_is_off_is_switched_on(store: Store, tracking: Tracking) -> None:
    create_flag(store, "new_prompt_v3", boolean_flag(on=False, rollout_pct=5), BY)
    promote_3(store, tracking)
    definition = get_flag(store, "production", "new_prompt_v3").definition
    assert (definition["state"], rollout_pct(definition)) == ("ENABLED", 100)


@pytest.mark.deep
def test_without_a_flag_only_mlflow_is_changed(store: Store, tracking: Tracking) -> None:
    promote_3(store, tracking, serving=None)
    assert list_flags(store, "production") == ()
    assert tracking.production_version("qa").version == 3  # type: ignore[union-attr]
    roll_back(store, tracking, "qa", BY)
    assert tracking.production_version("qa").version == 2  # type: ignore[union-attr]


@pytest.mark.deep
def test_a_version_at_20_percent_leaves_production_where_it_is_until_100(store: Store, tracking: Tracking) -> None:
    before = look(store, tracking)
    entry_id = promote_3(store, tracking, PART)
    after = look(store, tracking)
    assert [after[key] for key in ("live", "release")] == [before[key] for key in ("live", "release")] == [2, None]
    assert rollout_pct(after["flags"]["new_prompt_v3"]) == 20
    assert after["descriptions"]["qa-v3"].startswith("Brought to 20% of users by ann on ")
    found = find_promotion(store, "qa")
    assert found is not None
    assert (found.entry.entry_id, found.promoted.name, found.promoted.partly) == (entry_id, "v2", "v3")
    promote_3(store, tracking, FLAG)
    assert tracking.production_version("qa").version == 3  # type: ignore[union-attr]
    roll_back(store, tracking, "qa", BY)
    assert tracking.production_version("qa").version == 2  # type: ignore[union-attr]
    assert rollout_pct(get_flag(store, "production", "new_prompt_v3").definition) == 20
    roll_back(store, tracking, "qa", BY)
    assert tracking.production_version("qa").version == 2  # type: ignore[union-attr]
    assert not get_flag(store, "production", "new_prompt_v3").view.is_on


def test_prompt_flag_and_experiment_start_in_one_step(store: Store, tracking: Tracking) -> None:
    then = PlannedExperiment("prompt v3", "faithfulness", 0.02)
    serving = Serving("new_prompt_v3", 50)
    entry_id = promote(store, tracking, run_of(tracking, 3), BY, serving=serving, expected=2, then=then)
    assert tracking.production_version("qa").version == 2  # type: ignore[union-attr]
    found = get_experiment(store, "production", "prompt v3")
    assert (found.design.flag, found.design.arms, found.design.metric) == (
        "new_prompt_v3", ("off", "on"), Metric.FAITHFULNESS
    )  # fmt: skip
    flag = get_flag(store, "production", "new_prompt_v3")
    assert (flag.view.rollout_pct, flag.view.experiment, flag.view.prompt_version) == (50, "prompt v3", "v3")
    told = [(entry.entry_id, str(entry.action)) for entry in list_audit(store, limit=2)]
    assert told == [(entry_id, "prompt.promote"), (entry_id - 1, "experiment.start")]
    with pytest.raises(Conflict, match="the experiment 'prompt v3' runs on new_prompt_v3; decide or stop it first"):
        promote_3(store, tracking, FLAG)
    with pytest.raises(Conflict, match="decide or stop it first"):
        roll_back(store, tracking, "qa", BY)
    decide_for(store, found, "on", BY, typed_name=None, now=BY_NOW)
    promote_3(store, tracking, FLAG)
    assert tracking.production_version("qa").version == 3  # type: ignore[union-attr]


def test_an_experiment_needs_users_on_both_versions(store: Store, tracking: Tracking) -> None:
    then = PlannedExperiment("prompt v3", "faithfulness", 0.02)
    before = look(store, tracking)
    for serving in (FLAG, None):
        with pytest.raises(InvalidInput, match="^experiment: needs a flag that gives the version to a part"):
            promote(store, tracking, run_of(tracking, 3), BY, serving=serving, expected=2, then=then)
    assert look(store, tracking) == before


def test_rolling_back_brings_everything_back_and_says_so_at_the_run(store: Store, tracking: Tracking) -> None:
    create_flag(store, "new_prompt_v3", boolean_flag(on=True, rollout_pct=5), BY)
    before = look(store, tracking)
    promote_3(store, tracking)
    change_rollout(store, get_flag(store, "production", "new_prompt_v3"), 60, BY)
    entry_id = roll_back(store, tracking, "qa", Act("bob", "complaints"))
    after = look(store, tracking)
    assert [after[key] for key in ("live", "release", "flags")] == [before[key] for key in ("live", "release", "flags")]
    description = after["descriptions"]["qa-v3"]
    assert description.startswith("Rolled back to v2 by bob on ")
    assert "complaints" in description
    assert BY.reason in description
    newest = list_audit(store)[0]
    assert (newest.entry_id, newest.action, newest.target) == (entry_id, "prompt.rollback", "qa")
    assert find_promotion(store, "qa") is None


def test_a_holdout_that_began_since_stops_no_roll_back(store: Store, tracking: Tracking) -> None:
    noted = boolean_flag(on=True, rollout_pct=5, metadata={"experiment": True})
    create_flag(store, "new_prompt_v3", noted, BY)
    promote_3(store, tracking)
    start_holdout(store, Holdout("2026q4", 10), BY)
    roll_back(store, tracking, "qa", BY)
    flag = get_flag(store, "production", "new_prompt_v3")
    assert (flag.view.share_pct, find_holdout(flag.view)) == (5, "2026q4")


def test_a_flag_that_the_promotion_made_is_switched_off_by_its_roll_back(store: Store, tracking: Tracking) -> None:
    promote_3(store, tracking)
    roll_back(store, tracking, "qa", BY)
    assert get_flag(store, "production", "new_prompt_v3").definition["state"] == "DISABLED"


def test_going_back_twice_goes_back_two_and_tags_follow(store: Store, tracking: Tracking) -> None:
    promote_3(store, tracking)
    promote(store, tracking, run_of(tracking, 1), BY, serving=None, expected=3)
    stages = [open_client(tracking.tracking_uri).get_model_version("qa-release", n).tags["stage"] for n in ("1", "2")]
    assert stages == ["former", "production"]
    roll_back(store, tracking, "qa", BY)
    assert (tracking.production_version("qa").version, tracking.production_release("qa")) == (3, 1)  # type: ignore[union-attr]
    roll_back(store, tracking, "qa", BY)
    assert (tracking.production_version("qa").version, tracking.production_release("qa")) == (2, None)  # type: ignore[union-attr]
    with pytest.raises(NotFound, match="nothing to roll back to"):
        roll_back(store, tracking, "qa", BY)


def test_the_first_promotion_of_a_prompt_rolls_back_to_none(store: Store, tracking: Tracking) -> None:
    tracking.delete_prompt_alias("qa", "production")
    promote(store, tracking, run_of(tracking, 3), BY, serving=None, expected=None)
    roll_back(store, tracking, "qa", BY)
    assert tracking.production_version("qa") is None
    assert "Rolled back to none" in tracking.get_run(run_of(tracking, 3)).description


def test_what_is_in_production_is_checked_against_what_the_visitor_saw(store: Store, tracking: Tracking) -> None:
    tracking.set_prompt_alias("qa", "production", 1)
    before = look(store, tracking)
    with pytest.raises(Conflict, match="has version 1 in production, not version 2"):
        promote_3(store, tracking)
    assert look(store, tracking) == before
    promote(store, tracking, run_of(tracking, 3), BY, serving=None, expected=1)
    tracking.set_prompt_alias("qa", "production", 2)
    with pytest.raises(Conflict, match="has version 2 in production, not version 3"):
        roll_back(store, tracking, "qa", BY)


@pytest.mark.parametrize(
    ("name", "serving", "message"),
    [
        ("foreign", FLAG, "foreign is linked to no registered prompt"),
        ("qa-v2", FLAG, "qa v2 is already in production"),
        ("qa-v3", Serving("new_prompt_v4", 20), "new_prompt_v4 serves prompt version v4, not v3"),
        ("qa-v3", Serving("new_prompt_v3", 120), "rollout_pct"),
        ("qa-v3", Serving("no/such key\n", 20), "key"),
    ],
)
def test_what_cannot_be_promoted_is_told_before_anything_is_changed(
    name: str, serving: Serving, message: str, store: Store, tracking: Tracking
) -> None:
    create_flag(store, "new_prompt_v4", boolean_flag(on=True, metadata={"prompt_version": "v4"}), BY)
    before = look(store, tracking)
    run_id = next(run.run_id for run in tracking.list_runs() if run.name == name)
    with pytest.raises(InvalidInput, match=message):
        promote(store, tracking, run_id, BY, serving=serving, expected=2)
    assert look(store, tracking) == before


class Failing(Tracking):
    """A store whose named methods fail: before they do anything, or after it, as a lost answer looks like."""

    def __init__(self, uri: str, *names: str, after: bool = False) -> None:
        super().__init__(uri)
        self.calls: list[str] = []
        for name in names:
            setattr(self, name, self._failing(name, getattr(self, name), after))

    def _failing(self, name: str, method: Callable[..., Any], after: bool) -> Callable[..., Any]:
        def fail(*arguments: Any, **options: Any) -> Any:
            self.calls.append(name)
            if after:
                method(*arguments, **options)
            raise SourceUnavailable("MLflow does not answer.")

        return fail


@pytest.mark.parametrize("step", ["set_run_description", "register_release", "set_prompt_alias"])
def test_a_promotion_that_fails_in_mlflow_leaves_everything_as_it_was(
    step: str, store: Store, tracking: Tracking
) -> None:
    create_flag(store, "new_prompt_v3", boolean_flag(on=True, rollout_pct=5), BY)
    before = look(store, tracking)
    broken = Failing(tracking.tracking_uri, step)
    if step == "register_release":
        with pytest.raises(SourceUnavailable, match="does not answer"):
            promote_3(store, broken)
    else:  # putting it back fails just the same
        with pytest.raises(HalfDone, match="could not be undone"):
            promote_3(store, broken)
    assert look(store, tracking) == before


def test_a_promotion_whose_second_half_fails_is_undone(store: Store, tracking: Tracking) -> None:
    create_flag(store, "new_prompt_v3", boolean_flag(on=True, rollout_pct=5), BY)
    before = look(store, tracking)

    class Meddling(Tracking):
        """Somebody turns the flag off between the first half and the second."""

        def set_prompt_alias(self, name: str, alias: str, version: int) -> None:
            super().set_prompt_alias(name, alias, version)
            if version == 3:
                switch_flag(store, get_flag(store, "production", "new_prompt_v3"), Act("bob", "stop"), on=False)

    with pytest.raises(Conflict, match="somebody else was faster"):
        promote_3(store, Meddling(tracking.tracking_uri))
    after = look(store, tracking)
    assert [after[key] for key in ("live", "release", "descriptions")] == [
        before[key] for key in ("live", "release", "descriptions")
    ]
    assert after["audit"][0] == ("flag.update", "new_prompt_v3")
    assert after["flags"]["new_prompt_v3"]["state"] == "DISABLED"
    assert find_unfinished(store, "qa") is None
    promote_3(store, tracking)


def test_what_could_not_be_undone_is_said_and_kept_until_it_is_done_right(store: Store, tracking: Tracking) -> None:
    broken = Failing(tracking.tracking_uri, "set_prompt_alias", after=True)
    with pytest.raises(HalfDone, match=r"The promotion of qa v3 is half done: the alias `production` could not be un"):
        promote_3(store, broken)
    found = find_unfinished(store, "qa")
    assert found is not None
    assert str(found).startswith("The promotion of qa v3 by ann on ")
    assert "the alias `production` could not be undone" in str(found)
    tracking.set_prompt_alias("qa", "production", 2)
    promote_3(store, tracking)
    assert find_unfinished(store, "qa") is None


def test_two_promotions_at_the_same_time_do_not_mix(store: Store, tracking: Tracking) -> None:
    class Slow(Tracking):
        """Somebody else promotes while this one is under way."""

        def set_run_description(self, run_id: str, text: str) -> None:
            if text:
                with pytest.raises(Conflict, match="The promotion of qa v3 by ann is running"):
                    promote(store, tracking, run_of(tracking, 1), BY, serving=None, expected=2)
            super().set_run_description(run_id, text)

    promote_3(store, Slow(tracking.tracking_uri))
    assert tracking.production_version("qa").version == 3  # type: ignore[union-attr]


def test_a_promotion_whose_process_died_is_told_and_does_not_block_for_ever(
    store: Store, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """What no code can catch and go on."""

    class Dying(Tracking):
        def set_prompt_alias(self, name: str, alias: str, version: int) -> None:
            super().set_prompt_alias(name, alias, version)
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("core.prompts.promotion._Steps.undo", lambda steps: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            promote_3(store, Dying(tracking.tracking_uri))
    assert find_unfinished(store, "qa") is None  # it may still be at work
    assert get_setting(store, setting_key(Family.PROMOTION, "qa"))[0]["actor"] == "ann"
    monkeypatch.setattr("core.prompts.promotion._LONGEST_MS", -1)
    assert "was cut off; MLflow may be changed" in str(find_unfinished(store, "qa"))
    promote(store, tracking, run_of(tracking, 1), BY, serving=None, expected=3)
    assert find_unfinished(store, "qa") is None


def test_without_the_control_store_mlflow_is_not_touched(tracking: Tracking, tmp_path: Path) -> None:
    nowhere = Store(f"sqlite:///{tmp_path}/nowhere.db")
    with pytest.raises(SourceUnavailable, match=r"nowhere\.db"):
        promote(nowhere, tracking, run_of(tracking, 3), BY, serving=None, expected=2)
    assert tracking.production_version("qa").version == 2  # type: ignore[union-attr]


def test_the_flag_that_serves_a_version_is_found_by_its_metadata(store: Store, tracking: Tracking) -> None:
    _, prompt = get_promoted(tracking, run_of(tracking, 3))
    assert suggest_flag((), prompt) == "new_prompt_v3"
    create_flag(store, "answers", boolean_flag(on=True, metadata={"prompt_version": "v3"}), BY)
    assert suggest_flag(list_flags(store, "production"), prompt) == "answers"


def test_a_promotion_is_not_reverted_half_from_the_audit_trail(store: Store, tracking: Tracking) -> None:
    entry_id = promote_3(store, tracking)
    with pytest.raises(InvalidInput, match="quarterdeck prompts rollback qa"):
        revert(store, entry_id, BY)


# What a service does to get its prompt; MLflow keeps the address it reads from for the whole process.
LOAD = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
found = mlflow.genai.load_prompt("prompts:/qa@production")
print(found.version, found.template)
"""


def load_as_a_service(tracking: Tracking, folder: Path) -> str:
    command = [sys.executable, "-W", "ignore", "-c", LOAD, tracking.tracking_uri]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.deep
def test_a_service_that_asks_mlflow_for_its_prompt_gets_the_one_in_production(
    store: Store, tracking: Tracking, tmp_path: Path
) -> None:
    promote_3(store, tracking)
    assert load_as_a_service(tracking, tmp_path) == "3 Prompt 3: {context} {question}"
    roll_back(store, tracking, "qa", BY)
    assert load_as_a_service(tracking, tmp_path) == "2 Prompt 2: {context} {question}"
