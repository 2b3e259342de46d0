"""Importing files: every row read is stored or refused, and an import that was killed goes on without duplicates."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from core.config import PROJECT
from core.errors import Conflict, InvalidInput
from core.intake import tables
from core.intake.importing import ImportReport, import_file, parse_zone
from core.intake.records import FileRows
from core.intake.rows import parse_rows
from core.intake.tables import TableFile
from core.intake.times import FileTimes
from quarterdeck.clock import to_ms
from quarterdeck.redaction import compose, redact
from quarterdeck.schema import retrievals, rollups
from quarterdeck.store import Store

HEADER = ["ts", "query", "score"]
ROW = {"ts": "2026-03-01T12:00:00+00:00", "query": "what is an mbuf", "score": 0.5}
NOON_MS = 1_772_366_400_000


def write_csv(path: Path, rows: Iterable[Iterable[object]], header: Iterable[str] = HEADER) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    return path


def write_lines(path: Path, rows: Iterable[object]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def many(count: int) -> list[tuple[object, ...]]:
    return [
        (f"2026-03-{1 + number % 28:02}T12:00:00Z", f"query {number}", number % 100 / 100) for number in range(count)
    ]


def load(store: Store, path: Path, mapping: Mapping[str, str] | None = None, **options: Any) -> ImportReport:
    kind = options.pop("kind", None)
    return import_file(store, TableFile(path, mapping=mapping, kind=kind), **{"redact": redact, **options})


def read(store: Store, *columns: str) -> list[tuple]:
    with store.read() as connection:
        query = select(*(retrievals.c[name] for name in columns)).order_by(retrievals.c.id)
        return [tuple(row) for row in connection.execute(query)]


def faults(report: ImportReport) -> list[tuple[int, str]]:
    assert report.read == report.stored + report.refused_count
    return [(each.row, each.field) for each in report.refused]


def test_columns_named_like_fields_need_no_mapping(store, tmp_path):
    header = [
        "ts", "query", "score", "session_id", "arm", "prompt_version", "index_version", "latency_ms", "cost_usd",
        "faithfulness", "feedback",
    ]  # fmt: skip
    full = [ROW["ts"], 'say "hi", twice\nplease', "0.25", "s-1", "blue", "3", "docs-1", "12.5", "0.001", "1", "-1"]
    empty = [ROW["ts"], "q", *[""] * 9]
    report = load(store, write_csv(tmp_path / "log.csv", [full, empty], header))
    assert (report.read, report.stored, report.notes) == (2, 2, ())
    assert read(store, "ts_ms", *header[1:]) == [
        (NOON_MS, 'say "hi", twice\nplease', 0.25, "s-1", "blue", "3", "docs-1", 12.5, 0.001, 1.0, -1.0),
        (NOON_MS, "q", *[None] * 9),
    ]


def test_three_formats_of_the_same_rows_store_the_same(tmp_path):
    rows = [ROW | {"query": f"q {number}", "score": number / 50 if number else None} for number in range(50)]
    files = [
        write_csv(tmp_path / "log.csv", [row.values() for row in rows]),
        write_parquet(tmp_path / "log.parquet", rows),
        write_lines(tmp_path / "log.jsonl", rows),
    ]
    stored = []
    for path in files:
        store = Store(f"sqlite:///{path}.db", create=True)
        assert load(store, path).stored == 50
        stored.append(read(store, "ts_ms", "query", "score"))
        store.close()
    assert stored[0] == stored[1] == stored[2]
    assert stored[0][0] == (NOON_MS, "q 0", None)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_other_names_are_mapped_and_columns_of_no_use_are_named(store, tmp_path, kind):
    rows = [{"ts": ROW["ts"], "question": "why", "similarity": 0.5, "score": 0.9, "colour": "m"}]
    path = {
        "csv": lambda: write_csv(tmp_path / "a", [row.values() for row in rows], rows[0]),
        "parquet": lambda: write_parquet(tmp_path / "a", rows),
        "jsonl": lambda: write_lines(tmp_path / "a", rows),
    }[kind]()
    report = load(store, path, {"score": "similarity", "query": "question"}, kind=kind)
    assert read(store, "query", "score") == [("why", 0.5)]
    assert report.notes == ("columns not used: colour, score",)


def test_wrong_rows_are_listed_by_number_field_and_problem_and_the_others_stored(store, tmp_path):
    rows = [
        (ROW["ts"], "good", "0.5"), (ROW["ts"], "high", "1.5"), ("yesterday", "q", "0.5"), (ROW["ts"], "", "0.5"),
        (ROW["ts"], "q", "0,5"), (ROW["ts"], "short"), (ROW["ts"], "long", "0.5", "x"), (ROW["ts"], "q", "nan"),
        (ROW["ts"], "q", "0_5"), ("", "q", "0.5"), (ROW["ts"], "q" * 9_000, "0.5"), (ROW["ts"], "good", "0.6"),
    ]  # fmt: skip
    report = load(store, write_csv(tmp_path / "log.csv", rows))
    assert faults(report) == [
        (2, "score"), (3, "ts"), (4, "query"), (5, "score"), (6, "row"), (7, "row"), (8, "score"), (9, "score"),
        (10, "ts"), (11, "query"),
    ]  # fmt: skip
    assert report.refused[3].problem == "must be a number, not '0,5'"
    assert report.refused[4].problem == "has 2 cells, the header 3"
    assert read(store, "score") == [(0.5,), (0.6,)]


def test_twenty_wrong_rows_are_listed_and_all_of_them_counted(store, tmp_path):
    report = load(store, write_csv(tmp_path / "log.csv", [(ROW["ts"], "q", "2")] * 33 + many(10)))
    assert (report.read, report.stored, report.refused_count, len(report.refused)) == (43, 10, 33, 20)


def test_strict_stops_at_the_first_wrong_row(store, tmp_path):
    path = write_csv(tmp_path / "log.csv", [*many(5), (ROW["ts"], "q", "2"), *many(5)])
    report = load(store, path, strict=True)
    assert (report.read, report.stored, faults(report)) == (6, 5, [(6, "score")])


def test_a_csv_that_breaks_off_inside_quotes_loses_no_row_silently(store, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(f'ts,query,score\n{ROW["ts"]},good,0.5\n{ROW["ts"]},"never closed,0.5\n')
    report = load(store, path)
    assert (report.stored, faults(report)) == (1, [(2, "row")])


def test_text_that_is_not_utf_8_is_refused_by_row(store, tmp_path):
    path = tmp_path / "log.csv"
    ts = str(ROW["ts"]).encode()
    path.write_bytes(b"\xef\xbb\xbfts,query,score\n" + ts + b",caf\xe9,0.5\n" + ts + b",caf\xc3\xa9,0.5\n")
    assert faults(load(store, path)) == [(1, "query")]
    assert read(store, "query") == [("café",)]


def test_json_lines_that_are_no_rows_are_refused_by_number(store, tmp_path):
    path = tmp_path / "log.jsonl"
    good = json.dumps(ROW)
    lines = [
        good,
        "",
        "{broken",
        "[1]",
        json.dumps(ROW | {"score": "0.5"}),
        '{"query": "q", "score": 1}',
        "x" * 2_000_000,
        good,
    ]
    path.write_text("\n".join(lines))
    report = load(store, path)
    assert faults(report) == [(2, "row"), (3, "row"), (4, "score"), (5, "ts"), (6, "row")]
    assert report.refused[4].problem == "is longer than 1,000,000 characters"
    assert len(read(store, "id")) == 2


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_file_holds_what_is_read_is_stored_or_refused(tmp_path, seed):
    rng = random.Random(seed)
    cells = ["", "0.5", "7", "2026-03-01", "1772366400", "q", '"', 'a"b', "\n", "\x00", "é", ",", "x" * 200_000]
    lines = [",".join(rng.choices(cells, k=rng.choice([1, 3, 3, 3, 4]))) for _ in range(rng.randint(0, 60))]
    path = tmp_path / "log.csv"
    path.write_text("ts,query,score\n" + "\n".join(lines), newline="")
    found = list(TableFile(path).rows())
    read_row = FileRows(read_time=FileTimes(), redact=compose(), is_text=True, now_ms=NOON_MS)
    parsed = parse_rows(found, read_row, first=1)
    assert len(parsed.retrievals) + len(parsed.refused) == len(found)
    store = Store(f"sqlite:///{tmp_path}/deck.db", create=True)
    report = load(store, path)
    assert (report.read, report.stored) == (len(found), len(parsed.retrievals))
    assert len(read(store, "id")) == report.stored
    store.close()


@pytest.mark.parametrize(
    ("given", "ms", "note"),
    [
        ("2026-03-01T12:00:00Z", NOON_MS, None),
        ("2026-03-01 13:00:00+01:00", NOON_MS, None),
        (" 2026-03-01T12:00:00 ", NOON_MS, "times without a zone read as UTC; use --timezone for another"),
        ("1772366400", NOON_MS, "numbers read as seconds since 1970"),
        ("1772366400.25", NOON_MS + 250, "numbers read as seconds since 1970"),
        ("1772366400123", NOON_MS + 123, "numbers read as milliseconds since 1970"),
        ("1772366400123456", NOON_MS + 123, "numbers read as microseconds since 1970"),
        ("1772366400123456789", NOON_MS + 123, "numbers read as nanoseconds since 1970"),
        ("2026-03-01 12:00:00 UTC", NOON_MS, None),
        ("2026-03-01 12:00:00.250 +0000", NOON_MS + 250, None),
        (Decimal(1_772_366_400), NOON_MS, "numbers read as seconds since 1970"),
        (date(2026, 3, 1), NOON_MS - 43_200_000, "times without a zone read as UTC; use --timezone for another"),
        ("2012123100112", 2_012_123_100_112, "numbers read as milliseconds since 1970"),
        (1_772_366_400, NOON_MS, "numbers read as seconds since 1970"),
        (datetime(2026, 3, 1, 12, tzinfo=UTC), NOON_MS, None),
    ],
)
def test_times_are_read_and_what_was_assumed_is_said(given, ms, note):
    times = FileTimes()
    assert to_ms(times(given)) == ms
    assert times.notes() == ((f"ts: 1 {note}",) if note else ())


def test_times_without_a_zone_are_taken_in_the_one_that_was_named():
    times = FileTimes(parse_zone("Europe/Berlin"))
    assert to_ms(times("2026-03-01T13:00:00")) == NOON_MS
    assert to_ms(times("2026-07-01T14:00:00")) == to_ms(datetime(2026, 7, 1, 12, tzinfo=UTC))
    assert times.notes() == ()
    with pytest.raises(InvalidInput, match="^timezone: 'Mars/Base' is not a time zone"):
        parse_zone("Mars/Base")


@pytest.mark.parametrize(
    "given", ["", None, True, "noon", "12", 5, "20240115", "1" * 21, "0001-01-01", "9999-12-31", -1.0]
)
def test_a_time_that_is_none_is_refused(given):
    with pytest.raises(InvalidInput, match="^ts: "):
        FileTimes()(given)


def test_parquet_times_keep_their_zone(store, tmp_path):
    rows = [
        ROW | {"ts": datetime(2026, 3, 1, 12, tzinfo=UTC), "score": 0.5},
        ROW | {"ts": datetime(2026, 3, 1, 12, tzinfo=UTC), "score": None},
    ]
    assert load(store, write_parquet(tmp_path / "log.parquet", rows)).notes == ()
    assert read(store, "ts_ms", "score") == [(NOON_MS, 0.5), (NOON_MS, None)]


def test_queries_are_redacted_before_they_are_stored(store, tmp_path):
    load(store, write_csv(tmp_path / "log.csv", [(ROW["ts"], "mail bob@example.com", "0.5")]))
    assert read(store, "query") == [("mail [e-mail]",)]


@pytest.mark.parametrize(
    ("name", "content", "mapping", "message"),
    [
        ("a.csv", "", {}, "file: a.csv is empty"),
        ("a.csv", "query,score\n", {}, "file: has no column ts; use --map ts=COLUMN with one of: query, score"),
        (
            "a.csv",
            "ts,query,score\n",
            {"score": "sim"},
            "map: score=sim: there is no such column; there are: ts, query, score",
        ),
        ("a.csv", "ts,query,score,ts\n", {}, "file: has two columns of the same name: ts, query, score, ts"),
        (
            "a.csv",
            "ts,query,score\n",
            {"marks": "x"},
            "map: marks is not a field of a retrieval; there are: ts, query",
        ),
        ("a.txt", "x", {}, "file: a.txt has no extension .csv, .parquet or .jsonl; use --format"),
        ("a.parquet", "PAR?", {}, "file: a.parquet cannot be read as Parquet: "),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(store, tmp_path, name, content, mapping, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInput) as caught:
        load(store, tmp_path / name, mapping)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(store, tmp_path):
    with pytest.raises(InvalidInput, match=r"^file: .*none\.csv cannot be read: No such file"):
        load(store, tmp_path / "none.csv")


class Killed(Exception):
    """Stands for whatever interrupts an import between two batches."""


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("batches", [1, 3])
def test_an_import_that_broke_off_goes_on_without_a_row_twice_or_missing(store, tmp_path, monkeypatch, kind, batches):
    monkeypatch.setattr("core.intake.importing._BATCH_ROWS", 10)
    rows = [dict(zip(HEADER, row, strict=True)) for row in many(45)]
    rows[33]["score"] = 7.0
    path = tmp_path / f"log.{kind}"
    {"csv": lambda: write_csv(path, [row.values() for row in rows]), "parquet": lambda: write_parquet(path, rows),
     "jsonl": lambda: write_lines(path, rows)}[kind]()  # fmt: skip
    left = batches

    def break_off(_share: float) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Killed

    with pytest.raises(Killed):
        load(store, path, on_progress=break_off)
    assert len(read(store, "id")) == 10 * batches
    report = load(store, path, resume=True)
    assert (report.skipped, report.read, faults(report)) == (10 * batches, 45 - 10 * batches, [(34, "score")])
    assert sorted(query for (query,) in read(store, "query")) == sorted(f"query {n}" for n in range(45) if n != 33)
    assert load(store, path, resume=True).read == 0


def test_a_file_that_was_imported_is_not_stored_twice_by_mistake(store, tmp_path):
    path = write_csv(tmp_path / "log.csv", many(5))
    load(store, path)
    with pytest.raises(InvalidInput, match="^file: 5 of its rows were imported before; use --resume to continue"):
        load(store, path)
    assert len(read(store, "id")) == 5
    assert load(store, path, again=True).stored == 5
    assert len(read(store, "id")) == 10


def test_a_file_with_other_rows_is_another_file(store, tmp_path):
    path = tmp_path / "log.csv"
    load(store, write_csv(path, many(5)))
    load(store, write_csv(path, many(6)[1:]))
    assert len(read(store, "id")) == 10


def test_two_imports_of_one_file_at_once_store_it_once(store, tmp_path, monkeypatch):
    monkeypatch.setattr("core.intake.importing._BATCH_ROWS", 10)
    path = write_csv(tmp_path / "log.csv", many(30))

    def start_another(_share: float) -> None:
        if len(read(store, "id")) == 10:
            load(store, path, resume=True)

    with pytest.raises(Conflict):
        load(store, path, on_progress=start_another)
    assert len(read(store, "id")) == 30


def test_rows_and_their_rollups_are_counted_alike(store, tmp_path):
    load(store, write_csv(tmp_path / "log.csv", many(300)))
    with store.read() as connection:
        counted = select(func.sum(rollups.c.n)).where(rollups.c.dimension == "")
        assert connection.scalar(counted) == 300


def test_a_file_is_read_as_a_stream(tmp_path):
    path = write_csv(tmp_path / "log.csv", many(50_000))
    file = TableFile(path)
    rows = file.rows()
    next(rows)
    assert 0 < file.share < 0.2
    assert sum(1 for _ in rows) == 49_999
    assert file.share == 1.0
    assert tables.KINDS[path.suffix] == "csv"


def run(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "quarterdeck", *args], cwd=PROJECT, env=os.environ | environ, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


@pytest.mark.deep
@pytest.mark.slow
def test_the_command_makes_the_store_and_tells_what_it_did(url, tmp_path):
    rows = [("2026-03-01", "q", "0.5"), (ROW["ts"], "q", "2"), (ROW["ts"], "mail bob@example.com", "")]
    path = write_csv(tmp_path / "log.csv", rows, ["ts", "question", "similarity"])
    mapping = ("--map", "score=similarity", "--map", "query=question")
    done = run("import", str(path), *mapping, "--json", "--database", url)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "read": 3,
        "stored": 2,
        "refused_count": 1,
        "refused": [
            {
                "row": 2,
                "field": "score",
                "problem": "a cosine is a number between -1 and 1, not 2.0; if it is on another scale, name that in "
                "score_kind",
            }
        ],
        "skipped": 0,
        "known": 0,
        "notes": ["ts: 1 times without a zone read as UTC; use --timezone for another"],
    }
    assert "times without a zone read as UTC" in done.stderr
    again = run("import", str(path), *mapping, "--database", url)
    assert (again.returncode, again.stdout) == (2, "")
    assert "3 of its rows were imported before" in again.stderr
    resumed = run("import", str(path), *mapping, "--resume", "--database", url)
    assert (resumed.returncode, resumed.stdout) == (0, "0 rows read, 0 stored, 0 refused, 3 were imported before\n")
    for wrong in ("score", "score=", "=x"):
        assert run("import", str(path), "--map", wrong, "--database", url).returncode == 2


@pytest.mark.slow
@pytest.mark.deep
def test_an_import_killed_at_any_moment_goes_on_without_a_row_twice_or_missing(url, tmp_path):
    path = write_csv(tmp_path / "log.csv", many(200_000))
    command = [sys.executable, "-m", "quarterdeck", "import", str(path), "--resume", "--database", url]
    store = Store(url)
    kills = 0
    for _ in range(4):
        process = subprocess.Popen(
            command, cwd=PROJECT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = count(store)
        while process.poll() is None and count(store) == before:
            time.sleep(0.02)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        assert count(store) % 10_000 == 0
    assert kills >= 1
    done = run("import", str(path), "--resume", "--json", "--database", url)
    report = json.loads(done.stdout)
    assert (done.returncode, report["skipped"] + report["read"]) == (0, 200_000)
    with store.read() as connection:
        assert connection.scalar(select(func.count(func.distinct(retrievals.c.query)))) == 200_000
    assert count(store) == 200_000
    store.close()


def count(store: Store) -> int:
    from core.errors import SourceUnavailable

    try:
        with store.read() as connection:
            return connection.scalar(select(func.count()).select_from(retrievals)) or 0
    except SourceUnavailable:
        return 0  # not made yet
