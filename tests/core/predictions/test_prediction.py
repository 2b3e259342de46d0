import json
from dataclasses import asdict

import numpy as np
import pytest

from core.coverage.topics import Topic, Trend
from core.errors import InvalidInput
from core.log.values import AskedQuery
from core.predictions.prediction import (
    LiftingDocument,
    Unshipped,
    compare_prediction,
    parse_prediction,
    predict_lift,
)

NEVER = [-1.0, -1.0]


def unit(*values):
    row = np.asarray(values, dtype=np.float32)
    return row / np.linalg.norm(row)


def topic(topic_id, *members):
    return Topic(
        topic_id, 0, f"topic {topic_id}", 1, 1, 1.0, 0.3, 1.0, 1.0, ("q",), Trend.NEW, (1.0, 0.0, 0.0), tuple(members)
    )


def predict(queries, vectors, live, kept, chunks, topics=(), *, threshold=0.5, removed=0):
    rows = np.stack([vector for vector, _ in chunks]) if chunks else np.empty((0, 3), dtype=np.float32)
    unshipped = Unshipped(rows, tuple(name for _, name in chunks), np.asarray(kept, dtype=np.float32), removed)
    return predict_lift(
        queries, np.stack(vectors), live, unshipped, topics=topics, threshold=threshold, target="v2", live="docs-v1"
    )


QUERIES = [AskedQuery("vpp cli", 3, 0.3), AskedQuery("vpp api", 1, 0.2), AskedQuery("mbuf", 4, 0.9)]
VECTORS = [unit(3, 4, 0), unit(0, 1, 0), unit(1, 0, 0)]
LIVE = [0.3, 0.2, 0.9]
KEPT = [[0.3, 0.1], [0.2, 0.1], [0.9, 0.8]]


def test_a_topic_is_lifted_by_the_best_of_what_stays_and_what_is_new():
    chunks = [(unit(0, 1, 0), "cli.md"), (unit(0, 0, 1), "other.md")]
    found = predict(QUERIES, VECTORS, LIVE, KEPT, chunks, [topic("t", 0, 1)])
    assert [round(query.predicted_score, 5) for query in found.queries] == [0.8, 1.0, 0.9]
    assert [query.document for query in found.queries] == ["cli.md", "cli.md", ""]
    (lifted,) = found.topics
    assert (lifted.count, lifted.lifted_share, lifted.documents) == (4, 1.0, ("cli.md",))
    assert lifted.live_score == pytest.approx((3 * 0.3 + 0.2) / 4)
    assert lifted.predicted_score == pytest.approx((3 * 0.8 + 1.0) / 4)
    assert lifted.lift == pytest.approx(0.575)
    assert found.lifted_share == 1.0
    assert found.lift == pytest.approx((3 * 0.5 + 0.8) / 8)


def test_what_is_new_but_about_something_else_lifts_nothing_and_is_reached_by_no_query():
    found = predict(QUERIES, VECTORS, LIVE, KEPT, [(unit(0, 0, 1), "other.md")], [topic("t", 0, 1)])
    assert found.topics[0].lift == pytest.approx(0, abs=1e-6)
    assert (found.lifted_share, found.lifting) == (0, ())
    assert (found.unreached, found.new_documents, found.new_chunks) == (("other.md",), 1, 1)


def test_the_share_lifted_counts_times_asked_and_only_what_crosses_the_threshold():
    found = predict(QUERIES, VECTORS, LIVE, KEPT, [(unit(0, 1, 0), "cli.md")], [topic("t", 0, 1)], threshold=0.9)
    assert found.topics[0].lifted_share == 0.25
    assert found.lifted_share == 0.25


def test_new_documents_are_ranked_by_the_score_they_win():
    chunks = [(unit(0, 1, 0), "api.md"), (unit(3, 4, 0), "cli.md")]
    found = predict(QUERIES, VECTORS, LIVE, KEPT, chunks)
    assert [(each.document, each.queries, each.asked) for each in found.lifting] == [("cli.md", 1, 3), ("api.md", 1, 1)]
    assert [round(each.gain, 4) for each in found.lifting] == [2.1, 0.8]
    assert isinstance(found.lifting[0], LiftingDocument)


def test_a_document_among_the_best_of_a_query_is_reached_though_it_is_not_the_first():
    chunks = [(unit(0.85, 0.52678, 0), "second.md"), (unit(0.1, 0.99499, 0), "third.md")]
    found = predict(QUERIES[2:], VECTORS[2:], LIVE[2:], KEPT[2:], chunks)
    assert found.queries[0].document == ""
    assert found.unreached == ("third.md",)


def test_a_document_that_only_trails_behind_a_badly_covered_query_is_not_reached():
    trailing = (unit(0.3, 0.95394, 0), "trailing.md")
    query, vector = [AskedQuery("q", 1, 0.35)], [unit(1, 0, 0)]
    assert predict(query, vector, [0.35], [[0.35, 0.1]], [trailing]).unreached == ("trailing.md",)
    assert predict(query, vector, [0.35], [[0.35, 0.1]], [trailing], threshold=0.25).unreached == ()
    assert predict(query, vector, [0.25], [[0.25, 0.1]], [trailing]).unreached == ()


def test_a_query_whose_answer_is_removed_is_predicted_to_fall():
    found = predict(QUERIES[2:], VECTORS[2:], [0.9], [[0.4, 0.3]], [], removed=5)
    assert found.queries[0].predicted_score == pytest.approx(0.4)
    assert [query.text for query in found.worse] == ["mbuf"]
    assert found.removed_chunks == 5
    nothing_left = predict(QUERIES[2:], VECTORS[2:], [0.9], [NEVER], [])
    assert nothing_left.queries[0].predicted_score == 0


def test_many_queries_are_searched_in_blocks_with_the_same_result():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(2_500, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chunks = [(row / np.linalg.norm(row), f"d{at}.md") for at, row in enumerate(rng.normal(size=(40, 3)).astype("f4"))]
    queries = [AskedQuery(f"q{at}", 1, 0.0) for at in range(2_500)]
    found = predict(queries, list(vectors), [0.0] * 2_500, [NEVER] * 2_500, chunks)
    exact = np.clip((vectors @ np.stack([row for row, _ in chunks]).T).max(axis=1), 0, 1)
    assert np.allclose([query.predicted_score for query in found.queries], exact, atol=1e-6)
    assert found.unreached == ()


def test_a_prediction_is_set_beside_what_was_measured():
    found = predict(QUERIES, VECTORS, LIVE, KEPT, [(unit(0, 1, 0), "cli.md")], [topic("t", 0, 1)])
    check = compare_prediction(found, {"vpp cli": 0.7, "vpp api": 0.4, "mbuf": 0.9})
    assert check.total
    assert check.total.error == pytest.approx((3 * 0.1 + 0.6) / 8)
    assert check.largest_error == pytest.approx(0.6)
    (row,) = check.topics
    assert (row.label, row.queries) == ("topic t", 2)
    assert row.measured_score == pytest.approx((3 * 0.7 + 0.4) / 4)
    assert (row.predicted_lifted_share, row.measured_lifted_share) == (1.0, 0.75)


def test_queries_that_were_not_measured_are_left_out_on_both_sides():
    found = predict(QUERIES, VECTORS, LIVE, KEPT, [(unit(0, 1, 0), "cli.md")], [topic("t", 0, 1), topic("u", 2)])
    check = compare_prediction(found, {"vpp cli": 0.8})
    assert check.total
    assert (check.total.queries, len(check.topics)) == (1, 1)
    assert check.total.error == pytest.approx(0, abs=1e-6)
    assert compare_prediction(found, {}).total is None


def test_a_prediction_survives_being_stored():
    found = predict(QUERIES, VECTORS, LIVE, KEPT, [(unit(0, 1, 0), "cli.md")], [topic("t", 0, 1)])
    assert parse_prediction(json.loads(json.dumps(asdict(found)))) == found


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInput, match="queries"):
        predict(QUERIES, VECTORS[:2], LIVE, KEPT, [])
    with pytest.raises(InvalidInput, match="kept_scores"):
        predict(QUERIES, VECTORS, LIVE, np.empty((3, 0)), [])
