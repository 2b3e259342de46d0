"""A stand-in site without processes and nginx, for tests of decisions and permissions: everything succeeds at once."""

import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from core.audit.acts import Act
from core.deployments.colors import Color
from core.deployments.deployments import Site, deploy_release, get_deployment, start_release
from core.deployments.services import DriverKind, Service
from quarterdeck.store import Store

WAITING, KEPT = "search", "answers"


class AlwaysThere:
    """A driver whose releases always run."""

    def __init__(self, store: Store, service: str) -> None:
        self._store, self._service = store, service

    def start(self, color: Color, release: str) -> None:
        pass

    def stop(self, color: Color) -> None:
        pass

    def get_release(self, color: Color) -> str | None:
        run = get_deployment(self._store, "production", self._service).run(color)
        return run.release if run else None

    def count_connections(self, color: Color) -> int | None:
        return 0

    def read_log(self, color: Color) -> str:
        return ""


class FollowsAtOnce:
    """An nginx that follows what is written, and the store where nothing was written yet."""

    def __init__(self, store: Store, service: str) -> None:
        self._store, self._service, self._mark = store, service, ""

    def write(self, color: Color | None, mark: str) -> None:
        self._mark = mark

    def exists(self) -> bool:
        return True

    def check(self) -> None:
        pass

    def reload(self) -> None:
        pass

    def read_mark(self) -> str:
        return self._mark or f"{get_deployment(self._store, 'production', self._service).live} 0"

    def wait_for(self, mark: str) -> None:
        assert self._mark == mark


def make_site(store: Store, folder: Path, name: str) -> Site:
    """Return the stand-in site of a service; its colors answer the health check."""
    address = _serve_health()
    service = Service(
        name=name, driver=DriverKind.PROCESS, command=("true",), directory=folder, blue=address, green=address,
        blue_upstream=address, green_upstream=address, upstream=folder / "upstream.conf", address=f"http://{address}",
        nginx=("nginx",), health="/healthz", start_timeout_s=5, drain_timeout_s=0, keep_minutes=0,
    )  # fmt: skip
    return Site(service, AlwaysThere(store, name), FollowsAtOnce(store, name), folder / "sites" / name)  # type: ignore[arg-type]


def deploy_both(store: Store, folder: Path, by: Act) -> None:
    """Have one service with a release that waits for the switch, and one whose former color is due."""
    waiting, kept = (make_site(store, folder, name) for name in (WAITING, KEPT))
    deploy_release(store, waiting, "r1", by)
    start_release(store, waiting, "r2", by)
    for release in ("r1", "r2"):
        deploy_release(store, kept, release, by)


@cache
def _serve_health() -> str:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_port}"
