"""What clients report about flags: counts by variant, users of A/B tests, events; nothing is lost or unbounded."""

import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from core.log.exposures import EventName, list_event_names, list_exposures, list_tracked_events, list_usage
from core.log.operations import purge_retrievals
from quarterdeck import Quarterdeck, exposures
from quarterdeck.clock import HOUR_MS, to_ms
from quarterdeck.definitions import boolean_flag, canary_flag, experiment_variants, split_flag
from quarterdeck.errors import InvalidInput, SourceUnavailable
from quarterdeck.exposures import ExposureLog

ME = Act("ada", "because")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NEVER_S = 3_600.0


@pytest.fixture
def deck(url, store, tmp_path):
    create_flag(store, "half", boolean_flag(on=True, rollout_pct=50), ME)
    create_flag(store, "dark", boolean_flag(on=False), ME)
    create_flag(store, "prompt-test", split_flag({"a": 1, "b": 1}, 60), ME)
    with Quarterdeck(url, poll_s=0.05, report_s=NEVER_S, snapshot_path=tmp_path / "snapshot.json") as client:
        yield client


@pytest.fixture
def log(store):
    """The part of a client that reports on flags, following one A/B test."""
    reports = ExposureLog(store, "production", report_s=NEVER_S)
    reports.follow({"prompt-test": split_flag({"a": 1, "b": 1})}, "production")
    yield reports
    reports.close()


def used(store, flag, environment="production"):
    usage = list_usage(store, environment, since=LONG_AGO).get(flag)
    return usage.by_variant if usage else None


def test_every_way_to_ask_counts_by_variant(deck, store):
    on = sum(deck.is_enabled("half", f"u{i}") for i in range(100))
    deck.variant("half", "u1", {"plan": "pro"})
    found = deck.evaluate("half", False, {"targetingKey": "u1"})
    deck.is_enabled("dark", "u1", default=True)
    deck.flush()
    expected = {"on": on, "off": 100 - on}
    expected[found.variant] += 2
    assert used(store, "half") == expected
    assert used(store, "dark") == {"": 1}


def test_an_unknown_flag_and_one_that_was_never_asked_for_are_not_counted(deck, store):
    for bad in ("no_such_flag", ["unhashable"], None):
        deck.is_enabled(bad, "u1")
    deck.evaluate("half", "a text", {"targetingKey": "u1"})  # of another type: an error, no answer
    deck.flush()
    assert list_usage(store, "production", since=LONG_AGO) == {}


def test_counts_of_several_batches_add_up_and_know_their_last_hour(deck, store):
    for _ in range(3):
        deck.is_enabled("dark", "u1")
        deck.flush()
    usage = list_usage(store, "production", since=datetime.now(UTC) - timedelta(days=1))["dark"]
    assert usage.evaluations == 3
    assert timedelta(0) <= datetime.now(UTC) - usage.last_hour < timedelta(hours=2)


def test_evaluations_before_the_moment_asked_for_are_not_counted_but_remembered(deck, store):
    now = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)
    hours = {25: 7, 24: 5, 1: 2}
    with store.begin() as connection:
        for ago, n in hours.items():
            hour_ms = to_ms(now - timedelta(hours=ago)) // HOUR_MS * HOUR_MS
            connection.execute(
                text("INSERT INTO flag_evaluations VALUES ('production', 'half', :hour_ms, 'on', :n)"),
                {"hour_ms": hour_ms, "n": n},
            )
    assert list_usage(store, "production", since=now - timedelta(days=1))["half"].by_variant == {"on": 7}
    later = list_usage(store, "production", since=now + timedelta(days=9))["half"]
    assert (later.evaluations, later.last_hour) == (0, datetime(2026, 3, 2, 11, tzinfo=UTC))


def test_threads_that_count_at_the_same_moment_lose_nothing(deck, store):
    def ask():
        for number in range(5_000):
            deck.is_enabled("half", f"u{number % 50}")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        deck.flush()
    deck.flush()
    assert sum(used(store, "half").values()) == 20_000


def test_a_batch_goes_out_by_itself(url, store, tmp_path):
    create_flag(store, "dark", boolean_flag(on=False), ME)
    with Quarterdeck(url, report_s=0.05, snapshot_path=tmp_path / "s.json") as client:
        client.is_enabled("dark", "u1")
        for _ in range(400):
            if used(store, "dark"):
                break
            threading.Event().wait(0.05)
    assert used(store, "dark") == {"": 1}


def test_what_the_store_refuses_is_counted_once_when_it_is_back(deck, store):
    deck.is_enabled("dark", "u1")
    deck.variant("prompt-test", "u1")
    for _ in range(2):
        with store.begin() as connection:
            connection.execute(text("ALTER TABLE flag_evaluations RENAME TO away"))
        with pytest.raises(SourceUnavailable):
            deck.flush()
        with store.begin() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO flag_evaluations"))
    deck.is_enabled("dark", "u1")
    deck.flush()
    assert used(store, "dark") == {"": 2}
    deck.flush()
    assert used(store, "dark") == {"": 2}


def test_closing_sends_what_is_left(deck, store):
    deck.is_enabled("dark", "u1")
    deck.close()
    assert used(store, "dark") == {"": 1}


def test_environments_are_counted_apart(deck, store, url, tmp_path):
    create_flag(store, "half", boolean_flag(on=True), replace(ME, environment="staging"))
    with Quarterdeck(url, environment="staging", snapshot_path=tmp_path / "staging.json") as staging:
        staging.is_enabled("half", "u1")
    assert used(store, "half") is None
    assert used(store, "half", "staging") == {"on": 1}


def test_users_of_an_ab_test_are_noted_once_with_their_variant_and_time(deck, store):
    before = datetime.now(UTC)
    given = {f"u{i}": deck.variant("prompt-test", f"u{i}") for i in range(200)}
    for user in given:
        deck.evaluate("prompt-test", "", {"targetingKey": user})
    deck.flush()
    noted = list_exposures(store, "production", "prompt-test")
    assert {each.targeting_key: each.variant for each in noted} == {u: v for u, v in given.items() if v != "off"}
    assert len(noted) == len({each.targeting_key for each in noted})
    assert all(timedelta(seconds=-1) < each.first_seen - before < timedelta(minutes=5) for each in noted)
    variants = list(given.values())
    assert len(noted) == variants.count("a") + variants.count("b")
    assert list_exposures(store, "production", "prompt-test", since=before + timedelta(days=1)) == ()


def test_some_users_are_read_without_the_others(deck, store):
    for number in range(1_200):
        deck.variant("prompt-test", f"u{number}")
    deck.flush()
    everybody = list_exposures(store, "production", "prompt-test")
    wanted = {each.targeting_key for each in everybody if int(each.targeting_key[1:]) % 2} | {"nobody"}
    some = list_exposures(store, "production", "prompt-test", users=wanted)
    assert some == tuple(each for each in everybody if each.targeting_key in wanted) and len(some) > 300
    assert list_exposures(store, "production", "prompt-test", users=()) == ()


def test_users_of_plain_flags_are_not_noted(deck, store):
    for number in range(20):
        deck.is_enabled("half", f"u{number}")
    deck.flush()
    assert list_exposures(store, "production", "half") == ()


def test_a_user_who_comes_again_keeps_the_first_time(deck, store, url, tmp_path):
    user = next(f"u{i}" for i in range(100) if deck.variant("prompt-test", f"u{i}") != "off")
    deck.flush()
    first = {each.targeting_key: each for each in list_exposures(store, "production", "prompt-test")}[user]
    with Quarterdeck(url, snapshot_path=tmp_path / "other.json") as other:
        other.variant("prompt-test", user)
    again = [each for each in list_exposures(store, "production", "prompt-test") if each.targeting_key == user]
    assert again == [first]


@pytest.mark.parametrize("user", ["", "x" * 257, "nul\x00l", "\ud800", 5, None, ["u"]])
def test_a_user_whose_name_no_store_takes_is_answered_and_not_noted(deck, store, user):
    assert deck.variant("prompt-test", user) in ("a", "b", "off", "")
    deck.flush()
    assert list_exposures(store, "production", "prompt-test") == ()


def test_memory_for_users_is_bounded_and_what_was_forgotten_is_noted_only_once(log, store, monkeypatch):
    monkeypatch.setattr(exposures, "MAX_REMEMBERED", 10)
    for _ in range(2):
        for number in range(100):
            log.count("prompt-test", "a", f"u{number}")
    assert log.remembered <= 20
    log.flush()
    users = [each.targeting_key for each in list_exposures(store, "production", "prompt-test")]
    assert len(users) == len(set(users)) == 100


def test_a_full_queue_drops_counted_and_notes_the_user_later(log, store, monkeypatch):
    monkeypatch.setattr(exposures, "MAX_WAITING", 5)
    for number in range(100):
        log.count("prompt-test", "a", f"u{number}")
    assert log.dropped == 95
    log.flush()
    assert len(list_exposures(store, "production", "prompt-test")) == 5
    monkeypatch.undo()
    for number in range(100):
        log.count("prompt-test", "a", f"u{number}")
    log.flush()
    assert len(list_exposures(store, "production", "prompt-test")) == 100


def test_which_flags_are_experiments_is_told_by_shape_or_by_metadata():
    split = split_flag({"a": 1, "b": 1}, 50)
    assert experiment_variants(split) == {"a", "b"}
    assert experiment_variants(split_flag({"a": 1, "b": 1}, 50, metadata={"experiment": False})) == set()
    assert experiment_variants(split_flag({"a": 1, "off": 1}, 50, metadata={"experiment": "x"})) == {"a", "off"}
    assert experiment_variants(boolean_flag(on=True, rollout_pct=50)) == set()
    assert experiment_variants(canary_flag(5)) == set()
    named = boolean_flag(on=True, rollout_pct=50, metadata={"experiment": "new ranker"})
    assert experiment_variants(named) == {"on", "off"}
    assert experiment_variants({**named, "state": "DISABLED"}) == set()
    for broken in ("text", None, 7, {}, {"state": "ENABLED", "variants": {"a": 1}, "targeting": {"fractional": 5}}):
        assert experiment_variants(broken) == set()


def test_a_flag_that_becomes_an_experiment_is_noted_without_a_restart(deck, store):
    assert deck.is_enabled("half", "u1") in (True, False)
    create_flag(store, "late", boolean_flag(on=True, metadata={"experiment": "late"}), ME)
    for _ in range(400):
        if deck.is_enabled("late", "u1"):
            break
        threading.Event().wait(0.05)
    deck.flush()
    assert [each.variant for each in list_exposures(store, "production", "late")] == ["on"]
    switch_flag(store, get_flag(store, "production", "late"), ME, on=False)


def test_an_event_is_stored_with_its_value_and_attributes(deck, store):
    assert deck.track("answer-rated", "u1", value=0.5, attributes={"page": "chat"})
    deck.track("opened")
    deck.flush()
    (event,) = list_tracked_events(store, "production", "answer-rated")
    assert (event.targeting_key, event.value, event.attributes) == ("u1", 0.5, {"page": "chat"})
    assert list_tracked_events(store, "production", "opened")[0].value is None
    assert list_tracked_events(store, "production", "opened", since=event.ts + timedelta(days=1)) == ()


@pytest.mark.parametrize(
    ("event", "value", "attributes", "field"),
    [
        ("", 1, {}, "event"),
        ("x" * 257, 1, {}, "event"),
        ("e", float("nan"), {}, "value"),
        ("e", True, {}, "value"),
        ("e", "5", {}, "value"),
        ("e", 1, {"a": "x" * 10_001}, "attributes"),
        ("e", 1, 7, "attributes"),
    ],
)
def test_an_event_that_cannot_be_stored_is_refused_by_field(deck, event, value, attributes, field):
    with pytest.raises(InvalidInput) as refused:
        deck.track(event, "u1", value=value, attributes=attributes)
    assert refused.value.field == field


def test_a_purge_takes_old_counts_users_and_events_too(deck, store):
    user = next(f"u{i}" for i in range(100) if deck.variant("prompt-test", f"u{i}") != "off")
    deck.track("opened", user)
    deck.flush()
    purge_retrievals(store, datetime.now(UTC) - timedelta(days=1), ME)
    assert used(store, "prompt-test")
    purge_retrievals(store, datetime.now(UTC) + timedelta(hours=2), ME)
    assert used(store, "prompt-test") is None
    assert list_exposures(store, "production", "prompt-test") == ()
    assert list_tracked_events(store, "production", "opened") == ()
    (entry,) = list_audit(store, AuditFilter(action="log.purge"))
    assert entry.before["rows"] == 0
    assert entry.before["flag_reports"] >= 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_counts_its_own_and_only_its_own(deck, store):
    for _ in range(3):
        deck.is_enabled("dark", "u1")
    child = os.fork()
    if child == 0:  # whatever happens here, pytest must not go on twice
        try:
            deck.is_enabled("dark", "u1")
            deck.flush()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert used(store, "dark") == {"": 1}
    deck.flush()
    assert used(store, "dark") == {"": 4}


def test_the_names_of_events_are_listed_with_their_counts_and_values(deck, store):
    for user, value in (("u1", 0.5), ("u1", 1.0), ("", None)):
        deck.track("answer-rated", user, value=value)
    deck.track("opened", "u2")
    deck.flush()
    assert list_event_names(store, "production", since=LONG_AGO) == (
        EventName("default", "answer-rated", 3, 1, 2, 1.5), EventName("default", "opened", 1, 1, 0, 0.0),
    )  # fmt: skip
    assert list_event_names(store, "staging", since=LONG_AGO) == ()
