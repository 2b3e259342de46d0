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
