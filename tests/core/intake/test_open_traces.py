"""Traces whose spans come in any order, in several requests: one row per question, counted and rolled up once."""

import itertools
import random
from dataclasses import replace

import pytest
from sqlalchemy import select

from core.intake.counts import IntakeCount, list_counts
from core.intake.names import CHAIN, EMBEDDING, MODEL, RERANKER, RETRIEVER, STORE
from core.intake.notes import SpanNote, dump_note, load_note
from core.intake.open_traces import MOST_SPANS, OPEN_MS, QUIET_MS, take_spans, tend_traces
from core.intake.spans import Span, SpanChoices, read_span
from quarterdeck.log import SqlLog, as_log
from quarterdeck.redaction import redact
from quarterdeck.schema import (
    dimension_values,
    document_days,
    metric_bins,
    metric_sums,
    retrievals,
    rollups,
    scores,
    trace_spans,
)
from quarterdeck.scope import Scope
from quarterdeck.store import Store

TRACE = "5b8efff798038103d269b633813fc60c"
NOW_MS = 1_772_366_400_000
NS = NOW_MS * 1_000_000
SCOPE = Scope("staging", "answers")


def note(span_id: str, parent_id: str = "", role: str = "", after_ms: int = 0, **said) -> SpanNote:
    return SpanNote(span_id, parent_id, role, f"{role}-{span_id}", NS + after_ms * 1_000_000, SCOPE, **said)


# A question to an ensemble with a reranker, then a second search for another text; the model's tokens at the end.
SPANS = (
    note("root", "", CHAIN, question="what is an mbuf", fields={"session_id": "s-1"}),
    note("outer", "root", RETRIEVER, 10, question="what is an mbuf", latency_ms=20.0,
         hits=(("b", None), ("a", None))),
    note("vector", "outer", RETRIEVER, 12, question="what is an mbuf", kind="cosine", latency_ms=5.0,
         hits=(("a", 0.7), ("b", 0.4))),
    note("store", "vector", STORE, 13, kind="cosine_distance", latency_ms=1.0, hits=(("a", 0.3), ("b", 0.6))),
    note("words", "outer", RETRIEVER, 18, question="what is an mbuf", kind="bm25", latency_ms=5.0,
         hits=(("b", 7.5),)),
    note("ranks", "root", RERANKER, 40, question="what is an mbuf", kind="rerank", hits=(("b", 4.5), ("a", 2.5))),
    note("again", "root", RETRIEVER, 60, question="mbuf pool size", kind="cosine", latency_ms=3.0,
         hits=(("c", 0.2),)),
    note("embeds", "again", EMBEDDING, 61, question="mbuf pool size", fields={"model": "minilm"}),
    note("model", "root", MODEL, 80, tokens=120.0),
)  # fmt: skip

TABLES = (rollups, metric_sums, metric_bins, document_days, dimension_values)


def read(store: Store, *columns: str) -> list[tuple]:
    with store.read() as connection:
        query = select(*(retrievals.c[name] for name in columns)).order_by(retrievals.c.retrieval_id)
        return [tuple(row) for row in connection.execute(query)]


def list_sums(store: Store) -> dict[str, list[tuple]]:
    """Every row of every rollup, rounded: sums that were taken back leave a rest of 1e-17."""
    found = {}
    with store.read() as connection:
        for table in TABLES:
            rows = [tuple(row) for row in connection.execute(select(table))]
            found[table.name] = sorted(
                tuple(round(each, 9) if isinstance(each, float) else each for each in row) for row in rows
            )
    return found


def take(store: Store, *notes: SpanNote, after_ms: int = 0, trace_id: str = TRACE):
    return take_spans(store, [(trace_id, each) for each in notes], now_ms=NOW_MS + after_ms)


def make_reference(path) -> tuple[list[tuple], dict[str, list[tuple]]]:
    """What one request with the whole trace makes."""
    whole = Store(f"sqlite:///{path}", create=True)
    take(whole, *SPANS)
    found = (read(whole, *COLUMNS), list_sums(whole))
    whole.close()
    return found


COLUMNS = (
    "retrieval_id", "ts_ms", "query", "score", "raw_score", "score_kind", "state", "documents", "attributes",
    "session_id", "model", "latency_ms", "tokens", "trace_id", "span_id",
)  # fmt: skip


def test_the_searches_for_one_text_are_one_row_and_another_text_is_another(store):
    assert take(store, *SPANS) == []
    assert read(store, "retrieval_id", "query", "score", "score_kind", "state", "session_id", "tokens", "model") == [
        (TRACE, "what is an mbuf", None, None, 1, "s-1", 120.0, "minilm"),
        (f"{TRACE}-2", "mbuf pool size", 0.2, None, 0, "s-1", None, "minilm"),
    ]
    assert read(store, "documents", "attributes") == [
        ('[["b",null],["a",null]]', None),
        ('[["c",0.2]]', '{"asked":"what is an mbuf"}'),
    ]
    with store.read() as connection:
        c = scores.c
        found = connection.execute(select(c.retrieval_id, c.name, c.value).order_by(c.name)).all()
    assert [tuple(row) for row in found] == [
        (TRACE, "bm25", 7.5), (TRACE, "cosine", 0.7), (TRACE, "cosine_distance", 0.3), (TRACE, "rerank", 4.5),
    ]  # fmt: skip
    assert list_counts(store) == [IntakeCount("otlp", 2, 0, {})]


@pytest.mark.deep
@pytest.mark.sqlite_only("the order of spans is the same to every store")
def test_any_order_and_any_split_of_a_trace_makes_the_same_rows_and_rollups(tmp_path):
    reference, drawn = make_reference(tmp_path / "whole.db"), random.Random(7)
    for attempt in range(12):
        spans = drawn.sample(SPANS, len(SPANS))
        at = Store(f"sqlite:///{tmp_path / f'{attempt}.db'}", create=True)
        clock = 0
        while spans:
            part, spans = spans[: (size := drawn.randint(1, 4))], spans[size:]
            take(at, *part, after_ms=clock)
            clock += drawn.choice((1, QUIET_MS + 500))
            tend_traces(at, now_ms=NOW_MS + clock)
        tend_traces(at, now_ms=NOW_MS + clock + OPEN_MS)
        assert (read(at, *COLUMNS), list_sums(at)) == reference
        assert list_counts(at) == [IntakeCount("otlp", 2, 0, {})]
        at.close()


@pytest.mark.sqlite_only("the order of spans is the same to every store")
def test_the_three_outermost_spans_in_every_order(tmp_path):
    reference = make_reference(tmp_path / "whole.db")
    first, rest = (SPANS[0], SPANS[1], SPANS[6]), [each for each in SPANS if each not in (SPANS[0], SPANS[1], SPANS[6])]
    for number, order in enumerate(itertools.permutations(first)):
        at = Store(f"sqlite:///{tmp_path / f'{number}.db'}", create=True)
        take(at, *rest)
        for clock, each in enumerate(order, 1):
            take(at, each, after_ms=clock * 3_000)
            tend_traces(at, now_ms=NOW_MS + clock * 3_000 + QUIET_MS + 100)
        assert (read(at, *COLUMNS), list_sums(at)) == reference
        at.close()


def test_without_a_root_a_row_waits_for_a_short_silence_and_what_comes_later_amends_it(store):
    root, outer = SPANS[0], SPANS[1]
    take(store, outer)
    assert tend_traces(store, now_ms=NOW_MS + QUIET_MS - 1) == 0
    assert read(store, "query") == []
    assert tend_traces(store, now_ms=NOW_MS + QUIET_MS) == 1
    assert read(store, "query", "session_id") == [("what is an mbuf", None)]
    take(store, root, after_ms=10_000)
    assert read(store, "query", "session_id") == [("what is an mbuf", "s-1")]
    assert list_counts(store) == [IntakeCount("otlp", 1, 0, {})]


def test_two_servers_see_the_same_trace(store, url):
    other = Store(url)
    take(store, *SPANS[1:4])
    take(other, *SPANS[4:])
    take(store, SPANS[0])
    assert [query for (query,) in read(other, "query")] == ["what is an mbuf", "mbuf pool size"]
    other.close()


def test_a_trace_is_forgotten_a_minute_after_its_last_span(store):
    take(store, *SPANS[:2])
    take(store, SPANS[2], after_ms=50_000)
    assert tend_traces(store, now_ms=NOW_MS + OPEN_MS + 1) == 0
    assert tend_traces(store, now_ms=NOW_MS + 50_000 + OPEN_MS) == 1
    with store.read() as connection:
        assert connection.execute(select(trace_spans.c.span_id)).all() == []
    assert len(read(store, "query")) == 1


def test_spans_of_a_trace_that_is_over_change_none_of_its_rows(store):
    take(store, *SPANS)
    tend_traces(store, now_ms=NOW_MS + OPEN_MS)
    before = read(store, *COLUMNS), list_sums(store)
    take(store, *SPANS, after_ms=70_000)
    assert (read(store, *COLUMNS), list_sums(store)) == before
    later = note("later", "root", RETRIEVER, 90_000, question="what is an mbuf", hits=())
    new = note("new", "", RETRIEVER, 90_000, question="lcore pinning", kind="cosine", hits=(("d", 0.9),))
    take(store, later, new, after_ms=90_000)
    assert read(store, "retrieval_id", "query") == [
        (TRACE, "what is an mbuf"), (f"{TRACE}-2", "mbuf pool size"), (f"{TRACE}-3", "lcore pinning"),
    ]  # fmt: skip
    assert list_counts(store) == [IntakeCount("otlp", 3, 3, {"duplicate": 2, "late": 1})]


def test_a_vector_without_words_is_asked_for_by_the_root_when_that_comes(store):
    vector = note("vector", "root", STORE, 5, kind="cosine_distance", hits=(("a", 0.25),))
    take(store, vector)
    tend_traces(store, now_ms=NOW_MS + QUIET_MS)
    assert list_counts(store) == [IntakeCount("otlp", 0, 1, {"no_query": 1})]
    take(store, SPANS[0], after_ms=5_000)
    assert read(store, "query", "score", "raw_score", "score_kind") == [
        ("what is an mbuf", 0.75, 0.25, "cosine_distance")
    ]
    assert list_counts(store) == [IntakeCount("otlp", 1, 0, {})]


def test_a_refused_search_is_counted_once(store):
    hidden = note("hidden", "", RETRIEVER, problem=("hidden", "the input is hidden"))
    for after_ms in (0, 100):
        take(store, hidden, after_ms=after_ms)
    tend_traces(store, now_ms=NOW_MS + OPEN_MS)
    assert list_counts(store) == [IntakeCount("otlp", 0, 2, {"duplicate": 1, "hidden": 1})]


def test_spans_beyond_the_bound_of_a_trace_are_not_kept(store):
    plain = [SpanNote(f"{number:016x}", "root") for number in range(MOST_SPANS)]
    take(store, *plain)
    take(store, SPANS[1], *(SpanNote(f"x{number}", "root") for number in range(50)))
    with store.read() as connection:
        assert len(connection.execute(select(trace_spans.c.span_id)).all()) == MOST_SPANS
    assert list_counts(store) == [IntakeCount("otlp", 0, 1, {"too_many_spans": 1})]


@pytest.mark.sqlite_only("the log lies elsewhere")
def test_a_log_in_another_database_is_amended_too(tmp_path):
    log_url = f"sqlite:///{tmp_path / 'log.db'}"
    store = Store(f"sqlite:///{tmp_path / 'deck.db'}", create=True, log_url=log_url)
    take(store, SPANS[1])
    tend_traces(store, now_ms=NOW_MS + QUIET_MS)
    take(store, SPANS[0], after_ms=5_000)
    log = SqlLog(Store(log_url))
    assert read(log.store, "query", "session_id") == [("what is an mbuf", "s-1")]
    log.close()
    store.close()


@pytest.mark.parametrize(
    "given",
    [
        *SPANS,
        SpanNote("a", "b"),
        note("e", "", RETRIEVER, hits=(), latency_ms=0.0),
        note("f", "", RETRIEVER, error="down"),
        note("p", "", RETRIEVER, problem=("x", "y")),
    ],
)
def test_a_note_is_kept_as_it_is(given):
    assert load_note(given.span_id, dump_note(given)) == given


HOSTILE = (
    "\ud800", "\x00", "a\nb", "", " ", "{" * 5_000, "[" * 5_000, "NaN", "1e999", 10**30, -1,
    float("nan"), float("inf"), True, None, [], [[[[]]]], [None, 3, "x"], {},
    {"query": {"query": {"query": 3}}}, {"score": {"score": 1}},
    "q" * 9_000,
    '{"documents": [{"id": "\\ud800", "metadata": {"score": "\\u0000"}}]}', '[{"id": {}, "score": []}]',
    "[[1, 2], [3]]", '{"ids": [["a"]], "distances": [null]}', "what is an mbuf",
)  # fmt: skip
NAMES = (
    "input.value", "output.value", "metadata", "session.id", "retrieval.documents", "retrieval.documents.0.document.id",
    "retrieval.documents.0.document.score", "retrieval.documents.0.document.metadata", "gen_ai.retrieval.documents",
    "quarterdeck.score_kind", "quarterdeck.feedback", "quarterdeck.arm", "traceloop.entity.input", "db.query.text",
    "traceloop.entity.output", "deployment.environment", "llm.token_count.total", "gen_ai.usage.cost", "user.id",
    "langfuse.observation.usage_details", "gen_ai.operation.name", "db.system", "mlflow.spanOutputs",
)  # fmt: skip


def test_whatever_the_attributes_hold_each_search_is_taken_or_counted(store):
    drawn, kinds = random.Random(11), ("RETRIEVER", "RERANKER", "CHAIN", "LLM", "EMBEDDING")
    searches = 0
    for number in range(60):
        spans = []
        for place in range(8):
            said = {name: drawn.choice(HOSTILE) for name in drawn.sample(NAMES, 6)}
            said["openinference.span.kind"] = drawn.choice(kinds)
            span = Span(f"{number:032x}", f"{place:016x}", "" if not place else f"{drawn.randrange(8):016x}", "a\x00b",
                        start_ns=NS + place, end_ns=NS + 9, failed=drawn.random() < 0.2, attributes=said,
                        message="down", events=[("exception", said)], resource=said)  # fmt: skip
            spans.append(span)
        notes = [
            read_span(span, redact=redact, choices_of=lambda _scope: SpanChoices(keep_answers=True)) for span in spans
        ]
        searches += sum(each.role in (RETRIEVER, STORE) for each in notes)
        take_spans(store, [(f"{number:032x}", each) for each in notes], now_ms=NOW_MS)
    tend_traces(store, now_ms=NOW_MS + OPEN_MS)
    (counted,) = list_counts(store)
    assert 0 < counted.taken <= searches
    assert counted.refused > 0


@pytest.mark.parametrize("order", [("staging", "production"), ("production", "staging")], ids="-".join)
@pytest.mark.parametrize("is_over", [False, True], ids=["open", "over"])
def test_a_trace_of_another_environment_is_another_one_whatever_its_id(store, tmp_path, order, is_over):
    forged = [replace(each, scope=Scope("production", "answers"), answer="forged") for each in (SPANS[0], SPANS[6])]
    sent = {"staging": list(SPANS), "production": forged}
    for place, environment in enumerate(order):
        now_ms = NOW_MS + place * (2 * OPEN_MS if is_over else 1)
        spans = [(TRACE, each) for each in sent[environment]]
        assert take_spans(store, spans, now_ms=now_ms, environment=environment) == []
        if is_over:
            tend_traces(store, now_ms=now_ms + OPEN_MS)
    tend_traces(store, now_ms=NOW_MS + 9 * OPEN_MS)
    rows = read(store, "scope_id", *COLUMNS, "answer")
    reference, _ = make_reference(tmp_path / "alone.db")
    assert [row[1:-1] for row in rows if row[-1] != "forged"] == reference
    assert [(row[1], row[3]) for row in rows if row[-1] == "forged"] == [(TRACE, "mbuf pool size")]
    assert len({row[0] for row in rows}) == 2
    assert list_counts(store) == [IntakeCount("otlp", 3, 0, {})]
    with store.read() as connection:
        assert connection.execute(select(trace_spans.c.span_id)).all() == []


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.sqlite_only("the log is ClickHouse")
def test_clickhouse_takes_a_row_once_its_trace_is_whole_or_over(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'deck.db'}", create=True, log_url=f"chdb://{tmp_path / 'log'}")

    def list_rows() -> list[tuple]:
        sql = "SELECT retrieval_id, query FROM quarterdeck.retrievals ORDER BY retrieval_id"
        return [tuple(row) for row in as_log(store).query(sql)]

    take(store, SPANS[0], SPANS[2])  # the span in between is still to come
    other = note("only", "elsewhere", RETRIEVER, question="lcore pinning", hits=())
    take(store, other, trace_id="f" * 32)
    tend_traces(store, now_ms=NOW_MS + QUIET_MS)
    take(store, SPANS[1], after_ms=3_000)
    assert list_rows() == [(TRACE, "what is an mbuf")]
    for _ in range(2):
        take(store, *SPANS[:3], after_ms=4_000)
    tend_traces(store, now_ms=NOW_MS + 4_000 + OPEN_MS)
    take(store, *SPANS[:3], after_ms=90_000)
    assert list_rows() == [(TRACE, "what is an mbuf"), ("f" * 32, "lcore pinning")]
    store.close()
