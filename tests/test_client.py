import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from core.acts import Act
from core.control import get_flag
from core.operations import change_rollout, create_flag, switch_flag
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag, canary_flag
from quarterdeck.errors import InvalidInput, SourceUnavailable

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


def test_the_last_good_snapshot_answers_while_the_store_is_gone(deck, url, tmp_path, store):
    deck.close()
    store.close()
    Path(url.removeprefix("sqlite:///")).write_bytes(b"damaged" * 1_000)
    for leftover in tmp_path.glob("deck.db-*"):
        leftover.unlink()
    with Quarterdeck(url, snapshot_path=tmp_path / "snapshot.json") as again:
        assert again.is_enabled("use_reranker", "u1") is True


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
        with pytest.raises(InvalidInput, match="has no store"):
            client.log_retrieval("q", 0.5)
        client.close()
    with pytest.raises(InvalidInput, match="definitions: .*cannot be read"):
        Quarterdeck.from_definitions(tmp_path / "none.json")


def test_a_retrieval_of_bad_input_is_refused_and_the_good_ones_are_kept(deck, store):
    deck.log_retrieval("good", 0.5)
    for bad in ({"query": "", "score": 0.5}, {"query": "q", "score": float("nan")}):
        with pytest.raises(InvalidInput):
            deck.log_retrieval(**bad)
    deck.log_retrieval("good", None)
    deck.close()
    with store.read() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM retrievals")) == 2


def test_a_closed_client_says_so(deck):
    deck.close()
    with pytest.raises(SourceUnavailable, match="closed"):
        deck.log_retrieval("q", 0.5)
