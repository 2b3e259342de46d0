"""The report on a holdout over a real store: held-out users against the rest, in built-in and own metrics."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from core.arms.histories import ArmHistories
from core.audit.acts import Act
from core.errors import InvalidInput, NotFound
from core.flags.layer_store import get_holdout
from core.flags.layers import Holdout, hold_out, is_held_out
from core.flags.operations import create_flag
from core.flags.store import get_flag
from core.metrics.definition import define_metric
from core.metrics.operations import add_metric
from core.rollouts.holdout import HELD, REST, HoldoutReport, report_holdout
from core.rollouts.layers import start_holdout
from quarterdeck.clock import to_ms
from quarterdeck.definitions import canary_flag, set_hash_version
from quarterdeck.flags import FlagSet
from quarterdeck.hashing import HASH_VERSIONS
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import tracked_events
from quarterdeck.scope import Scope
from quarterdeck.store import Store

SINCE = datetime(2026, 3, 2, 9, tzinfo=UTC)
NOW = SINCE + timedelta(days=2)
HOLDOUT = Holdout("2026q1", 30.0)
ENVIRONMENT, SERVICE = "production", Scope("production", "answers")
ME = Act("ada", "measure the quarter", at=SINCE)


def serve(store: Store, *, gain: float, users: int = 900, lost: float = 0.0) -> None:
    """Two questions of each user before the start and two after it; the rest scores `gain` higher since."""
    rng, rows = random.Random(5), []
    for number in range(users):
        user, level = f"user-{number}", rng.gauss(0.6, 0.08)
        held = is_held_out(HOLDOUT, user)
        if held and rng.random() < lost:
            continue
        for days in (-2, -1, 0.5, 1):
            better = gain if days > 0 and not held else 0.0
            ts = SINCE + timedelta(days=days, seconds=rng.randrange(3_600))
            score = min(1.0, max(0.0, level + better + rng.gauss(0, 0.03)))
            rows.append(Retrieval(ts, f"q {number}", score, scope=SERVICE, session_id=user, latency_ms=100.0))
    append_retrievals(store, rows)


def report(store: Store, metric: str = "score", **more: Any) -> HoldoutReport:
    return report_holdout(store, ArmHistories(store), ENVIRONMENT, metric, now=NOW, **more)


@pytest.mark.sqlite_only("nothing is stored")
@pytest.mark.parametrize("hash_version", HASH_VERSIONS)
def test_who_is_held_out_is_who_the_flags_leave_out(hash_version: str) -> None:
    holdout = Holdout("2026q1", 30.0, hash_version)
    definition = hold_out(holdout, "answers", set_hash_version(canary_flag(100), hash_version))
    flags = FlagSet.from_definitions({"flags": {"answers": definition}})
    users = [f"user-{number}" for number in range(3_000)] + ["é", "日本", ""]
    left_out = {user for user in users if flags.evaluate("answers", "", {"targetingKey": user}).variant == "outside"}
    assert left_out == {user for user in users if user and is_held_out(holdout, user)}
    assert 0.25 < len(left_out) / len(users) < 0.35


def test_what_rollouts_did_is_told_with_an_interval(store: Store) -> None:
    start_holdout(store, HOLDOUT, ME)
    serve(store, gain=0.05)
    found = report(store)
    assert sum(found.users.values()) == 900
    assert found.users[HELD] == sum(is_held_out(HOLDOUT, f"user-{number}") for number in range(900))
    assert found.compared is not None
    assert found.compared.is_adjusted
    assert -0.06 < found.compared.least_harm < found.compared.most_harm < -0.03
    assert found.sentence.startswith("Rollouts made the score better, by at least 0.0")
    assert found.looks[-1].arms.keys() == {HELD, REST}


def test_without_an_effect_none_is_named(store: Store) -> None:
    start_holdout(store, HOLDOUT, ME)
    serve(store, gain=0.0)
    for metric in ("score", "latency"):
        assert report(store, metric).sentence.startswith(f"No effect on the {metric} is sure yet: ")
    found = report(store, services=["elsewhere"])
    assert found.sentence == "Too early to tell: 0 users held out have asked so far; 30 in each group need the score."


def test_lost_users_make_the_figures_untrustworthy(store: Store) -> None:
    start_holdout(store, HOLDOUT, ME)
    serve(store, gain=0.05, lost=0.5)
    assert report(store).sentence.startswith("No figure can be trusted: 1")


def test_an_own_metric_of_events_can_be_compared(store: Store) -> None:
    create_flag(store, "answers", canary_flag(50), ME)
    start_holdout(store, HOLDOUT, ME)
    assert get_flag(store, ENVIRONMENT, "answers").view.slices
    serve(store, gain=0.0)
    add_metric(store, define_metric("resolved", "event", "share", of="resolved"), ME)
    rng = random.Random(6)
    solved = [
        user
        for user in (f"user-{number}" for number in range(900))
        if rng.random() < (0.2 if is_held_out(HOLDOUT, user) else 0.6)
    ]
    ts_ms = to_ms(SINCE + timedelta(days=1, hours=2))
    event = {**SERVICE._asdict(), "event": "resolved", "ts_ms": ts_ms, "value": None, "attributes": "{}"}
    with store.begin() as connection:
        connection.execute(insert(tracked_events), [event | {"targeting_key": user} for user in solved])
    found = report(store, "Resolved")
    assert found.sentence.startswith("Rollouts made the resolved better, by at least ")
    with pytest.raises(InvalidInput, match="there is no metric 'speed'"):
        report(store, "speed")


def test_where_no_holdout_runs_there_is_nothing_to_report(store: Store) -> None:
    assert get_holdout(store, ENVIRONMENT) is None
    with pytest.raises(NotFound, match="holdout: none runs in production"):
        report(store)
