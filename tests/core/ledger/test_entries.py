"""How a measured effect compares with what was predicted, and how good the predictions were together."""

from datetime import UTC, datetime

import pytest

from core.errors import InvalidInput
from core.ledger.effects import MeasuredEffect
from core.ledger.entries import (
    LOW_SHARE,
    EffectPrediction,
    EntryStatus,
    LedgerEntry,
    calibrate,
    describe_calibration,
    describe_entry,
    judge_effect,
)

PREDICTED = EffectPrediction(0.03, 0.02, 0.04)


def measured(size: float, half: float) -> MeasuredEffect:
    return MeasuredEffect(size, size - half, size + half, 56, 14)


@pytest.mark.parametrize(
    ("found", "is_over", "status"),
    [
        (measured(0.025, 0.01), True, EntryStatus.AS_PREDICTED),
        (measured(0.06, 0.01), False, EntryStatus.BETTER),
        (measured(-0.01, 0.02), False, EntryStatus.WORSE),
        (measured(0.03, 0.02), False, EntryStatus.TOO_EARLY),
        (measured(0.03, 0.02), True, EntryStatus.CANNOT_TELL),
        (None, True, EntryStatus.CANNOT_TELL),
    ],
)
def test_a_verdict_needs_an_interval_that_could_have_differed(found, is_over, status):
    assert judge_effect(found, PREDICTED, is_over=is_over) is status


def test_of_shares_of_trouble_the_lower_is_the_better():
    assert judge_effect(measured(0.09, 0.01), PREDICTED, is_over=True, metric=LOW_SHARE) is EntryStatus.WORSE
    assert judge_effect(measured(-0.09, 0.01), PREDICTED, is_over=True, metric=LOW_SHARE) is EntryStatus.BETTER
    assert judge_effect(measured(0.1, 0.01), None, is_over=True) is EntryStatus.NOT_PREDICTED


@pytest.mark.parametrize("wrong", [(0.0, 0.1, 0.2), (0.3, 0.1, 0.2), (0.0, -2.0, 0.2), (float("nan"), -1.0, 1.0)])
def test_a_prediction_lies_within_its_interval(wrong):
    with pytest.raises(InvalidInput, match="effect"):
        EffectPrediction(*wrong)


def entry(found: MeasuredEffect | None, predicted: EffectPrediction | None, *, late: bool = False) -> LedgerEntry:
    status = judge_effect(found, predicted, is_over=True)
    at = datetime(2026, 11, 1, tzinfo=UTC)
    return LedgerEntry(
        "7", at, "flag", "a", "a switched on", "ada", "score", predicted, found, status, is_afterwards=late
    )


def test_calibration_counts_predictions_that_were_made_in_time():
    found = calibrate(
        [
            entry(measured(0.02, 0.01), PREDICTED), entry(measured(0.10, 0.01), PREDICTED),
            entry(measured(0.03, 0.01), PREDICTED, late=True), entry(None, PREDICTED), entry(measured(0.0, 0.01), None),
        ]
    )  # fmt: skip
    assert (found.predicted, found.measured, found.inside, found.never_predicted, found.afterwards) == (3, 2, 1, 1, 1)
    assert found.mean_error == pytest.approx(0.04)
    said = describe_calibration(found)
    assert said == "Of 2 measured predictions, 1 holds; the mean error is 0.04. 1 change never predicted."
    assert describe_calibration(calibrate([])) == "No prediction; 0 changes never predicted."


def test_an_entry_in_words():
    said = describe_entry(entry(measured(0.02, 0.01), PREDICTED))
    assert said == ("score predicted +0.03 (+0.02 to +0.04), measured +0.02 (+0.01 to +0.03): as predicted")
