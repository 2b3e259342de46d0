"""The OpenFeature provider behind the real SDK: values, reasons, error codes, events, hooks and tracking."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ProviderNotReadyError
from openfeature.hook import Hook
from openfeature.provider import ProviderStatus
from openfeature.track import TrackingEventDetails
from sqlalchemy import text

from core.audit.acts import Act
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from core.log.exposures import list_tracked_events
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag, split_flag
from quarterdeck.provider import QuarterdeckProvider
from quarterdeck.rules import RuleOperator, TargetingRule

ME = Act("ada", "because")
U1 = EvaluationContext("u1")
FLAGS = {
    "on": boolean_flag(on=True, metadata={"team": "search"}),
    "dark": boolean_flag(on=False),
    "half": boolean_flag(on=True, rollout_pct=50),
    "vips": boolean_flag(on=True, rollout_pct=0, rules=[TargetingRule("vip", RuleOperator.EQUALS, True, "on")]),
    "prompt": split_flag({"a": 1, "b": 1}, 100, values={"a": "short", "b": "long"}),
    "size": {"state": "ENABLED", "variants": {"small": 1, "big": 100}, "defaultVariant": "big"},
    "share": {"state": "ENABLED", "variants": {"low": 0.5, "high": 2}, "defaultVariant": "high"},
    "tree": {"state": "ENABLED", "variants": {"a": {"depth": 3}, "b": {}}, "defaultVariant": "a"},
    "list": {"state": "ENABLED", "variants": {"a": {"depth": [1, 2]}}, "defaultVariant": "a"},
    "undecided": {"state": "ENABLED", "variants": {"a": "A"}, "targeting": {"if": [{"var": "vip"}, "a"]}},
}


class Noting(Hook):
    """A hook that notes at which stages it was called, and changes the context."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def before(self, hook_context, hints):
        self.stages.append(f"before {hook_context.flag_key} {hook_context.provider_metadata.name}")
        return EvaluationContext(attributes={"vip": True})

    def after(self, hook_context, details, hints):
        self.stages.append(f"after {details.reason}")

    def error(self, hook_context, exception, hints):
        self.stages.append(f"error {exception.error_code.value}")

    def finally_after(self, hook_context, details, hints):
        self.stages.append("finally")


@pytest.fixture
def deck(url, store, tmp_path) -> Iterator[Quarterdeck]:
    for key, definition in FLAGS.items():
        create_flag(store, key, definition, ME)
    with Quarterdeck(url, poll_s=0.05, snapshot_path=tmp_path / "snapshot.json") as client:
        yield client


@pytest.fixture
def hook() -> Noting:
    return Noting()


@pytest.fixture
def client(deck, hook) -> Iterator[OpenFeatureClient]:
    api.set_provider_and_wait(QuarterdeckProvider(deck, hooks=[]), "deck")
    yield api.get_client("deck")
    api.clear_providers()


def wait_until(true) -> bool:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(true())


def test_each_type_is_read_with_its_variant_and_reason(client):
    assert client.get_boolean_details("on", False, U1).reason == "STATIC"
    assert client.get_string_value("prompt", "?", U1) in ("short", "long")
    assert client.get_string_details("prompt", "?", U1).reason == "TARGETING_MATCH"
    assert client.get_integer_value("size", 0, U1) == 100
    assert client.get_float_value("share", 0.0, U1) == 2.0
    assert isinstance(client.get_float_value("share", 0, U1), float)
    assert client.get_object_value("tree", {}, U1) == {"depth": 3}
    assert client.get_boolean_details("vips", True, U1).reason in ("DEFAULT", "TARGETING_MATCH")
    assert client.get_boolean_details("on", False, U1).flag_metadata["team"] == "search"


def test_openfeature_gives_what_the_client_gives(client, deck):
    for number in range(300):
        context = EvaluationContext(f"user-{number}", {"vip": number % 3 == 0})
        plain = {"targetingKey": f"user-{number}", "vip": number % 3 == 0}
        for key in ("on", "dark", "half", "vips", "prompt", "undecided"):
            ask = client.get_string_details if key in ("prompt", "undecided") else client.get_boolean_details
            default = "mine" if key in ("prompt", "undecided") else True
            theirs, ours = ask(key, default, context), deck.evaluate(key, default, plain)
            assert (theirs.value, theirs.variant, theirs.reason) == (ours.value, ours.variant, ours.reason)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("key", "code"), [("no_such_flag", "FLAG_NOT_FOUND"), ("size", "TYPE_MISMATCH"), ("prompt", "TYPE_MISMATCH")]
)
def test_an_error_gives_the_default_with_its_code(client, key, code):
    found = client.get_boolean_details(key, True, U1)
    assert (found.value, found.reason, found.error_code) == (True, "ERROR", code)


def test_a_flag_that_is_off_or_undecided_gives_the_default_without_an_error(client):
    off = client.get_boolean_details("dark", True, U1)
    assert (off.value, off.reason, off.variant, off.error_code) == (True, "DISABLED", None, None)
    undecided = client.get_string_details("undecided", "mine", U1)
    assert (undecided.value, undecided.reason, undecided.error_code) == ("mine", "DEFAULT", None)
    assert client.get_float_value("no_such_flag", 7, U1) == 7


def test_a_context_without_a_user_is_answered_by_the_default_variant(client):
    assert client.get_boolean_details("half", True).reason == "DEFAULT"


def test_a_change_is_told_with_the_flags_that_changed(client, store):
    told: list[EventDetails] = []
    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, told.append)
    switch_flag(store, get_flag(store, "production", "on"), ME, on=False)
    assert wait_until(lambda: told)
    assert (told[0].flags_changed, told[0].provider_name) == (["on"], "Quarterdeck")
    assert client.get_boolean_value("on", False, U1) is False


def test_the_provider_is_stale_while_the_store_is_away_and_ready_again_after(client, store):
    told: list[str] = []
    client.add_handler(ProviderEvent.PROVIDER_STALE, lambda details: told.append(f"stale: {details.message}"))
    assert client.get_provider_status() is ProviderStatus.READY
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE settings RENAME TO away"))
    assert wait_until(lambda: told)
    assert "settings" in told[0]
    assert client.get_provider_status() is ProviderStatus.STALE
    assert client.get_boolean_value("on", False, U1) is True
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO settings"))
    assert wait_until(lambda: client.get_provider_status() is ProviderStatus.READY)
    assert len(told) == 1


def test_a_provider_without_any_flags_is_not_ready_until_they_can_be_read(url, store, tmp_path):
    create_flag(store, "on", FLAGS["on"], ME)
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE settings RENAME TO away"))
    with Quarterdeck(url, poll_s=0.05, snapshot_path=tmp_path / "none.json") as deck:
        try:
            with pytest.raises(ProviderNotReadyError, match="no flags could be read yet"):
                api.set_provider_and_wait(QuarterdeckProvider(deck), "deck")
            client = api.get_client("deck")
            assert client.get_provider_status() is ProviderStatus.ERROR
            with store.begin() as connection:
                connection.execute(text("ALTER TABLE away RENAME TO settings"))
            assert wait_until(lambda: client.get_provider_status() is ProviderStatus.READY)
            assert client.get_boolean_value("on", False, U1) is True
        finally:
            api.clear_providers()


def test_hooks_run_and_change_the_context(deck, hook):
    api.set_provider_and_wait(QuarterdeckProvider(deck, hooks=[hook]), "deck")
    try:
        client = api.get_client("deck")
        assert client.get_boolean_value("vips", False, U1) is True
        assert hook.stages == ["before vips Quarterdeck", "after TARGETING_MATCH", "finally"]
        hook.stages.clear()
        client.get_boolean_value("no_such_flag", False, U1)
        assert hook.stages == ["before no_such_flag Quarterdeck", "error FLAG_NOT_FOUND", "finally"]
    finally:
        api.clear_providers()


@pytest.mark.deep
def test_asynchronous_callers_get_the_same(client):
    with ThreadPoolExecutor() as elsewhere:  # this thread's loop may run already: Playwright's
        found = elsewhere.submit(lambda: asyncio.run(client.get_boolean_value_async("on", False, U1)))
        assert found.result(30) is True


def test_a_tracked_event_reaches_the_store(client, deck, store):
    client.track("answer-rated", U1, TrackingEventDetails(4.5, {"page": "chat"}))
    client.track("opened")
    deck.track("scored", "u1", value=np.float32(0.5))
    deck.flush()
    (event,) = list_tracked_events(store, "production", "scored")
    assert event.value == 0.5
    (event,) = list_tracked_events(store, "production", "answer-rated")
    assert (event.targeting_key, event.value, event.attributes) == ("u1", 4.5, {"page": "chat"})
    (event,) = list_tracked_events(store, "production", "opened")
    assert (event.targeting_key, event.value) == ("", None)


@pytest.mark.deep
def test_an_event_that_cannot_be_stored_fails_no_request(client, deck, store, caplog):
    client.track("answer-rated", U1, TrackingEventDetails(float("nan")))
    assert "an event is not tracked: value: must be a finite number" in caplog.text
    api.set_provider_and_wait(QuarterdeckProvider(Quarterdeck.from_definitions({"flags": {}})), "deck")
    client.track("answer-rated", U1)
    assert "has no store" in caplog.text


def test_a_provider_over_definitions_is_ready_at_once():
    api.set_provider_and_wait(QuarterdeckProvider(Quarterdeck.from_definitions({"flags": FLAGS})), "deck")
    try:
        assert api.get_client("deck").get_integer_value("size", 0, U1) == 100
    finally:
        api.clear_providers()


def test_a_client_given_to_a_provider_outlives_it(client, deck):
    api.clear_providers()
    assert deck.is_enabled("on", "u1") is True
