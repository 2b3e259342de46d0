"""What stock instrumentations sent: LangChain (lc), LlamaIndex (li), Haystack (hs), recorded in tests/fixtures/traces.

The second part of a name is the instrumentation: OpenInference (oi), Traceloop (tl), OpenLIT (ol), Langfuse (lf),
LangSmith (ls). Embeddings and models were stand-ins; attributes that nobody reads were left out.
"""

import json
import random
from pathlib import Path

import pytest
from sqlalchemy import select

from core.intake.counts import IntakeCount, list_counts
from core.intake.open_traces import take_spans
from core.intake.otlp import JSON, parse_request, read_request
from core.intake.spans import read_span
from quarterdeck.redaction import compose
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import scores

TRACES = Path(__file__).parents[2] / "fixtures" / "traces"

# By file: state, the best document's number and its kind, and how many documents.
EXPECTED = {
    "hs-oi-dense": ("scored", 0.3381, "cosine", 3),
    "hs-oi-hybrid": ("scored", 0.3381, "cosine", 3),
    "hs-oi-ranker": ("scored", 3.4657, "bm25", 2),
    "lc-lf-score": ("scored", 0.3381, "cosine", 3),
    "lc-ls-score": ("scored", 0.3381, "cosine", 3),
    "lc-oi-distance": ("scored", 0.7143, "cosine_distance", 3),
    "lc-oi-empty": ("empty", None, None, 0),
    "lc-oi-ensemble": ("unscored", None, None, 4),
    "lc-oi-fails": ("failed", None, None, 0),
    "lc-oi-multi": ("scored", 0.3381, "cosine", 6),
    "lc-oi-rerank": ("scored", 0.9, "rerank", 2),
    "lc-oi-rerank-score": ("scored", 0.1491, "cosine", 2),
    "lc-ol-default": ("unscored", None, None, 3),
    "lc-ol-empty": ("empty", None, None, 0),
    "lc-tl-distscore": ("scored", 1.191, "l2", 3),
    "li-oi-fusion-reciprocal_rerank": ("scored", 0.0333, "rrf", 3),
    "li-oi-fusion-simple": ("scored", 0.2279, "cosine", 3),
    "li-tl-plain": ("scored", 0.2697, "cosine", 3),
}


def read(name: str) -> bytes:
    return (TRACES / f"{name}.json").read_bytes()


def find_one(body: bytes) -> Retrieval:
    parsed = parse_request(body, JSON, redact=compose())
    assert parsed.refused == ()
    (found,) = parsed.retrievals
    return found


def test_every_recording_is_expected():
    assert {path.stem for path in TRACES.glob("*.json")} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_question_is_one_row(name):
    state, score, kind, documents = EXPECTED[name]
    found = find_one(read(name))
    assert found.query == f"what is an mbuf ({name.split('-', 2)[2]})"
    assert (found.state, found.score_kind, len(found.documents or ())) == (state, kind, documents)
    assert (found.score and round(found.score, 4)) == score


@pytest.mark.parametrize("name", ["lc-oi-ensemble", "li-oi-fusion-simple", "hs-oi-hybrid"])
def test_the_order_of_recorded_spans_does_not_matter(name):
    expected, drawn = find_one(read(name)), random.Random(3)
    for _ in range(5):
        request = json.loads(read(name))
        for of_resource in request["resourceSpans"]:
            for scope in of_resource["scopeSpans"]:
                drawn.shuffle(scope["spans"])
        assert find_one(json.dumps(request).encode()) == expected


@pytest.mark.sqlite_only("the scores table is the same everywhere")
def test_what_searched_within_a_question_is_a_score_beside_it(store):
    now_ms = 1_795_000_000_000
    for name in ("hs-oi-hybrid", "lc-oi-rerank-score", "li-oi-fusion-reciprocal_rerank"):
        spans = read_request(read(name), JSON)
        take_spans(store, [(each.trace_id, read_span(each, redact=compose())) for each in spans], now_ms=now_ms)
    with store.read() as connection:
        found = connection.execute(select(scores.c.name, scores.c.source, scores.c.value).order_by(scores.c.value))
        named = [(name, source, round(value, 4)) for name, source, value in found]
    assert named == [
        ("cosine", "VectorIndexRetriever.retrieve", 0.2697),
        ("cosine", "Scored", 0.3381),
        ("rerank", "ContextualCompressionRetriever", 0.9),
        ("bm25", "InMemoryBM25Retriever.run", 3.4657),
    ]
    assert list_counts(store) == [IntakeCount("otlp", 3, 0, {})]
