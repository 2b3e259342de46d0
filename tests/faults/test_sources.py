"""MLflow that hangs, answers byte by byte, lies or is down: one line, and the rest of the page stays.

Of DVC remotes: tests/core/corpus/test_corpus.py.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Thread

import pytest

from core.tracking import client
from tests.pages.opening import only_error, open_page, text_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.deep,
    pytest.mark.sqlite_only("of the store it needs an empty one alone"),
    pytest.mark.usefixtures("clean_streamlit"),
]


@contextmanager
def server_that(answers: str) -> Iterator[str]:
    """An address where nobody listens, or that accepts connections and never answers, drips, or lies.

    One that drips sends one byte a second.
    """
    with ExitStack() as ending:
        listening = ending.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        if answers != "is gone":
            listening.listen(64)
        if answers == "dribbles":
            dribbling = Thread(target=_dribble, args=(listening, over := Event()))
            dribbling.start()
            ending.callback(dribbling.join)
            ending.callback(over.set)
        if answers in LIES:
            lying = Thread(target=_lie, args=(listening, LIES[answers], over := Event()))
            lying.start()
            ending.callback(lying.join)
            ending.callback(over.set)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def _dribble(listening: socket.socket, over: Event) -> None:
    """Answer every connection with a response that never ends: a byte a second, each within any time limit."""
    listening.settimeout(1)
    with ExitStack() as talking:
        connections: list[socket.socket] = []
        while not over.is_set():
            with suppress(TimeoutError):
                connection, _ = listening.accept()
                connections.append(talking.enter_context(connection))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Slow: ")
            for connection in connections:
                with suppress(OSError):
                    connection.sendall(b".")


def _lie(listening: socket.socket, body: bytes, over: Event) -> None:
    """Answer every request with 200 and this body."""
    listening.settimeout(0.2)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    while not over.is_set():
        with suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(5)
                connection.recv(65_536)
                connection.sendall(head % len(body) + body)


LIES = {
    "says it is HTML": b"<!doctype html><title>Welcome</title>",
    "lists what are no experiments": b'{"experiments": [{"experiment_id": 7, "name": ["x"]}, 5, null]}',
    "says something else": b'{"experiments": "none", "error_code": 12}',
    "is cut off": b'{"experiments": [{"experiment_id": "1", "na',
}


@pytest.mark.parametrize("answers", ["hangs", "is gone", "dribbles", *LIES])
def test_an_mlflow_that_does_not_answer_is_one_line_and_the_overview_goes_on(
    answers: str,
    empty_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with server_that(answers) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setattr(client, "ANSWER_SECONDS", 5.0)
        assert address.removeprefix("http://") in only_error(open_page("prompts"))
        overview = open_page("overview")
    assert not overview.exception
    assert "There are no flags yet." in text_of(" ".join(each.value for each in overview.markdown))
