"""The experiments of an environment are read in one transaction, however many there are, each with its version."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection

from core.arms.arms import Metric
from core.errors import Conflict
from core.rollouts.experiment_design import plan_experiment
from core.rollouts.experiment_records import Experiment, find_running, get_experiment, list_experiments, save_experiment
from quarterdeck.definitions import split_flag
from quarterdeck.store import Store

FLAG = split_flag({"control": 1, "long": 1})
BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


class CountedStore(Store):
    """A store that counts its reading transactions."""

    reads = 0

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self.reads += 1
        with super().read() as connection:
            yield connection


@pytest.fixture
def counted(url: str, store: Store) -> Iterator[CountedStore]:
    opened = CountedStore(url)
    with store.begin() as connection:
        for number in range(50):
            save_experiment(connection, make(number))
    yield opened
    opened.close()


def make(number: int, environment: str = "production") -> Experiment:
    design = plan_experiment(f"flag_{number}", FLAG, name=f"experiment {number}", metric=Metric.SCORE, effect=0.02)
    began = BEGAN + timedelta(days=number)
    return Experiment(environment, design, FLAG, began, "ada", began)


def test_fifty_experiments_are_read_at_once(counted: CountedStore) -> None:
    found = list_experiments(counted, "production")
    assert (len(found), counted.reads) == (50, 1)
    assert find_running(counted, "production", "flag_7") is not None
    assert counted.reads == 2


def test_each_comes_with_the_version_that_the_next_writer_has_to_expect(counted: CountedStore) -> None:
    first = get_experiment(counted, "production", "experiment 3")
    with counted.begin() as connection:
        save_experiment(connection, replace(first, conclusion="looked at"))
    versions = {each.design.name: each.version for each in list_experiments(counted, "production")}
    assert (versions.pop("experiment 3"), set(versions.values())) == (2, {1})
    (found,) = list_experiments(counted, "production", flag="flag_3")
    with counted.begin() as connection:
        save_experiment(connection, replace(found, conclusion="looked at again"))
    with pytest.raises(Conflict, match="somebody else was faster"), counted.begin() as connection:
        save_experiment(connection, found)


def test_experiments_of_an_environment_whose_name_begins_alike_are_not_among_them(counted: CountedStore) -> None:
    with counted.begin() as connection:
        save_experiment(connection, make(1, "production-eu"))
        save_experiment(connection, make(2, "productionXeu"))
    assert {each.environment for each in list_experiments(counted, "production")} == {"production"}
    assert len(list_experiments(counted, "production")) == 50
