from pathlib import Path

import pytest

from core.config import PROJECT, load_config
from core.errors import InvalidInput


def test_everything_has_a_default_below_the_checkout():
    config = load_config({})
    assert config.home == PROJECT / "data" / "var"
    assert config.database_url == f"sqlite:///{PROJECT / 'data' / 'var' / 'quarterdeck.db'}"
    assert config.environment == "production"


def test_a_given_database_goes_before_the_environments():
    environ = {"QUARTERDECK_DATABASE_URL": "sqlite:///a.db", "QUARTERDECK_HOME": "/srv/deck"}
    assert load_config(environ).database_url == "sqlite:///a.db"
    assert load_config(environ, database_url="sqlite:///b.db").database_url == "sqlite:///b.db"
    assert load_config(environ).home == Path("/srv/deck")


@pytest.mark.parametrize("text", ["2", "-0.1", "low", "nan"])
def test_a_wrong_share_names_its_variable(text):
    with pytest.raises(InvalidInput, match="^QUARTERDECK_LOW_SCORE: must be a number between 0 and 1"):
        load_config({"QUARTERDECK_LOW_SCORE": text})


def test_every_wrong_value_is_told_at_once():
    wrong = {
        "QUARTERDECK_LOW_SCORE": "2", "QUARTERDECK_REDACT": "maybe", "QUARTERDECK_DATABASE_URL": "mysql://x/y",
        "QUARTERDECK_LOG_URL": "nonsense", "QUARTERDECK_LOG_LEVEL": "loud", "QUARTERDECK_ENVIRONMENT": "a b",
    }  # fmt: skip
    with pytest.raises(InvalidInput, match="^configuration: 6 values are wrong") as refused:
        load_config(wrong)
    assert [name for name in wrong if f"{name}: " not in str(refused.value)] == []
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["QUARTERDECK_DATABASE_URL", "QUARTERDECK_LOG_URL"])
def test_an_address_that_is_none_is_told_by_its_variable_without_its_password(name):
    with pytest.raises(InvalidInput, match=f"^{name}: ") as refused:
        load_config({name: "mysql://user:hunter2@host/db"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite:///a.db", "postgresql://u:p@h/d", "clickhouse://h:8123/d"])
def test_an_address_of_each_kind_of_log_is_taken_without_connecting(url):
    assert load_config({"QUARTERDECK_LOG_URL": url}).log_url == url
