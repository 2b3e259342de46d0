"""Two servers of the deck behind Debian's nginx, over one PostgreSQL: one is killed while both are busy."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import func, select

from core.audit.actions import Action
from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit
from core.config import PROJECT
from core.flags.operations import create_flag
from core.flags.schedule import plan_steps
from core.flags.store import get_flag
from core.rollouts.schedules import create_schedule
from quarterdeck.definitions import boolean_flag
from quarterdeck.schema import retrievals
from quarterdeck.store import Store
from tests.backends import make_url
from tests.browser.conftest import PATIENCE_MS

pytestmark = [pytest.mark.slow, pytest.mark.deep, pytest.mark.browser]

ME = Act("ada", "two replicas")
BEFORE, AFTER = 150, 150  # rows sent before and after one replica is killed
PATIENCE_S = 120.0


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Replica:
    """One server of the deck, with a home of its own."""

    port: int
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx2.get(f"http://{self.address}/healthz").status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.1)
        pytest.fail(self.log.read_text())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def replica(url: str, home: Path) -> Iterator[Replica]:
    home.mkdir()
    port, program = find_port(), Path(sys.executable).with_name("quarterdeck")
    settings = {"QUARTERDECK_HOME": str(home), "QUARTERDECK_DATABASE_URL": url, "QUARTERDECK_OTLP_GRPC_PORT": "off"}
    with (home / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [program, "serve", "--port", str(port)], env={**os.environ, **settings}, stdout=log, stderr=log
        )
        try:
            yield Replica(port, process, home / "serve.log")
        finally:
            process.kill()
            process.wait()


@contextmanager
def nginx(folder: Path, first: Replica, second: Replica) -> Iterator[str]:
    """Debian's nginx with the site of deploy/nginx; yields its address."""
    folder.mkdir()
    listen = f"127.0.0.1:{find_port()}"
    site = (PROJECT / "deploy" / "nginx" / "replicas.conf.template").read_text()
    for name, value in {"FIRST": first.address, "SECOND": second.address, "LISTEN": listen}.items():
        site = site.replace(f"${{{name}}}", value)
    temporary = "".join(f"{kind}_temp_path {folder / kind};" for kind in ("proxy", "client_body", "fastcgi"))
    others = f"uwsgi_temp_path {folder / 'uwsgi'}; scgi_temp_path {folder / 'scgi'};"
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder / 'pid'}; error_log {folder / 'log'};\n"
        f"events {{}}\nhttp {{ access_log off; {temporary} {others}\n{site} }}\n"
    )
    process = subprocess.Popen(["nginx", "-p", str(folder), "-e", str(folder / "log"), "-c", str(config)])
    try:
        yield f"http://{listen}"
    finally:
        process.terminate()
        process.wait()


@dataclass
class Sender:
    """A service that sends one question after the other, each with a key, and repeats what was not answered."""

    address: str
    sent: list[str] = field(default_factory=list)
    repeated: int = 0

    def send(self, count: int) -> None:
        with httpx2.Client(timeout=5) as client:
            for _ in range(count):
                self._send(client, f"question {uuid.uuid4()}")

    def _send(self, client: httpx2.Client, query: str) -> None:
        key, deadline = uuid.uuid4().hex, time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answer = client.post(
                    f"{self.address}/v1/retrievals",
                    json=[{"query": query, "score": 0.5, "service": "search"}],
                    headers={"Idempotency-Key": key},
                )
            except httpx2.TransportError:
                self.repeated += 1
                continue
            if answer.status_code == 201:
                self.sent.append(query)
                return
            assert answer.status_code >= 500, answer.text
            self.repeated += 1
            time.sleep(0.05)
        pytest.fail("a question was never taken")


def test_a_replica_that_is_killed_under_load_takes_nothing_with_it(tmp_path: Path, chromium: Browser) -> None:
    url = make_url("postgresql", tmp_path)
    with ExitStack() as stack:
        store = stack.enter_context(closing(Store(url, create=True)))
        create_flag(store, "new_ranking", boolean_flag(on=True, rollout_pct=0), ME)
        first, second = (stack.enter_context(replica(url, tmp_path / name)) for name in ("first", "second"))
        first.wait()
        second.wait()
        address = stack.enter_context(nginx(tmp_path / "nginx", first, second))
        senders = [Sender(address) for _ in range(4)]
        _run([threading.Thread(target=sender.send, args=(BEFORE // len(senders),)) for sender in senders])

        page = stack.enter_context(closing(chromium.new_page()))
        page.goto(f"{address}/rollouts?flag=new_ranking")
        expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE_MS)

        starts = datetime.now(UTC) + timedelta(seconds=5)
        steps = plan_steps((10,), hold_s=3_600.0, switch_on=False)
        create_schedule(
            store, get_flag(store, "production", "new_ranking"), steps, ME, starts=starts, now=datetime.now(UTC)
        )
        threads = [threading.Thread(target=sender.send, args=(AFTER // len(senders),)) for sender in senders]
        for thread in threads:
            thread.start()
        first.kill()
        for thread in threads:
            thread.join()

        sent = {query for sender in senders for query in sender.sent}
        assert len(sent) == sum(len(sender.sent) for sender in senders) == len(senders) * (BEFORE // 4 + AFTER // 4)
        with store.read() as connection:
            stored = connection.scalar(select(func.count()).select_from(retrievals))
            assert set(connection.scalars(select(retrievals.c.query))) == sent
        assert stored == len(sent), "a repeated request was stored twice"

        page.goto(f"{address}/drift")
        expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE_MS)
        assert _wait_for_step(store) == 1, "the other replica takes over the schedule, and makes its step once"


def _run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _wait_for_step(store: Store) -> int:
    """Return how often the flag was changed by the schedule, once it was."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if made := list_audit(store, AuditFilter(action=Action.FLAG_UPDATE)):
            return len(made)
        time.sleep(0.5)
    return 0
