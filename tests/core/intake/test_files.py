"""Files as other programs write them: encodings, separators, units of time, Parquet's types, and our own exports."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from app.commands.common import to_json
from core.errors import InvalidInput
from core.intake.importing import ImportReport, import_file
from core.intake.tables import TableFile
from core.log.filters import QuestionFilter
from core.log.questions import list_page
from core.log.services import ServiceSettings
from core.questions.files import to_record
from quarterdeck.clock import from_ms, now_ms
from quarterdeck.exposures import store_scores
from quarterdeck.recorder import append_retrievals
from quarterdeck.redaction import redact
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import intake, scores
from quarterdeck.scope import Scope
from quarterdeck.store import Store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TS = NOON.isoformat()
ACCENTED = f"ts,query,score\n{TS},où est le café,0.5\n{TS},plain,0.4\n"


def load(store: Store, path: Path, **options: Any) -> ImportReport:
    return import_file(store, TableFile(path, kind=options.pop("kind", None)), **{"redact": redact, **options})


def queries(store: Store) -> list[str]:
    return sorted(each.query for each in list_page(store, QuestionFilter(), limit=1_000).questions)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-8", ()), ("utf-8-sig", ()), ("cp1252", ("file: read as Windows-1252",))]
    + [(name, ("file: read as UTF-16",)) for name in ("utf-16", "utf-16-le", "utf-16-be")],
)
def test_the_encoding_is_detected_and_said(store: Store, tmp_path: Path, encoding: str, said: tuple[str, ...]) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(ACCENTED.encode(encoding))
    assert load(store, path).notes == said
    assert queries(store) == ["où est le café", "plain"]


def test_one_wrong_line_among_many_makes_no_other_encoding(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(ACCENTED.encode() + f"{TS},caf\xe9,0.5\n".encode("latin-1"))
    report = load(store, path)
    assert [(each.row, each.field) for each in report.refused] == [(3, "query")]
    assert queries(store) == ["où est le café", "plain"]


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_other_separators_are_detected_and_said(store: Store, tmp_path: Path, sign: str, name: str) -> None:
    path = tmp_path / "log.csv"
    rows = [["ts", "query", "score"], [TS, "a, b and c", "0.5"], [TS, "d", "0.25"]]
    path.write_text("\n".join(sign.join(row) for row in rows))
    assert load(store, path).notes == (f"file: columns separated by {name}",)
    assert queries(store) == ["a, b and c", "d"]


def test_a_decimal_comma_is_read_where_columns_have_another_separator(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"sep=;\nts;query;score;latency_ms\n{TS};a;0,5;12\n{TS};b;0.25;1,5\n")
    report = load(store, path)
    assert report.notes == ("file: columns separated by semicolons", "file: 2 numbers with a decimal comma")
    found = list_page(store, QuestionFilter()).questions
    assert sorted((each.score, each.latency_ms) for each in found) == [(0.25, 1.5), (0.5, 12.0)]


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_times_beyond_the_calendar_are_refused_and_the_file_goes_on(store: Store, tmp_path: Path) -> None:
    far = pa.array([-62_135_596_800_000_001, 253_402_300_800_000_000, 1_764_063_000_000_000], pa.timestamp("us"))
    path = write_parquet(tmp_path / "far.parquet", {"ts": far, "query": ["a", "b", "c"], "score": [0.5, 0.3, 0.4]})
    report = load(store, path)
    assert [(each.row, each.field) for each in report.refused] == [(1, "ts"), (2, "ts")]
    assert queries(store) == ["c"]


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (pa.array([1_772_366_400_000_000_123] * 2, pa.timestamp("ns", "UTC")), ()),
        (pa.array([1_772_366_400_123_456] * 2, pa.int64()), ("ts: 2 numbers read as microseconds since 1970",)),
        (pa.array([Decimal(1_772_366_400)] * 2), ("ts: 2 numbers read as seconds since 1970",)),
        (pa.array([date(2026, 3, 1)] * 2), ("ts: 2 times without a zone read as UTC; use --timezone for another",)),
    ],
    ids=["nanoseconds", "microseconds", "decimals", "dates"],
)
def test_times_of_warehouses_are_read(store: Store, tmp_path: Path, times: Any, said: tuple[str, ...]) -> None:
    decimals = pa.array([Decimal("0.50"), Decimal("0.40")], pa.decimal128(2, 2))
    path = write_parquet(tmp_path / "log.parquet", {"ts": times, "query": [b"a", b"b"], "score": decimals})
    assert load(store, path).notes == said
    found = list_page(store, QuestionFilter()).questions
    assert sorted((each.query, each.score) for each in found) == [("a", 0.5), ("b", 0.4)]
    assert {each.ts.date() for each in found} == {NOON.date()}


def test_nested_columns_of_parquet_are_documents_and_attributes(store: Store, tmp_path: Path) -> None:
    columns = {
        "ts": [TS], "query": ["a"], "weight": pa.array([Decimal(3)]),
        "documents": [[{"id": "a.md", "score": 0.5}, {"id": "b.md", "score": None}]],
        "attributes": pa.array([[("tenant", "acme")]], pa.map_(pa.string(), pa.string())),
    }  # fmt: skip
    assert load(store, write_parquet(tmp_path / "log.parquet", columns)).stored == 1
    (found,) = list_page(store, QuestionFilter()).questions
    assert [tuple(hit) for hit in found.documents] == [("a.md", 0.5, 1), ("b.md", None, 2)]
    assert (found.attributes, found.weight, found.similarity) == ({"tenant": "acme"}, 3, 0.5)


def test_a_copy_under_another_name_is_noticed(store: Store, tmp_path: Path) -> None:
    first, copy = tmp_path / "log.csv", tmp_path / "copy.csv"
    first.write_text(ACCENTED)
    copy.write_text(ACCENTED)
    load(store, first)
    with pytest.raises(InvalidInput, match=r"^file: 2 of its rows were imported before as .*log\.csv; use --resume"):
        load(store, copy)
    assert load(store, copy, again=True).stored == 2


def test_rows_far_from_the_present_are_stored_and_said(store: Store, tmp_path: Path) -> None:
    now = from_ms(now_ms())
    days = [timedelta(days=day) for day in (-600, -599, -40, -20, -3, 0, 3)]
    path = tmp_path / "log.csv"
    path.write_text("ts,query,score\n" + "".join(f"{(now + day).isoformat()},q,0.5\n" for day in days))
    report = load(store, path)
    assert (report.stored, report.notes) == (
        7,
        (
            "ts: 1 stored row lies more than a day ahead of now; verdicts leave them out",
            "ts: 2 stored rows lie before a gap of more than 30 days; verdicts leave them out",
        ),
    )


EXPORT = (
    Retrieval(
        NOON, "what is an mbuf", documents=[("a.md", 12.5), ("b.md", 3.0)], score_kind="bm25", user_id="u1",
        session_id="s1", arm="blue", attributes={"tenant": "acme", "top_k": 5}, retrieval_id="q-1", answer="a buffer",
        scope=Scope("staging", "answers"), weight=10, trace_id="t1", latency_ms=4.0, tokens=7.0, feedback=1.0,
    ),
    Retrieval(NOON, "scored", 0.5, retrieval_id="q-2"),
    Retrieval(NOON, "distance", 0.25, score_kind="cosine_distance", retrieval_id="q-3"),
    Retrieval(NOON, "unscored", documents=["a.md"], retrieval_id="q-4"),
    Retrieval(NOON, "empty", documents=[], retrieval_id="q-5"),
    Retrieval(NOON, "failed", error="the index is down", retrieval_id="q-6"),
)  # fmt: skip
SCORE = {"retrieval_id": "q-1", "name": "helpful", "source": "judge", "value": 0.5, "comment": "so-so", "ts_ms": 1}


def write_json(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(records, indent=2))
    return path


def write_lines(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def write_csv(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    import csv

    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        for record in records:
            writer.writerow({name: _to_cell(value) for name, value in record.items()})
    return path


def _to_cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


@pytest.mark.parametrize(
    ("write", "name"), [(write_json, "q.json"), (write_json, "q.jsonl"), (write_lines, "q.jsonl"), (write_csv, "q.csv")]
)
def test_an_export_of_questions_can_be_imported(
    store: Store, tmp_path: Path, write: Callable[[Path, Sequence[dict[str, Any]]], Path], name: str
) -> None:
    append_retrievals(store, EXPORT)
    with store.begin() as connection:
        store_scores(connection, [{**SCORE, "environment": "staging", "service": "answers"}])
    exported = list_page(store, QuestionFilter()).questions
    path = write(tmp_path / name, [to_json(to_record(question, ServiceSettings("default"))) for question in exported])
    other = Store(f"sqlite:///{tmp_path}/other.db", create=True)
    report = load(other, path)
    assert (report.stored, report.refused, report.notes) == (6, (), ())
    by_id = {each.retrieval_id: each for each in list_page(other, QuestionFilter()).questions}
    assert by_id == {each.retrieval_id: each for each in exported}
    assert load(other, path, again=True).known == 6
    other.close()


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"score": 0.5, "state": "lost"}, "state"),
        ({"state": "scored"}, "score"),
        ({"state": "unscored"}, "documents"),
        ({"score": 0.5, "documents": "a.md"}, "documents"),
        ({"score": 0.5, "scores": "x"}, "scores"),
        ({"score": 0.5, "scores": [{"name": "feedback", "value": 7}]}, "scores"),
        ({"score": 0.5, "weight": "x"}, "weight"),
    ],
)
def test_what_an_export_could_not_say_is_refused(store: Store, tmp_path: Path, row: dict[str, Any], field: str) -> None:
    report = load(store, write_lines(tmp_path / "q.jsonl", [{"ts": TS, "query": "q", **row}]))
    assert [each.field for each in report.refused] == [field]


def test_a_similarity_stands_for_a_score_that_is_missing(store: Store, tmp_path: Path) -> None:
    row = {"ts": TS, "query": "q", "similarity": 0.4, "score_kind": "bm25", "answerability": 0.9}
    assert load(store, write_lines(tmp_path / "q.jsonl", [row])).notes == (
        "answerability: 1 not imported, the deck computes it",
    )
    (found,) = list_page(store, QuestionFilter()).questions
    assert (found.score, found.score_kind, found.similarity) == (0.4, "cosine", 0.4)


def test_a_json_array_that_breaks_off_keeps_what_came_before(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    path.write_text(f'[{{"ts": "{TS}", "query": "a", "score": 0.5}}, 7, {{"ts": "{TS}", "que')
    report = load(store, path)
    assert [(each.row, each.field) for each in report.refused] == [(2, "row"), (3, "row")]
    assert queries(store) == ["a"]


def test_what_was_taken_and_refused_is_counted_with_one_redacted_example(store: Store, tmp_path: Path) -> None:
    rows = [
        {"ts": TS, "query": "a", "score": 0.5, "service": "answers"},
        {"ts": TS, "query": "mail bob@example.com", "score": 7, "service": "answers"},
        {"ts": TS, "query": "b", "score": 9},
        {"ts": "noon", "query": "c", "score": 0.5},
    ]
    load(store, write_lines(tmp_path / "q.jsonl", rows))
    c = intake.c
    with store.read() as connection:
        query = select(c.service, c.reason, c.n, c.example).where(c.source == "file").order_by(c.service, c.reason)
        found = [tuple(row) for row in connection.execute(query)]
        assert connection.scalar(select(scores.c.name)) is None
    assert [row[:3] for row in found] == [
        ("answers", "", 1), ("answers", "score", 1), ("default", "score", 1), ("default", "ts", 1),
    ]  # fmt: skip
    assert "bob@example.com" not in found[1][3]
    assert "mail [e-mail]" in found[1][3]


def test_a_quote_that_is_not_closed_costs_its_own_line_alone(store: Store, tmp_path: Path) -> None:
    path, row = tmp_path / "open.csv", "2026-03-01T12:00:00Z,{},0.5\n"
    broken = ['"begins', "fine", '"two\nlines"', '"ends']
    lines = [row.format(each) for each in (*broken[:3], *(f"q{number}" for number in range(900)), broken[3])]
    path.write_text("ts,query,score\n" + "".join(lines))
    report = load(store, path)
    assert (report.read, report.stored, [each.row for each in report.refused]) == (904, 902, [1, 904])
    assert {"fine", "two\nlines", "q0", "q899"} <= set(queries(store))
    assert "(line 2)" in report.refused[0].problem


def test_utf_16_without_a_mark_is_seen_by_its_header(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "kanji.csv"
    lines = [f"2026-03-01T12:00:00Z,{'什么是内存缓冲区' * 20}{number},0.5\n" for number in range(9)]
    path.write_bytes(("ts,query,score\n" + "".join(lines)).encode("utf-16-le"))
    assert load(store, path).stored == 9
