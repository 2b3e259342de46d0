import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, text

from core.audit.acts import Act
from core.flags.operations import change_rollout, create_flag, switch_flag
from core.flags.store import Flag, get_flag
from core.log.exposures import list_usage
from quarterdeck import Quarterdeck
from quarterdeck.clock import from_ms
from quarterdeck.definitions import boolean_flag, canary_flag
from quarterdeck.errors import InvalidInput, SourceUnavailable
from quarterdeck.schema import scores
from quarterdeck.snapshot import load_snapshot

ME = Act("ada", "because")
WITHIN_S = 20  # generous: no test asserts a time


@pytest.fixture
def deck(url, store, tmp_path):
    create_flag(store, "use_reranker", boolean_flag(on=True), ME)
    create_flag(store, "new_prompt_v3", boolean_flag(on=True, rollout_pct=20), ME)
    create_flag(store, "answer-service", canary_flag(5), ME)
    with Quarterdeck(url, poll_s=0.05, snapshot_path=tmp_path / "snapshot.json") as client:
        yield client


def wait_until(true) -> bool:
    deadline = time.monotonic() + WITHIN_S
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(true())


def test_flags_are_read_as_the_issue_of_the_day_needs_them(deck):
    assert deck.is_enabled("use_reranker", "u1") is True
    assert deck.is_enabled("no_such_flag", "u1") is False
    assert {deck.variant("new_prompt_v3", f"u{i}") for i in range(50)} == {"on", "off"}
    assert deck.variant("no_such_flag", "u1") == ""
    assert {deck.route("answer-service", f"u{i}") for i in range(200)} == {"blue", "green"}
    assert deck.route("no_such_flag", "u1") == "blue"
    assert deck.evaluate("no_such_flag", False, {"targetingKey": "u1"}).error_code == "FLAG_NOT_FOUND"


def test_a_20_percent_rollout_measures_20_percent_and_growing_takes_nobody_out(deck, store):
    before = {user for user in range(100_000) if deck.is_enabled("new_prompt_v3", f"user-{user}")}
    assert 19_000 <= len(before) <= 21_000
    change_rollout(store, get_flag(store, "production", "new_prompt_v3"), 35, ME)
    assert wait_until(lambda: sum(deck.is_enabled("new_prompt_v3", f"user-{u}") for u in range(1_000)) > 300)
    assert all(deck.is_enabled("new_prompt_v3", f"user-{user}") for user in before)


def test_a_flip_reaches_a_running_client_and_its_listeners(deck, store):
    told = []
    deck.on_change(lambda keys: told.append(keys))
    deck.on_change(lambda keys: 1 / 0)
    switch_flag(store, get_flag(store, "production", "use_reranker"), ME, on=False)
    assert wait_until(lambda: not deck.is_enabled("use_reranker", "u1"))
    assert wait_until(lambda: told == [frozenset({"use_reranker"})])


def test_a_refresh_reads_the_flags_at_once_and_its_listeners_may_refresh_too(store, url, tmp_path):
    create_flag(store, "use_reranker", boolean_flag(on=True), ME)
    with Quarterdeck(url, poll_s=3_600, snapshot_path=tmp_path / "own.json") as deck:
        told = []
        deck.on_change(lambda keys: told.append((keys, deck.refresh())))
        switch_flag(store, get_flag(store, "production", "use_reranker"), ME, on=False)
        assert deck.refresh() is True
        assert deck.is_enabled("use_reranker", "u1") is False
        assert told == [(frozenset({"use_reranker"}), True)]


def test_a_refresh_that_fails_says_so_and_keeps_the_flags(deck, store):
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE settings RENAME TO away"))
    assert deck.refresh() is False
    assert deck.is_enabled("use_reranker", "u1") is True
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO settings"))
    assert deck.refresh() is True
    assert Quarterdeck.from_definitions({"flags": {}}).refresh() is True


@pytest.mark.deep
def test_bucketing_is_the_same_in_every_process(deck, url):
    script = "import sys; from quarterdeck import Quarterdeck; d = Quarterdeck(sys.argv[1])\n"
    script += "print([u for u in range(1000) if d.is_enabled('new_prompt_v3', f'user-{u}')])"
    outs = {
        subprocess.run(
            [sys.executable, "-c", script, url], env={"PYTHONHASHSEED": seed, "HOME": "/tmp"},
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout
        for seed in ("0", "1", "12345")
    }  # fmt: skip
    here = [u for u in range(1_000) if deck.is_enabled("new_prompt_v3", f"user-{u}")]
    assert outs == {f"{here}\n"}


@pytest.mark.sqlite_only("it damages the file")
def test_the_last_good_snapshot_answers_while_the_store_is_gone(deck, url, tmp_path, store):
    deck.close()
    store.close()
    Path(url.removeprefix("sqlite:///")).write_bytes(b"damaged" * 1_000)
    for leftover in tmp_path.glob("deck.db-*"):
        leftover.unlink()
    with Quarterdeck(url, snapshot_path=tmp_path / "snapshot.json") as again:
        assert again.is_enabled("use_reranker", "u1") is True


@pytest.mark.sqlite_only("it damages the file")
def test_half_a_snapshot_file_is_not_believed(deck, url, tmp_path, store):
    deck.close()
    store.close()
    snapshot = tmp_path / "snapshot.json"
    snapshot.write_bytes(snapshot.read_bytes()[:-20])
    Path(url.removeprefix("sqlite:///")).write_bytes(b"damaged" * 1_000)
    with Quarterdeck(url, snapshot_path=snapshot) as again:
        assert again.is_enabled("use_reranker", "u1") is False


def test_an_unusable_stored_definition_takes_no_other_flag_down(deck, store):
    with store.begin() as connection:
        connection.execute(text("UPDATE flags SET definition = '{\"state\": 7}' WHERE key = 'use_reranker'"))
        connection.execute(text("UPDATE settings SET version = version + 1"))
    assert wait_until(lambda: deck.evaluate("use_reranker", True).error_code == "PARSE_ERROR")
    assert {deck.route("answer-service", f"u{i}") for i in range(200)} == {"blue", "green"}


def test_a_client_from_definitions_needs_no_store(tmp_path):
    document = {"flags": {"a": boolean_flag(on=True)}}
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(document))
    for client in (Quarterdeck.from_definitions(document), Quarterdeck.from_definitions(path)):
        assert client.is_enabled("a", "u1")
        assert client.log_retrieval("q", 0.5) is None
        with pytest.raises(InvalidInput, match="has no store"):
            client.track("rated")
        client.close()
    with pytest.raises(InvalidInput, match="definitions: .*cannot be read"):
        Quarterdeck.from_definitions(tmp_path / "none.json")


def test_a_retrieval_of_bad_input_is_refused_and_the_good_ones_are_kept(deck, store):
    deck.log_retrieval("good", 0.5)
    for bad in ({"query": "", "score": 0.5}, {"query": "q", "score": float("nan")}):
        assert deck.log_retrieval(**bad) is None
    deck.log_retrieval("good", None)
    deck.close()
    with store.read() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM retrievals")) == 2
        counted = connection.execute(text("SELECT reason, n FROM intake ORDER BY reason")).all()
    assert [tuple(each) for each in counted] == [("", 2), ("query", 1), ("score", 1)]


def test_a_closed_client_takes_nothing_and_says_so(deck, caplog):
    deck.close()
    assert deck.log_retrieval("q", 0.5) is None
    assert not deck.score("an-id", "feedback", 1)
    assert "The recorder is closed" in caplog.text
    assert "The client is closed" in caplog.text


def test_a_strict_client_raises_what_it_refuses(url):
    with Quarterdeck(url, strict=True) as strict:
        with pytest.raises(InvalidInput, match="^score: "):
            strict.log_retrieval("q", float("nan"))
        with pytest.raises(InvalidInput, match="^value: "):
            strict.score("an-id", "feedback", 3)
    with pytest.raises(SourceUnavailable, match="closed"):
        strict.log_retrieval("q", 0.5)


@pytest.mark.deep
@pytest.mark.parametrize("context", ["text", 5, ["a"], {1: 2}, {"targetingKey": ["x"]}, object()])
@pytest.mark.parametrize("key", ["new_prompt_v3", "use_reranker", "no_such_flag", None, ["unhashable"], 5])
def test_reading_a_flag_never_raises_whatever_it_is_given(deck, key, context):
    assert deck.is_enabled(key, "u1", context) in (True, False)
    assert isinstance(deck.variant(key, "u1", context), str)
    assert deck.route(key, "u1", context) == "blue"
    assert deck.evaluate(key, False, context).value in (True, False)
    assert deck.is_enabled("new_prompt_v3", ["u1"]) is False


def test_an_unknown_flag_and_one_that_is_off_give_the_default_of_the_code(deck, store):
    create_flag(store, "dark", boolean_flag(on=False), ME)
    assert wait_until(lambda: deck.evaluate("dark", True).error_code is None)
    for key in ("no_such_flag", "dark"):
        assert deck.is_enabled(key, "u1", default=True) is True
        assert deck.variant(key, "u1", default="v2") == "v2"


def test_a_row_that_is_no_json_freezes_no_flag(deck, store):
    with store.begin() as connection:
        connection.execute(text("UPDATE flags SET definition = 'torn {' WHERE key = 'use_reranker'"))
        connection.execute(text("UPDATE settings SET version = version + 1"))
    assert wait_until(lambda: deck.evaluate("use_reranker", True).error_code == "PARSE_ERROR")
    change_rollout(store, get_flag_of(store), 100, ME)
    assert wait_until(lambda: deck.is_enabled("new_prompt_v3", "u1") and deck.is_enabled("new_prompt_v3", "u2"))


def get_flag_of(store):
    """`get_flag` reads all rows, and one of them is torn here."""
    with store.read() as connection:
        row = connection.execute(text("SELECT * FROM flags WHERE key = 'new_prompt_v3'")).mappings().one()
    return Flag("production", row["key"], json.loads(row["definition"]), row["version"], from_ms(1), "ada")


@pytest.mark.deep
def test_a_store_that_is_away_is_logged_and_told_once_and_once_that_it_is_back(deck, store, caplog):
    told = []
    deck.on_stale(told.append)
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE settings RENAME TO away"))
    assert wait_until(lambda: told)
    time.sleep(0.5)  # ten polls and more
    assert len(told) == 1
    assert caplog.text.count("flags stay as they were") == 1
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO settings"))
    assert wait_until(lambda: told[-1] == "")
    assert caplog.text.count("flags are read from the store again") == 1


def test_a_clock_that_jumps_back_stops_neither_the_flags_nor_the_counts(deck, store, monkeypatch):
    deck.is_enabled("use_reranker", "u1")
    deck.flush()
    earlier = time.time_ns() - 400 * 86_400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: earlier)
    monkeypatch.setattr(time, "time", lambda: earlier / 10**9)
    deck.is_enabled("use_reranker", "u1")
    deck.flush()
    switch_flag(store, get_flag(store, "production", "use_reranker"), ME, on=False)
    assert wait_until(lambda: not deck.is_enabled("use_reranker", "u1"))
    usage = list_usage(store, "production", since=datetime(2000, 1, 1, tzinfo=UTC))["use_reranker"]
    assert usage.by_variant["on"] >= 2
    assert (datetime.now(UTC) - usage.last_hour).days < 1  # the latest, whatever was counted after the jump


def test_a_snapshot_of_another_release_is_not_believed(tmp_path):
    for body in ("[]", "{}", '{"version": 1}', '{"version": 1, "flags": 5, "aliases": {}}'):
        path = tmp_path / "snapshot.json"
        path.write_text(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}")
        assert load_snapshot(path) is None


def test_a_user_without_a_home_goes_without_the_snapshot_on_disk(url, store, monkeypatch):
    create_flag(store, "use_reranker", boolean_flag(on=True), ME)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with Quarterdeck(url) as deck:
        assert deck.is_enabled("use_reranker", "u1") is True


@pytest.mark.deep
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_follows_the_flags_by_itself(deck, store):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # whatever happens here, pytest must not go on twice
        try:
            os.write(writer, b"ready" if deck.is_enabled("use_reranker", "u1") else b"wrong")
            os.write(writer, b"off" if wait_until(lambda: not deck.is_enabled("use_reranker", "u1")) else b"still on")
        finally:
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 5) == b"ready"
    switch_flag(store, get_flag(store, "production", "use_reranker"), ME, on=False)
    assert os.read(reader, 8) == b"off"
    assert os.waitpid(child, 0)[1] == 0
    os.close(reader)


@pytest.mark.deep
def test_threads_read_while_flags_change(deck, store):
    failures, stop = [], threading.Event()

    def ask():
        number = 0
        while not stop.is_set():
            number += 1
            found = deck.evaluate("use_reranker", False, {"targetingKey": f"u{number}"})
            if found.error_code is not None:
                failures.append(found)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for on in (False, True) * 5:
        switch_flag(store, get_flag(store, "production", "use_reranker"), ME, on=on)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_numbered_row_can_be_judged_and_a_refused_score_is_called_one(url, store, caplog):
    with Quarterdeck(url) as deck:
        assert deck.log_retrieval("what is an mbuf", 0.5, retrieval_id=123) == "123"
        assert deck.score(123, "feedback", 1)
        assert not deck.score(1.5, "feedback", 1)
        assert not deck.score("123", "feedback", "good")
    assert "a score was not taken (retrieval_id), further ones are counted: retrieval_id: must be text" in caplog.text
    assert "a score was not taken (value)" in caplog.text
    assert "a retrieval was not taken" not in caplog.text
    with store.read() as connection:
        assert connection.scalars(select(scores.c.retrieval_id)).all() == ["123"]


class Unspeakable(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __float__(self) -> float:
        raise self

    __repr__ = __str__


def test_what_has_no_text_is_refused_without_raising(deck):
    bad = Unspeakable()
    assert deck.log_retrieval("q", bad) is None
    assert deck.log_retrieval("q", error=bad) is None
    assert deck.log_retrieval("q", 0.5, attributes={"a": bad}) is None
    assert not deck.score(bad, "feedback", 1)
    assert not deck.score("an-id", bad, 1)
    assert not deck.score("an-id", "feedback", bad)


def test_a_search_that_failed_with_any_text_stops_no_other_row(deck, store):
    deck.log_retrieval("half a letter", error=ValueError("no \ud83d, no \x00"))
    deck.log_retrieval("good", 0.5)
    deck.close()
    with store.read() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM retrievals")) == 2


def test_what_a_search_failed_with_is_redacted_like_the_query(deck, store):
    deck.log_retrieval("who is it", error=ValueError("cannot embed 'mail bob@example.com'"))
    deck.close()
    with store.read() as connection:
        noted = str(connection.scalar(text("SELECT attributes FROM retrievals")))
    assert "bob@example.com" not in noted
    assert "cannot embed" in noted


@pytest.mark.parametrize("made", [None, b"bytes", ["list"], "half \ud83d", "a\x00b"])
def test_a_redactor_that_returns_no_text_costs_its_row_alone(url, store, made):
    with Quarterdeck(url, redact=lambda query: made if query == "bad" else query) as deck:
        assert deck.log_retrieval("bad", 0.5) is None
        assert deck.log_retrieval("good", 0.5)
    with store.read() as connection:
        assert connection.scalars(text("SELECT query FROM retrievals")).all() == ["good"]
        assert connection.execute(text("SELECT reason, n FROM intake WHERE reason <> ''")).all() == [("query", 1)]


def test_a_system_without_threads_fails_no_request_and_loses_no_row(deck, store, monkeypatch):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", refuse)
        assert deck.log_retrieval("first", 0.5)
        assert deck.log_retrieval(None) is None
        assert deck.score("an-id", "feedback", 1)
    deck.flush()
    with store.read() as connection:
        assert connection.scalars(text("SELECT query FROM retrievals")).all() == ["first"]
        assert connection.scalar(text("SELECT n FROM intake WHERE reason = 'query'")) == 1
