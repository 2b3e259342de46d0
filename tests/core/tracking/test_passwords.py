"""A tracking server that asks for user and password: let in by the address or by variables, and no password is told."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.errors import SourceUnavailable
from core.tracking.gateway import Tracking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
WANTED = "Basic " + base64.b64encode(b"ada:s3cr3t p@ss").decode()
SECRETS = ("s3cr3t", "wrong-one", base64.b64encode(b"ada:wrong-one").decode())


class Proxy(BaseHTTPRequestHandler):
    """Lets one user in, and then answers as a server with one experiment and no run."""

    def answer(self) -> None:
        is_let_in = self.headers.get("Authorization") == WANTED
        told = {"experiments": [{"experiment_id": "1", "name": "answers", "lifecycle_stage": "active"}]}
        body = json.dumps(told).encode() if is_let_in else b""
        self.send_response(200 if is_let_in else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def test_user_and_password_in_the_address_let_in(port: int) -> None:
    assert Tracking(f"http://ada:s3cr3t%20p%40ss@127.0.0.1:{port}").list_experiments() == ("answers",)


def test_user_and_password_in_variables_let_in(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cr3t p@ss")
    assert Tracking(f"http://127.0.0.1:{port}").list_experiments() == ("answers",)


@pytest.mark.parametrize("login", ["ada:wrong-one@", ""])
def test_a_wrong_password_is_one_line_that_names_the_variables_and_no_password(
    login: str, port: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    with pytest.raises(SourceUnavailable, match="refused the user or the password") as caught:
        Tracking(f"http://{login}127.0.0.1:{port}").list_experiments()
    said = str(caught.value)
    assert "\n" not in said
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in said
    out = capfd.readouterr()
    assert not [secret for secret in SECRETS if secret in said + caplog.text + out.out + out.err]


def test_a_server_that_is_gone_is_named_without_the_password() -> None:
    with pytest.raises(SourceUnavailable, match=r"MLflow at http://ada:\*\*\*@127\.0\.0\.1:1 does not answer"):
        Tracking("http://ada:s3cr3t@127.0.0.1:1").list_runs()
