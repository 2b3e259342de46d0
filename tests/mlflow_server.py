"""A real MLflow tracking server over a SQLite file, for as long as a test needs it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def serve_mlflow(database: Path) -> Iterator[str]:
    """Serve the database, and keep its files next to it; yield the address. The client is patient meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        # Patience with a busy machine, not with a dead server.
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        folder = database.parent
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(folder / "kept")]
        with (folder / "server.log").open("w") as log_file:
            process = subprocess.Popen(command, cwd=folder, stdout=log_file, stderr=log_file, start_new_session=True)
        try:
            _await_health(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def _await_health(address: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(1_800):
        assert process.poll() is None, "the MLflow server ended by itself"
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the MLflow server did not come up within three minutes")
