"""The contract of a retrieval log: whatever the database, it answers what a plain loop over the same rows finds.

Every method of `core.log.values.LogReader` is asked here. A new kind of log goes through all of it once
`tests/backends.py` opens it.
"""

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Engine, event, text

from core.drift.present import make_scale
from core.drift.scales import ModelMap
from core.errors import InvalidInput
from core.log.clickhouse import ClickHouseLogReader
from core.log.filters import QuestionFilter
from core.log.readers import READERS, open_reader
from core.log.retrievals import (
    SEGMENTS,
    Window,
    count_rows,
    count_states,
    find_newest,
    get_span,
    last_days,
    list_daily_scores,
    list_live_figures,
    list_questions,
    list_recent_attributes,
    list_recent_users,
    list_segment_scores,
    list_user_sums,
)
from core.log.sql import SqlLogReader
from core.log.values import LIVE_FIGURES, USER_SUMS, States
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clickhouse_tables import make_ddl
from quarterdeck.clock import from_ms
from quarterdeck.errors import SourceUnavailable
from quarterdeck.log import RetrievalLog, SqlLog, open_log
from quarterdeck.recorder import Recorder, append_retrievals
from quarterdeck.retrieval import Retrieval
from tests.backends import BACKENDS, make_url

LAST = date(2026, 3, 31)
END = datetime(2026, 4, 1, tzinfo=UTC)
DAYS = 45
WINDOW = last_days(10, until=LAST - timedelta(days=1))


def draw_rows(count: int = 4_000) -> list[Retrieval]:
    rng = random.Random(11)
    texts = [f"how do I set the ring {number % 90}" for number in range(120)]
    texts += ["What is an MBUF", "what is  an mbuf", "Größe der Warteschlange", "é" * 40, "100% \\ 'quoted' \"text\""]
    rows = []
    for _ in range(count):
        at = END - timedelta(milliseconds=rng.randrange(1, DAYS * 86_400_000))
        score = None if rng.random() < 0.03 else rng.choice([rng.random(), rng.random(), 0.0, 1.0, 0.4, 0.59999, 0.02])
        rows.append(
            Retrieval(
                at, rng.choice(texts), score,
                session_id=rng.choice([None, "s1", "s2"]),
                user_id=rng.choice([None, "u1"]),
                arm=rng.choice([None, "blue", "green"]),
                prompt_version=rng.choice(["v2", "v3"]),
                index_version=rng.choice([None, "docs-v1"]),
                latency_ms=rng.choice([None, 12.5, 40.0]),
                cost_usd=rng.choice([None, 0.002, 0.0045]),
                faithfulness=rng.choice([None, rng.random()]),
                feedback=rng.choice([None, -1.0, 1.0]),
                model=rng.choice([None, "small", "large"]),
            )
        )  # fmt: skip
    return rows


ROWS = draw_rows()


@pytest.fixture(scope="module", params=BACKENDS)
def log(request: pytest.FixtureRequest, open_new_log: Callable[[str], RetrievalLog]) -> RetrievalLog:
    """A log of ROWS, written in batches as a recorder does. Tests must not change it."""
    filled = open_new_log(request.param)
    for start in range(0, len(ROWS), 700):
        append_retrievals(filled, ROWS[start : start + 700])
    return filled


@pytest.fixture(params=BACKENDS)
def new_log(request: pytest.FixtureRequest, open_new_log: Callable[[str], RetrievalLog]) -> RetrievalLog:
    return open_new_log(request.param)


def summarize(rows: Iterable[Retrieval]) -> list[tuple[date, int, float, float, tuple[int, ...]]]:
    """What the daily summaries must be, by a plain loop: day, count, mean, mean square, histogram."""
    days: dict[date, list[float]] = defaultdict(list)
    for row in rows:
        if row.score is not None:
            days[row.ts.date()].append(row.score)
    return [
        (
            day, len(scores), sum(scores) / len(scores), sum(score * score for score in scores) / len(scores),
            tuple(sum(min(49, int(score * 50)) == number for score in scores) for number in range(50)),
        )
        for day, scores in sorted(days.items())
    ]  # fmt: skip


def seen(days) -> list[tuple[date, int, float, float, tuple[int, ...]]]:
    return [(d.day, d.count, d.total / d.count, d.total_squares / d.count, d.histogram) for d in days]


def same(found, expected) -> bool:
    """Days, counts and histograms are equal, means to 1e-9."""
    return [(d, n, h) for d, n, _, _, h in found] == [(d, n, h) for d, n, _, _, h in expected] and all(
        abs(a - b) <= 1e-9 for f, e in zip(found, expected, strict=True) for a, b in zip(f[2:4], e[2:4], strict=True)
    )


def inside(window: Window) -> list[Retrieval]:
    return [row for row in ROWS if window.start_ms <= row.ts_ms < window.end_ms]


@pytest.mark.deep
def test_days_are_what_a_scan_of_the_rows_finds(log):
    assert same(seen(list_daily_scores(log)), summarize(ROWS))
    assert same(seen(list_daily_scores(log, window=WINDOW)), summarize(inside(WINDOW)))


@pytest.mark.deep
@pytest.mark.parametrize("dimension", SEGMENTS)
def test_days_of_each_segment_are_what_a_scan_of_the_rows_finds(log, dimension):
    found = list_segment_scores(log, dimension, window=WINDOW)
    values = sorted({getattr(row, dimension) or "" for row in inside(WINDOW)})
    assert list(found) == values
    for value in values:
        rows = [row for row in inside(WINDOW) if (getattr(row, dimension) or "") == value]
        assert same(seen(found[value]), summarize(rows))
        assert same(seen(list_daily_scores(log, window=WINDOW, segment=(dimension, value))), summarize(rows))


@pytest.mark.deep
def test_a_dimension_that_is_none_is_refused(log):
    with pytest.raises(InvalidInput, match="segment: must be one of"):
        list_segment_scores(log, "session_id; DROP TABLE retrievals")


def test_empty_hit_lists_are_counted_apart(log):
    states = count_states(log, WINDOW)
    assert states.empty == sum(row.score is None for row in inside(WINDOW))
    assert states.scored == sum(row.score is not None for row in inside(WINDOW))


def test_the_span_runs_from_the_first_row_to_the_last(log):
    times = [row.ts_ms for row in ROWS]
    found = get_span(log)
    assert found is not None
    assert [round(moment.timestamp() * 1000) for moment in found] == [min(times), max(times)]


@pytest.mark.parametrize("below", [0.37, 0.4, 0.6, 0.83, None])
def test_questions_are_what_a_scan_of_the_rows_finds(log, below):
    expected: dict[str, tuple[list[float], list[int]]] = defaultdict(lambda: ([], [0] * 5))
    for row in ROWS:
        weeks_ago = (WINDOW.end_ms - 1 - row.ts_ms) // (7 * 86_400_000)
        if row.score is None or (below is not None and row.score >= below) or row.ts_ms >= WINDOW.end_ms:
            continue
        scores, weeks = expected[" ".join(row.query.split()).casefold()]
        if row.ts_ms >= WINDOW.start_ms:
            scores.append(row.score)
        if weeks_ago < 5:
            weeks[4 - weeks_ago] += 1
    found = list_questions(log, WINDOW, below=below)
    assert {" ".join(q.text.split()).casefold(): (q.count, q.weekly_counts) for q in found} == {
        key: (len(scores), tuple(weeks)) for key, (scores, weeks) in expected.items() if scores
    }
    for query in found:
        scores = expected[" ".join(query.text.split()).casefold()][0]
        assert abs(query.mean_score - sum(scores) / len(scores)) <= 1e-9
    assert [q.count for q in found] == sorted((q.count for q in found), reverse=True)
    assert list_questions(log, WINDOW, below=below, limit=7) == found[:7]


@pytest.mark.parametrize("below", [0.4, 0.7, None])
def test_questions_of_two_models_are_read_on_one_scale(log, below):
    """The other model's scores are half as high: a bound of 0.4 is one of 0.2 there."""
    scale = make_scale([ModelMap("small", "large", ((0.0, 0.0), (0.5, 1.0)), 0.0, 100)], "large")
    expected: dict[str, list[float]] = defaultdict(list)
    for row in inside(WINDOW):
        if row.score is None:
            continue
        if below is None or row.score < (below / 2 if row.model == "small" else below):
            score = min(1.0, 2 * row.score) if row.model == "small" else row.score
            expected[" ".join(row.query.split()).casefold()].append(score)
    found = list_questions(log, WINDOW, below=below, scale=scale)
    assert {" ".join(q.text.split()).casefold(): q.count for q in found} == {
        key: len(scores) for key, scores in expected.items()
    }
    if below is not None:  # above the map's end, the mean of carried scores is not the carried mean
        for query in found:
            scores = expected[" ".join(query.text.split()).casefold()]
            assert abs(query.mean_score - sum(scores) / len(scores)) <= 1e-9
    wanted = QuestionFilter(
        start_ms=WINDOW.start_ms, end_ms=WINDOW.end_ms, below=below,
        bounds=tuple((name, bound) for name, bound in scale.list_bounds(below).items() if bound is not None),
    )  # fmt: skip
    low = sum(map(len, expected.values())) if below is not None else len(inside(WINDOW))
    assert open_reader(log).count_matching(wanted) == low


@pytest.mark.parametrize("most", [25, 100_000])
def test_live_figures_are_those_of_the_newest_rows_of_the_window(log, most):
    newest = sorted(inside(WINDOW), key=lambda row: -row.ts_ms)[:most]
    start_ms, end_ms = find_newest(log, WINDOW, most=most)
    opening_ms = newest[-1].ts_ms if len(newest) == most else WINDOW.start_ms
    assert (start_ms, end_ms) == (opening_ms, WINDOW.end_ms)
    found = list_live_figures(log, "arm", WINDOW, most=most)
    assert [figures.value for figures in found] == sorted({row.arm or "" for row in newest})
    for figures in found:
        rows = [row for row in newest if (row.arm or "") == figures.value]
        assert figures.queries == len(rows)
        for name in LIVE_FIGURES:
            carried = [value for row in rows if (value := getattr(row, name)) is not None]
            measured = getattr(figures, name)
            assert measured.count == len(carried)
            assert measured.mean == (pytest.approx(sum(carried) / len(carried)) if carried else None)


@pytest.mark.parametrize("hourly", [False, True])
@pytest.mark.parametrize(("dimension", "values"), [("arm", ("blue", "green")), ("prompt_version", ("v3",)), ("", ())])
def test_a_users_sums_are_what_a_scan_of_the_rows_finds(log, dimension, values, hourly):
    start_ms, end_ms = WINDOW.start_ms + 1_234_567, WINDOW.end_ms - 7_654_321
    expected: dict[tuple[int, str, str | None], list[Retrieval]] = defaultdict(list)
    for row in ROWS:
        value = getattr(row, dimension) if dimension else ""
        if start_ms <= row.ts_ms < end_ms and (not dimension or value in values):
            expected[
                row.ts_ms // 3_600_000 * 3_600_000 if hourly else start_ms, value, row.user_id or row.session_id
            ].append(row)
    found = list_user_sums(log, dimension, values, start_ms=start_ms, end_ms=end_ms, hourly=hourly)
    assert {(row.start_ms, row.arm, row.user): row.queries for row in found} == {
        key: len(rows) for key, rows in expected.items()
    }
    assert len(found) == len(expected) > 0
    for row in found:
        for at, name in enumerate(USER_SUMS):
            carried = [value for each in expected[row[:3]] if (value := getattr(each, name)) is not None]
            assert row[4 + 2 * at] == len(carried)
            assert row[5 + 2 * at] == pytest.approx(sum(carried))


@pytest.mark.parametrize(("dimension", "values"), [("arm", ("blue", "green")), ("prompt_version", ("v3",)), ("", ())])
def test_rows_are_counted_from_the_rollup_of_whole_hours(log, dimension, values):
    start_ms, end_ms = WINDOW.start_ms + 5 * 3_600_000, WINDOW.end_ms - 3 * 3_600_000
    rows = [row for row in ROWS if start_ms <= row.ts_ms < end_ms]
    counted = count_rows(log, dimension, values, start_ms=start_ms, end_ms=end_ms)
    assert counted == sum(not dimension or getattr(row, dimension) in values for row in rows)


def test_recent_users_are_those_of_the_newest_rows(log):
    since_ms = WINDOW.start_ms
    newest = sorted((row for row in ROWS if row.ts_ms >= since_ms), key=lambda row: -row.ts_ms)
    assert list_recent_users(log, since_ms=since_ms) == ("s1", "s2", "u1")
    users = [tuple(sorted({row.user_id or row.session_id for row in newest[:most]} - {None})) for most in (1, 2, 3)]
    assert [list_recent_users(log, since_ms=since_ms, limit=most) for most in (1, 2, 3)] == users
    assert list_recent_users(log, since_ms=WINDOW.end_ms + 30 * 86_400_000) == ()


def test_what_the_newest_rows_say_about_attributes_is_known_by_user(new_log):
    rows = [
        Retrieval(query="q", score=0.5, ts=from_ms(WINDOW.start_ms + at), user_id=user, attributes=noted)
        for at, (user, noted) in enumerate(
            [
                ("a", {"country": "AT", "plan": "pro"}),
                ("a", {"country": "DE"}),
                ("b", {"tier": 3}),
                (None, {"country": "FR"}),
                ("c", {}),
            ]
        )
    ]
    append_retrievals(new_log, rows)
    found = list_recent_attributes(new_log, ("country", "plan", "tier"), since_ms=WINDOW.start_ms)
    assert found == {"a": {"country": "DE", "plan": "pro"}, "b": {"tier": 3}}
    assert list_recent_attributes(new_log, ("country",), since_ms=WINDOW.start_ms, limit=4) == {"a": {"country": "DE"}}
    assert list_recent_attributes(new_log, ("country",), since_ms=WINDOW.start_ms + 1_000) == {}


def test_an_empty_log_answers_with_nothing(new_log):
    assert list_daily_scores(new_log) == ()
    assert list_segment_scores(new_log, "arm") == {}
    assert (count_states(new_log, WINDOW), get_span(new_log)) == (States(), None)
    assert list_questions(new_log, WINDOW, below=0.5) == list_questions(new_log, WINDOW) == ()
    assert list_live_figures(new_log, "arm", WINDOW, most=10) == ()
    assert list(list_user_sums(new_log, "", (), start_ms=0, end_ms=WINDOW.end_ms)) == []
    assert count_rows(new_log, "", (), start_ms=0, end_ms=WINDOW.end_ms) == 0
    assert list_recent_users(new_log, since_ms=0) == ()
    assert list_recent_attributes(new_log, ("country",), since_ms=0) == {}


def test_every_kind_of_log_that_a_url_opens_has_its_reader(tmp_path):
    urls = (f"sqlite:///{tmp_path / 'log.db'}", "postgresql://127.0.0.1/deck", "clickhouse://127.0.0.1/deck")
    readers = [type(open_reader(open_log(url))) for url in urls]
    assert readers == [SqlLogReader, SqlLogReader, ClickHouseLogReader]
    assert {type(open_log(url)) for url in urls} == set(READERS)


def test_a_log_without_a_reader_is_refused_by_name():
    class Tape:
        """No kind of log that the deck reads."""

    with pytest.raises(InvalidInput, match="log: Tape has no reader"):
        get_span(Tape())


def insert_as_another_program(log: RetrievalLog, rows: list[Retrieval]) -> None:
    names = "ts_ms, query, score, arm, prompt_version, index_version"
    values = [(r.ts_ms, r.query, r.score, r.arm, r.prompt_version, r.index_version) for r in rows]
    if isinstance(log, ClickHouseLog):
        log._run("insert", f"{log.database}.retrievals", values, names.split(", "))
        return
    assert isinstance(log, SqlLog)
    insert = text(f"INSERT INTO retrievals ({names}) VALUES (:{names.replace(', ', ', :')})")
    with log.store.begin() as connection:
        connection.execute(insert, [dict(zip(names.split(", "), row, strict=True)) for row in values])


def test_rows_of_another_program_are_in_the_rollups_too(new_log):
    append_retrievals(new_log, ROWS[:200])
    insert_as_another_program(new_log, ROWS[200:500])
    assert same(seen(list_daily_scores(new_log)), summarize(ROWS[:500]))
    greens = [row for row in ROWS[:500] if row.arm == "green"]
    assert same(seen(list_segment_scores(new_log, "arm")["green"]), summarize(greens))
    assert count_states(new_log, last_days(DAYS, until=LAST)).empty == sum(row.score is None for row in ROWS[:500])


@pytest.mark.deep
def test_a_purge_deletes_old_rows_and_keeps_what_was_counted(new_log):
    append_retrievals(new_log, ROWS)
    before = list_daily_scores(new_log)
    old = [row for row in ROWS if row.ts_ms < WINDOW.start_ms]
    assert new_log.purge(WINDOW.start_ms) == len(old) > 0
    assert new_log.purge(WINDOW.start_ms) == 0
    found = get_span(new_log)
    assert found is not None
    assert round(found[0].timestamp() * 1000) == min(row.ts_ms for row in ROWS if row.ts_ms >= WINDOW.start_ms)
    assert list_daily_scores(new_log) == before
    gone = last_days(5, until=WINDOW.first - timedelta(days=1))
    assert list_questions(new_log, gone, below=1.0) == ()


@pytest.mark.deep
def test_a_purge_in_small_slices_deletes_all_of_it(store):
    append_retrievals(store, ROWS)
    assert SqlLog(store).purge(WINDOW.end_ms, slice_rows=100) == sum(row.ts_ms < WINDOW.end_ms for row in ROWS)


def test_a_recorder_writes_to_any_log(new_log):
    recorder = Recorder(new_log, redact=lambda query: query.replace("mbuf", "***"))
    for row in ROWS[:1_500]:
        assert recorder.record(row)
    recorder.close()
    assert same(seen(list_daily_scores(new_log)), summarize(ROWS[:1_500]))
    asked = {query.text for query in list_questions(new_log, last_days(DAYS, until=LAST), below=0.9)}
    assert "what is  an ***" in asked
    assert not any("mbuf" in query for query in asked)


@pytest.mark.deep
@pytest.mark.parametrize("backend", BACKENDS)
def test_several_writers_at_once_lose_nothing(backend, tmp_path):
    url = make_url(backend, tmp_path)
    faults: list[Exception] = []

    def write(number: int) -> None:
        log = open_log(url, create=True)
        try:
            for start in range(0, 400, 50):
                part = ROWS[400 * number + start : 400 * number + start + 50]
                if number == 3:
                    insert_as_another_program(log, part)
                else:
                    append_retrievals(log, part)
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            faults.append(error)
        finally:
            log.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    log = open_log(url)
    assert same(seen(list_daily_scores(log)), summarize(ROWS[:1_600]))
    log.close()


@pytest.mark.deep
@pytest.mark.sqlite_only("it asks for the plan of SQLite")
def test_low_queries_come_from_their_index_alone(store):
    append_retrievals(store, ROWS)
    sent: list[tuple[str, tuple]] = []
    event.listen(Engine, "before_cursor_execute", keep := lambda *a: sent.append((a[2], a[3])))
    list_questions(store, WINDOW, below=0.5)
    event.remove(Engine, "before_cursor_execute", keep)
    (query,) = [each for each in sent if "GROUP BY retrievals" in each[0]]
    with store.read() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query[0]}", query[1])]
    assert any("USING COVERING INDEX retrievals_low" in step for step in plan), plan


@pytest.mark.slow
def test_postgresql_serves_again_after_its_connections_were_cut(open_new_log):
    log = open_new_log("postgresql")
    append_retrievals(log, ROWS[:10])
    assert isinstance(log, SqlLog)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid != "
    with pytest.raises(SourceUnavailable), log.store.begin() as connection:
        connection.exec_driver_sql(f"{cut} pg_backend_pid()")
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    append_retrievals(log, ROWS[10:20])
    assert sum(day.count for day in list_daily_scores(log)) == sum(row.score is not None for row in ROWS[:20])


@pytest.mark.deep
@pytest.mark.slow
def test_a_batch_whose_answer_was_lost_counts_once_when_it_is_sent_again(open_new_log, monkeypatch):
    log = open_new_log("clickhouse")
    send, answers = log._run, iter([SourceUnavailable("the line went dead"), None])

    def lose_the_first_answer(*arguments, **options):
        answer = send(*arguments, **options)
        if arguments[0] == "insert" and (fault := next(answers)):
            raise fault
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(log, "_run", lose_the_first_answer)
        batch = [row.row for row in ROWS[:100]]
        with pytest.raises(SourceUnavailable):
            log.append(batch)
        log.append(batch)
    assert same(seen(list_daily_scores(log)), summarize(ROWS[:100]))
    assert log.query(f"SELECT count() FROM {log.database}.retrievals") == [(100,)]


def test_with_a_cluster_every_table_is_made_on_all_hosts_and_replicated():
    statements = make_ddl("deck", "main")
    assert all(" ON CLUSTER main" in statement for statement in statements)
    engines = [each.partition("ENGINE = ")[2].split("(")[0].split()[0] for each in statements if "ENGINE" in each]
    assert engines == [
        "ReplicatedMergeTree", "ReplicatedSummingMergeTree", "ReplicatedReplacingMergeTree",
        "ReplicatedSummingMergeTree",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "url", ["clickhouse://", "chdb://", "chdb://memory/x", "clickhouse://h:x/d", "clickhouse://h/a-b", "mysql://x/y"]
)
def test_a_url_that_is_no_log_is_refused_in_one_line(url):
    with pytest.raises(InvalidInput, match="^(log|database) URL: "):
        open_log(url)


def test_a_password_never_shows_in_the_name_of_a_log():
    assert open_log("clickhouse://deck:secret@127.0.0.1:1/deck").name == "clickhouse://127.0.0.1:1/deck"


def test_a_server_that_is_not_there_is_reported_in_one_line():
    log = open_log("clickhouse://deck:secret@127.0.0.1:1/deck")
    with pytest.raises(SourceUnavailable, match="^The log clickhouse://127.0.0.1:1/deck failed: ") as caught:
        get_span(log)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
