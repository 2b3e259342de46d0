"""The ledger over a real store: predictions find their change, measured effects stay, nothing can be edited."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from core.audit.acts import Act
from core.audit.permissions import Role, hold_everywhere
from core.causes.timeline import ChangeKind, TimelineChange
from core.errors import Forbidden, InvalidInput
from core.ledger.entries import EffectPrediction, EntryStatus
from core.ledger.operations import predict_effect, settle_ledger
from core.ledger.report import report_ledger
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store

TODAY = date(2026, 11, 29)
SWAP = datetime(2026, 11, 10, 10, tzinfo=UTC)
SCOPE = Scope("production", "default")
THRESHOLD = 0.5


def fill(store: Store, *, effect: float, per_day: int = 40, touched: float = 0.0) -> None:
    rng = np.random.default_rng(7)
    rows = []
    for back in range(70, 0, -1):
        day = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC) - timedelta(days=back)
        for at in range(per_day):
            is_new = day > SWAP and at < touched * per_day
            reached = day > SWAP if not touched else is_new
            score = float(np.clip(0.6 + rng.normal(0, 0.05) + effect * reached, 0, 1))
            rows.append(
                Retrieval(
                    day + timedelta(seconds=at), f"question {at} of {back}", score, session_id=f"s{at}-{back}",
                    prompt_version=("v3" if is_new else "v2") if touched else None,
                )
            )  # fmt: skip
    append_retrievals(store, rows)


def swap(**given) -> TimelineChange:
    values = {"ts": SWAP, "kind": ChangeKind.INDEX, "target": "default", "summary": "default swapped from a to b",
              "actor": "ada", "reason": "better", "touches": (("index_version", "b"),), "entry_id": 7}  # fmt: skip
    return TimelineChange(**(values | given))


def read(store: Store, *changes: TimelineChange):
    return report_ledger(store, changes, scope=SCOPE, today=TODAY, threshold=THRESHOLD)


def predict(
    store: Store, about: str = "index:default", *, days_before: int = 1, change_id: str = "", value: float = 0.1
):
    act = Act("ada", "an evaluation", at=SWAP - timedelta(days=days_before))
    predicted = EffectPrediction(value, value - 0.02, value + 0.02)
    return predict_effect(store, about, predicted, act, metric="score", service="default", change_id=change_id)


def test_a_change_is_measured_and_compared_with_its_newest_prediction(store):
    fill(store, effect=0.1)
    first, second = predict(store, days_before=5, value=0.3), predict(store)
    (entry,) = read(store, swap()).entries
    assert (entry.status, entry.predicted_in, entry.superseded) == (EntryStatus.AS_PREDICTED, second, (first,))
    assert entry.measured.low <= 0.1 <= entry.measured.high
    assert read(store, swap()).calibration.inside == 1


@pytest.mark.deep
def test_a_change_acts_from_its_hour_in_the_zone_of_the_service(store):
    save_service(store, ServiceSettings("default", zone="Pacific/Auckland"), Act("ada", "where they are"))
    rng, midnight = np.random.default_rng(7), datetime(2026, 11, 10, tzinfo=ZoneInfo("Pacific/Auckland"))
    rows = [
        Retrieval(
            midnight + timedelta(days=day, minutes=30 * at), f"question {at} of {day}",
            0.6 + 0.1 * (day >= 0) + float(rng.normal(0, 0.01)), session_id=f"s{at}-{day}",
        )
        for day in range(-60, 3)
        for at in range(40)
    ]  # fmt: skip
    append_retrievals(store, rows)
    change = swap(ts=midnight.astimezone(UTC), entry_id=None)
    (entry,) = report_ledger(store, [change], scope=SCOPE, today=date(2026, 11, 13), threshold=THRESHOLD).entries
    assert (entry.at, entry.at.tzinfo) == (change.ts, UTC)
    assert entry.change_id == "index:default:2026-11-09T11:00:00Z"
    assert entry.measured.after == 3  # the day before is no part of it
    assert entry.measured.size == pytest.approx(0.1, abs=0.01)


def test_a_prediction_after_the_fact_is_marked_and_never_counted(store):
    fill(store, effect=0.1)
    predict(store, days_before=-3, change_id="7")
    found = read(store, swap())
    assert (found.entries[0].is_afterwards, found.entries[0].status) == (True, EntryStatus.AS_PREDICTED)
    assert (found.calibration.predicted, found.calibration.afterwards) == (0, 1)


def test_a_prediction_after_the_fact_takes_the_place_of_none_that_was_made_in_time(store):
    fill(store, effect=0.1)
    wrong = predict(store, value=0.3)
    late = predict(store, days_before=-3, change_id="7")
    found = read(store, swap())
    (entry,) = found.entries
    assert (entry.predicted_in, entry.is_afterwards, entry.superseded) == (wrong, False, (late,))
    assert (entry.status, found.calibration.measured, found.calibration.inside) == (EntryStatus.WORSE, 1, 0)


def test_a_prediction_is_for_one_change_alone(store):
    fill(store, effect=0.1)
    predict(store)
    later = swap(ts=SWAP + timedelta(days=10), entry_id=8, summary="default swapped from b to c")
    new, old = read(store, swap(), later).entries
    assert (old.predicted is not None, new.status) == (True, EntryStatus.NOT_PREDICTED)


def test_changes_within_a_week_share_one_effect_and_have_no_verdict(store):
    fill(store, effect=0.1)
    predict(store)
    other = swap(ts=SWAP + timedelta(days=2), kind=ChangeKind.RELEASE, target="api", summary="api 2.0", entry_id=None)
    release, index = read(store, swap(), other).entries
    assert (index.status, index.together) == (EntryStatus.CANNOT_TELL, ("api 2.0",))
    assert "all together" in index.why
    assert release.measured == index.measured
    assert release.change_id.startswith("release:api:")


def test_a_rollout_to_some_is_measured_against_the_others_on_the_same_days(store):
    fill(store, effect=0.1, touched=0.25)
    flag = swap(
        kind=ChangeKind.FLAG, target="new", summary="new at 25%", touches=(("prompt_version", "v3"),), reach=0.25,
        entry_id=9,
    )  # fmt: skip
    release = swap(kind=ChangeKind.RELEASE, target="api", summary="api 2.0", entry_id=None, touches=())
    entries = {entry.kind: entry for entry in read(store, flag, release).entries}
    assert entries["flag"].measured.low <= 0.025 <= entries["flag"].measured.high
    assert entries["flag"].together == ()  # the release is in both groups


@pytest.mark.deep
def test_what_was_measured_for_good_stays_when_rows_come_later(store):
    fill(store, effect=0.1)
    predict(store)
    found = read(store, swap())
    assert settle_ledger(store, found) == 1
    assert settle_ledger(store, found) == 0
    before = found.entries[0].measured
    fill(store, effect=-0.3)
    after = read(store, swap()).entries[0]
    assert after.measured.size == pytest.approx(before.size, abs=1e-5)
    assert after.status is EntryStatus.AS_PREDICTED


def test_what_nobody_can_have_noticed_is_no_entry(store):
    fill(store, effect=0.0, per_day=5)
    built = swap(reach=0.0)
    committed = swap(kind=ChangeKind.CORPUS, target="v2", entry_id=None)
    assert read(store, built, committed).entries == ()


def test_predictions_are_checked_and_need_a_role(store):
    for about in ("index", "index:", "corpus:v2", "level:x", "nothing:x", "flag:a\nb"):
        with pytest.raises(InvalidInput, match="change"):
            predict(store, about)
    with pytest.raises(InvalidInput, match="metric"):
        predict_effect(
            store, "flag:a", EffectPrediction(0, 0, 0), Act("ada", "why"), metric="mood", service="default"
        )  # fmt: skip
    with pytest.raises(Forbidden):
        predict_effect(
            store, "flag:a", EffectPrediction(0, 0, 0), Act("eve", "why", roles=hold_everywhere(Role.VIEWER)),
            metric="score", service="default",
        )  # fmt: skip
