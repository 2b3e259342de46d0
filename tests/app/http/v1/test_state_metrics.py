"""How things stand, in /metrics: the values of the store, to a token those of its own places, with bounded labels."""

import re

import pytest

from app.http import backends, state_metrics
from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from quarterdeck.clock import now_ms
from quarterdeck.exposures import store_scores
from quarterdeck.scores import check_score
from tests.app.http.v1.conftest import QUESTIONS


def read(deck, token: str) -> dict[str, float]:
    """Every sample by its name with its labels."""
    text = deck.get("/metrics", token=token).text
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def place(samples: dict[str, float], label: str) -> set[str]:
    return {found[1] for name in samples if (found := re.search(rf'[{{,]{label}="([^"]*)"', name))}


def test_the_values_are_those_of_the_store(deck):
    samples = read(deck, "admin")
    own = 'environment="production",service="answers"'
    assert samples[f'quarterdeck_questions{{{own},state="scored"}}'] == QUESTIONS
    assert samples[f'quarterdeck_questions{{{own},state="empty"}}'] == 0
    assert samples[f"quarterdeck_empty_share{{{own}}}"] == 0
    states = {name: value for name, value in samples.items() if name.startswith(f"quarterdeck_drift_state{{{own}")}
    assert (len(states), sum(states.values())) == (5, 1)
    assert samples[f'quarterdeck_drift_state{{{own},state="insufficient_data"}}'] == 1
    assert abs(samples[f"quarterdeck_last_question_timestamp_seconds{{{own}}}"] - now_ms() / 1_000) < 3_600
    canary = 'environment="production",flag="new_search"'
    held = {name: value for name, value in samples.items() if name.startswith(f"quarterdeck_canary_state{{{canary}")}
    assert (len(held), sum(held.values())) == (3, 1)
    assert samples['quarterdeck_queue{queue="scores"}'] == 0


def test_what_waits_is_counted_with_its_age(deck):
    score = check_score("production-answers-1", "feedback", 1, ts_ms=now_ms() - 60_000)
    with deck.store.begin() as connection:
        store_scores(connection, [{**score._asdict(), "environment": "production", "service": "answers"}])
    samples = read(deck, "admin")
    assert samples['quarterdeck_queue{queue="scores"}'] == 1
    assert 60 <= samples['quarterdeck_queue_age_seconds{queue="scores"}'] < 3_600


def test_a_token_sees_the_metrics_of_its_own_places(deck):
    assert place(read(deck, "admin"), "environment") == {"production"}
    assert place(read(deck, "staging"), "environment") == {"staging"}
    assert deck.get("/metrics", token="reader").status_code == 403


def test_a_token_of_a_service_sees_nothing_of_the_whole_environment(deck):
    act = Act("ada", "scrape")
    deck.secrets["scraper"] = issue_token(deck.store, "scraper", [TokenScope.EVALUATE], act, services=["billing"])[0]
    backends.close()  # or the server knows the former tokens for a second
    samples = read(deck, "scraper")
    assert place(samples, "service") == {"billing"}
    assert place(samples, "flag") == set()


def test_labels_are_bounded(deck, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(state_metrics, "MOST_SCOPES", 1)
    monkeypatch.setattr(state_metrics, "MOST_FLAGS", 0)
    samples = read(deck, "admin")
    assert place(samples, "service") == {"answers"}
    assert place(samples, "flag") == set()
