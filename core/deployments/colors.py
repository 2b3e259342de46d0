"""Rule: what may be started, switched, rolled back or taken down when one of a service's two colors is live.

Deployments in, deployments out; `deployments.py` and the gateways deal with processes, nginx and the store.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from core.errors import Conflict, InvalidInput, NotFound

MAX_RELEASE = 100


class Color(StrEnum):
    """The two places that a release of a service can run in."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> "Color":
        """The other place."""
        return Color.GREEN if self is Color.BLUE else Color.BLUE


@dataclass(frozen=True, slots=True)
class ReleaseRun:
    """A release that is to run in a color, and since when."""

    release: str
    started: datetime

    def __post_init__(self) -> None:
        words = self.release.split()
        if words != [self.release] or len(self.release) > MAX_RELEASE or not self.release.isprintable():
            raise InvalidInput("release", f"must be one word of at most {MAX_RELEASE} printable characters")
        if self.release.startswith("-") or "/" in self.release or ".." in self.release:
            raise InvalidInput("release", "must not start with a dash, nor hold a slash or two dots: it becomes a path")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What should be: which color has the traffic, and which release runs where.

    `settled` is False from the decision to switch until nginx was seen to follow it. `kept_until` says until when the
    color without traffic stays; `can_roll_back` that it had the traffic before the live one. `version` is the one
    that the next writer has to expect.
    """

    service: str
    environment: str
    live: Color | None = None
    since: datetime | None = None
    settled: bool = True
    blue: ReleaseRun | None = None
    green: ReleaseRun | None = None
    can_roll_back: bool = False
    kept_until: datetime | None = None
    version: int = 0

    @property
    def idle(self) -> Color:
        """The color without traffic: blue as long as nothing is live."""
        return self.live.other if self.live else Color.BLUE

    @property
    def goes_back(self) -> bool:
        """Whether the last decision gave the traffic back, rather than to a release that had not had it before."""
        return self.live is not None and self.run(self.idle) is not None and not self.can_roll_back

    def run(self, color: Color) -> ReleaseRun | None:
        """The release that is to run in a color."""
        return self.blue if color is Color.BLUE else self.green

    def name(self, color: Color | None) -> str:
        """The color with its release, as a person says it."""
        run = self.run(color) if color else None
        return f"{color} ({run.release})" if run else str(color or "nothing")


def plan_start(found: Deployment, release: str, *, now: datetime) -> Deployment:
    """Return the deployment with `release` in the color without traffic; the same one if it is there already.

    Raises Conflict while that color is kept for the way back.
    """
    former = found.run(found.idle)
    if former and former.release == release and not found.can_roll_back:
        return found
    if former and found.can_roll_back and found.kept_until and now < found.kept_until:
        raise Conflict(
            f"{found.service}: {found.name(found.idle)} is kept until {found.kept_until:%H:%M} UTC; "
            "end that first: quarterdeck deploy teardown --now"
        )
    return replace(_with_run(found, found.idle, ReleaseRun(release, now)), can_roll_back=False, kept_until=None)


def plan_switch(found: Deployment, *, now: datetime, keep: timedelta) -> Deployment:
    """Return the deployment with the traffic on the other color, not settled yet; the former color is kept.

    Raises NotFound when no release runs there, and Conflict when it is the one that was switched away from: a switch
    that is run again after it is done must not undo itself.
    """
    if found.run(found.idle) is None:
        raise NotFound(f"{found.service}: nothing runs in {found.idle}; first: quarterdeck deploy start RELEASE")
    if found.can_roll_back:
        raise Conflict(
            f"{found.service}: {found.name(found.live)} is live already and {found.name(found.idle)} is what it "
            "replaced; go back with: quarterdeck deploy rollback"
        )
    return _turned(found, now=now, keep=keep, can_roll_back=found.live is not None)


def plan_rollback(found: Deployment, *, now: datetime, keep: timedelta) -> Deployment:
    """Return the deployment with the traffic back on the color that had it before, not settled yet.

    Raises NotFound when there is no way back: none was switched away from, it is taken down, or it is live again.
    """
    if not found.can_roll_back or found.run(found.idle) is None:
        raise NotFound(f"{found.service}: {found.name(found.live)} is live, and there is nothing to roll back to")
    return _turned(found, now=now, keep=keep, can_roll_back=False)


def take_back(found: Deployment, *, now: datetime) -> Deployment:
    """Return the deployment as it was before a switch that did not work out, not settled yet."""
    former = found.idle if found.run(found.idle) else None
    can_roll_back = former is not None and not found.can_roll_back
    return replace(found, live=former, since=now, settled=False, can_roll_back=can_roll_back, kept_until=None)


def plan_teardown(found: Deployment, *, now: datetime, early: bool = False) -> Deployment:
    """Return the deployment without the release in the color that has no traffic.

    Raises NotFound when there is none, and Conflict when it is still kept and `early` does not say otherwise.
    """
    if found.run(found.idle) is None:
        raise NotFound(f"{found.service}: nothing runs in {found.idle}, so there is nothing to take down")
    if found.kept_until and now < found.kept_until and not early:
        raise Conflict(
            f"{found.service}: {found.name(found.idle)} is kept until {found.kept_until:%H:%M} UTC for the way back; "
            "give --now to take it down all the same"
        )
    return replace(_with_run(found, found.idle, None), can_roll_back=False, kept_until=None)


def is_due(found: Deployment, now: datetime) -> bool:
    """Whether the color without traffic was kept for long enough."""
    return found.kept_until is not None and now >= found.kept_until and found.run(found.idle) is not None


def describe_deployment(found: Deployment, *, now: datetime) -> str:
    """Return in one sentence which color is live, since when, and what the other one is there for."""
    if found.live is None or found.since is None:
        waiting = f"; {found.name(found.idle)} waits for the switch" if found.run(found.idle) else ""
        return f"{found.service} has no live color yet{waiting}."
    live = f"{found.service} runs on {found.name(found.live)} since {found.since:%d %b %Y, %H:%M} UTC"
    if not found.settled:
        return f"{live}, but that switch was cut off before nginx was seen to follow."
    if found.run(found.idle) is None:
        return f"{live}; {found.idle} is free for the next release."
    idle = found.name(found.idle)
    if not found.can_roll_back:
        return f"{live}; {idle} runs without traffic."
    left = (found.kept_until or now) - now
    minutes = max(0, round(left.total_seconds() / 60))
    return f"{live}; {idle} is kept for the way back{f' for {minutes} more minutes' if minutes else ''}."


def _turned(found: Deployment, *, now: datetime, keep: timedelta, can_roll_back: bool) -> Deployment:
    kept_until = now + keep if found.live else None
    return replace(found, live=found.idle, since=now, settled=False, can_roll_back=can_roll_back, kept_until=kept_until)


def _with_run(found: Deployment, color: Color, run: ReleaseRun | None) -> Deployment:
    return replace(found, blue=run) if color is Color.BLUE else replace(found, green=run)
