"""An MLflow store in a real PostgreSQL: read as fast and as exactly as one in SQLite, and left as it was."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from core.audit.acts import Act
from core.errors import SourceUnavailable
from core.prompts.promotion import promote, roll_back
from core.tracking.cases import CaseResult, render_case_results
from core.tracking.client import open_client
from core.tracking.gateway import Dataset, Tracking
from core.tracking.runs import PromptVersion, Run, RunFilter, RunSort, SortKind
from quarterdeck.store import Store
from tests.backends import make_url
from tests.pages.opening import only_error, open_page, verdict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("clean_streamlit"),
    pytest.mark.deep,  # MLflow takes half a minute to make its tables
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
HOUR_MS = 3_600_000
READER = "mlflow_reader"  # a role that may look at the tables, and do nothing else


def case(case_id: str, faithfulness: float) -> CaseResult:
    return CaseResult(
        case_id, "Why?", True, "So.", False, faithfulness, 0.75, True, True, ("a.md",), ("So.",), (True,), 10, 2, 0.1,
        None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    """Four runs of MLflow's own making, an hour apart; two of them are evaluated prompts, version 1 in production."""
    folder = tmp_path_factory.mktemp("mlflow-postgresql")
    store = Tracking(make_url("postgresql", folder), artifact_root=folder)
    for number, faithfulness in ((1, 0.25), (2, 1.0)):
        prompt = store.register_prompt(
            "qa", f"Prompt {number}: {{context}} {{question}}", tags={"version": str(number)}
        )
        log(store, f"qa-v{number}", {"faithfulness_mean": faithfulness, "cost_usd_mean": 0.001},
            {"version": str(number), "top_k": str(12 - number)}, prompt)  # fmt: skip
    log(store, "odd", {"faithfulness_mean": math.nan, "tiny": 1e-9, "exact": 0.1 + 0.2}, {"top_k": "text"})
    log(store, "bare", {}, {})
    store.set_prompt_alias("qa", "production", 1)
    with psycopg.connect(store.tracking_uri, autocommit=True) as connection:
        for hour, name in enumerate(("qa-v1", "qa-v2", "odd", "bare")):
            connection.execute("UPDATE runs SET start_time = %s WHERE name = %s", (hour * HOUR_MS, name))
        connection.execute(f"CREATE ROLE {READER} LOGIN")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}")
    return store


def log(
    store: Tracking,
    name: str,
    metrics: dict[str, float],
    params: dict[str, str],
    prompt: PromptVersion | None = None,
) -> None:
    scores = [case(f"c{at}", metrics.get("faithfulness_mean", 0.0)) for at in range(20)] if prompt else []
    store.log_evaluation(
        "trials", name,
        params={"prompt": "qa", **params}, metrics=metrics, tags={"team": "search" if prompt else "other"},
        artifacts={"cases.json": render_case_results(scores), "prompt.md": prompt.text} if prompt else {},
        dataset=Dataset("qa", "qa.jsonl", "0123456789abcdef"), prompt=prompt,
    )  # fmt: skip


@pytest.fixture
def reading(server: Tracking) -> Tracking:
    """The same store by a role that cannot write: whoever tried would be refused."""
    return Tracking(server.tracking_uri.replace("postgres:@", f"{READER}:@"))


@pytest.fixture
def unchanged(server: Tracking) -> Iterator[None]:
    """Looks at every row of every table, before and after."""
    before = digest_of(server.tracking_uri)
    yield
    assert digest_of(server.tracking_uri) == before


def digest_of(uri: str) -> dict[str, str]:
    with psycopg.connect(uri) as connection:
        tables = [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        assert len(tables) > 20
        found = {}
        for table in tables:
            rows = sorted(map(repr, connection.execute(f'SELECT * FROM "{table}"')))
            found[table] = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    return found


def names(runs: Sequence[Run]) -> list[str]:
    return [run.name for run in runs]


@pytest.mark.deep
@pytest.mark.usefixtures("unchanged")
def test_our_reading_equals_that_of_the_mlflow_client_by_a_role_that_may_only_look(
    server: Tracking, reading: Tracking
) -> None:
    client = open_client(server.tracking_uri)
    theirs = client.search_runs([client.get_experiment_by_name("trials").experiment_id])
    ours = reading.list_runs(RunFilter("trials"))
    assert names(ours) == [run.info.run_name for run in theirs] == ["bare", "odd", "qa-v2", "qa-v1"]

    def comparable(metrics: dict[str, float]) -> dict[str, Any]:
        return {key: "nan" if math.isnan(value) else value for key, value in metrics.items()}

    assert [comparable(dict(run.metrics)) for run in ours] == [comparable(run.data.metrics) for run in theirs]
    assert [run.params for run in ours] == [run.data.params for run in theirs]
    assert [run.tags for run in ours] == [run.data.tags for run in theirs]
    assert [run.artifact_uri for run in ours] == [run.info.artifact_uri for run in theirs]
    assert math.isnan(ours[1].metrics["faithfulness_mean"])


SORTS = {
    "newest": (RunSort(), ["bare", "odd", "qa-v2", "qa-v1"]),
    "by a metric": (RunSort(SortKind.METRIC, "faithfulness_mean"), ["qa-v2", "qa-v1", "bare", "odd"]),
    "by a number kept as text": (RunSort(SortKind.PARAM, "top_k", False), ["qa-v2", "qa-v1", "odd", "bare"]),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("how", SORTS)
def test_the_store_sorts_and_pages(how: str, reading: Tracking) -> None:
    sort, expected = SORTS[how]
    page = reading.page_runs(RunFilter("trials"), sort, limit=10)
    assert (names(page.runs), page.total, page.is_counted) == (expected, 4, True)
    assert names(reading.page_runs(RunFilter("trials"), sort, limit=2, offset=1).runs) == expected[1:3]


@pytest.mark.usefixtures("unchanged")
def test_the_store_filters_by_parameter_tag_and_date(reading: Tracking) -> None:
    hours = [datetime.fromtimestamp(hour * 3600, UTC) for hour in range(4)]
    assert names(reading.list_runs(RunFilter("trials", version="2"))) == ["qa-v2"]
    assert names(reading.list_runs(RunFilter("trials", tag=("team", "search")))) == ["qa-v2", "qa-v1"]
    assert names(reading.list_runs(RunFilter("trials", since=hours[1], until=hours[3]))) == ["odd", "qa-v2"]
    assert reading.count_runs(RunFilter("trials", prompt="qa")) == 4
    assert reading.list_experiments() == ("Default", "trials")
    first, _, last, _ = reading.list_runs(RunFilter("trials"))
    assert names(reading.get_runs([last.run_id, "nope", first.run_id])) == ["qa-v2", "bare"]


@pytest.mark.usefixtures("unchanged")
def test_prompts_aliases_and_files_are_read(reading: Tracking) -> None:
    assert [(each.version, each.aliases, len(each.run_ids)) for each in reading.list_prompts("qa")] == [
        (2, (), 1), (1, ("production",), 1),
    ]  # fmt: skip
    live = reading.production_version("qa")
    assert live is not None
    assert reading.read_artifact_text(live.run_ids[0], "prompt.md") == live.text
    assert len(reading.list_case_results(live.run_ids[0])) == 20
    assert reading.production_release("qa") is None


@pytest.mark.deep
@pytest.mark.usefixtures("unchanged")
def test_the_page_reads_it_and_writes_nothing(
    reading: Tracking,
    empty_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", reading.tracking_uri)
    app = open_page("prompts", tab="Compare")
    assert verdict(app).startswith("qa-v2 wins by faithfulness per cost")
    app = open_page("prompts", tab="Runs", sort="top_k", ascending="true")
    assert verdict(app).startswith("qa-v2 wins")
    (table,) = (each.value for each in app.dataframe if "run id" in each.value.columns)
    assert list(table["run"]) == ["qa-v2", "qa-v1", "odd", "bare"]
    assert not open_page("prompts", tab="Promote").exception


@pytest.mark.sqlite_only("it is MLflow's store that is in PostgreSQL here, one for the module")
def test_a_promotion_and_its_roll_back_move_the_alias(server: Tracking, store: Store) -> None:
    run_id = server.get_prompt("qa", 2).run_ids[0]
    promote(store, server, run_id, Act("ann", "more faithful"), serving=None, expected=1)
    assert server.production_version("qa").version == 2  # type: ignore[union-attr]
    assert server.production_release("qa") == 1
    roll_back(store, server, "qa", Act("ann", "complaints"))
    assert server.production_version("qa").version == 1  # type: ignore[union-attr]


@pytest.mark.deep
def test_an_unknown_or_missing_schema_gets_one_line_and_is_left_as_it_is(
    tmp_path: Path,
    empty_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = make_url("postgresql", tmp_path)
    with pytest.raises(SourceUnavailable, match="has no MLflow tables"):
        Tracking(uri).list_runs()
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert "unknown schema revision (ffffffffffff)" in only_error(open_page("prompts"))
    with pytest.raises(SourceUnavailable, match="so it can be read but not written"):
        Tracking(uri).set_run_description("r", "text")
    with psycopg.connect(uri) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables == [("alembic_version",)]


def test_a_server_that_is_not_there_gets_one_line_without_its_password() -> None:
    with pytest.raises(SourceUnavailable) as caught:
        Tracking("postgresql://deck:secret@127.0.0.1:1/mlflow").list_runs()
    assert "127.0.0.1:1/mlflow" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
