"""The change to a second real model and back, with the demo's documents and questions: everything goes on."""

from datetime import date, timedelta

import pytest

from benchmarks.model_change import LIVE, OTHER, THIN, ModelChangeRun, open_world, run
from core.coverage.backlog import TopicState
from core.drift.verdict import DriftStatus
from core.embedding.embed import DEFAULT_MODEL
from core.ledger.entries import EntryStatus

pytestmark = [pytest.mark.slow, pytest.mark.deep]
TODAY = date(2026, 11, 30)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> ModelChangeRun:
    with open_world(tmp_path_factory.mktemp("model-change"), today=TODAY) as world:
        return run(world)


def test_the_map_is_learned_and_the_change_is_no_alarm(done: ModelChangeRun) -> None:
    assert (done.map.former, done.map.pairs > 200, done.map.error < 0.03) == (DEFAULT_MODEL, True, True)
    before, report = done.before.drift.report, done.changed.drift.report
    assert (before.status, report.status) == (DriftStatus.STABLE, DriftStatus.STABLE)
    assert report.notes[0].startswith(f"The embedding model changed from {DEFAULT_MODEL} to ")
    assert "the reference goes on" in report.notes[0]
    assert report.baseline_from
    assert report.baseline_from < done.changed.today - timedelta(days=8), "it did not start anew"


def test_low_questions_and_topics_go_on(done: ModelChangeRun) -> None:
    before, changed = done.before.coverage, done.changed.coverage
    assert changed.threshold == pytest.approx(done.map.apply(before.threshold), abs=0.03)
    assert changed.low_share == pytest.approx(before.low_share, abs=0.05)
    known = {each.topic_id: each for each in done.before.backlog}
    kept = [each for each in done.changed.backlog if each.topic_id in known]
    assert len(kept) >= 2 / 3 * len(known), "all but a topic of small talk that has no question near its center"
    assert [each.label for each in kept] == [known[each.topic_id].label for each in kept]
    (planned,) = [each for each in done.changed.backlog if each.state is TopicState.PLANNED]
    assert planned.owner == "kim"


def test_predictions_of_both_kinds_are_held_to_on_one_scale(done: ModelChangeRun) -> None:
    swap = next(each for each in done.changed.ledger if OTHER in each.summary)
    assert swap.scale.startswith(f"on the scale of {DEFAULT_MODEL}")
    assert swap.predicted
    assert swap.predicted.value == pytest.approx(done.replay.predicted.value, abs=0.001), "as rounded for the ledger"
    assert swap.measured
    assert abs(swap.measured.size - swap.predicted.value) < 0.02
    settled = next(each for each in done.back.ledger if OTHER in each.summary)
    assert settled.status is not EntryStatus.WORSE
    total = done.check.total
    assert total
    assert total.measured_score == pytest.approx(total.predicted_score, abs=0.02 + done.map.error)


def test_a_rollback_across_the_change_is_rehearsed_on_one_scale(done: ModelChangeRun) -> None:
    found = done.changed.rehearsal
    assert found
    assert (found.back_to, found.unknown, found.mean) == (LIVE, "", None)
    assert 0 < found.worse + found.better < found.known
    assert f"scores of {DEFAULT_MODEL} on the scale of" in found.basis


def test_a_drop_after_the_change_is_called_on_its_day(done: ModelChangeRun) -> None:
    report = done.dropped.drift.report
    assert report.status is DriftStatus.DRIFTING
    assert report.changed_on
    assert abs((report.changed_on - done.changed.today).days) <= 1
    assert any(THIN in each.summary for each in done.dropped.ledger)


def test_the_way_back_goes_on_too(done: ModelChangeRun) -> None:
    report = done.back.drift.report
    assert report.status is DriftStatus.STABLE
    assert "to all-MiniLM-L6-v2 on" in report.notes[0]
    assert "the reference goes on" in report.notes[0]
    assert done.back.coverage.threshold == pytest.approx(done.before.coverage.threshold, abs=0.03)
    assert {each.topic_id for each in done.before.backlog} <= {each.topic_id for each in done.back.backlog}
    (planned,) = [each for each in done.back.backlog if each.state is TopicState.PLANNED]
    assert planned.owner == "kim"
