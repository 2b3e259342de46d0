"""The server's periodic jobs."""

from app.http.server import SCRIPT


def test_the_server_runs_the_script_that_draws_the_pages() -> None:
    assert SCRIPT.read_text().startswith('"""Entry point of the pages')
