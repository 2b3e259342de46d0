"""The ledger across a change of the embedding model: one scale for each change, the map's error in the interval."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from core.audit.acts import Act
from core.causes.timeline import ChangeKind, TimelineChange
from core.drift.operations import save_model_map
from core.drift.scales import learn_model_map
from core.ledger.entries import EffectPrediction, EntryStatus, describe_entry
from core.ledger.operations import predict_effect
from core.ledger.report import report_ledger
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

TODAY = date(2026, 11, 29)
SWAP = datetime(2026, 11, 10, 0, 5, tzinfo=UTC)
RELEASE = SWAP - timedelta(days=20)
OLD, NEW = "small-v1", "static-v2"
LEVEL, SPREAD, EFFECT = 0.5, 0.1, 0.04


def rescale(scores: np.ndarray) -> np.ndarray:
    """What the new model gives: 0.2 higher, and half the spread."""
    return np.asarray(LEVEL + 0.2 + (scores - LEVEL) / 2)


def make_change(kind: ChangeKind, at: datetime, entry_id: int, summary: str) -> TimelineChange:
    target = "default" if kind is ChangeKind.INDEX else "api"
    return TimelineChange(ts=at, kind=kind, target=target, summary=summary, actor="ada", reason="", entry_id=entry_id)


CHANGES = (
    make_change(ChangeKind.RELEASE, RELEASE, 7, "api 2.0"),
    make_change(ChangeKind.INDEX, SWAP, 8, "default swapped to the new model"),
)


def fill(store: Store) -> None:
    """Log 70 days at 120 a day: a release lifts the scores by 0.04, and the swap lifts them by 0.04 of the old ones."""
    random, rows = np.random.default_rng(5), []
    for back in range(70, 0, -1):
        day = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC) - timedelta(days=back)
        scores = random.normal(LEVEL, SPREAD, 120) + EFFECT * (day > RELEASE) + EFFECT * (day > SWAP)
        if day > SWAP:
            scores = rescale(scores)
        rows += [
            Retrieval(
                day + timedelta(seconds=at), f"question {at} of {back}", float(score), model=NEW if day > SWAP else OLD
            )
            for at, score in enumerate(np.clip(scores, 0, 1))
        ]
    append_retrievals(store, rows)


def keep_map(store: Store) -> None:
    random = np.random.default_rng(6)
    before = random.normal(LEVEL, 1.3 * SPREAD, 500)
    after = rescale(before) + random.normal(0, 0.01, 500)
    save_model_map(store, learn_model_map(OLD, NEW, before.tolist(), after.tolist(), [1.0] * 500), Act("ada", "swap"))


def predict(store: Store, about: str, at: datetime) -> None:
    act = Act("ada", "an evaluation", at=at - timedelta(days=1))
    predict_effect(store, about, EffectPrediction(EFFECT, 0.02, 0.06), act, metric="score", service="default")


@pytest.fixture
def told(store: Store) -> Store:
    fill(store)
    predict(store, "release:api", RELEASE)
    predict(store, "index:default", SWAP)
    return store


def read(store: Store):
    return report_ledger(store, CHANGES, scope=DEFAULT_SCOPE, today=TODAY, threshold=0.6).entries


def test_without_a_map_the_new_scale_is_taken_for_the_effect_of_the_swap(told: Store) -> None:
    swap, _ = read(told)
    assert (swap.scale, swap.status) == ("", EntryStatus.BETTER)
    assert swap.measured and swap.measured.size > 0.1


@pytest.mark.deep
def test_with_a_map_both_changes_are_measured_on_the_scale_of_their_predictions(told: Store) -> None:
    keep_map(told)
    swap, release = read(told)
    for entry in (swap, release):
        assert entry.status is EntryStatus.AS_PREDICTED
        assert entry.measured
        assert entry.measured.size == pytest.approx(EFFECT, abs=0.015)
        assert entry.scale.startswith(f"on the scale of {OLD}; scores of {NEW} are mapped, with an error of 0.0")
        assert entry.scale in describe_entry(entry)


def test_a_later_change_is_measured_on_the_present_scale(told: Store) -> None:
    keep_map(told)
    later = make_change(ChangeKind.RELEASE, SWAP + timedelta(days=9), 9, "api 2.1")
    found = report_ledger(told, (*CHANGES, later), scope=DEFAULT_SCOPE, today=TODAY, threshold=0.6).entries[0]
    assert found.scale.startswith(f"on the scale of {NEW}; scores of {OLD} are mapped")
    assert found.measured
    assert found.measured.low <= 0 <= found.measured.high
