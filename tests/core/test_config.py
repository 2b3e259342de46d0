import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.config import PROJECT, find_home, load_config
from core.errors import InvalidInput


def test_everything_has_a_default_below_the_checkout():
    config = load_config({})
    assert config.home == PROJECT / "data" / "var"
    assert config.database_url == f"sqlite:///{PROJECT / 'data' / 'var' / 'quarterdeck.db'}"
    assert config.environment == "production"


def test_an_installed_deck_keeps_its_state_in_the_platforms_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert find_home(tmp_path / "site-packages" / "quarterdeck_deck").name == "quarterdeck"
    assert find_home(tmp_path).is_relative_to(tmp_path / "share") or sys.platform != "linux"
    (tmp_path / "pyproject.toml").touch()
    assert find_home(tmp_path) == tmp_path / "data" / "var"


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
    with pytest.raises(InvalidInput, match="^configuration: 6 values are invalid") as refused:
        load_config(wrong)
    assert [name for name in wrong if f"{name}: " not in str(refused.value)] == []
    assert "\n" not in str(refused.value)


def test_of_a_login_and_of_a_proxy_too_every_wrong_value_is_told_at_once():
    login = {
        "QUARTERDECK_OIDC_METADATA_URL": "ftp://id", "QUARTERDECK_COOKIE_SECRET": "short",
        "QUARTERDECK_SESSION_HOURS": "none", "QUARTERDECK_PUBLIC_URL": "deck.example.org",
    }  # fmt: skip
    right = {"QUARTERDECK_OIDC_CLIENT_ID": "deck", "QUARTERDECK_OIDC_CLIENT_SECRET": "secret"}
    proxy = {
        "QUARTERDECK_PROXY_USER_HEADER": "X User", "QUARTERDECK_PROXY_GROUPS_HEADER": "ü",
        "QUARTERDECK_PROXY_ADDRESSES": "everywhere",
    }  # fmt: skip
    for wrong in (login, proxy):
        with pytest.raises(InvalidInput, match=f"^configuration: {len(wrong)} values are invalid") as refused:
            load_config(right | wrong if wrong is login else wrong)
        assert [name for name in wrong if f"{name}: " not in str(refused.value)] == []


def test_of_a_login_every_variable_that_is_missing_is_named():
    with pytest.raises(InvalidInput, match="OIDC_METADATA_URL, QUARTERDECK_OIDC_CLIENT_SECRET, QUARTERDECK_COOKIE_"):
        load_config({"QUARTERDECK_OIDC_CLIENT_ID": "deck"})


@pytest.mark.deep
def test_a_server_with_a_wrong_configuration_tells_all_of_it_in_one_line_and_makes_nothing(tmp_path):
    home = tmp_path / "home"
    wrong = {"QUARTERDECK_LOG_FORMAT": "xml", "QUARTERDECK_SESSION_HOURS": "0", "QUARTERDECK_REDACT": "maybe"}
    wrong |= {"QUARTERDECK_OIDC_CLIENT_ID": "deck"}
    done = subprocess.run(
        [sys.executable, "-m", "quarterdeck", "serve", "--port", "1"], cwd=PROJECT,
        env={**os.environ, **wrong, "QUARTERDECK_HOME": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert [name for name in ("LOG_FORMAT", "REDACT", "OIDC_METADATA_URL") if name not in line] == []
    assert not home.exists()


@pytest.mark.parametrize("name", ["QUARTERDECK_DATABASE_URL", "QUARTERDECK_LOG_URL"])
def test_an_address_that_is_none_is_told_by_its_variable_without_its_password(name):
    with pytest.raises(InvalidInput, match=f"^{name}: ") as refused:
        load_config({name: "mysql://user:hunter2@host/db"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite:///a.db", "postgresql://u:p@h/d", "clickhouse://h:8123/d"])
def test_an_address_of_each_kind_of_log_is_taken_without_connecting(url):
    assert load_config({"QUARTERDECK_LOG_URL": url}).log_url == url
