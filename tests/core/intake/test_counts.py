"""The counts of what came in: added up by entry point and reason, with one example, and one warning per reason."""

import json
import logging

from core.errors import InvalidInput
from core.intake.counts import IntakeCount, IntakeTally, count_refusal, list_counts, list_refusals
from quarterdeck.scope import Scope

ANSWERS, SEARCH = Scope("production", "answers"), Scope("staging", "search")


def keep(store, tally: IntakeTally) -> None:
    with store.begin() as connection:
        tally.store(store, connection)


def test_counts_add_up_over_requests_and_are_narrowed_to_a_scope(store):
    for _ in range(2):
        tally = IntakeTally("otlp")
        tally.take(ANSWERS, 3)
        tally.take(SEARCH)
        tally.ignore(ANSWERS)
        tally.refuse(InvalidInput("no_query", "the span has no question"), {"name": "query"}, SEARCH)
        keep(store, tally)
    assert list_counts(store) == [IntakeCount("otlp", 8, 4, {"duplicate": 2, "no_query": 2})]
    assert list_counts(store, Scope("staging", "")) == [IntakeCount("otlp", 2, 2, {"no_query": 2})]
    assert list_counts(store, Scope("", "answers")) == [IntakeCount("otlp", 6, 2, {"duplicate": 2})]


def test_an_example_is_redacted_and_bounded(store):
    tally = IntakeTally("otlp")
    tally.refuse(InvalidInput("score", "must be a number"), "mail bob@example.com " + "x" * 9_000, ANSWERS)
    tally.refuse(InvalidInput("score", "must be a number"), "another one", ANSWERS)
    keep(store, tally)
    (found,) = list_refusals(store)
    assert (found.scope, found.source, found.reason, found.count) == (ANSWERS, "otlp", "score", 2)
    assert "mail [e-mail]" in found.example
    assert len(found.example.encode()) <= 2_000


def test_a_refusal_that_is_taken_back_is_not_shown(store):
    tally = IntakeTally("otlp")
    tally.refuse(InvalidInput("no_query", "none"), None, ANSWERS)
    keep(store, tally)
    later = IntakeTally("otlp")
    later.take(ANSWERS)
    later.take_back(ANSWERS, "no_query")
    keep(store, later)
    assert list_counts(store) == [IntakeCount("otlp", 1, 0, {})]
    assert list_refusals(store) == []


def test_a_reason_is_warned_of_once(store, caplog):
    caplog.set_level(logging.WARNING, "quarterdeck")
    for _ in range(3):
        count_refusal(store, "door-of-this-test", InvalidInput("body", "is no JSON"), None)
    assert [record.message for record in caplog.records] == [
        "not taken through door-of-this-test (body), further ones are counted: body: is no JSON"
    ]


def test_the_command_prints_the_counts_of_all_scopes_unless_narrowed(store, url, quarterdeck):
    tally = IntakeTally("http")
    tally.take(ANSWERS, 5)
    tally.refuse(InvalidInput("score", "must be a number, not 'high'"), "high", SEARCH)
    keep(store, tally)
    every = {"source": "http", "taken": 5, "refused": 1, "reasons": {"score": 1}, "ignored": {}}
    assert json.loads(quarterdeck("intake", "--json", "--database", url).out) == [every]
    narrowed = quarterdeck("intake", "--json", "--database", url, "--service", "Answers")
    assert json.loads(narrowed.out) == [every | {"refused": 0, "reasons": {}}]
    assert json.loads(quarterdeck("intake", "--json", "--database", url, "--environment", "other").out) == []
    said = quarterdeck("intake", "--database", url).out
    assert "http: 5 taken, 1 refused (score 1)" in said
    assert "staging/search" in said
    assert "must be a number, not 'high'" in said


def test_what_is_ignored_by_design_is_no_refusal_and_no_warning(store, url, quarterdeck, caplog):
    count_refusal(store, "otlp", InvalidInput("logs", "are not stored"), None)
    assert list_counts(store) == [IntakeCount("otlp", 0, 0, {}, {"logs": 1})]
    assert list_refusals(store) == []
    assert caplog.records == []
    said = quarterdeck("intake", "--database", url).out
    assert said == "otlp: 0 taken, 0 refused; requests ignored by design: logs 1\n"
