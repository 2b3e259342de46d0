"""Wall clocks that jump by an hour, back or forth: leases, rate limits, sessions and schedules keep their promises."""

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.http.limits import Limits
from core.access.identity import OidcLogin, Person
from core.access.sessions import end_session, explain_end, note_use
from core.audit.actions import Action
from core.audit.trail import list_audit, list_broken_audit_entries
from core.flags.operations import create_flag
from core.flags.schedule import plan_steps
from core.flags.store import get_flag
from core.jobs.leases import Lease
from core.rollouts.schedules import create_schedule, run_schedules
from quarterdeck.definitions import boolean_flag, rollout_pct
from quarterdeck.store import Store
from tests.faults.bad_days import ME

HOUR = timedelta(hours=1)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
JUMPS = pytest.mark.parametrize("jump", [-HOUR, HOUR], ids=["back", "forth"])
LOGIN = OidcLogin("https://id.example.org/.well-known/openid-configuration", "deck", "secret", "c" * 40)


def set_clock(monkeypatch: pytest.MonkeyPatch, jump: timedelta) -> None:
    """Let the wall clock of this process jump. The monotonic one cannot."""
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + jump.total_seconds())
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(jump.total_seconds()) * 10**9)


@JUMPS
def test_a_lease_stays_with_its_holder_and_goes_to_another_once_it_is_gone(
    jump: timedelta, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store(url, create=True)) as store:
        at = [0.0]
        first, second = (Lease(store, "jobs", lasts_s=15, clock=lambda: at[0]) for _ in range(2))
        assert first.keep() and not second.keep()
        set_clock(monkeypatch, jump)
        for at[0] in (6.0, 12.0, 18.0):
            assert first.keep() and not second.keep()
        monkeypatch.undo()
        for at[0] in (24.0, 30.0):
            assert first.keep() and not second.keep()
        at[0] = 46.0  # the first one is dead
        assert second.keep() and not first.is_held


@JUMPS
def test_a_rate_limit_is_neither_lifted_nor_a_lockout(jump: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    route = Route("/", lambda _request: PlainTextResponse("here"))
    limits = Middleware(Limits, per_minute=20, at_once=5, proxy=None)
    client = TestClient(Starlette(routes=[route], middleware=[limits]))
    statuses = [client.get("/").status_code for _ in range(15)]
    set_clock(monkeypatch, jump)
    statuses += [client.get("/").status_code for _ in range(15)]
    assert statuses[:20] == [200] * 20
    assert 429 in statuses[20:]
    refused = client.get("/")
    while refused.status_code != 429:
        refused = client.get("/")
    assert 1 <= int(refused.headers["Retry-After"]) <= 3


@JUMPS
def test_a_session_survives_a_jump_back_and_never_its_end(jump: timedelta, store: Store) -> None:
    began = NOW
    ada = Person("ada@example.org", (), "a" * 64, began + LOGIN.session)
    note_use(store, ada.session, now=began + timedelta(minutes=30))
    said = explain_end(store, ada, LOGIN, now=began + timedelta(minutes=35) + jump)
    assert said == ("" if jump < timedelta(0) else "you were away for 60 minutes; sign in again")
    if not said:
        note_use(store, ada.session, now=began + timedelta(minutes=35) + jump)
    assert explain_end(store, ada, LOGIN, now=began + timedelta(minutes=31)) == ""
    assert explain_end(store, ada, LOGIN, now=began + LOGIN.session).startswith("your session has ended")
    end_session(store, ada.session, now=began + timedelta(minutes=40) + jump, lasts=LOGIN.session)
    for now in (began, began + timedelta(minutes=41), began + 2 * HOUR):
        assert explain_end(store, ada, LOGIN, now=now) == "you signed out; sign in again"


@JUMPS
def test_a_step_of_a_schedule_is_made_once_and_none_is_left_out(jump: timedelta, store: Store) -> None:
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=0), ME)
    steps = plan_steps((5, 25, 50), hold_s=3_600.0, switch_on=False)
    create_schedule(store, get_flag(store, "production", "use_hyde"), steps, ME, starts=NOW, now=NOW)
    seen = []
    for minutes in range(0, 241, 20):
        now = NOW + timedelta(minutes=minutes) + (jump if minutes in (40, 60) else timedelta(0))
        run_schedules(store, now=now)
        seen.append(rollout_pct(get_flag(store, "production", "use_hyde").definition))
    assert sorted(seen) == seen
    assert sorted(set(seen)) == [5, 25, 50]
    changes = [entry for entry in list_audit(store) if entry.action == Action.FLAG_UPDATE]
    assert len(changes) == 3
    assert list_broken_audit_entries(store) == ()
