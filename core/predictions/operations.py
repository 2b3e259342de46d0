"""Shell that keeps predictions, each with its audit entry."""

from dataclasses import asdict

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.settings import Family, get_setting, save_setting, setting_key
from core.predictions.prediction import Prediction
from quarterdeck.store import Store


def save_prediction(store: Store, prediction: Prediction, by: Act) -> int:
    """Keep what a corpus version is predicted to do, to be compared with what it does; replaces the last of it."""
    name = setting_key(Family.PREDICTION, prediction.target)
    _, version = get_setting(store, name)
    after = {"live": prediction.live, "lifted_share": round(prediction.lifted_share, 4)}
    with changing(store, by) as change:
        save_setting(change.connection, name, asdict(prediction), expected_version=version)
        change.record(Action.PREDICTION_SAVE, prediction.target, None, after)
    return change.entry_id
