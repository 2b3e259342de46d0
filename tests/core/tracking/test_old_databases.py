"""MLflow databases since 1.0: made by MLflow's own migrations, read and left as they are."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from core.prompts.contests import Verdict, report_prompts
from core.tracking.gateway import Tracking
from core.tracking.runs import RunFilter, RunSort, SortKind
from tests.core.tracking.test_gateway import digest_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.MovedIn20Warning"),
]
RELEASES = {
    "1.0": "451aebb31d03",  # metrics have steps; there are no last values, experiment tags, models or prompts
    "1.3": "89d4b8295536",  # last values
    "1.9": "2b4d017a5e9b",  # the model registry
    "1.20": "c48cb773bb87",
    "2.3": "3500859a5d39",  # aliases
    "2.12": "acf3f17fdcc7",
    "3.0": "770bee3ae1dd",  # assessments
}


def make_database(folder: Path, revision: str) -> Path:
    """Return a database with two runs in the convention of tutorials, as that release would have kept it."""
    import sqlalchemy
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    database = folder / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{database}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'old', 'active')")
        for version, mean in (("1", 0.7), ("2", 0.9)):
            connection.execute(
                "INSERT INTO runs (run_uuid, name, status, start_time, lifecycle_stage, artifact_uri, experiment_id)"
                " VALUES (?, ?, 'FINISHED', ?, 'active', '/nowhere', 7)",
                (f"r{version}", "", int(version)),
            )
            for key, value in (("prompt_name", "qa"), ("prompt_version", f"v{version}")):
                connection.execute(
                    "INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", (key, value, f"r{version}")
                )
            connection.execute(
                "INSERT INTO tags (key, value, run_uuid) VALUES ('mlflow.runName', ?, ?)",
                (f"qa-v{version}", f"r{version}"),
            )
            _record(connection, f"r{version}", "faithfulness_mean", [(1, 0.1), (2, mean)])
            _record(connection, f"r{version}", "cost_per_query_usd", [(1, 0.002)])
    return database


def _record(connection: sqlite3.Connection, run_id: str, key: str, values: list[tuple[int, float]]) -> None:
    """Keep a metric as MLflow does: every value, and the last one where the release has a table of those."""
    for moment, value in values:
        connection.execute(
            "INSERT INTO metrics (key, value, timestamp, step, run_uuid) VALUES (?, ?, ?, 0, ?)",
            (key, value, moment, run_id),
        )
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'latest_metrics'").fetchone():
        connection.execute(
            "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, 0, 0, ?)",
            (key, values[-1][1], values[-1][0], run_id),
        )


@pytest.mark.parametrize(
    "release", [pytest.param(each, marks=[] if each == "1.0" else pytest.mark.deep) for each in RELEASES]
)
def test_a_database_of_an_older_release_is_read_and_left_as_it_is(release: str, tmp_path: Path) -> None:
    database = make_database(tmp_path, RELEASES[release])
    before = digest_of(database)
    tracking = Tracking(f"sqlite:///{database}")
    assert [run.name for run in tracking.list_runs(RunFilter("old"))] == ["qa-v2", "qa-v1"]
    assert tracking.list_runs(RunFilter("old"))[0].metrics == {"faithfulness_mean": 0.9, "cost_per_query_usd": 0.002}
    lowest = RunSort(SortKind.METRIC, "faithfulness_mean", descending=False)
    assert [run.name for run in tracking.page_runs(RunFilter("old"), lowest, limit=5).runs] == ["qa-v1", "qa-v2"]
    assert (tracking.list_prompts(), tracking.production_version("qa"), tracking.production_release("qa")) == (
        (),
        None,
        None,
    )
    found = report_prompts(tracking, experiment="old", rule=None)
    assert (found.verdict, found.leader and found.leader.label) == (Verdict.MEANS_ONLY, "qa-v2")
    assert digest_of(database) == before
