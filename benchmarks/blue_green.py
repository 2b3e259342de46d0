"""Do clients notice when a service is switched between two colors, rolled back, replaced and taken down behind nginx?

Run: `python -m benchmarks.blue_green [--rounds 20] [--rate 300]`. A round is a switch and a rollback; every fourth one
brings a new release, the first of them also a sick one. The tests run it small, and kill the deployer.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from string import Template

import numpy as np

from core.audit.acts import Act
from core.audit.trail import list_audit, list_broken_audit_entries
from core.config import PROJECT
from core.deployments.colors import Color
from core.deployments.deployments import (
    Site,
    deploy_release,
    look,
    open_site,
    roll_back,
    start_release,
    switch_color,
    tear_down,
)
from core.deployments.proxy import render_site
from core.deployments.services import get_service
from core.errors import SourceUnavailable
from quarterdeck.store import Store

NAME = "answers"
ACT = Act("harness", "under load")
LOADERS = 2
_THREADS = 24
_SLOW_EVERY, _SLOW_MS = 40, 1_000  # some requests take longer than a switch
_NEW_EVERY = 4

_SERVICE = [sys.executable, "-m", "benchmarks.answer_service", "{port}", "{release}"]
_NGINX = """
pid $folder/nginx.pid;
error_log $folder/nginx.log warn;
worker_processes 2;
$user
events { worker_connections 2048; }
http {
    access_log off;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    include $folder/site.conf;
}
"""

_DEFINITION = """
services:
  answers:
    driver: $driver
    command: $command
    directory: "$project"
    blue: 127.0.0.1:$blue
    green: 127.0.0.1:$green
    green_upstream: 127.0.0.1:$green_upstream
    upstream: upstream.conf
    address: http://127.0.0.1:$public
    nginx: ["$nginx", "-c", "$folder/nginx.conf"]
    start_timeout_s: $start_timeout_s
    drain_timeout_s: 10
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A folder with an nginx, a definition of one service, a store and the driver's notes."""

    folder: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'deck.db'}"

    @property
    def definition(self) -> Path:
        return self.folder / "deployments.yaml"

    @property
    def address(self) -> str:
        return get_service(self.definition, NAME).address

    def open(self, on_step: Callable[[str], None] = lambda _step: None) -> Site:
        return open_site(get_service(self.definition, NAME), self.folder, on_step=on_step)


@dataclass(frozen=True, slots=True)
class Load:
    """What one process of clients saw."""

    made: int
    failures: list[str]
    releases: dict[str, int]
    seconds: float
    latencies_ms: list[float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of all processes."""

    made: int
    failures: tuple[str, ...]
    rate: float
    switches: int
    rollbacks: int
    releases: dict[str, int]
    sick_refused: int
    latencies_ms: tuple[float, ...]
    inconsistencies: tuple[str, ...]


@contextmanager
def staging(
    folder: Path, *, start_timeout_s: float = 60, green_upstream: int = 0, compose: Sequence[str] = ()
) -> Iterator[Scene]:
    """Set up a scene with a running nginx; at the end everything is stopped."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise SystemExit("this needs Debian's nginx: apt-get install nginx")
    scene = Scene(folder)
    blue, green, public = _free_ports(3)
    user = "user root;" if os.geteuid() == 0 else ""
    values = {
        "folder": folder, "project": PROJECT, "nginx": program, "blue": blue, "green": green,
        "public": public, "user": user, "start_timeout_s": start_timeout_s,
        "green_upstream": green_upstream or green,
        "driver": "compose" if compose else "process", "command": json.dumps(compose or _SERVICE),
    }  # fmt: skip
    scene.definition.write_text(Template(_DEFINITION).substitute(values))
    (folder / "nginx.conf").write_text(Template(_NGINX).substitute(values))
    site = scene.open()
    template = (PROJECT / "deploy" / "nginx" / "site.conf.template").read_text()
    (folder / "site.conf").write_text(render_site(site.service, template))
    site.proxy.write(None, "none 0")
    subprocess.run([program, "-c", folder / "nginx.conf"], check=True, capture_output=True)
    try:
        yield scene
    finally:
        for color in Color:
            site.driver.stop(color)
        os.kill(int((folder / "nginx.pid").read_text()), signal.SIGTERM)


def run(scene: Scene, *, rounds: int, rate: float) -> Outcome:
    """Switch and roll back under load; return what the clients saw."""
    store, site = Store(scene.url, create=True), scene.open()
    deploy_release(store, site, "r1", ACT)
    start_release(store, site, "r2", ACT)
    sick_refused, newest = 0, 2
    with _clients(scene, rate) as outputs:
        for number in range(1, rounds + 1):
            if number % _NEW_EVERY == 0:
                newest += 1
                sick_refused += _try_sick_release(store, site) if number == _NEW_EVERY else 0
                start_release(store, site, f"r{newest}", ACT)
            switch_color(store, site, ACT)
            roll_back(store, site, ACT)
        switch_color(store, site, ACT)
        tear_down(store, site, ACT, early=True)
    loads = [Load(**json.loads(path.read_text())) for path in outputs]
    actions = Counter(entry.action for entry in list_audit(store))
    outcome = Outcome(
        made=sum(load.made for load in loads),
        failures=tuple(failure for load in loads for failure in load.failures),
        rate=sum(load.made / load.seconds for load in loads),
        switches=actions["deployment.switch"],
        rollbacks=actions["deployment.rollback"],
        releases=dict(sum((Counter(load.releases) for load in loads), Counter())),
        sick_refused=sick_refused,
        latencies_ms=tuple(each for load in loads for each in load.latencies_ms),
        inconsistencies=tuple(list_inconsistencies(scene, store)),
    )
    store.close()
    return outcome


def list_inconsistencies(scene: Scene, store: Store) -> Iterator[str]:
    """Say where store, upstream file, nginx and processes do not agree on one color."""
    from core.deployments.deployments import get_deployment

    site = scene.open()
    found, sight = get_deployment(store, ACT.environment, NAME), look(site)
    if not found.settled:
        yield "the last switch is not settled"
    if sight.serving is not found.live:
        yield f"nginx follows {sight.serving}, the store says {found.live}"
    if found.live and f"server {site.service.find(found.live)};" not in site.service.upstream.read_text():
        yield f"the upstream file does not hold {found.live}"
    for color in Color:
        run = found.run(color)
        if sight.running[color] != (run.release if run else None):
            yield f"{sight.running[color]} runs in {color}, the store says {run}"
    if list_broken_audit_entries(store):
        yield "the audit chain is broken"


def _try_sick_release(store: Store, site: Site) -> int:
    try:
        start_release(store, site, "sick-release", ACT)
    except SourceUnavailable:
        return 1
    return 0


@contextmanager
def _clients(scene: Scene, rate: float) -> Iterator[list[Path]]:
    outputs = [scene.folder / f"load-{number}.json" for number in range(LOADERS)]
    stop = scene.folder / "stop"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.blue_green", "load", scene.address, str(rate / LOADERS), stop, output],
            cwd=PROJECT, stdout=subprocess.PIPE, text=True,
        )
        for output in outputs
    ]  # fmt: skip
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    try:
        yield outputs
    finally:
        stop.touch()
        for process in processes:
            process.communicate(timeout=120)


def _load(address: str, rate: float, stop: Path, output: Path) -> None:
    """Ask at the given rate, in threads that catch up when they are late, until stopped."""
    latencies: list[float] = []
    failures: list[str] = []
    releases: Counter[str] = Counter()
    host, _, port = address.removeprefix("http://").rpartition(":")
    ends = threading.Event()

    def ask_on(number: int) -> None:
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        due = time.perf_counter() + number / rate
        count = number
        while not ends.is_set():
            time.sleep(max(0.0, due - time.perf_counter()))
            due += _THREADS / rate
            count += 1
            started = time.perf_counter()
            try:
                connection.request("GET", f"/?slow_ms={_SLOW_MS}" if count % _SLOW_EVERY == 0 else "/")
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    raise http.client.HTTPException(f"status {answer.status}")
                releases[json.loads(body)["release"]] += 1
            except (OSError, http.client.HTTPException, ValueError) as error:
                failures.append(f"{time.time():.3f}: {error!r}")
                connection.close()
            latencies.append(1_000 * (time.perf_counter() - started))
        connection.close()

    threads = [threading.Thread(target=ask_on, args=(number,)) for number in range(_THREADS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    while not stop.exists():
        time.sleep(0.05)
    ends.set()
    for thread in threads:
        thread.join()
    load = Load(len(latencies), failures, dict(releases), time.perf_counter() - began, latencies)
    output.write_text(json.dumps(asdict(load)))


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def describe(outcome: Outcome) -> Sequence[str]:
    """What to print of an outcome."""
    p50, p99 = (float(np.quantile(np.asarray(outcome.latencies_ms), share)) for share in (0.5, 0.99))
    answered = ", ".join(f"{name} {count:,}" for name, count in sorted(outcome.releases.items()))
    return (
        f"{outcome.switches} switches and {outcome.rollbacks} rollbacks under {outcome.rate:.0f} requests/s: "
        f"{outcome.made:,} requests made, {len(outcome.failures)} failed",
        f"answered by {answered}; {outcome.sick_refused} sick release refused",
        f"latency p50 {p50:.1f} ms, p99 {p99:.1f} ms (one request in {_SLOW_EVERY} takes {_SLOW_MS:,} ms by itself)",
        "; ".join(outcome.inconsistencies) or "store, upstream file, nginx and processes agree; audit chain whole",
    )


def start_deployer(scene: Scene, command: str, *release: str, die_at: str = "") -> BaseProcess:
    """Start a deployer in a process of its own, which kills itself right after the step `die_at`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.blue_green"])
    deployer = context.Process(target=_deploy, args=(scene.folder, die_at, command, *release))
    deployer.start()
    return deployer


def _deploy(folder: Path, die_at: str, command: str, *release: str) -> None:
    def say(step: str) -> None:
        if step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    scene = Scene(folder)
    store, site = Store(scene.url, create=True), scene.open(say)
    if command == "release":
        deploy_release(store, site, *release, ACT)
    elif command == "teardown":
        tear_down(store, site, ACT, early=True)
    else:
        {"switch": switch_color, "rollback": roll_back}[command](store, site, ACT)


def main() -> None:
    if sys.argv[1:2] == ["load"]:
        _load(sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rate", type=float, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="blue-green-") as folder, staging(Path(folder)) as scene:
        outcome = run(scene, rounds=options.rounds, rate=options.rate)
    print("\n".join([*describe(outcome), *outcome.failures[:10]]))


if __name__ == "__main__":
    main()
