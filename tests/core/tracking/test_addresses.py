"""Addresses with passwords, and those of kinds that are not read: literal addresses."""

import pytest

from core.errors import InvalidInput
from core.tracking.addresses import check_address, describe, hide_secrets, read_credentials, without_credentials


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://ada:se:cr@t@host:5000/x", "http://ada:***@host:5000/x"),
        ("https://host:5000", "https://host:5000"),
        ("http://ada@host", "http://ada@host"),
        ("postgresql+psycopg://ada:secret@host/db", "postgresql+psycopg://ada:***@host/db"),
        ("sqlite:////home/a:b@c/mlflow.db", "sqlite:////home/a:b@c/mlflow.db"),
    ],
)
def test_an_address_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert describe(uri) == shown


def test_a_message_of_somebody_else_loses_the_password_however_it_is_written() -> None:
    uri = "http://ada:p%40ss@host:5000"
    for said in ("failed at http://ada:p%40ss@host:5000/api", "host ada:p@ss@host", "Basic YWRhOnBAc3M="):
        hidden = hide_secrets(said, uri)
        assert "***" in hidden
        assert not any(secret in hidden for secret in ("p%40ss", "p@ss", "YWRhOnBAc3M="))
    assert hide_secrets("no such run", "http://host") == "no such run"


def test_credentials_are_read_decoded_and_left_out() -> None:
    assert read_credentials("http://ada:p%40ss@host:5000") == ("ada", "p@ss")
    assert read_credentials("http://host:5000") == read_credentials("sqlite:///x.db") == ("", "")
    assert without_credentials("http://ada:p%40ss@host:5000/x") == "http://host:5000/x"


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "/data/mlruns", "file:///data/mlruns", "file:mlruns"])
def test_a_folder_of_runs_is_refused_with_the_way_out(uri: str) -> None:
    folder = uri.removeprefix("file://").removeprefix("file:")
    with pytest.raises(InvalidInput, match=f"mlflow migrate-filestore --source {folder} --target sqlite:///") as caught:
        check_address(uri)
    assert "\n" not in str(caught.value)


def test_addresses_that_are_read_pass() -> None:
    for uri in ("http://host", "https://host", "sqlite:///x.db", "postgresql+psycopg://host/db"):
        check_address(uri)
