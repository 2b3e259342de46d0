"""Blue-green deployments with Debian's nginx, server processes, and a deployer that is killed at every step."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from benchmarks.blue_green import ACT, NAME, Scene, describe, list_inconsistencies, run, staging, start_deployer
from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit
from core.causes.changes import gather_changes
from core.causes.timeline import ChangeKind
from core.config import PROJECT
from core.deployments.colors import Color, Deployment
from core.deployments.deployments import (
    deploy_release,
    get_deployment,
    list_deployments,
    look,
    resume,
    roll_back,
    start_release,
    switch_color,
    tear_down,
    tend,
)
from core.deployments.health import ask
from core.errors import Conflict, NotFound, QuarterdeckError, SourceUnavailable
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.deep]

BY_ITSELF = Act("quarterdeck", "by itself")
TURN_STEPS = ["checked", "decided", "written", "tested", "reloaded", "followed", "settled"]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with staging(tmp_path) as staged:
        yield staged


@pytest.fixture
def deck(scene: Scene) -> Iterator[Store]:
    """The scene's store, with r1 live and r2 waiting."""
    opened = Store(scene.url, create=True)
    deploy_release(opened, scene.open(), "r1", ACT)
    start_release(opened, scene.open(), "r2", ACT)
    yield opened
    opened.close()


def stored(deck: Store) -> Deployment:
    return get_deployment(deck, ACT.environment, NAME)


def answer_of(scene: Scene) -> dict[str, str]:
    return json.loads(ask(f"{scene.address}/", timeout_s=30))


def releases_of(scene: Scene) -> set[str]:
    """The releases that answer clients, once nginx has followed a reload: more than one would be a torn state."""
    for _ in range(20):
        found = {answer_of(scene)["release"] for _ in range(20)}
        if len(found) == 1:
            break
    return found


def pid_of(scene: Scene, color: Color) -> int:
    return int((scene.folder / "deployments" / NAME / color / "pid").read_text())


def has_ended(pid: int) -> bool:
    """Wait until the process has ended; False when it does not."""
    for _ in range(500):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def kill_release(scene: Scene, color: Color) -> None:
    pid = pid_of(scene, color)
    os.kill(pid, signal.SIGKILL)
    while scene.open().driver.get_release(color) is not None:
        time.sleep(0.02)


def kill_deployer_at(scene: Scene, step: str, *command: str) -> None:
    deployer = start_deployer(scene, *command, die_at=step)
    deployer.join(180)
    assert deployer.exitcode == -signal.SIGKILL


def test_no_request_fails_while_the_traffic_is_switched_rolled_back_and_moved_to_a_new_release(tmp_path: Path) -> None:
    with staging(tmp_path) as scene:
        outcome = run(scene, rounds=2, rate=240)
    print("\n".join(describe(outcome)))
    assert outcome.failures == ()
    assert outcome.inconsistencies == ()
    assert (outcome.switches, outcome.rollbacks) == (4, 2)
    assert set(outcome.releases) == {"r1", "r2"}
    assert outcome.made == sum(outcome.releases.values()) > 100


@pytest.mark.deep
def test_no_request_of_200_a_second_fails_during_20_switches_and_20_rollbacks(tmp_path: Path) -> None:
    with staging(tmp_path) as scene:
        outcome = run(scene, rounds=20, rate=300)
    print("\n".join(describe(outcome)))
    assert outcome.failures == ()
    assert outcome.inconsistencies == ()
    assert outcome.switches >= 20
    assert outcome.rollbacks == 20
    assert outcome.sick_refused == 1
    assert set(outcome.releases) == {"r1", "r2", "r3", "r4", "r5", "r6", "r7"}
    assert outcome.rate >= 200, "the load was too small to show anything"


@pytest.mark.parametrize(("release", "why"), [("sick", "answers 503"), ("dead", "this release cannot start")])
def test_a_green_that_never_gets_healthy_is_stopped_and_gets_no_traffic(tmp_path: Path, release: str, why: str) -> None:
    with staging(tmp_path, start_timeout_s=3 if release == "sick" else 60) as scene:
        deck, site = Store(scene.url, create=True), scene.open()
        deploy_release(deck, site, "r1", ACT)
        upstream = site.service.upstream.read_bytes()
        with pytest.raises(SourceUnavailable, match=why):
            deploy_release(deck, site, release, ACT)
        assert site.service.upstream.read_bytes() == upstream
        assert releases_of(scene) == {"r1"}
        assert "traffic came" not in (scene.folder / "deployments" / NAME / "green" / "log").read_text()
        assert stored(deck).green is None
        assert list(list_inconsistencies(scene, deck)) == []
        newest = list_audit(deck)[0]
        assert (newest.action, newest.before) == ("deployment.fail", {"in": "green", "release": release})
        deck.close()


def test_a_green_that_fell_ill_or_died_since_it_was_started_gets_no_traffic(scene: Scene, deck: Store) -> None:
    site = scene.open()
    os.kill(pid_of(scene, Color.GREEN), signal.SIGSTOP)
    try:
        with pytest.raises(SourceUnavailable, match=r"green \(r2\) gets no traffic: .*blue \(r1\) stays live"):
            switch_color(deck, site, ACT)
    finally:
        os.kill(pid_of(scene, Color.GREEN), signal.SIGCONT)
    kill_release(scene, Color.GREEN)
    with pytest.raises(SourceUnavailable, match="nothing runs in green"):
        switch_color(deck, site, ACT)
    assert (stored(deck).live, stored(deck).settled) == (Color.BLUE, True)
    assert releases_of(scene) == {"r1"}


def test_an_nginx_that_refuses_its_configuration_is_found_before_anything_is_changed(scene: Scene, deck: Store) -> None:
    site, file, before = scene.open(), scene.folder / "site.conf", stored(deck)
    good = file.read_text()
    file.write_text(good + "\nnonsense;\n")
    with pytest.raises(SourceUnavailable, match='unknown directive "nonsense"'):
        switch_color(deck, site, ACT)
    assert stored(deck) == before
    file.write_text(good)
    switch_color(deck, site, ACT)
    assert releases_of(scene) == {"r2"}


def test_a_switch_that_nginx_refuses_is_taken_back_with_its_reason(tmp_path: Path) -> None:
    with staging(tmp_path, green_upstream=99_999) as scene:
        deck, site = Store(scene.url, create=True), scene.open()
        deploy_release(deck, site, "r1", ACT)
        with pytest.raises(SourceUnavailable, match=r"invalid port in upstream .*The switch was undone"):
            deploy_release(deck, site, "r2", ACT)
        assert list(list_inconsistencies(scene, deck)) == []
        assert releases_of(scene) == {"r1"}
        newest = list_audit(deck)[0]
        assert (newest.action, newest.after) == ("deployment.rollback", {"color": "blue", "release": "r1"})
        assert newest.reason.startswith("undone: ")
        deck.close()


def test_a_switch_while_nginx_is_down_is_taken_back_and_settled_when_it_is_up(scene: Scene, deck: Store) -> None:
    site, nginx = scene.open(), int((scene.folder / "nginx.pid").read_text())
    os.kill(nginx, signal.SIGTERM)
    assert has_ended(nginx)
    with pytest.raises(SourceUnavailable, match="reload` failed: .*The switch was undone"):
        switch_color(deck, site, ACT)
    assert stored(deck).live == Color.BLUE
    subprocess.run([*site.service.nginx], check=True)
    assert resume(deck, site, ACT).settled
    assert releases_of(scene) == {"r1"}
    assert list(list_inconsistencies(scene, deck)) == []


def test_a_deployer_killed_at_any_step_of_a_switch_leaves_one_color_and_the_next_run_ends_it(
    scene: Scene, deck: Store
) -> None:
    site = scene.open()
    for step in TURN_STEPS[:-1]:
        kill_deployer_at(scene, step, "switch")
        assert releases_of(scene) in ({"r1"}, {"r2"})
        switch_color(deck, site, ACT)
        assert releases_of(scene) == {"r2"}
        assert list(list_inconsistencies(scene, deck)) == []
        roll_back(deck, site, ACT)
    assert len(list_audit(deck, AuditFilter(action="deployment.switch"))) == 1 + len(TURN_STEPS) - 1


@pytest.mark.deep
def test_a_deployer_killed_at_any_step_of_any_command_leaves_one_color_and_the_next_run_ends_it(
    scene: Scene, deck: Store
) -> None:
    site = scene.open()
    switch_color(deck, site, ACT)
    for step in TURN_STEPS[:-1]:
        kill_deployer_at(scene, step, "rollback")
        assert releases_of(scene) in ({"r1"}, {"r2"})
        roll_back(deck, site, ACT)
        assert releases_of(scene) == {"r1"}
        assert list(list_inconsistencies(scene, deck)) == []
        switch_color(deck, site, ACT)
    for step in ("drained", "stopped"):
        kill_deployer_at(scene, step, "teardown")
        tear_down(deck, site, ACT, early=True)
        assert list(list_inconsistencies(scene, deck)) == []
        start_release(deck, site, f"after-{step}", ACT)
        switch_color(deck, site, ACT)
    tear_down(deck, site, ACT, early=True)
    for number, step in enumerate(["recorded", "started", "healthy", *TURN_STEPS]):
        before = releases_of(scene)
        kill_deployer_at(scene, step, "release", f"n{number}")
        assert releases_of(scene) in (before, {f"n{number}"})
        deploy_release(deck, site, f"n{number}", ACT)
        assert releases_of(scene) == {f"n{number}"}
        assert list(list_inconsistencies(scene, deck)) == []
        tear_down(deck, site, ACT, early=True)


@pytest.mark.deep
def test_deployers_killed_at_random_moments_leave_nothing_that_the_next_run_does_not_end(
    scene: Scene, deck: Store
) -> None:
    rng, site = random.Random(7), scene.open()
    tear_down(deck, site, ACT)
    kills = 0
    for number in range(15):
        deployer = start_deployer(scene, "release", f"k{number}")
        time.sleep(rng.uniform(0, 2.5))
        deployer.kill()
        deployer.join(60)
        kills += deployer.exitcode == -signal.SIGKILL
        assert len(releases_of(scene)) == 1
        deploy_release(deck, site, f"k{number}", ACT)
        assert releases_of(scene) == {f"k{number}"}
        assert list(list_inconsistencies(scene, deck)) == []
        tear_down(deck, site, ACT, early=True)
    assert kills >= 5


def test_a_switch_that_was_cut_off_is_taken_back_when_the_new_color_is_no_longer_healthy(
    scene: Scene, deck: Store
) -> None:
    kill_deployer_at(scene, "written", "switch")
    kill_release(scene, Color.GREEN)
    assert tend(deck, scene.open(), BY_ITSELF) is not None
    assert (stored(deck).live, stored(deck).settled) == (Color.BLUE, True)
    assert releases_of(scene) == {"r1"}
    assert "not healthy now" in list_audit(deck, AuditFilter(action="deployment.rollback"))[0].reason


def test_a_request_that_is_on_its_way_is_answered_before_its_color_is_taken_down(scene: Scene, deck: Store) -> None:
    site = scene.open()
    client = (
        "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())",
        f"{scene.address}/?slow_ms=4000",
    )
    waiting = subprocess.Popen([sys.executable, "-c", *client], stdout=subprocess.PIPE, text=True)
    for _ in range(400):
        if site.driver.count_connections(Color.BLUE):
            break
        time.sleep(0.05)
    blue = pid_of(scene, Color.BLUE)
    switch_color(deck, site, ACT)
    tear_down(deck, site, ACT, early=True)
    said, _ = waiting.communicate(timeout=60)
    assert json.loads(said)["release"] == "r1"
    assert has_ended(blue)
    assert releases_of(scene) == {"r2"}


def test_the_former_color_is_kept_for_its_time_and_then_taken_down_by_the_server(scene: Scene, deck: Store) -> None:
    site = scene.open()
    switch_color(deck, site, ACT)
    assert tend(deck, site, BY_ITSELF) is None
    with pytest.raises(Conflict, match=r"blue \(r1\) is kept until"):
        tear_down(deck, site, ACT)
    roll_back(deck, site, ACT)
    at_once = replace(site, service=replace(site.service, keep_minutes=0))
    switch_color(deck, at_once, ACT)
    blue = pid_of(scene, Color.BLUE)
    assert tend(deck, at_once, BY_ITSELF) is not None
    assert has_ended(blue)
    assert stored(deck).blue is None
    assert list_audit(deck)[0].actor == "quarterdeck"
    with pytest.raises(NotFound, match="nothing to roll back to"):
        roll_back(deck, site, ACT)
    assert list(list_inconsistencies(scene, deck)) == []


def test_the_server_finishes_what_a_killed_deployer_left(scene: Scene, deck: Store) -> None:
    kill_deployer_at(scene, "written", "switch")
    found = tend(deck, scene.open(), BY_ITSELF)
    assert found is not None
    assert found.settled
    assert releases_of(scene) == {"r2"}


def test_after_a_reboot_resume_brings_back_what_was_live(scene: Scene, deck: Store) -> None:
    for color in Color:
        kill_release(scene, color)
    site = scene.open()
    assert resume(deck, site, ACT).live == Color.BLUE
    assert releases_of(scene) == {"r1"}


def test_a_change_of_the_upstream_file_by_hand_is_noticed_and_not_overwritten_unasked(
    scene: Scene, deck: Store
) -> None:
    site = scene.open()
    site.proxy.write(Color.GREEN, "green 999")
    site.proxy.reload()
    site.proxy.wait_for("green 999")
    for act in (switch_color, tear_down):
        with pytest.raises(Conflict, match="the store says blue, nginx follows green"):
            act(deck, site, ACT)
    assert releases_of(scene) == {"r2"}
    resume(deck, site, ACT)
    assert releases_of(scene) == {"r1"}


def test_a_second_deployer_is_told_that_one_is_at_work(scene: Scene, deck: Store) -> None:
    refused: list[str] = []

    def try_too(step: str) -> None:
        if step == "decided":
            with pytest.raises(Conflict, match="another deployer is running") as error:
                roll_back(deck, scene.open(), ACT)
            refused.append(str(error.value))

    switch_color(deck, scene.open(try_too), ACT)
    assert len(refused) == 1
    assert stored(deck).live == Color.GREEN


def test_a_deployment_that_somebody_else_changed_in_the_store_is_not_overwritten(scene: Scene, deck: Store) -> None:
    from core.audit.settings import Family, get_setting, save_setting, setting_key

    def change_too(step: str) -> None:
        if step == "checked":
            name = setting_key(Family.DEPLOYMENT, ACT.environment, NAME)
            value, version = get_setting(deck, name)
            with deck.begin() as connection:
                save_setting(connection, name, value, expected_version=version)

    upstream = scene.open().service.upstream.read_bytes()
    with pytest.raises(Conflict, match="somebody else was faster"):
        switch_color(deck, scene.open(change_too), ACT)
    assert scene.open().service.upstream.read_bytes() == upstream
    assert stored(deck).live == Color.BLUE


def test_a_port_that_another_program_has_is_named_and_the_other_is_not_taken_for_the_release(scene: Scene) -> None:
    deck, site = Store(scene.url, create=True), scene.open()
    port = site.service.blue.rpartition(":")[2]
    other = subprocess.Popen([sys.executable, "-m", "benchmarks.answer_service", port, "other"], cwd=PROJECT)
    try:
        for _ in range(600):
            try:
                ask(f"http://{site.service.blue}/healthz")
                break
            except SourceUnavailable:
                time.sleep(0.05)
        with pytest.raises(Conflict, match=f"port 127.0.0.1:{port} is used by another program"):
            deploy_release(deck, site, "r1", ACT)
    finally:
        other.kill()
        other.wait()
    assert deploy_release(deck, site, "r1", ACT).live == Color.BLUE
    deck.close()


def test_every_switch_has_its_audit_entry_and_stands_on_the_timeline(scene: Scene, deck: Store) -> None:
    site = scene.open()
    switch_color(deck, site, replace(ACT, actor="ada", reason="faster"))
    roll_back(deck, site, replace(ACT, actor="bob", reason="too fast"))
    told = [(entry.action, entry.actor, entry.reason) for entry in list_audit(deck, AuditFilter(target=NAME))[:2]]
    assert told == [("deployment.rollback", "bob", "too fast"), ("deployment.switch", "ada", "faster")]
    since = datetime(2020, 1, 1, tzinfo=UTC)
    changes, _ = gather_changes(deck, _nothing, _nothing, scope=DEFAULT_SCOPE, since=since)
    assert {change.kind for change in changes} == {ChangeKind.DEPLOYMENT}
    assert [change.summary for change in changes] == [
        "answers: r1 started in blue, without traffic",
        "answers switched to blue (r1)",
        "answers: r2 started in green, without traffic",
        "answers switched from blue (r1) to green (r2)",
        "answers rolled back from green (r2) to blue (r1)",
    ]
    assert [change.reach for change in changes] == [0.0, 1.0, 0.0, 1.0, 1.0]


def _nothing() -> None:
    raise SourceUnavailable("not there")


def test_looking_tells_what_really_runs_and_what_nginx_follows(scene: Scene, deck: Store) -> None:
    sight = look(scene.open())
    assert sight.running == {Color.BLUE: "r1", Color.GREEN: "r2"}
    assert sight.problems == {Color.BLUE: "", Color.GREEN: ""}
    assert (sight.serving, sight.proxy_problem) == (Color.BLUE, "")
    assert list_deployments(deck, ACT.environment) == (stored(deck),)
    assert stored(deck).version > 0
    kill_release(scene, Color.GREEN)
    os.kill(int((scene.folder / "nginx.pid").read_text()), signal.SIGTERM)
    for _ in range(200):
        sight = look(scene.open())
        if sight.proxy_problem and sight.running[Color.GREEN] is None:
            break
        time.sleep(0.05)
    assert sight.problems[Color.GREEN] == "nothing runs"
    assert sight.serving is None
    assert "does not answer" in sight.proxy_problem
    subprocess.run([*scene.open().service.nginx], check=True)


def test_compose_is_asked_to_bring_a_project_a_color_up_and_down(tmp_path: Path) -> None:
    """The commands that the Compose driver gives, against a stand-in: no Docker is needed, and none is tested."""
    stand_in = [sys.executable, str(PROJECT / "tests" / "compose_stand_in.py"), str(tmp_path)]
    with staging(tmp_path, compose=stand_in) as scene:
        deck, site = Store(scene.url, create=True), scene.open()
        deploy_release(deck, site, "r1", ACT)
        deploy_release(deck, site, "r2", ACT)
        assert releases_of(scene) == {"r2"}
        roll_back(deck, site, ACT)
        assert releases_of(scene) == {"r1"}
        start_release(deck, site, "r3", ACT)
        assert look(site).running == {Color.BLUE: "r1", Color.GREEN: "r3"}
        with pytest.raises(SourceUnavailable, match=r"this release cannot start"):
            start_release(deck, site, "dead", ACT)
        calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
        told = [(c["project"], c["command"], c["RELEASE"]) for c in calls if c["command"][0] in ("up", "down")]
        up, down = ["up", "--detach", "--remove-orphans"], ["down", "--remove-orphans"]
        green = "answers-green"
        assert told == [
            ("answers-blue", up, "r1"), (green, up, "r2"), (green, down, "r2"), (green, up, "r3"),
            (green, down, "r3"), (green, up, "dead"), (green, down, "dead"),
        ]  # fmt: skip
        ports = {(call["COLOR"], call["PORT"]) for call in calls}
        assert ports == {(str(color), site.service.find(color).rpartition(":")[2]) for color in Color}
        assert {call["SERVICE"] for call in calls} == {NAME}
        (tmp_path / "broken").touch()
        with pytest.raises(SourceUnavailable, match=r"failed: Cannot connect to the Docker daemon"):
            start_release(deck, site, "r4", ACT)
        assert releases_of(scene) == {"r1"}
        (tmp_path / "broken").unlink()
        deck.close()


@pytest.fixture
def deploy(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `quarterdeck deploy …` as ada."""
    monkeypatch.setenv("QUARTERDECK_HOME", str(scene.folder))
    monkeypatch.setenv("QUARTERDECK_DEPLOYMENTS", str(scene.definition))
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", scene.url)
    monkeypatch.setenv("QUARTERDECK_OPERATOR", "ada")
    return lambda *arguments: CliRunner().invoke(main, ["deploy", *arguments])


def test_the_command_line_deploys_switches_rolls_back_and_takes_down(
    scene: Scene, deploy: Callable[..., Result]
) -> None:
    def done(*arguments: str) -> str:
        ran = deploy(*arguments)
        assert (ran.exit_code, ran.exception) == (0, None)
        return ran.stdout

    def refused(*arguments: str) -> str:
        ran = deploy(*arguments)
        assert isinstance(ran.exception, QuarterdeckError)
        return str(ran.exception)

    assert "answers runs on blue (r1)" in done("release", "r1", "--reason", "first")
    assert "answers runs on blue (r1)" in done("release", "r1", "--reason", "again")
    assert "nothing runs in green" in refused("switch", "--reason", "too early")
    assert "green (r2) runs without traffic" in done("start", "r2", "--reason", "second")
    assert "answers runs on green (r2)" in done("switch", "--reason", "good")
    assert "is kept until" in refused("teardown")
    assert json.loads(done("rollback", "--reason", "bad", "--json"))["live"] == "blue"
    assert "there is nothing to roll back to" in refused("rollback", "--reason", "again")
    assert "release: must be at most" in refused("start", "a b", "--reason", "no word")
    done("teardown", "--now")
    assert "nginx" in done("status")
    assert json.loads(done("status", "--json"))["found"]["running"] == {"blue": "r1", "green": None}
    assert f"listen {scene.address.removeprefix('http://')};" in done("site")
    assert "green is free for the next release" in done("resume")
    assert "no 'other'; there are: answers" in refused("status", "--service", "other")
    deck = Store(scene.url)
    assert {entry.actor for entry in list_audit(deck)} == {"ada"}
    deck.close()


def test_a_status_that_differs_from_the_store_is_exit_code_1(
    scene: Scene, deck: Store, deploy: Callable[..., Result]
) -> None:
    site = scene.open()
    site.proxy.write(Color.GREEN, "green 999")
    site.proxy.reload()
    site.proxy.wait_for("green 999")
    ran = deploy("status")
    assert ran.exit_code == 1
    assert "follows green" in ran.stdout
