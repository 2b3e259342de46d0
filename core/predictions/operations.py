"""Shell: saves predictions, each with its audit entry."""

from dataclasses import asdict

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.settings import get_setting, save_setting
from core.predictions.prediction import Prediction, predict_mean
from core.predictions.predictions import prediction_key
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store


def save_prediction(store: Store, prediction: Prediction, by: Act, *, scope: Scope = DEFAULT_SCOPE) -> int:
    """Save what a corpus version would do to the questions of a scope, to be compared with the outcome.

    It replaces the last one of the version. The ledger compares the predicted mean with what is measured.
    """
    name = prediction_key(prediction.target, scope)
    _, version = get_setting(store, name)
    value, low, high = predict_mean(prediction)
    after = {
        "live": prediction.live, "lifted_share": round(prediction.lifted_share, 4), "service": scope.service,
        "score": {"value": round(value, 5), "low": round(low, 5), "high": round(high, 5)},
    }  # fmt: skip
    with changing(store, by) as change:
        save_setting(change.connection, name, asdict(prediction), expected_version=version)
        change.record(Action.PREDICTION_SAVE, prediction.target, None, after)
    return change.entry_id
