"""MLflow that hangs or is gone: one line, and the rest of the page stays. Of DVC remotes: tests/test_corpus.py."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.test_pages import (  # noqa: F401 - fixtures
    _clean_streamlit,
    empty_url,
    only_error,
    open_page,
    text_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.deep, pytest.mark.sqlite_only("of the store it needs an empty one alone")]


@contextmanager
def server_that(answers: str) -> Iterator[str]:
    """An address where nobody listens, or somebody takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        if answers == "is gone":
            yield address
            return
        listening.listen(64)
        yield address


@pytest.mark.parametrize("answers", ["hangs", "is gone"])
def test_an_mlflow_that_does_not_answer_is_one_line_and_the_overview_goes_on(
    answers: str,
    empty_url: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with server_that(answers) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert address.removeprefix("http://") in only_error(open_page("prompts"))
        overview = open_page("overview")
    assert not overview.exception
    assert "There are no flags yet." in text_of(" ".join(each.value for each in overview.markdown))
