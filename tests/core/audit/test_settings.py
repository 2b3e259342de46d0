"""The names of settings: spelled as in existing stores, and refused where two facts would share one."""

import pytest

from core.audit.settings import MAX_KEY, Family, get_setting, save_setting, setting_key
from core.errors import InvalidInput
from core.indexes.builds import find_probe
from core.predictions.predictions import find_prediction
from quarterdeck.schema import settings


@pytest.mark.parametrize(
    ("family", "parts", "stored"),
    [
        (Family.ROLES, (), "roles"),
        (Family.ENVIRONMENTS, (), "environments"),
        (Family.ACCEPTED_LEVEL, ("production",), "accepted_level:production"),
        (Family.ALERTS, ("production",), "alerts:production"),
        (Family.ALERT_STATE, ("production", "on call"), "alert_state:production:on call"),
        (Family.ALERT_QUEUE, ("production", "pager"), "alert_queue:production:pager"),
        (Family.EMERGING, ("production",), "emerging:production"),
        (Family.MODEL_MAP, ("production",), "model_map:production"),
        (Family.ALERT_RULES, ("production",), "alert_rules:production"),
        (Family.ALERT_TOLD, ("production", "on call"), "alert_told:production:on call"),
        (Family.DEPLOYMENT, ("production", "search"), "deployment:production:search"),
        (Family.EXPERIMENT, ("production", "a: b"), "experiment:production:a: b"),
        (Family.PREDICTION, ("v2",), "prediction:v2"),
        (Family.PROBE, ("docs-v2-1a2b3c4d",), "probe:docs-v2-1a2b3c4d"),
        (Family.PROMOTION, ("qa",), "promotion:qa"),
        (Family.IMPORTED_FILE, ("1a2b",), "import.1a2b"),
        (Family.IMPORTED_TRACES, ("1a2b",), "mlflow.1a2b"),
    ],
)
def test_names_are_spelled_as_in_the_stores_that_there_are(family, parts, stored):
    assert setting_key(family, *parts) == stored


def test_every_family_begins_like_no_other():
    names = [str(family) for family in Family]
    assert [(one, other) for one in names for other in names if one != other and other.startswith(one)] == []


def test_a_name_that_fits_the_column_to_the_last_character_is_kept(store):
    assert settings.c.name.type.length == MAX_KEY
    key = setting_key(Family.PREDICTION, "v" * (MAX_KEY - len("prediction:")))
    with store.begin() as connection:
        save_setting(connection, key, {"kept": True}, expected_version=0)
    assert get_setting(store, key) == ({"kept": True}, 1)


@pytest.mark.parametrize(
    ("family", "parts", "said"),
    [
        (Family.PREDICTION, ("v" * 246,), "corpus version: must be at most 245 characters to be kept, not 246"),
        (Family.PROBE, ("d" * 300,), "index: must be at most 250 characters to be kept, not 300"),
        (
            Family.EXPERIMENT,
            ("production", "e" * 300),
            "experiment: must be at most 234 characters to be kept, not 300",
        ),
        (Family.EXPERIMENT, ("a:b", "c"), "environment: must not hold a colon, as 'a:b' does"),
    ],
)
def test_a_name_that_another_fact_would_share_is_refused(family, parts, said):
    with pytest.raises(InvalidInput) as caught:
        setting_key(family, *parts)
    assert str(caught.value) == said


def test_two_long_names_that_begin_alike_share_nothing(store):
    begun = "v" * 250
    for find in (find_prediction, find_probe):
        with pytest.raises(InvalidInput, match="must be at most"):
            find(store, f"{begun}-one")
