"""Shell: blue-green deployments. Starts a release in the idle color, checks it, switches, rolls back, stops the old.

The intended state is written to the store first, with its audit entry; nginx follows. A deployer that dies leaves an
unsettled decision, which the next command settles or takes back.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from core.audit.actions import Action
from core.audit.acts import MAX_TEXT, Act, Change, changing, require
from core.audit.gate import Origin
from core.audit.settings import Family, get_setting, list_settings, save_setting, setting_key
from core.deployments.audited import IdleState, LiveState
from core.deployments.colors import (
    Color,
    Deployment,
    ReleaseRun,
    is_due,
    plan_rollback,
    plan_start,
    plan_switch,
    plan_teardown,
    take_back,
)
from core.deployments.drivers import Driver, make_driver
from core.deployments.health import ask
from core.deployments.proxy import Proxy, read_color
from core.deployments.services import Service, load_services
from core.errors import Conflict, QuarterdeckError, SourceUnavailable
from core.jobs.alone import working_alone
from quarterdeck.clock import from_ms, to_ms
from quarterdeck.store import Store

HEALTHY_TIMES = 3  # in a row, so that a service that answers once and crashes gets no traffic
_CHECK_EVERY_S = 0.1
_LOOKS = 20
_TIMES = ("since", "kept_until")

OnStep = Callable[[str], None]


def _say_nothing(_step: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Site:
    """One service on this machine: its definition, its driver, its nginx, and its state folder.

    `on_step` is called after each step.
    """

    service: Service
    driver: Driver
    proxy: Proxy
    folder: Path
    on_step: OnStep = _say_nothing


@dataclass(frozen=True, slots=True)
class Sight:
    """The actual state: each color's release, problem ("" for none) and connections, and what nginx follows."""

    running: dict[Color, str | None]
    problems: dict[Color, str]
    connections: dict[Color, int | None]
    serving: Color | None
    proxy_problem: str = ""


def open_site(service: Service, home: Path, *, on_step: OnStep = _say_nothing) -> Site:
    """Return the site of a service; its driver's state is stored under `home`."""
    folder = home / "deployments" / service.name
    return Site(service, make_driver(service, folder), Proxy(service), folder, on_step)


def get_deployment(store: Store, environment: str, service: str) -> Deployment:
    """Return the desired state of a service; one that was never deployed has no live color."""
    value, version = get_setting(store, setting_key(Family.DEPLOYMENT, environment, service))
    return _read(value, version) if value else Deployment(service, environment)


def list_deployments(store: Store, environment: str) -> tuple[Deployment, ...]:
    """Return every deployed service of the environment, by name."""
    return tuple(_read(value, version) for value, version in list_settings(store, Family.DEPLOYMENT, environment))


def look(site: Site) -> Sight:
    """Return the actual state. Takes a few seconds at most; anything that does not answer is reported, not raised."""
    running: dict[Color, str | None] = {}
    problems: dict[Color, str] = {}
    connections: dict[Color, int | None] = {}
    for color in Color:
        try:
            running[color] = site.driver.get_release(color)
            connections[color] = site.driver.count_connections(color) if running[color] else 0
            problems[color] = _find_problem(site, color) if running[color] else "nothing runs"
        except QuarterdeckError as error:
            running[color], connections[color], problems[color] = None, None, str(error)
    try:
        return Sight(running, problems, connections, read_color(site.proxy.read_mark()))
    except SourceUnavailable as error:
        return Sight(running, problems, connections, None, str(error))


def start_release(store: Store, site: Site, release: str, by: Act) -> Deployment:
    """Run a release in the idle color until it is healthy. Safe to repeat after a kill: it continues.

    Raises SourceUnavailable when it does not become healthy (it is then stopped), and Conflict while that color is kept
    for a rollback.
    """
    require(by, Action.DEPLOYMENT_START)
    with _at_work(site):
        return _start(store, site, release, by, _resume(store, site, by))


def switch_color(store: Store, site: Site, by: Act, *, seen: int | None = None) -> Deployment:
    """Switch the traffic to the started release if it is healthy. Finishes an interrupted switch.

    `seen` is the version that was read; Conflict if it has changed. Raises SourceUnavailable when the release is not
    healthy or nginx does not follow; the traffic then stays where it was.
    """
    require(by, Action.DEPLOYMENT_SWITCH)
    with _at_work(site):
        cut_off = _get_seen(store, site, by, seen)
        found = _resume(store, site, by)
        if not cut_off.settled and not cut_off.goes_back and found.live == cut_off.live:
            return found
        return _switch(store, site, by, found)


def deploy_release(store: Store, site: Site, release: str, by: Act) -> Deployment:
    """Start a release and switch to it: `start_release` and `switch_color` in one, resuming where it stopped."""
    for action in (Action.DEPLOYMENT_START, Action.DEPLOYMENT_SWITCH):
        require(by, action)
    with _at_work(site):
        found = _resume(store, site, by)
        live = found.run(found.live) if found.live else None
        if live and live.release == release:
            return found
        return _switch(store, site, by, _start(store, site, release, by, found))


def roll_back(store: Store, site: Site, by: Act, *, seen: int | None = None) -> Deployment:
    """Switch the traffic back to the former color if it is healthy. Raises as `switch_color` does."""
    require(by, Action.DEPLOYMENT_ROLLBACK)
    with _at_work(site):
        cut_off = _get_seen(store, site, by, seen)
        found = _resume(store, site, by)
        if not cut_off.settled and cut_off.goes_back and found.live == cut_off.live:
            return found
        keep = timedelta(minutes=site.service.keep_minutes)
        planned = plan_rollback(found, now=_now(), keep=keep)
        return _turn(
            store, site, found, planned, by,
            lambda change, *told: change.record(Action.DEPLOYMENT_ROLLBACK, *told),
        )  # fmt: skip


def tear_down(store: Store, site: Site, by: Act, *, early: bool = False, seen: int | None = None) -> Deployment:
    """Stop the idle color when its connections have ended, or after the time limit.

    Raises Conflict while it is kept, unless `early` is set, NotFound when nothing runs there.
    """
    require(by, Action.DEPLOYMENT_TEARDOWN)
    with _at_work(site):
        _get_seen(store, site, by, seen)
        found = _resume(store, site, by)
        planned = plan_teardown(found, now=_now(), early=early)
        _stop(site, found.idle)
        told = _told(found.idle, found.run(found.idle))
        return _save(
            store, planned, by, lambda change: change.record(Action.DEPLOYMENT_TEARDOWN, site.service.name, told, None)
        )


def resume(store: Store, site: Site, by: Act) -> Deployment:
    """Make the actual state match the store: finish a switch, start what should be live, update nginx.

    Use it after a kill or a reboot, and to undo a manual change of the upstream file.
    """
    require(by, Action.DEPLOYMENT_RESUME)
    with _at_work(site):
        found = _resume(store, site, by, by_hand_too=True)
        return _save(
            store, found, by,
            lambda change: change.record(Action.DEPLOYMENT_RESUME, site.service.name, None, _told_live(found)),
        )  # fmt: skip


def tend(store: Store, site: Site, by: Act) -> Deployment | None:
    """Finish what a killed deployer left, and take down a color kept long enough; None if there is nothing to do.

    Raises Conflict while another deployer runs.
    """
    require(by, Action.DEPLOYMENT_TEARDOWN)
    found = get_deployment(store, by.environment, site.service.name)
    if not found.settled:
        return resume(store, site, by)
    return tear_down(store, site, by) if is_due(found, _now()) else None


def tend_services(store: Store, definitions: Path, home: Path, environment: str) -> None:
    """Tend every service defined on this machine; a failing one does not affect the others.

    The server calls it periodically.

    Raises InvalidInput for a wrong definition, and SourceUnavailable naming what failed.
    """
    why = "automatic: a switch was interrupted, or the time to keep a color is over"
    by = Act("quarterdeck", why, environment, origin=Origin.SERVER)
    problems = []
    for service in load_services(definitions):
        try:
            tend(store, open_site(service, home), by)
        except Conflict:
            continue  # another deployer is running
        except QuarterdeckError as error:
            problems.append(str(error))
    if problems:
        raise SourceUnavailable("; ".join(problems))


def _get_seen(store: Store, site: Site, by: Act, seen: int | None) -> Deployment:
    """Return the desired state; Conflict if its version is not the one that was read."""
    found = get_deployment(store, by.environment, site.service.name)
    if seen is not None and seen != found.version:
        raise Conflict(f"{found.service} was changed since you loaded it; reload and check")
    return found


def _start(store: Store, site: Site, release: str, by: Act, found: Deployment) -> Deployment:
    if not site.proxy.exists():
        site.proxy.write(found.live, _mark(found))
    color = found.idle
    planned = plan_start(found, release, now=_now())
    if site.driver.get_release(color) not in (release, None):
        _stop(site, color)
    if planned != found:
        before, after = _told(color, found.run(color)), _told(color, planned.run(color))
        found = _save(
            store, planned, by, lambda change: change.record(Action.DEPLOYMENT_START, found.service, before, after)
        )
    site.on_step("recorded")
    site.driver.start(color, release)
    site.on_step("started")
    problem = _wait_until_healthy(site, color)
    if problem:
        said = " / ".join(site.driver.read_log(color).splitlines())
        _stop(site, color)
        failed = replace(by, reason=f"{release} did not become healthy: {problem}"[:MAX_TEXT])
        gone = plan_teardown(found, now=_now(), early=True)
        told = _told(color, found.run(color))
        _save(store, gone, failed, lambda change: change.record(Action.DEPLOYMENT_FAIL, found.service, told, None))
        raise SourceUnavailable(
            f"{found.name(color)} got no traffic: it did not become healthy within "
            f"{site.service.start_timeout_s:g} s: {problem}{f'; its output: {said}' if said else ''}"
        )
    site.on_step("healthy")
    return found


def _switch(store: Store, site: Site, by: Act, found: Deployment) -> Deployment:
    planned = plan_switch(found, now=_now(), keep=timedelta(minutes=site.service.keep_minutes))
    return _turn(store, site, found, planned, by, lambda change, *told: change.record(Action.DEPLOYMENT_SWITCH, *told))


def _turn(
    store: Store, site: Site, found: Deployment, planned: Deployment, by: Act, record: Callable[..., None]
) -> Deployment:
    target = planned.live or found.idle
    problem = _find_problem(site, target, times=HEALTHY_TIMES)
    if problem:
        raise SourceUnavailable(f"{found.name(target)} gets no traffic: {problem}. {found.name(found.live)} stays live")
    site.proxy.check()  # detect a broken configuration before changing anything
    site.on_step("checked")
    told = (found.service, _told_live(found), _told_live(planned))
    saved = _save(store, planned, by, lambda change: record(change, *told))
    site.on_step("decided")
    return _settle(store, site, saved, by)


def _settle(store: Store, site: Site, found: Deployment, by: Act) -> Deployment:
    """Make nginx follow a decision, or undo it if nginx refuses."""
    try:
        _point(site, found)
    except SourceUnavailable as error:
        with suppress(SourceUnavailable):  # if nginx is gone, the next run makes it follow
            _take_back(store, site, found, replace(by, reason=f"undone: {error}"[:MAX_TEXT]))
        raise SourceUnavailable(f"{error}. The switch was undone") from error
    return _confirm(store, site, found, by)


def _point(site: Site, found: Deployment) -> None:
    """Write the upstream file and wait until nginx follows it."""
    mark = _mark(found)
    site.proxy.write(found.live, mark)
    site.on_step("written")
    site.proxy.check()
    site.on_step("tested")
    site.proxy.reload()
    site.on_step("reloaded")
    site.proxy.wait_for(mark)
    site.on_step("followed")


def _confirm(store: Store, site: Site, found: Deployment, by: Act) -> Deployment:
    """Record that nginx follows; the audit entry was written with the decision."""
    settled = _save(store, replace(found, settled=True), by, lambda _change: None)
    site.on_step("settled")
    return settled


def _take_back(store: Store, site: Site, found: Deployment, by: Act) -> Deployment:
    former = take_back(found, now=_now())
    told = (found.service, _told_live(found), _told_live(former))
    saved = _save(store, former, by, lambda change: change.record(Action.DEPLOYMENT_ROLLBACK, *told))
    _point(site, saved)
    return _confirm(store, site, saved, by)


def _resume(store: Store, site: Site, by: Act, *, by_hand_too: bool = False) -> Deployment:
    """Settle an unsettled decision, or undo it if the color is no longer healthy."""
    found = get_deployment(store, by.environment, site.service.name)
    if found.live is None:
        return found if found.settled else _settle(store, site, found, by)
    problem = "" if found.settled else _find_problem(site, found.live, times=HEALTHY_TIMES)
    if problem and not _find_problem(site, found.idle, times=HEALTHY_TIMES):
        reason = f"a switch was interrupted, and {found.name(found.live)} is not healthy now: {problem}"
        return _take_back(store, site, found, replace(by, reason=reason[:MAX_TEXT]))
    run = found.run(found.live)
    if run and by_hand_too:
        site.driver.start(found.live, run.release)
        problem = _wait_until_healthy(site, found.live)
    if problem:
        raise SourceUnavailable(f"{found.name(found.live)} should be live, but is not healthy: {problem}")
    return _check_by_hand(site, found, by_hand_too=by_hand_too) if found.settled else _settle(store, site, found, by)


def _check_by_hand(site: Site, found: Deployment, *, by_hand_too: bool) -> Deployment:
    """Return the deployment if nginx follows it or cannot be asked; otherwise somebody changed the file by hand."""
    serving: Color | None = None
    for _ in range(_LOOKS):  # after a reload, not every worker follows at once
        try:
            serving = read_color(site.proxy.read_mark())
        except SourceUnavailable:
            serving = None if by_hand_too else found.live
        if serving == found.live:
            return found
        time.sleep(_CHECK_EVERY_S)
    if by_hand_too:
        _point(site, found)
        return found
    raise Conflict(
        f"{found.service}: the store says {found.live}, nginx follows {serving or 'neither color'}: somebody changed "
        f"{site.service.upstream} by hand. To restore {found.live}: quarterdeck deploy resume"
    )


def _stop(site: Site, color: Color) -> None:
    """Stop a color once its connections have ended, or after the time limit."""
    ends = time.monotonic() + site.service.drain_timeout_s
    while site.driver.count_connections(color) and time.monotonic() < ends:
        time.sleep(_CHECK_EVERY_S)
    site.on_step("drained")
    site.driver.stop(color)
    site.on_step("stopped")


def _wait_until_healthy(site: Site, color: Color) -> str:
    """Return "" when the color is healthy, else its problem after the timeout or the end of its process."""
    ends = time.monotonic() + site.service.start_timeout_s
    while problem := _find_problem(site, color, times=HEALTHY_TIMES):
        if time.monotonic() >= ends or site.driver.get_release(color) is None:
            return problem
        time.sleep(_CHECK_EVERY_S)
    return ""


def _find_problem(site: Site, color: Color, *, times: int = 1) -> str:
    """Return why the color cannot get traffic, or "" if it runs and is healthy several times in a row."""
    for number in range(times):
        if number:
            time.sleep(_CHECK_EVERY_S)
        if site.driver.get_release(color) is None:
            return f"nothing runs in {color}"
        try:
            ask(f"http://{site.service.find(color)}{site.service.health}")
        except SourceUnavailable as error:
            return str(error)
    return ""


def _at_work(site: Site) -> AbstractContextManager[None]:
    """Lock the service for this deployer. Raises Conflict and SourceUnavailable."""
    busy = f"{site.service.name}: another deployer is running; try again later"
    return working_alone(site.folder / "deployer", busy=busy)


def _save(store: Store, planned: Deployment, by: Act, record: Callable[[Change], None]) -> Deployment:
    with changing(store, by) as change:
        name = setting_key(Family.DEPLOYMENT, planned.environment, planned.service)
        save_setting(change.connection, name, _write(planned), expected_version=planned.version)
        record(change)
    return replace(planned, version=planned.version + 1)


def _mark(found: Deployment) -> str:
    return f"{found.live or 'none'} {found.version}"


def _told(color: Color, run: ReleaseRun | None) -> IdleState | None:
    return IdleState(str(color), run.release) if run else None


def _told_live(found: Deployment) -> LiveState | None:
    run = found.run(found.live) if found.live else None
    return LiveState(str(found.live), run.release if run else "") if found.live else None


def _now() -> datetime:
    return datetime.now(UTC)


def _write(found: Deployment) -> dict[str, Any]:
    """The deployment as JSON values; its version is the setting's."""
    value = asdict(found)
    del value["version"]
    for name in _TIMES:
        value[name] = to_ms(value[name]) if value[name] else None
    for color in Color:
        if value[color]:
            value[color]["started"] = to_ms(value[color]["started"])
    return value


def _read(value: dict[str, Any], version: int) -> Deployment:
    times = {name: from_ms(value[name]) if value[name] else None for name in _TIMES}
    runs = {
        str(color): ReleaseRun(value[color]["release"], from_ms(value[color]["started"])) if value[color] else None
        for color in Color
    }
    live = Color(value["live"]) if value["live"] else None
    return Deployment(**{**value, **times, **runs, "live": live, "version": version})
