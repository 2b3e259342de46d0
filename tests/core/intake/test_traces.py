"""MLflow's traces: real spans in a real SQLite store become retrievals, each once."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from core.errors import NotFound, SourceUnavailable
from core.intake import importing
from core.intake.counts import list_counts
from core.intake.importing import ImportReport, import_traces
from core.intake.traces import TraceSource
from core.log.scores import apply_scores
from quarterdeck.clock import DAY_MS, now_ms
from quarterdeck.recorder import append_retrievals
from quarterdeck.redaction import redact
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import retrievals, scores
from quarterdeck.scope import Scope
from quarterdeck.store import Store

pytestmark = [
    pytest.mark.deep,
    pytest.mark.slow,
    # MLflow warns about its own type hints when it is imported, and swallows what a warning as an error raises.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

TS = datetime(2026, 3, 1, 12, tzinfo=UTC)
HITS = [
    {"page_content": "mbufs hold packets", "metadata": {"score": 0.4}},
    {"page_content": "rings hold mbufs", "metadata": {"score": 0.8}},
]


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[str]:
    """An MLflow store of one's own, with two experiments, which this process's traces go to."""
    import mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    former = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    for name in ("other-bot", "support-bot"):
        mlflow.create_experiment(name, artifact_location=str(tmp_path / name))
    mlflow.set_experiment("support-bot")
    yield uri
    mlflow.flush_trace_async_logging()
    mlflow.set_tracking_uri(former)


def trace(query: Any, outputs: Any, *, experiment: str | None = None, **attributes: Any) -> str:
    """One traced question: a chain with a retriever and an answer in it. Returns the trace's id."""
    import mlflow

    if experiment:
        mlflow.set_experiment(experiment)
    with mlflow.start_span("answer", span_type="CHAIN"):
        mlflow.update_current_trace(
            metadata={"mlflow.trace.session": "s-1"}, tags={"quarterdeck.index_version": "docs-2"}
        )
        with mlflow.start_span("search", span_type="RETRIEVER", attributes=attributes) as span:
            span.set_inputs(query)
            if isinstance(outputs, Exception):
                span.set_status("ERROR")
            elif outputs is not None:
                span.set_outputs(outputs)
        with mlflow.start_span("generate", span_type="LLM") as span:
            span.set_outputs("text")
        trace_id = span.trace_id
    mlflow.flush_trace_async_logging()
    return str(trace_id)


def load(store: Store, uri: str, experiment: str | None = "support-bot") -> ImportReport:
    report = import_traces(store, TraceSource(uri, experiment=experiment), redact=redact)
    assert report.read == report.stored + report.refused_count
    return report


def read(store: Store, *columns: str) -> list[tuple]:
    with store.read() as connection:
        query = select(*(retrievals.c[name] for name in columns)).order_by(retrievals.c.id)
        return [tuple(row) for row in connection.execute(query)]


def test_retriever_spans_become_retrievals_with_the_best_score(store, tracking):
    trace({"query": "what is an mbuf"}, HITS, **{"quarterdeck.arm": "green", "quarterdeck.prompt_version": 3})
    trace("mail bob@example.com", [])
    assert load(store, tracking).stored == 2
    assert read(store, "query", "score", "session_id", "arm", "prompt_version", "index_version") == [
        ("what is an mbuf", 0.8, "s-1", "green", "3", "docs-2"),
        ("mail [e-mail]", None, "s-1", None, None, "docs-2"),
    ]
    assert all(latency_ms >= 0 for (latency_ms,) in read(store, "latency_ms"))


def test_a_trace_comes_in_once_however_often_it_is_asked_for(store, tracking):
    trace({"query": "first"}, HITS)
    assert load(store, tracking).stored == 1
    trace({"query": "second"}, HITS)
    report = load(store, tracking)
    assert (report.stored, report.skipped) == (1, 1)
    assert load(store, tracking).stored == 0
    assert read(store, "query") == [("first",), ("second",)]


def test_a_trace_that_came_by_otlp_under_its_service_is_not_taken_again(store, tracking):
    name = trace("what is an mbuf", HITS).removeprefix("tr-")
    came = Retrieval(TS, "what is an mbuf", 0.8, retrieval_id=name, scope=Scope("production", "answers"))
    elsewhere = Retrieval(TS, "what is an mbuf", 0.8, retrieval_id=name, scope=Scope("staging", "answers"))
    append_retrievals(store, [elsewhere])
    trace("what is a ring", HITS)
    append_retrievals(store, [came])
    report = load(store, tracking)
    assert (report.stored, report.known) == (2, 1)
    assert len(read(store, "retrieval_id")) == 3


def test_assessments_become_scores_also_late_and_again(store, tracking):
    from mlflow import log_feedback
    from mlflow.entities import AssessmentSource

    def judge(name: str, value: Any, kind: str, **other: Any) -> None:
        log_feedback(trace_id=trace_id, name=name, value=value, source=AssessmentSource(source_type=kind), **other)

    def read_given() -> dict[tuple[str, str], float]:
        with store.read() as connection:
            rows = connection.execute(select(scores).where(scores.c.retrieval_id == trace_id.removeprefix("tr-")))
            return {(row.name, row.source): row.value for row in rows}

    trace_id = trace("what is an mbuf", HITS)
    judge("relevance", True, "LLM_JUDGE", rationale="to the point")
    judge("length", 12, "CODE")
    load(store, tracking)
    assert read_given() == {("relevance", "judge"): 1.0, ("length", "code"): 12.0}
    other = trace("what is a ring", HITS)
    judge("helpful", "no", "HUMAN")
    judge("tone", "dry", "HUMAN")
    assert load(store, tracking).stored == 1
    assert read_given() == {("relevance", "judge"): 1.0, ("length", "code"): 12.0, ("helpful", "reviewer"): 0.0}
    judge("helpful", "yes", "HUMAN")
    assert load(store, tracking).stored == 0
    assert read_given()["helpful", "reviewer"] == 1.0
    assert apply_scores(store, now_ms=now_ms()).waiting == 0
    assert other != trace_id
    counts = {each.source: each for each in list_counts(store)}
    assert counts["scores"].reasons == {"value": 2}


@pytest.mark.parametrize("is_server", [False, True])
def test_feedback_that_comes_days_after_its_trace_is_read(store, tracking, monkeypatch, is_server):
    from mlflow import log_feedback

    def read_late() -> int:
        source = TraceSource(tracking, experiment="support-bot")
        source.list_experiments()  # connects
        monkeypatch.setattr(TraceSource, "is_server", is_server)
        try:
            return import_traces(store, source, redact=redact).stored
        finally:
            monkeypatch.undo()
            monkeypatch.setattr(importing, "_LATE_MS", -1)  # as if every imported trace were over a day old

    trace_id = trace("what is an mbuf", HITS)
    assert read_late() == 1
    moments = [now_ms()]
    log_feedback(trace_id=trace_id, name="helpful", value=True)
    monkeypatch.setattr(importing, "now_ms", lambda: moments[0] + 2 * DAY_MS)
    assert read_late() == 0
    with store.read() as connection:
        assert [(row.name, row.value) for row in connection.execute(select(scores))] == [("helpful", 1.0)]
    assert read_late() == 0
    counts = {each.source: each.taken for each in list_counts(store)}
    assert counts == {"mlflow": 1, "scores": 1}


def test_spans_that_are_no_retrievals_are_refused_by_trace_and_not_again(store, tracking):
    bad = trace({"top_k": 3}, HITS)
    trace({"query": "no output"}, None)
    trace({"query": "good"}, HITS)
    report = load(store, tracking)
    assert [(each.row, each.field) for each in report.refused] == [(1, "no_query"), (2, "no_documents")]
    assert report.refused[0].problem == (f"neither the span nor its trace has a question (span search of trace {bad})")
    assert read(store, "query") == [("good",)]
    assert load(store, tracking).read == 0


def test_each_state_and_kind_of_number_is_stored_as_what_it_is(store, tracking):
    large: list[Any] = [{"page_content": "x", "metadata": {"score": 12.5}}]
    trace({"query": "another scale"}, large)
    trace({"query": "no number"}, [{"page_content": "x"}])
    trace({"query": "down"}, RuntimeError("down"))
    trace({"question": {"text": "nested"}}, HITS)
    assert load(store, tracking).stored == 4
    assert read(store, "query", "score", "raw_score", "score_kind", "state") == [
        ("another scale", None, 12.5, "dot", 0),
        ("no number", None, None, None, 1),
        ("down", None, None, None, 3),
        ("nested", 0.8, None, None, 0),
    ]
    (document, other), *_ = (json.loads(row[0]) for row in read(store, "documents")[-1:])
    assert (document[1], other[1]) == (0.4, 0.8)


def test_an_import_that_broke_off_goes_on_where_it_was(store, tracking, monkeypatch):
    monkeypatch.setattr("core.intake.importing._BATCH_TRACES", 2)
    for number in range(5):
        trace({"query": f"q {number}"}, HITS)

    def break_off(_count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_traces(store, TraceSource(tracking, experiment="support-bot"), redact=redact, on_progress=break_off)
    assert read(store, "query") == [("q 0",), ("q 1",)]
    assert load(store, tracking).stored == 3
    assert read(store, "query") == [(f"q {number}",) for number in range(5)]


def test_a_trace_that_is_still_running_comes_in_when_it_is_over(store, tracking):
    import mlflow

    running = mlflow.MlflowClient(tracking).start_trace("slow", span_type="RETRIEVER", inputs={"query": "slow"})
    trace({"query": "quick"}, HITS)
    assert load(store, tracking).stored == 1
    mlflow.MlflowClient(tracking).end_trace(running.trace_id, outputs=HITS)
    mlflow.flush_trace_async_logging()
    assert load(store, tracking).stored == 1
    assert read(store, "query") == [("quick",), ("slow",)]


def test_one_experiment_or_all_of_them(store, tracking):
    trace({"query": "ours"}, HITS)
    trace({"query": "theirs"}, HITS, experiment="other-bot")
    assert load(store, tracking, "other-bot").stored == 1
    assert read(store, "query") == [("theirs",)]
    with pytest.raises(NotFound, match="there is no experiment 'none'"):
        load(store, tracking, "none")


def test_a_trace_is_not_stored_again_when_all_experiments_are_asked_for_after_one(store, tracking):
    trace({"query": "ours"}, HITS)
    trace({"query": "theirs"}, HITS, experiment="other-bot")
    load(store, tracking, "other-bot")
    assert load(store, tracking, None).stored == 1
    assert sorted(read(store, "query")) == [("ours",), ("theirs",)]


def test_a_store_that_is_not_there_is_named_and_not_made(store, tmp_path):
    with pytest.raises(SourceUnavailable, match="There is no MLflow store at"):
        load(store, f"sqlite:///{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()


def test_a_server_that_does_not_answer_is_named(store):
    with pytest.raises(SourceUnavailable, match=r"MLflow at http://127\.0\.0\.1:9 does not answer"):
        load(store, "http://127.0.0.1:9")
