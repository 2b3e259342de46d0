"""Scores from files and from assessments of traces."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from core.errors import InvalidInput
from core.intake.judgements import read_assessments
from core.intake.score_files import SCORES, ScoreImport, import_scores
from core.intake.tables import TableFile
from quarterdeck.clock import to_ms
from quarterdeck.recorder import append_retrievals
from quarterdeck.redaction import redact
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import metric_sums, scores
from quarterdeck.store import Store

NOW = datetime(2026, 3, 2, tzinfo=UTC)
TS = datetime(2026, 3, 1, 12, tzinfo=UTC)


def load(store: Store, path: Path, **mapping: str) -> ScoreImport:
    return import_scores(store, TableFile(path, mapping=mapping, layout=SCORES), redact=redact, now=NOW)


def read(store: Store) -> list[tuple]:
    c = scores.c
    with store.read() as connection:
        query = select(c.retrieval_id, c.name, c.value, c.source, c.comment, c.ts_ms).order_by(c.retrieval_id, c.name)
        return [tuple(row) for row in connection.execute(query)]


def test_a_csv_of_scores_is_stored_and_applied_and_again_changes_nothing(store, tmp_path):
    append_retrievals(store, [Retrieval(TS, "q", 0.5, retrieval_id="7")])
    path = tmp_path / "ratings.csv"
    path.write_text(
        "answer,name,value,comment,source,ts\n7,feedback,1,ask bob@example.com,,2026-03-01T13:00:00Z\n"
        "x-1,stars,4.5,,reviewer,\n7,feedback,good,,,\n,feedback,1,,,\n"
    )
    for _ in range(2):
        found = load(store, path, retrieval_id="answer")
        assert (found.read, found.stored, found.refused_count, found.waiting) == (4, 2, 2, 1)
        assert [(each.row, each.field) for each in found.refused] == [(3, "value"), (4, "retrieval_id")]
    assert read(store) == [
        ("7", "feedback", 1.0, "user", "ask [e-mail]", to_ms(TS) + 3_600_000),
        ("x-1", "stars", 4.5, "reviewer", "", to_ms(NOW)),
    ]
    c = metric_sums.c
    with store.read() as connection:
        assert connection.execute(select(c.metric, c.n, c.total).where(c.dimension == "")).all() == [("feedback", 1, 1)]


def test_json_lines_and_parquet_of_scores_are_stored(store, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = tmp_path / "a.jsonl"
    lines.write_text('{"retrieval_id": "q-1", "name": "a", "value": true}\n{"retrieval_id": "q-1", "name": "b"}\n')
    found = load(store, lines)
    assert (found.stored, [(each.row, each.field) for each in found.refused]) == (1, [(2, "value")])
    table = pa.table({"retrieval_id": ["q-2"], "name": ["c"], "value": [0.25], "ts": [TS]})
    pq.write_table(table, tmp_path / "b.parquet")
    assert load(store, tmp_path / "b.parquet").stored == 1
    assert [row[:3] for row in read(store)] == [("q-1", "a", 1.0), ("q-2", "c", 0.25)]


def test_a_file_without_a_needed_column_is_refused(store, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("retrieval_id,value\nq,1\n")
    with pytest.raises(InvalidInput, match="has no column name; use --map name=COLUMN"):
        load(store, path)


def test_assessments_of_mlflow_become_scores():
    from mlflow.entities import AssessmentSource, Expectation, Feedback

    human = AssessmentSource(source_type="HUMAN", source_id="bob")
    judge = AssessmentSource(source_type="LLM_JUDGE", source_id="gpt")
    given = [
        Feedback(name="helpful", value=True, source=human, rationale="mail bob@example.com", last_update_time_ms=5_000),
        Feedback(name="relevance", value="yes", source=judge),
        Feedback(name="style", value="plain", source=judge),
        Feedback(name="old", value=1, source=judge, valid=False),
        Expectation(name="expected_answer", value="an mbuf", source=human),
    ]
    found, refused = read_assessments(given, "trace-1", redact=redact)
    assert [(s.retrieval_id, s.name, s.source, s.value, s.comment) for s in found] == [
        ("trace-1", "helpful", "reviewer", 1.0, "mail [e-mail]"), ("trace-1", "relevance", "judge", 1.0, ""),
    ]  # fmt: skip
    assert found[0].ts_ms == 5_000
    assert [each.field for each in refused] == ["value"]
