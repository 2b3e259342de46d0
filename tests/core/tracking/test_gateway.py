"""The MLflow gateway on real stores: SQLite files that MLflow made, in this version's schema and in an older one."""

import hashlib
import shutil
import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import InvalidInput, NotFound, SourceUnavailable
from core.tracking.cases import CaseResult, render_case_results
from core.tracking.client import open_client
from core.tracking.gateway import Dataset, Tracking
from core.tracking.runs import RunFilter, RunSort, SortKind, list_differing_params
from tests.mlflow_server import serve_mlflow

# MLflow 3.17 maps one relation in a way that SQLAlchemy 2.1 deprecates; it shows on the first import only.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

MLFLOW_2_12 = "acf3f17fdcc7"
CASE = CaseResult(
    "c1", "Why?", True, "So.", False, 0.5, 0.75, True, True, ("a.md",), ("So.",), (True,), 10, 2, 0.1, None
)


@pytest.fixture(scope="module")
def made_by_mlflow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    tracking = Tracking(f"sqlite:///{folder}/mlflow.db")
    tracking.register_prompt("qa", "Use {context} for {question}", message="first", experiment="trials")
    return folder


@pytest.fixture
def store(made_by_mlflow, tmp_path):
    shutil.copyfile(made_by_mlflow / "mlflow.db", tmp_path / "mlflow.db")
    return Tracking(f"sqlite:///{tmp_path}/mlflow.db")


def log(store, name="qa-v1", *, experiment="trials", version="1", metrics=None, prompt=None, **options):
    return store.log_evaluation(
        experiment,
        name,
        params={"prompt": "qa", "version": version, "model": "extractive-offline"},
        metrics=metrics or {"faithfulness_mean": 0.75, "cost_usd_mean": 0.0004},
        artifacts={"cases.json": render_case_results([CASE]), "prompt.md": "Use {context}"},
        prompt=prompt,
        **options,
    )


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.deep
@pytest.mark.slow
def test_a_logged_evaluation_reads_back_with_all_that_it_kept(store, tmp_path):
    prompt = store.get_prompt("qa", 1)
    dataset = Dataset("qa", "cases/qa.jsonl", "0123456789abcdef")
    run_id = log(store, prompt=prompt, dataset=dataset, tags={"team": "search"})
    run = store.get_run(run_id)
    assert (run.name, run.experiment, run.status) == ("qa-v1", "trials", "FINISHED")
    assert run.metrics == {"faithfulness_mean": 0.75, "cost_usd_mean": 0.0004}
    assert run.params == {"prompt": "qa", "version": "1", "model": "extractive-offline"}
    assert run.tags["team"] == "search"
    assert abs(datetime.now(UTC) - run.started) < timedelta(hours=1)
    assert store.list_case_results(run_id) == (CASE,)
    assert store.read_artifact_text(run_id, "prompt.md") == "Use {context}"
    assert store.get_prompt("qa", 1).run_ids == (run_id,)
    kept = open_client(store.tracking_uri).get_run(run_id).inputs.dataset_inputs[0].dataset
    assert (kept.name, kept.digest) == ("qa", "0123456789abcdef")


@pytest.mark.deep
@pytest.mark.slow
def test_files_of_new_runs_lie_next_to_the_database_and_none_in_the_working_folder(store, tmp_path, monkeypatch):
    work = tmp_path / "elsewhere"
    work.mkdir()
    monkeypatch.chdir(work)
    fresh = Tracking(f"sqlite:///{tmp_path}/new/mlflow.db")
    prompt = fresh.register_prompt("qa", "text", experiment="trials")
    run_id = log(fresh, prompt=prompt)
    fresh.register_release(prompt, run_id)
    assert (tmp_path / "new" / "artifacts" / "trials" / run_id / "artifacts" / "cases.json").is_file()
    assert list(work.iterdir()) == []


@pytest.mark.deep
@pytest.mark.slow
def test_our_reading_equals_that_of_the_mlflow_client(store):
    log(store, "one", metrics={"a": 0.1 + 0.2, "b": float("inf"), "c": 1e-9})
    log(store, "two", version="2")
    client = open_client(store.tracking_uri)
    theirs = client.search_runs([client.get_experiment_by_name("trials").experiment_id])
    ours = store.list_runs(RunFilter("trials"))
    assert [run.run_id for run in ours] == [run.info.run_id for run in theirs]
    assert [run.metrics for run in ours] == [run.data.metrics for run in theirs]
    assert [run.params for run in ours] == [run.data.params for run in theirs]
    assert [run.tags for run in ours] == [run.data.tags for run in theirs]
    assert [run.artifact_uri for run in ours] == [run.info.artifact_uri for run in theirs]


@pytest.mark.deep
@pytest.mark.slow
def test_a_metric_that_is_not_a_number_stays_one(store):
    run = store.get_run(log(store, metrics={"odd": float("nan"), "good": 1.0}))
    assert run.metrics["good"] == 1.0
    assert run.metrics["odd"] != run.metrics["odd"]


@pytest.mark.deep
@pytest.mark.slow
def test_runs_are_filtered_and_paged_newest_first(store):
    first, second, third = (log(store, f"r{n}", version=str(n), tags={"round": str(n % 2)}) for n in (1, 2, 3))
    with closing(sqlite3.connect(store.tracking_uri.removeprefix("sqlite:///"))) as connection, connection:
        for hour, run_id in enumerate((first, second, third)):
            connection.execute("UPDATE runs SET start_time = ? WHERE run_uuid = ?", (hour * 3_600_000, run_id))

    def ids(page: dict[str, int] | None = None, **options):
        return [run.run_id for run in store.list_runs(RunFilter("trials", **options), **(page or {}))]

    hours = [datetime.fromtimestamp(n * 3600, UTC) for n in range(3)]
    assert ids() == [third, second, first]
    assert ids({"limit": 1, "offset": 1}) == [second]
    assert ids(version="3") == [third]
    assert ids(prompt="other") == []
    assert ids(tag=("round", "1")) == [third, first]
    assert ids(since=hours[1], until=hours[2]) == [second]
    assert store.count_runs(RunFilter(experiment="trials", tag=("round", "1"))) == 2
    assert store.list_runs(RunFilter("no such experiment")) == ()
    assert store.list_experiments() == ("Default", "trials")
    assert list_differing_params(store.list_runs(RunFilter("trials"))) == ("version",)


SORTS = {
    "newest": (RunSort(), ["c", "b", "a", "d"]),
    "oldest": (RunSort(descending=False), ["d", "a", "b", "c"]),
    "by a metric": (RunSort(SortKind.METRIC, "m"), ["a", "c", "b", "d"]),
    "by a metric, lowest first": (RunSort(SortKind.METRIC, "m", descending=False), ["c", "a", "b", "d"]),
    "by a parameter": (RunSort(SortKind.PARAM, "p", descending=False), ["b", "d", "a", "c"]),
}


@pytest.fixture(scope="module")
def sortable(made_by_mlflow, tmp_path_factory):
    """Four runs: `d` is the oldest and has no metric, `b` has one that is no number, `c` has no parameter."""
    folder = tmp_path_factory.mktemp("sortable")
    shutil.copyfile(made_by_mlflow / "mlflow.db", folder / "mlflow.db")
    store = Tracking(f"sqlite:///{folder}/mlflow.db")
    rows = {"a": ({"m": 0.9}, {"p": "text"}), "b": ({"m": float("nan")}, {"p": "9"}), "c": ({"m": 0.5}, {}),
            "d": ({}, {"p": "10"})}  # fmt: skip
    for name, (metrics, params) in rows.items():
        store.log_evaluation("sorted", name, params=params, metrics=metrics, artifacts={})
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        for hour, name in enumerate("dabc"):
            connection.execute("UPDATE runs SET start_time = ? WHERE name = ?", (hour * 3_600_000, name))
    connection.close()
    return store


@pytest.mark.slow
@pytest.mark.parametrize("how", SORTS)
def test_runs_are_sorted_by_the_store_and_those_without_the_value_come_last(how, sortable):
    sort, expected = SORTS[how]
    page = sortable.page_runs(RunFilter("sorted"), sort, limit=10)
    assert ([run.name for run in page.runs], page.total, page.is_counted) == (expected, 4, True)
    middle = sortable.page_runs(RunFilter("sorted"), sort, limit=2, offset=1)
    assert ([run.name for run in middle.runs], middle.total) == (expected[1:3], 4)


@pytest.mark.slow
def test_several_runs_are_read_in_the_order_given_and_missing_ones_are_left_out(sortable):
    by_name = {run.name: run for run in sortable.list_runs(RunFilter("sorted"))}
    wanted = [by_name["c"].run_id, "nope", by_name["a"].run_id]
    assert sortable.get_runs(wanted) == (by_name["c"], by_name["a"])
    assert sortable.get_runs([]) == ()


@pytest.mark.slow
def test_deleted_runs_are_not_listed(store):
    run_id = log(store)
    open_client(store.tracking_uri).delete_run(run_id)
    assert store.list_runs(RunFilter("trials")) == ()


@pytest.mark.slow
def test_a_prompt_gets_a_new_version_only_for_a_new_text(store):
    changed = store.register_prompt("qa", "Only from {context}: {question}", message="grounded", tags={"version": "2"})
    assert (changed.version, changed.commit_message, changed.tags) == (2, "grounded", {"version": "2"})
    assert store.register_prompt("qa", "Use {context} for {question}").version == 1
    assert [prompt.version for prompt in store.list_prompts()] == [2, 1]


@pytest.mark.slow
def test_the_production_alias_decides_what_is_in_production(store):
    assert store.production_version("qa") is None
    store.register_prompt("qa", "second")
    store.set_prompt_alias("qa", "production", 2)
    assert store.production_version("qa") == store.get_prompt("qa", "production") == store.get_prompt("qa", 2)
    store.set_prompt_alias("qa", "production", 1)
    assert store.production_version("qa").version == 1
    store.delete_prompt_alias("qa", "production")
    assert store.production_version("qa") is None
    with pytest.raises(NotFound, match="versions: 1, 2"):
        store.set_prompt_alias("qa", "production", 7)


@pytest.mark.slow
def test_a_link_tag_that_somebody_else_wrote_does_not_hide_the_prompts(store):
    log(store, tags={"mlflow.linkedPrompts": "my prompt"})
    log(store, tags={"mlflow.linkedPrompts": '[{"name": "qa"}]'})
    assert [(prompt.version, prompt.run_ids) for prompt in store.list_prompts()] == [(1, ())]


@pytest.mark.slow
def test_a_release_is_a_registry_entry_that_points_at_the_run(store):
    prompt = store.get_prompt("qa", 1)
    run_id = log(store, prompt=prompt)
    assert [store.register_release(prompt, run_id), store.register_release(prompt, run_id)] == [1, 2]
    entry = open_client(store.tracking_uri).get_model_version_by_alias("qa-release", "production")
    assert (entry.version, entry.run_id, entry.tags["prompt_version"]) == (2, run_id, "1")
    store.set_run_description(run_id, "Chosen: more faithful.")
    assert store.get_run(run_id).description == "Chosen: more faithful."
    assert [each.name for each in store.list_prompts()] == ["qa"]
    assert store.production_release("qa") == 2
    assert stages_of(store, 1, 2) == ["former", "production"]
    store.set_production_release("qa", 1)
    assert (store.production_release("qa"), stages_of(store, 1, 2)) == (1, ["production", "former"])
    store.delete_release("qa", 1)
    assert store.production_release("qa") is None


def stages_of(store, *versions):
    client = open_client(store.tracking_uri)
    return [client.get_model_version("qa-release", str(version)).tags["stage"] for version in versions]


@pytest.mark.slow
def test_an_entry_that_cannot_be_made_the_production_one_leaves_none_behind(store):
    prompt = store.get_prompt("qa", 1)
    run_id = log(store, prompt=prompt)
    store.register_release(prompt, run_id)
    broken = Tracking(store.tracking_uri, connect=open_client_without_aliases)
    with pytest.raises(SourceUnavailable, match="no answer"):
        broken.register_release(prompt, run_id)
    found = open_client(store.tracking_uri).search_model_versions("name = 'qa-release'")
    assert [each.version for each in found] == [1]
    assert store.production_release("qa") == 1


def open_client_without_aliases(uri):
    """MLflow's own client, which fails where it should set an alias of a model."""
    from mlflow.exceptions import MlflowException

    def fail(*_arguments):
        raise MlflowException("no answer")

    client = open_client(uri)
    client.set_registered_model_alias = fail
    return client


@pytest.mark.slow
def test_an_artifact_is_found_inside_its_run_only(store, tmp_path):
    run_id = log(store)
    (tmp_path / "secret.txt").write_text("secret")
    with pytest.raises(InvalidInput, match="is outside of"):
        store.read_artifact_text(run_id, "../../../../secret.txt")
    with pytest.raises(NotFound, match=r"has no 'missing\.txt'"):
        store.read_artifact_text(run_id, "missing.txt")
    with pytest.raises(NotFound, match="no run 'nope'"):
        store.read_artifact_text("nope", "cases.json")


@pytest.mark.slow
def test_a_run_whose_logging_breaks_off_is_marked_as_failed(store):
    with pytest.raises(InvalidInput):
        log(store, metrics={"bad/../name": 1.0})
    assert [run.status for run in store.list_runs(RunFilter("trials"))] == ["FAILED"]


@pytest.mark.slow
def test_a_store_of_an_older_schema_is_read_and_stays_byte_identical(made_by_mlflow, tmp_path):
    database = tmp_path / "old.db"
    make_older_schema(database)
    before = digest_of(database)
    store = Tracking(f"sqlite:///{database}")
    assert [(run.name, run.metrics, run.params) for run in store.list_runs(RunFilter("old"))] == [
        ("r", {"m": 0.5}, {"p": "1"})
    ]
    assert [(prompt.name, prompt.version, prompt.text) for prompt in store.list_prompts()] == [("qa", 1, "hello")]
    assert store.production_version("qa").version == 1
    assert digest_of(database) == before
    assert [path.name for path in tmp_path.iterdir()] == ["old.db"]


def make_older_schema(database: Path) -> None:
    """Let MLflow's own migrations build the schema of MLflow 2.12, and put one run and one prompt into it."""
    import alembic.command
    import sqlalchemy
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{database}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, MLFLOW_2_12)
    engine.dispose()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript("""
            INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'old', 'active');
            INSERT INTO runs (run_uuid, name, status, start_time, lifecycle_stage, artifact_uri, experiment_id)
                VALUES ('r1', 'r', 'FINISHED', 5, 'active', '/nowhere', 7);
            INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES ('m', 0.5, 5, 0, 0, 'r1');
            INSERT INTO params (key, value, run_uuid) VALUES ('p', '1', 'r1');
            INSERT INTO registered_models (name) VALUES ('qa');
            INSERT INTO model_versions (name, version, creation_time, current_stage) VALUES ('qa', 1, 5, 'None');
            INSERT INTO model_version_tags (name, version, key, value) VALUES ('qa', 1, 'mlflow.prompt.text', 'hello');
            INSERT INTO registered_model_aliases (alias, name, version) VALUES ('production', 'qa', 1);
        """)
    connection.close()


@pytest.mark.deep
@pytest.mark.slow
def test_writing_to_an_older_schema_is_refused_instead_of_migrating_it(store, tmp_path):
    database = tmp_path / "old.db"
    make_older_schema(database)
    before = digest_of(database)
    with pytest.raises(SourceUnavailable, match="mlflow db upgrade"):
        Tracking(f"sqlite:///{database}").set_run_description("r1", "text")
    assert digest_of(database) == before


@pytest.fixture
def server(made_by_mlflow, tmp_path):
    shutil.copyfile(made_by_mlflow / "mlflow.db", tmp_path / "mlflow.db")
    with serve_mlflow(tmp_path / "mlflow.db") as address:
        yield Tracking(address)


@pytest.mark.deep
@pytest.mark.slow
def test_a_server_and_its_database_read_the_same(server, tmp_path, capfd):
    prompt = server.register_prompt("qa", "Only from {context}: {question}", message="grounded")
    server.set_prompt_alias("qa", "production", 2)
    run_id = log(server, "by-http", experiment="served", version="2", prompt=prompt, tags={"team": "it's"})
    database = Tracking(f"sqlite:///{tmp_path}/mlflow.db")
    assert server.list_runs() == database.list_runs()
    assert server.get_run(run_id) == database.get_run(run_id)
    assert server.list_prompts() == database.list_prompts()
    assert server.list_experiments() == database.list_experiments()
    assert server.production_version("qa").run_ids == (run_id,)
    assert server.list_case_results(run_id) == (CASE,)
    assert [run.run_id for run in server.list_runs(RunFilter("served", prompt="qa", tag=("team", "it's")))] == [run_id]
    assert server.list_runs(RunFilter("served", since=datetime.now(UTC) + timedelta(hours=1))) == ()
    assert server.count_runs(RunFilter(version="2")) == 1
    log(server, "second", experiment="served", version="1", metrics={"faithfulness_mean": 0.5})
    for sort in (RunSort(), RunSort(SortKind.METRIC, "faithfulness_mean"), RunSort(SortKind.PARAM, "version")):
        where = RunFilter("served")
        assert server.page_runs(where, sort, limit=5) == database.page_runs(where, sort, limit=5)
        first = server.page_runs(where, sort, limit=1)
        assert (first.runs, first.is_counted) == (database.page_runs(where, sort, limit=1).runs, False)
    assert server.get_runs([run_id, "nope"]) == database.get_runs([run_id, "nope"])
    assert server.list_prompts("qa", with_runs=False) == database.list_prompts("qa", with_runs=False)
    assert server.production_release("qa") is None
    assert server.register_release(prompt, run_id) == server.production_release("qa") == 1
    server.set_production_release("qa", None)
    assert server.production_release("qa") is database.production_release("qa") is None
    with pytest.raises(NotFound, match="nope"):
        server.get_run("nope")
    with pytest.raises(NotFound, match="has no 'missing"):
        server.read_artifact_text(run_id, "missing.txt")
    with pytest.raises(SourceUnavailable, match="served by a tracking server"):
        database.read_artifact_text(run_id, "cases.json")
    assert capfd.readouterr().out == ""


def make_store_of(database: Path, revision: str) -> Tracking:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    connection.close()
    return Tracking(f"sqlite:///{database}")


def test_an_unknown_schema_gets_one_line_and_is_left_as_it_is(tmp_path):
    store = make_store_of(tmp_path / "future.db", "ffffffffffff")
    before = digest_of(tmp_path / "future.db")
    with pytest.raises(SourceUnavailable, match=r"unknown schema revision \(ffffffffffff\)") as caught:
        store.list_runs()
    assert "\n" not in str(caught.value)
    assert digest_of(tmp_path / "future.db") == before


def test_a_missing_file_is_named_and_not_created(tmp_path):
    with pytest.raises(SourceUnavailable, match=r"there is no file .*absent\.db"):
        Tracking(f"sqlite:///{tmp_path}/absent.db").list_runs()
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_file_gets_one_line(tmp_path):
    (tmp_path / "bad.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(SourceUnavailable, match=r"not a database\. Set `MLFLOW_TRACKING_URI`") as caught:
        Tracking(f"sqlite:///{tmp_path}/bad.db").list_runs()
    assert "\n" not in str(caught.value)


def test_a_database_of_something_else_gets_one_line(tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection, connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    connection.close()
    with pytest.raises(SourceUnavailable, match="has no MLflow tables"):
        Tracking(f"sqlite:///{tmp_path}/other.db").list_experiments()


def test_a_store_whose_tables_are_gone_gets_one_line(tmp_path):
    with pytest.raises(SourceUnavailable, match="no such table: experiments"):
        make_store_of(tmp_path / "empty.db", MLFLOW_2_12).list_experiments()


def test_a_server_that_refuses_connections_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(SourceUnavailable, match=f"127.0.0.1:{port} does not answer: Connection refused"):
            Tracking(f"http://127.0.0.1:{port}").list_runs()


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr("core.tracking.client.PROBE_SECONDS", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(SourceUnavailable, match="does not answer: timed out"):
            Tracking(f"http://127.0.0.1:{silent.getsockname()[1]}").list_runs()


@pytest.mark.parametrize("uri", ["mysql://host/db", "ftp://host", "nonsense"])
def test_an_address_of_an_unknown_kind_is_refused(uri):
    with pytest.raises(InvalidInput, match="must start with http, sqlite or postgresql"):
        Tracking(uri).list_runs()


def test_a_page_of_no_runs_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="limit"):
        Tracking(f"sqlite:///{tmp_path}/x.db").list_runs(limit=0)
