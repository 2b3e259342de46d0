"""The contract of whatever reads an MLflow store: the same store, the same answers, by SQL and over HTTP."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.errors import SourceUnavailable
from core.tracking.client import TrackingHttpReader
from core.tracking.gateway import Tracking
from core.tracking.readers import TrackingReader, open_reader
from core.tracking.runs import RunFilter, RunSort, SortKind
from core.tracking.sql import TrackingSqlReader
from tests.mlflow_server import serve_mlflow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
HOUR = 3_600
RUNS = ("second", "first", "bare", "elsewhere", "gone")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluated prompts, a run with nothing in it, one of another experiment, and one that was deleted."""
    path = tmp_path_factory.mktemp("readers") / "mlflow.db"
    tracking = Tracking(f"sqlite:///{path}")
    prompts = [
        tracking.register_prompt("qa", text, message=message, tags={"version": str(number)})
        for number, (text, message) in enumerate((("Use {context}.", "plain"), ("Only {context}.", "grounded")), 1)
    ]
    tracking.register_prompt("other", "Hello.")
    for name, number, faithfulness in (("first", 1, 0.5), ("second", 2, 0.75)):
        tracking.log_evaluation(
            "trials", name, artifacts={}, prompt=prompts[number - 1], tags={"team": f"it's {name}"},
            params={"prompt": "qa", "version": str(number), "model": "small"},
            metrics={"faithfulness_mean": faithfulness},
        )  # fmt: skip
    tracking.register_release(prompts[1], tracking.list_runs(RunFilter(version="2"))[0].run_id)
    for experiment, name in (("trials", "bare"), ("else", "elsewhere"), ("trials", "gone")):
        tracking.log_evaluation(experiment, name, params={}, metrics={}, artifacts={})
    tracking.set_prompt_alias("qa", "production", 2)
    with sqlite3.connect(path) as connection:
        for hour, name in enumerate(RUNS[::-1]):
            connection.execute("UPDATE runs SET start_time = ? WHERE name = ?", (hour * HOUR * 1000, name))
        connection.execute("UPDATE runs SET lifecycle_stage = 'deleted' WHERE name = 'gone'")
    connection.close()
    return path


@pytest.fixture(scope="module", params=["a database", pytest.param("a server", marks=pytest.mark.deep)])
def reader(request: pytest.FixtureRequest, database: Path) -> Iterator[TrackingReader]:
    if request.param == "a database":
        yield open_reader(f"sqlite:///{database}")
        return
    with serve_mlflow(database) as address:
        yield open_reader(address)


def names(reader: TrackingReader, where: RunFilter, sort: RunSort | None = None) -> list[str]:
    return [run.name for run in reader.list_runs(where, sort or RunSort(), limit=100, offset=0)]


def test_an_address_gets_its_reader() -> None:
    kinds = {uri: type(open_reader(uri)) for uri in ("http://h:1", "https://h", "sqlite:///x.db", "postgresql://h/d")}
    assert list(kinds.values()) == [TrackingHttpReader, TrackingHttpReader, TrackingSqlReader, TrackingSqlReader]
    assert [open_reader(uri).uri for uri in kinds] == list(kinds)


@pytest.mark.deep
def test_experiments_are_sorted(reader: TrackingReader) -> None:
    assert reader.list_experiments() == ("Default", "else", "trials")


@pytest.mark.deep
def test_a_run_is_read_whole(reader: TrackingReader) -> None:
    (run,) = reader.list_runs(RunFilter("trials", version="2"), RunSort(), limit=5, offset=0)
    assert (run.name, run.experiment, run.status) == ("second", "trials", "FINISHED")
    assert run.started == datetime.fromtimestamp(4 * HOUR, UTC)
    assert run.metrics == {"faithfulness_mean": 0.75}
    assert run.params == {"prompt": "qa", "version": "2", "model": "small"}
    assert run.tags["team"] == "it's second"
    assert run.linked_prompts == (("qa", 2),)
    assert run.artifact_uri.endswith(f"{run.run_id}/artifacts")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (RunFilter(), ["second", "first", "bare", "elsewhere"]),
        (RunFilter("trials"), ["second", "first", "bare"]),
        (RunFilter("no such experiment"), []),
        (RunFilter(prompt="qa"), ["second", "first"]),
        (RunFilter("trials", prompt="qa", version="1", model="small"), ["first"]),
        (RunFilter(model="large"), []),
        (RunFilter(status="FAILED"), []),
        (RunFilter(tag=("team", "it's first")), ["first"]),
        (RunFilter(since=datetime.fromtimestamp(2 * HOUR, UTC), until=datetime.fromtimestamp(4 * HOUR, UTC)),
         ["first", "bare"]),
    ],
)  # fmt: skip
def test_a_filter_keeps_the_active_runs_that_pass_it(
    reader: TrackingReader, where: RunFilter, expected: list[str]
) -> None:
    assert names(reader, where) == expected
    assert reader.count_runs(where) == len(expected)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (RunSort(), ["second", "first", "bare"]),
        (RunSort(descending=False), ["bare", "first", "second"]),
        (RunSort(SortKind.METRIC, "faithfulness_mean"), ["second", "first", "bare"]),
        (RunSort(SortKind.METRIC, "faithfulness_mean", descending=False), ["first", "second", "bare"]),
        (RunSort(SortKind.PARAM, "version", descending=False), ["first", "second", "bare"]),
    ],
)
def test_runs_come_sorted_and_those_without_the_value_last(
    reader: TrackingReader, sort: RunSort, expected: list[str]
) -> None:
    where = RunFilter("trials")
    assert names(reader, where, sort) == expected
    middle = reader.list_runs(where, sort, limit=1, offset=1)
    assert [run.name for run in middle] == expected[1:2]
    first = reader.page_runs(where, sort, limit=2, offset=0)
    assert [run.name for run in first.runs] == expected[:2]
    assert first.total == 3
    last = reader.page_runs(where, sort, limit=2, offset=2)
    assert ([run.name for run in last.runs], last.total, last.is_counted) == (expected[2:], 3, True)


def test_runs_are_got_in_the_order_given_and_missing_ones_are_left_out(reader: TrackingReader) -> None:
    second, first, _, _ = reader.list_runs(RunFilter(), RunSort(), limit=100, offset=0)
    assert reader.get_runs([first.run_id, "nope", second.run_id]) == (first, second)
    assert reader.get_runs([]) == ()


def test_prompts_come_by_name_and_newest_version_first(reader: TrackingReader) -> None:
    found = reader.list_prompts()
    assert [(prompt.name, prompt.version) for prompt in found] == [("other", 1), ("qa", 2), ("qa", 1)]
    second = found[1]
    assert (second.text, second.commit_message, second.aliases) == ("Only {context}.", "grounded", ("production",))
    assert (second.label, second.tags) == ("v2", {"version": "2"})
    assert second.run_ids == tuple(
        run.run_id for run in reader.list_runs(RunFilter(version="2"), RunSort(), limit=5, offset=0)
    )
    assert reader.list_prompts("qa") == found[1:]
    assert reader.list_prompts("nothing") == ()
    assert [prompt.run_ids for prompt in reader.list_prompts("qa", with_runs=False)] == [(), ()]


def test_an_alias_names_a_version_or_nothing(reader: TrackingReader) -> None:
    assert reader.get_alias("qa-release", "production") == 1
    assert reader.get_alias("qa-release", "staging") is reader.get_alias("nothing", "production") is None


@pytest.mark.parametrize("uri", ["sqlite:////nowhere/mlflow.db", "http://127.0.0.1:1"])
def test_a_store_that_is_not_there_is_told_in_one_line(uri: str) -> None:
    reader = open_reader(uri)
    for ask in (
        reader.list_experiments,
        reader.list_prompts,
        lambda: reader.get_runs(["x"]),
        lambda: reader.get_alias("qa", "production"),
        lambda: reader.count_runs(RunFilter()),
        lambda: reader.list_runs(RunFilter(), RunSort(), limit=1, offset=0),
        lambda: reader.page_runs(RunFilter(), RunSort(), limit=1, offset=0),
    ):
        with pytest.raises(SourceUnavailable) as caught:
            ask()
        assert "\n" not in str(caught.value)
