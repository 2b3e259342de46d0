"""Users stay in their buckets: a process whose libraries hash in another way refuses flags that hash, and says so."""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import cbor2
import mmh3
import pytest

from core.config import load_config
from core.doctor import State, examine
from core.errors import InvalidInput
from core.flags.impact import measure_impact
from quarterdeck import Quarterdeck
from quarterdeck.buckets import check_bucketing, find_bucketing_problem, uses_fractional
from quarterdeck.definitions import boolean_flag, canary_flag, split_flag, switch_flag
from quarterdeck.preview import explain

hash_now, dump_now = mmh3.hash, cbor2.dumps


def hash_with_another_seed(key: bytes, _seed: int = 0, signed: bool = True) -> int:
    return hash_now(key, 1, signed)


def hash_what_is_unreadable(key: bytes, _seed: int = 0, signed: bool = True) -> int:
    raise TypeError("hash() takes no bytes any more")


def dump_with_a_tag(value: object, **options: object) -> bytes:
    """CBOR that is valid and decodes to the same value, behind the tag that says "this is CBOR"."""
    return b"\xd9\xd9\xf7" + dump_now(value, **options)


BREAKS: list[tuple[object, str, Callable[..., object]]] = [
    (mmh3, "hash", hash_with_another_seed),
    (mmh3, "hash", hash_what_is_unreadable),
    (cbor2, "dumps", dump_with_a_tag),
]


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    """The question is asked once in a process; each test here is a process of its own in that."""
    find_bucketing_problem.cache_clear()
    yield
    find_bucketing_problem.cache_clear()


@pytest.fixture(params=BREAKS, ids=["another seed", "an error", "another encoding"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*request.param)


def test_the_installed_libraries_keep_every_user_in_place() -> None:
    assert find_bucketing_problem() is None
    check_bucketing(canary_flag(5))


@pytest.mark.usefixtures("broken")
def test_a_service_gets_the_default_of_its_code_a_reason_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    flags = {"canary": canary_flag(50), "half": boolean_flag(on=True, rollout_pct=50), "test": split_flag({"a": 1})}
    with caplog.at_level(logging.WARNING, "quarterdeck"):
        deck = Quarterdeck.from_definitions({"flags": flags})
        users = [f"user-{number}" for number in range(200)]
        assert {deck.route("canary", user) for user in users} == {"blue"}
        assert {deck.is_enabled("half", user, default=True) for user in users} == {True}
        assert {deck.is_enabled("half", user) for user in users} == {False}
        assert {deck.variant("test", user, default="none") for user in users} == {"none"}
        found = deck.evaluate("half", False, {"targetingKey": "ann"})
    assert (found.value, found.variant, found.reason, found.error_code) == (False, None, "ERROR", "GENERAL")
    assert found.error_message is not None
    assert "of fractional-v3" in found.error_message
    assert "openfeature-flagd-core 2." in found.error_message
    assert "\n" not in found.error_message
    assert len([record for record in caplog.records if record.name == "quarterdeck"]) == 1


@pytest.mark.usefixtures("broken")
def test_flags_that_do_not_hash_and_those_switched_off_answer_as_ever() -> None:
    on = boolean_flag(on=True)
    ruled = {**on, "targeting": {"if": [{"==": [{"var": "country"}, "DE"]}, "off", "on"]}}
    dark = switch_flag(boolean_flag(on=True, rollout_pct=50), on=False)
    deck = Quarterdeck.from_definitions({"flags": {"on": on, "ruled": ruled, "dark": dark}})
    assert deck.is_enabled("on", "ann")
    assert (deck.is_enabled("ruled", "ann", {"country": "DE"}), deck.is_enabled("ruled", "ann")) == (False, True)
    assert deck.evaluate("dark", True, {"targetingKey": "ann"}).reason == "DISABLED"


@pytest.mark.usefixtures("broken")
def test_the_deck_previews_no_change_that_it_cannot_judge() -> None:
    before, after = boolean_flag(on=True, rollout_pct=5), boolean_flag(on=True, rollout_pct=50)
    with pytest.raises(InvalidInput, match=r"^targeting\.fractional: .*of fractional-v3"):
        measure_impact("half", before, after, [])
    assert measure_impact("on", boolean_flag(on=True), boolean_flag(on=False), ["ann"]).changed == 1
    (step,) = explain("half", before, {"targetingKey": "ann"}).steps
    assert "of fractional-v3" in step


def test_doctor_names_what_moves_users(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, now = load_config({"QUARTERDECK_HOME": str(tmp_path)}), datetime.now(UTC)
    ask = lambda: {each.name: each for each in examine(config, now=now, quick=True)}["buckets"]  # noqa: E731
    assert ask().state is State.OK
    find_bucketing_problem.cache_clear()
    monkeypatch.setattr(mmh3, "hash", hash_with_another_seed)
    assert (ask().state, bool(ask().remedy)) == (State.FAIL, True)


def test_a_fractional_is_found_wherever_it_stands() -> None:
    for logic in (
        canary_flag(5)["targeting"],
        {"if": [{"var": "a"}, "on", {"fractional": [["on", 1]]}]},
        {"==": [{"fractional": [["on", 1]]}, "on"]},
    ):
        assert uses_fractional(logic)
    for logic in (None, "fractional", {"in": ["fractional", ["fractional"]]}, {"if": [True, "on", "off"]}):
        assert not uses_fractional(logic)
