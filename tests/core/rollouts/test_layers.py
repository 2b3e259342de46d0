"""Layers and the holdout over a real store: no user in two experiments, and nobody who is held out is touched."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli import main
from core.arms.arms import Metric
from core.audit.acts import Act
from core.audit.trail import list_audit
from core.errors import Conflict, InvalidInput, NotFound
from core.flags.layer_store import get_holdout, get_layer
from core.flags.layers import Holdout, Layer, find_holdout, find_layer
from core.flags.operations import (
    change_hash_version,
    change_rollout,
    create_flag,
    import_flags,
    switch_flag,
    update_flag,
)
from core.flags.schedule import ScheduleStep
from core.flags.sentences import describe_rules
from core.flags.store import Flag, export_flags, get_flag
from core.log.exposures import list_exposures
from core.reverts import revert
from core.rollouts.canaries import get_canary, promote_canary
from core.rollouts.experiment_design import Design, list_arms, plan_experiment
from core.rollouts.experiment_records import get_experiment
from core.rollouts.experiments import LayerPlace, decide_for, prepare_start, start_experiment, stop_experiment
from core.rollouts.layers import (
    create_layer,
    end_holdout,
    list_held_out,
    preview_holdout,
    remove_layer,
    report_layers,
    start_holdout,
    take_out,
)
from core.rollouts.schedules import create_schedule, run_schedules
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag, canary_flag, set_hash_version, split_flag
from quarterdeck.flags import FlagSet
from quarterdeck.slices import Slice, set_slices
from quarterdeck.store import Store

ENVIRONMENT = "production"
ME = Act("ada", "because")
USERS = [f"user-{number}" for number in range(4_000)]
NOW = datetime.now(UTC)


@pytest.fixture
def layer(store: Store) -> Layer:
    """A layer without experiments."""
    create_layer(store, Layer("answers"), ME)
    return get_layer(store, ENVIRONMENT, "answers")


def make(store: Store, key: str, definition: dict[str, Any] | None = None) -> Flag:
    create_flag(store, key, definition or split_flag({"a": 1, "b": 1}), ME)
    return get_flag(store, ENVIRONMENT, key)


def design_of(flag: Flag) -> Design:
    arms = list_arms(flag.view)
    return plan_experiment(
        flag.key, flag.view, name=flag.key, metric=Metric.SCORE, effect=0.02, control=arms[0], min_run=timedelta(0)
    )


def begin(store: Store, key: str, share_pct: float, definition: dict[str, Any] | None = None) -> Flag:
    """An experiment of its own on a share of the layer."""
    flag = make(store, key, definition)
    start_experiment(store, flag, design_of(flag), ME, place=LayerPlace("answers", share_pct))
    return get_flag(store, ENVIRONMENT, key)


def variants_of(store: Store, key: str) -> dict[str, str | None]:
    flags = FlagSet.from_definitions(export_flags(store, ENVIRONMENT))
    return {user: flags.resolve(key, {"targetingKey": user}).variant for user in USERS}


def drawn(store: Store, key: str, arms: tuple[str, ...] = ("a", "b")) -> set[str]:
    return {user for user, variant in variants_of(store, key).items() if variant in arms}


def test_no_user_is_in_two_experiments_of_a_layer(store: Store, layer: Layer) -> None:
    del layer
    for key, share in (("first", 30), ("second", 20), ("third", 50)):
        begin(store, key, share)
    found = {key: drawn(store, key) for key in ("first", "second", "third")}
    assert sum(map(len, found.values())) == len(set().union(*found.values())) == len(USERS)
    assert len(found["first"]) / len(USERS) == pytest.approx(0.3, abs=0.03)


def test_an_experiment_keeps_its_users_while_others_come_and_go(store: Store, layer: Layer) -> None:
    begin(store, "first", 30)
    before = variants_of(store, "first")
    begin(store, "second", 40)
    decide_for(store, get_experiment(store, ENVIRONMENT, "second"), "a", ME, typed_name=None, now=NOW)
    begin(store, "third", 70)
    assert variants_of(store, "first") == before
    assert not drawn(store, "first") & drawn(store, "third")
    (report,) = report_layers(store, ENVIRONMENT)
    assert report.free == 0 and [each.flag for each in report.uses] == ["first", "third"]
    assert report.layer == layer


def test_a_layer_that_is_full_takes_no_further_experiment(store: Store, layer: Layer) -> None:
    del layer
    begin(store, "first", 95)
    with pytest.raises(Conflict, match="layer answers: 5% of its users are free, 10% are wanted"):
        begin(store, "second", 10)


def test_what_is_free_may_lie_apart(store: Store, layer: Layer) -> None:
    del layer
    for key in ("first", "second", "third"):
        begin(store, key, 30)
    decide_for(store, get_experiment(store, ENVIRONMENT, "second"), "a", ME, typed_name=None, now=NOW)
    fourth = begin(store, "fourth", 40)
    assert fourth.view.slices[0].ranges == ((30_000, 60_000), (90_000, 100_000))
    assert not drawn(store, "fourth") & (drawn(store, "first") | drawn(store, "third"))


def test_two_experiments_that_start_at_one_moment_never_overlap(url: str, store: Store, layer: Layer) -> None:
    del layer
    keys = [f"flag-{number}" for number in range(4)]
    starts = {key: (make(store, key), design_of(get_flag(store, ENVIRONMENT, key))) for key in keys}
    barrier = Barrier(len(keys))

    def run(key: str) -> bool:
        own = Store(url)
        flag, design = starts[key]
        barrier.wait()
        try:
            start_experiment(own, flag, design, ME, place=LayerPlace("answers", 40))
        except Conflict:
            return False
        finally:
            own.close()
        return True

    with ThreadPoolExecutor(len(keys)) as pool:
        done = list(pool.map(run, keys))
    assert 1 <= sum(done) <= 2
    counted = Counter(user for key, is_done in zip(keys, done, strict=True) if is_done for user in drawn(store, key))
    assert max(counted.values()) == 1


def test_a_start_that_was_prepared_before_another_one_is_refused(store: Store, layer: Layer) -> None:
    """As two approved requests would be: both were prepared when the layer was free."""
    del layer
    flag = make(store, "late")
    prepared = prepare_start(store, flag, flag.key, LayerPlace("answers", 40))
    begin(store, "early", 40)
    with pytest.raises(Conflict, match="late and early would share users of the layer answers"):
        update_flag(store, flag, prepared, ME)
    assert get_flag(store, ENVIRONMENT, "late").definition == flag.definition


def test_neither_an_import_nor_a_revert_makes_slices_overlap(store: Store, layer: Layer) -> None:
    del layer
    first = begin(store, "first", 60)
    with pytest.raises(Conflict, match="would share users"):
        import_flags(store, {"flags": {"copy": first.definition}}, ME)
    decide_for(store, get_experiment(store, ENVIRONMENT, "first"), "a", ME, typed_name=None, now=NOW)
    decided = list_audit(store, limit=1)[0]
    begin(store, "second", 60)
    with pytest.raises(Conflict, match="would share users"):
        revert(store, decided.entry_id, ME)


def test_a_stopped_experiment_keeps_its_part_until_it_is_taken_out(store: Store, layer: Layer) -> None:
    begin(store, "first", 60)
    with pytest.raises(Conflict, match="the experiment 'first' runs on first"):
        take_out(store, get_flag(store, ENVIRONMENT, "first"), ME, typed_name="first", now=NOW)
    before = variants_of(store, "first")
    stop_experiment(store, get_experiment(store, ENVIRONMENT, "first"), ME)
    assert variants_of(store, "first") == before
    with pytest.raises(Conflict, match="first has users of it"):
        remove_layer(store, layer, ME)
    take_out(store, get_flag(store, ENVIRONMENT, "first"), ME, typed_name="first", now=NOW)
    assert get_flag(store, ENVIRONMENT, "first").view.slices == ()
    remove_layer(store, layer, ME)
    with pytest.raises(NotFound, match="no layer 'answers' in production; there are: none"):
        get_layer(store, ENVIRONMENT, "answers")
    create_layer(store, Layer("answers"), ME)


def test_a_flag_that_hashes_in_another_way_cannot_take_part(store: Store, layer: Layer) -> None:
    del layer
    with pytest.raises(InvalidInput, match=r"^hash_version: old buckets users by fractional-v2 and layer answers"):
        begin(store, "old", 10, set_hash_version(split_flag({"a": 1, "b": 1}), "fractional-v2"))


@pytest.mark.parametrize("name", ["", "Answers", "übung", "a b", "x" * 64])
def test_a_name_is_ascii(name: str) -> None:
    with pytest.raises(InvalidInput, match="^layer: name it with"):
        Layer(name)


@pytest.fixture
def deck(url: str, store: Store, tmp_path: Path) -> Iterator[Quarterdeck]:
    del store
    with Quarterdeck(url, poll_s=0.05, snapshot_path=tmp_path / "snapshot.json") as opened:
        yield opened


def test_only_users_inside_are_recorded_as_exposed(store: Store, layer: Layer, deck: Quarterdeck) -> None:
    """The control of an on/off flag is off, and so are the others: they are told apart by a variant of their own."""
    del layer
    flag = begin(store, "hyde", 20, boolean_flag(on=True, rollout_pct=50))
    deck.refresh()
    for user in USERS[:1_000]:
        deck.is_enabled("hyde", user)
    deck.flush()
    noted = list_exposures(store, ENVIRONMENT, "hyde")
    assert {each.targeting_key for each in noted} == drawn(store, "hyde", ("on", "off")) & set(USERS[:1_000])
    assert flag.view.variants["outside"] is False
    assert "For users outside of its part of the layer answers (80% of users): outside" in describe_rules(
        flag.definition
    )


def test_the_same_start_is_audited_and_its_users_are_drawn_afresh(store: Store, layer: Layer) -> None:
    del layer
    flag = make(store, "first")
    entry = start_experiment(store, flag, design_of(flag), ME, place=LayerPlace("answers", 20))
    found = get_experiment(store, ENVIRONMENT, "first")
    assert found.drawn_since == found.started
    assert list_audit(store, limit=1)[0].entry_id == entry
    assert find_layer(get_flag(store, ENVIRONMENT, "first").view) == "answers"


# --- the holdout


def test_a_holdout_keeps_its_users_out_of_experiments_and_canaries(store: Store) -> None:
    make(store, "answers", canary_flag(50, metadata={"canary_steps": "50% for 1h, 100%"}))
    make(store, "feature", boolean_flag(on=True, rollout_pct=50))
    start_holdout(store, Holdout("2026q4", 10), ME)
    flag = make(store, "style")
    start_experiment(store, flag, design_of(flag), ME)
    held = {user for user, variant in variants_of(store, "answers").items() if variant == "outside"}
    assert len(held) / len(USERS) == pytest.approx(0.1, abs=0.02)
    assert {user for user, variant in variants_of(store, "style").items() if variant == "off"} == held
    assert "outside" not in variants_of(store, "feature").values()  # a plain rollout is neither
    promote_canary(store, get_canary(store, ENVIRONMENT, "answers"), ME)
    assert {user for user, variant in variants_of(store, "answers").items() if variant != "green"} == held
    assert list_held_out(store, ENVIRONMENT) == ("answers", "style")


def test_every_way_to_a_canary_keeps_out_of_the_holdout(store: Store) -> None:
    start_holdout(store, Holdout("2026q4", 10), ME)
    make(store, "created", canary_flag(20))
    change_rollout(store, make(store, "changed", canary_flag(0)), 20, ME)
    import_flags(store, {"flags": {"imported": canary_flag(20)}}, ME)
    create_schedule(store, make(store, "planned", canary_flag(0)), [ScheduleStep(rollout_pct=20)], ME,
                    starts=NOW, now=NOW)  # fmt: skip
    run_schedules(store, now=NOW + timedelta(seconds=1))
    switched = make(store, "switched", {**canary_flag(20), "state": "DISABLED"})
    assert find_holdout(switched.view) is None
    switch_flag(store, switched, ME, on=True)
    for key in ("created", "changed", "imported", "planned", "switched"):
        assert find_holdout(get_flag(store, ENVIRONMENT, key).view) == "2026q4", key


def test_a_holdout_begins_when_no_experiment_runs_and_one_at_a_time(store: Store) -> None:
    flag = make(store, "style")
    start_experiment(store, flag, design_of(flag), ME)
    with pytest.raises(Conflict, match="the experiment 'style' runs and would lose users"):
        start_holdout(store, Holdout("2026q4", 10), ME)
    stop_experiment(store, get_experiment(store, ENVIRONMENT, "style"), ME)
    start_holdout(store, Holdout("2026q4", 10), ME)
    with pytest.raises(Conflict, match="the holdout 2026q4 runs in production already"):
        start_holdout(store, Holdout("other", 10), ME)


def test_the_end_of_a_holdout_leaves_running_experiments_as_they_are(store: Store) -> None:
    make(store, "answers", canary_flag(50))
    start_holdout(store, Holdout("2026q4", 10), ME)
    flag = make(store, "style")
    start_experiment(store, flag, design_of(flag), ME)
    found = get_holdout(store, ENVIRONMENT)
    assert found is not None and found.since is not None
    before = variants_of(store, "style")
    end_holdout(store, found, ME)
    assert get_holdout(store, ENVIRONMENT) is None
    assert variants_of(store, "style") == before
    assert list_held_out(store, ENVIRONMENT) == ("style",)
    decide_for(store, get_experiment(store, ENVIRONMENT, "style"), "a", ME, typed_name=None, now=NOW)
    assert set(variants_of(store, "style").values()) == {"a"}


def test_the_winner_reaches_those_held_out_when_the_holdout_ends(store: Store) -> None:
    start_holdout(store, Holdout("2026q4", 10), ME)
    flag = make(store, "style")
    start_experiment(store, flag, design_of(flag), ME)
    decide_for(store, get_experiment(store, ENVIRONMENT, "style"), "a", ME, typed_name=None, now=NOW)
    assert set(variants_of(store, "style").values()) == {"a", "off"}
    found = get_holdout(store, ENVIRONMENT)
    assert found is not None
    effects = preview_holdout(store, ENVIRONMENT, found, now=NOW, ends=True)
    assert [each.flag for each in effects] == ["style"]
    assert effects[0].impact.share == pytest.approx(0.1, abs=0.03)
    end_holdout(store, found, ME)
    assert set(variants_of(store, "style").values()) == {"a"}


def test_a_holdout_and_a_layer_are_independent(store: Store, layer: Layer) -> None:
    del layer
    start_holdout(store, Holdout("2026q4", 50), ME)
    begin(store, "first", 50)
    begin(store, "second", 50)
    first, second = drawn(store, "first"), drawn(store, "second")
    assert not first & second
    assert len(first) / len(USERS) == pytest.approx(0.25, abs=0.03)
    assert len(second) / len(USERS) == pytest.approx(0.25, abs=0.03)


def test_a_canary_saved_past_the_operations_is_refused_in_its_own_change(store: Store) -> None:
    """A change that was prepared before the holdout began, as an approved request is."""
    flag = make(store, "answers", canary_flag(0))
    prepared = canary_flag(20)
    start_holdout(store, Holdout("2026q4", 10), ME)
    from core.audit.acts import changing
    from core.flags.operations import replace_definition

    with (
        pytest.raises(Conflict, match="answers would touch users of the holdout 2026q4, which began meanwhile"),
        changing(store, ME) as change,
    ):
        replace_definition(change, flag, prepared)


def test_a_flag_in_two_layers_is_refused(store: Store, layer: Layer) -> None:
    both = [Slice("layer/another", ((0, 1_000),)), Slice(layer.space, ((0, 1_000),))]
    with pytest.raises(Conflict, match="style has users of two layers; a flag can be in one"):
        import_flags(store, {"flags": {"style": set_slices(split_flag({"a": 1, "b": 1}), both)}}, ME)


def test_a_flag_that_keeps_out_of_a_holdout_cannot_be_hashed_in_another_way(store: Store) -> None:
    start_holdout(store, Holdout("2026q4", 10), ME)
    flag = make(store, "answers", canary_flag(50))
    before = variants_of(store, "answers")
    with pytest.raises(InvalidInput, match=r"^hash_version: answers buckets users by fractional-v2 and the holdout"):
        change_hash_version(store, flag, "fractional-v2", ME)
    assert variants_of(store, "answers") == before
    stopped = switch_flag(store, flag, ME, on=False)  # the kill switch asks for nothing
    assert stopped


@pytest.mark.parametrize("share", [0, 50.5, -1])
def test_a_holdout_holds_out_at_most_half(share: float) -> None:
    with pytest.raises(InvalidInput, match="^share:"):
        Holdout("2026q4", share)


def test_a_holdout_of_another_environment_holds_nobody_out(store: Store) -> None:
    start_holdout(store, Holdout("2026q4", 10), replace(ME, environment="staging"))
    assert make(store, "answers", canary_flag(20)).view.slices == ()


def test_layers_and_holdouts_by_command(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    make(store, "style")
    make(store, "answers", canary_flag(20))

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, arguments, catch_exceptions=False)
        return done.output

    assert "no layers" in run("layers", "list")
    assert "the layer texts is made" in run("layers", "create", "texts", "--reason", "why")
    run("experiments", "start", "styles", "--flag", "style", "--metric", "score", "--effect", "0.02", "--control", "a",
        "--layer", "texts", "--layer-share", "25", "--reason", "why")  # fmt: skip
    listed = run("layers", "list")
    assert "75% free" in listed and "25.0%  style (experiment styles)" in listed
    run("experiments", "stop", "styles", "--reason", "why")
    assert "style is for all users again" in run("layers", "leave", "style", "--reason", "why")
    assert "is removed" in run("layers", "remove", "texts", "--reason", "why")
    tried = run("holdout", "start", "2026q4", "--share", "5", "--dry-run")
    assert "answers:" in tried and "made-up users" in tried and get_holdout(store, ENVIRONMENT) is None
    assert "5% of users are held out" in run("holdout", "start", "2026q4", "--share", "5", "--reason", "why")
    assert "flags that keep out of it: answers, style" in run("holdout", "show")
    assert "is over" in run("holdout", "end", "--reason", "why")
    assert "no holdout runs" in run("holdout", "show")
