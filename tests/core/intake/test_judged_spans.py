"""What spans say of an answer's quality: scores of its row, whenever they come, and of nobody else's row."""

import itertools
from typing import Any

import pytest
from sqlalchemy import select

from core.intake.counts import list_counts
from core.intake.judgements import judge_span
from core.intake.notes import Judgement, dump_note, load_note
from core.intake.open_traces import OPEN_MS, QUIET_MS, take_spans, tend_traces
from core.intake.spans import Span, read_span
from core.log.scores import WAITS_MS, AppliedScores, apply_scores
from quarterdeck.clock import now_ms
from quarterdeck.redaction import compose, redact
from quarterdeck.schema import metric_sums, scores
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

TRACE = "5b8efff798038103d269b633813fc60c"
NOW_MS = 1_772_366_400_000
NS = NOW_MS * 1_000_000

# The shapes of OpenInference's specification (spec/annotations.md), and of OpenTelemetry's event.
ANNOTATED = {
    "openinference.span.kind": "CHAIN",
    "annotations.0.annotation.name": "hallucination",
    "annotations.0.annotation.score": 1,
    "annotations.0.annotation.label": "hallucinated",
    "annotations.0.annotation.explanation": "The claim is not supported, says bob@example.com.",
    "annotations.0.annotation.annotator_kind": "LLM",
    "annotations.0.annotation.identifier": "judge-v2",
    "annotations.0.annotation.metadata": '{"rubric_version":"2"}',
}
EVALUATED = {
    "evaluations.0.evaluation.name": "hallucination", "evaluations.0.evaluation.score": 1,
    "evaluations.0.evaluation.label": "hallucinated", "evaluations.0.evaluation.annotator_kind": "LLM",
}  # fmt: skip
EVENT = {
    "gen_ai.evaluation.name": "relevancy", "gen_ai.evaluation.score.value": 0.5,
    "gen_ai.evaluation.explanation": "half of it",
}  # fmt: skip


def read(attributes: dict[str, Any], *events: tuple[str, dict[str, Any]]) -> tuple[list[tuple], list[str]]:
    found, wrong = judge_span(attributes, events, redact=redact)
    return [tuple(each) for each in found], [each.field for each in wrong]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (ANNOTATED, ("hallucination", 1.0, "judge", "The claim is not supported, says [e-mail].", False)),
        (EVALUATED, ("hallucination", 1.0, "judge", "", False)),
        (
            {"trace.annotations.0.annotation.name": "helpful", "trace.annotations.0.annotation.label": "yes",
             "trace.annotations.0.annotation.annotator_kind": "HUMAN"},
            ("helpful", 1.0, "reviewer", "", True),
        ),
        (
            {"annotations.3.annotation.name": "length", "annotations.3.annotation.score": 12,
             "annotations.3.annotation.annotator_kind": "CODE"},
            ("length", 12.0, "code", "", False),
        ),
        (
            {"annotations.0.annotation.name": "feedback", "annotations.0.annotation.score": -1,
             "annotations.0.annotation.annotator_kind": "END_USER"},
            ("feedback", -1.0, "user", "", False),
        ),
        (
            {"openinference.span.kind": "EVALUATOR", "metadata.evaluator_name": "answer_relevance",
             "metadata.score": 0.95, "metadata.explanation": "direct"},
            ("answer_relevance", 0.95, "judge", "direct", True),
        ),
        (EVENT, ("relevancy", 0.5, "judge", "half of it", False)),
    ],
)  # fmt: skip
def test_each_shape_is_read(attributes: dict[str, Any], expected: tuple) -> None:
    assert read(attributes) == ([expected], [])


def test_the_event_is_read_and_both_forms_of_one_result_count_once() -> None:
    assert read({}, ("gen_ai.evaluation.result", EVENT)) == ([("relevancy", 0.5, "judge", "half of it", False)], [])
    both = {name: value for name, value in ANNOTATED.items() if name.endswith(("name", "score", "annotator_kind"))}
    twice = {**both, **{name: value for name, value in EVALUATED.items() if not name.endswith("label")}}
    assert read(twice) == ([("hallucination", 1.0, "judge", "", False)], [])


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"annotations.0.annotation.name": "tone", "annotations.0.annotation.label": "formal"}, "value"),
        ({"annotations.0.annotation.score": 1}, "name"),
        ({"annotations.0.annotation.name": "feedback", "annotations.0.annotation.score": 7}, "value"),
        ({"annotations.0.annotation.name": "latency_ms", "annotations.0.annotation.score": 7}, "name"),
        ({"annotations.0.annotation.name": "tone", "annotations.0.annotation.score": float("nan")}, "value"),
    ],
)
def test_what_is_no_number_is_named(attributes: dict[str, Any], field: str) -> None:
    assert read(attributes) == ([], [field])


def make(span_id: str, parent: str = "", after_ms: int = 0, *events: Any, **attributes: Any) -> Span:
    start_ns = NS + after_ms * 1_000_000
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return Span(TRACE, span_id, parent, span_id, "", start_ns, start_ns + 9, attributes=named, events=events)


def search(span_id: str, parent: str, after_ms: int, text: str, **more: Any) -> Span:
    return make(
        span_id, parent, after_ms, openinference__span__kind="RETRIEVER", input__value=text,
        retrieval__documents__0__document__id="d", retrieval__documents__0__document__score=0.5, **more,
    )  # fmt: skip


SPANS = (
    make("root", "", 0, **{"openinference.span.kind": "CHAIN", "input.value": "what is an mbuf",
                           "annotations.0.annotation.name": "helpful", "annotations.0.annotation.score": 0.5}),
    search("first", "root", 10, "what is an mbuf"),
    search("second", "root", 20, "mbuf pool size", **{"evaluations.0.evaluation.name": "precision",
                                                      "evaluations.0.evaluation.score": 0.25}),
    make("judge", "second", 30, ("gen_ai.evaluation.result", EVENT)),
    make("other", "root", 40, **{"trace.evaluations.0.evaluation.name": "cost",
                                 "trace.evaluations.0.evaluation.score": 3}),
)  # fmt: skip
JUDGED = {
    (TRACE, "helpful"): 0.5, (TRACE, "cost"): 3.0, (f"{TRACE}-2", "precision"): 0.25, (f"{TRACE}-2", "relevancy"): 0.5,
}  # fmt: skip


def take(store: Store, *spans: Span, after_ms: int = 0, scope: Scope = DEFAULT_SCOPE, environment: str = "") -> None:
    notes = [(span.trace_id, read_span(span, redact=compose(), scope_of=lambda *_named: scope)) for span in spans]
    take_spans(store, notes, now_ms=NOW_MS + 100 + after_ms, environment=environment)


def read_scores(store: Store, *, environment: str = "production") -> dict[tuple[str, str], float]:
    c = scores.c
    with store.read() as connection:
        query = select(c.retrieval_id, c.name, c.value).where(c.environment == environment)
        return {(row.retrieval_id, row.name): row.value for row in connection.execute(query)}


def read_sums(store: Store) -> dict[str, tuple[int, float]]:
    c = metric_sums.c
    with store.read() as connection:
        query = select(c.metric, c.n, c.total).where(c.dimension == "", c.metric != "latency_ms")
        return {row.metric: (row.n, row.total) for row in connection.execute(query)}


def test_a_span_judges_the_question_it_belongs_to_else_the_first(store: Store) -> None:
    take(store, *SPANS)
    assert read_scores(store) == JUDGED
    apply_scores(store, now_ms=NOW_MS)
    assert read_sums(store) == {"helpful": (1, 0.5), "cost": (1, 3.0), "precision": (1, 0.25), "relevancy": (1, 0.5)}
    assert {each.source: (each.taken, each.refused) for each in list_counts(store)} == {
        "otlp": (2, 0), "scores": (4, 0),
    }  # fmt: skip


@pytest.mark.deep
@pytest.mark.sqlite_only("the order of spans is the same to every store")
@pytest.mark.parametrize("late_ms", [1, QUIET_MS + 500], ids=["at once", "after a silence"])
def test_the_order_of_spans_does_not_matter(tmp_path: Any, late_ms: int) -> None:
    for number, order in enumerate(itertools.permutations(SPANS)):
        if number % 6:
            continue  # every sixth of 120
        at = Store(f"sqlite:///{tmp_path / f'{number}.db'}", create=True)
        for place, span in enumerate(order):
            take(at, span, after_ms=place * late_ms)
            tend_traces(at, now_ms=NOW_MS + 100 + (place + 1) * late_ms)
        tend_traces(at, now_ms=NOW_MS + 100 + 5 * late_ms + OPEN_MS)
        apply_scores(at, now_ms=NOW_MS)
        found = read_scores(at)
        assert {name: found[name] for name in JUDGED} == JUDGED, [span.span_id for span in order]
        at.close()


def test_what_is_judged_after_the_trace_was_over_and_again_replaces_the_score(store: Store) -> None:
    take(store, *SPANS)
    apply_scores(store, now_ms=NOW_MS)
    tend_traces(store, now_ms=NOW_MS + 2 * OPEN_MS)
    for value, after_ms in ((0.75, 100_000), (1.0, 200_000)):
        late = make(
            "late", "second", after_ms, ("gen_ai.evaluation.result", {**EVENT, "gen_ai.evaluation.score.value": value})
        )
        for _ in range(2):
            take(store, late, after_ms=after_ms)
            tend_traces(store, now_ms=NOW_MS + 100 + after_ms + QUIET_MS)
            tend_traces(store, now_ms=NOW_MS + 100 + after_ms + OPEN_MS)
        apply_scores(store, now_ms=NOW_MS)
        assert read_scores(store) == {**JUDGED, (f"{TRACE}-2", "relevancy"): value}
        assert read_sums(store)["relevancy"] == (1, value)


def test_a_judgement_that_comes_long_before_its_trace_waits_for_it(store: Store) -> None:
    take(store, SPANS[3])
    tend_traces(store, now_ms=NOW_MS + 2 * OPEN_MS)
    assert apply_scores(store, now_ms=NOW_MS).waiting == 1
    take(store, *SPANS[:2], after_ms=3 * OPEN_MS)
    assert apply_scores(store, now_ms=NOW_MS).waiting == 0
    assert read_sums(store) == {"helpful": (1, 0.5), "relevancy": (1, 0.5)}


def test_what_cannot_be_understood_is_counted_once(store: Store) -> None:
    odd = make("odd", "root", 50, **{"annotations.0.annotation.name": "tone", "annotations.0.annotation.label": "dry"})
    for after_ms in (0, 1, 2):
        take(store, *SPANS[:2], odd, after_ms=after_ms)
    counts = {each.source: each for each in list_counts(store)}
    assert (counts["scores"].taken, counts["scores"].reasons) == (1, {"value": 1})
    assert set(counts["otlp"].reasons) == {"duplicate"}


def test_another_environment_judges_no_row_of_this_one(store: Store) -> None:
    take(store, *SPANS)
    forged = make("forged", "second", 50, ("gen_ai.evaluation.result", {**EVENT, "gen_ai.evaluation.score.value": 0}))
    take(store, forged, after_ms=9, scope=Scope("staging", "default"), environment="staging")
    tend_traces(store, now_ms=NOW_MS + 2 * OPEN_MS)
    apply_scores(store, now_ms=NOW_MS)
    assert read_scores(store) == JUDGED
    assert read_scores(store, environment="staging") == {(TRACE, "relevancy"): 0.0}
    assert apply_scores(store, now_ms=NOW_MS).waiting == 1
    assert apply_scores(store, now_ms=now_ms() + WAITS_MS + 1) == AppliedScores(0, 1, 0)
    assert read_sums(store)["relevancy"] == (1, 0.5)


def test_judgements_survive_while_their_trace_is_open() -> None:
    note = read_span(SPANS[3], redact=compose())
    assert load_note("judge", dump_note(note)) == note
    assert note.judgements == (Judgement("relevancy", 0.5, "judge", "half of it"),)
    plain = read_span(make("plain", "root", 5), redact=compose())
    assert dump_note(plain) == '{"parent_id":"root"}'
