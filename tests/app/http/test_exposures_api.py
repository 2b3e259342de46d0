"""Exposures over HTTP: users count where it is reported that they saw a variant, and an evaluation alone is none."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.http import api, backends
from core.arms.arms import Metric
from core.audit.acts import Act
from core.flags.operations import create_flag
from core.flags.store import get_flag
from core.log.exposures import list_exposures
from core.rollouts.experiment_design import plan_experiment
from core.rollouts.experiment_records import get_experiment
from core.rollouts.experiments import start_experiment, stop_experiment
from quarterdeck import Quarterdeck
from quarterdeck.definitions import counts_reports_only, split_flag
from quarterdeck.store import Store

ME = Act("ada", "because")


def start(store: Store, *, reported: bool) -> None:
    create_flag(store, "style", split_flag({"short": 1, "long": 1}), ME)
    flag = get_flag(store, "production", "style")
    design = plan_experiment(
        "style", flag.view, name="longer", metric=Metric.SCORE, effect=0.02, control="short", min_run=timedelta(0)
    )
    start_experiment(store, flag, design, ME, reported=reported)


@pytest.fixture
def client(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    backends.close()
    start(store, reported=True)
    with TestClient(Starlette(routes=api.ROUTES)) as opened:
        yield opened
    backends.close()


def noted(store: Store) -> dict[str, str]:
    backends.close()  # which sends what was counted
    return {each.targeting_key: each.variant for each in list_exposures(store, "production", "style")}


def test_reported_users_count_and_evaluated_ones_do_not(client: TestClient, store: Store) -> None:
    asked = {"context": {"targetingKey": "evaluated"}}
    assert client.post("/ofrep/v1/evaluate/flags/style", json=asked).status_code == 200
    assert client.post("/ofrep/v1/evaluate/flags", json=asked).status_code == 200
    rows = [{"flag": "style", "targetingKey": "ann", "variant": "long"}, {"flag": "style", "targetingKey": "bob"}]
    answer = client.post("/v1/exposures", json={"exposures": rows})
    assert (answer.status_code, answer.json()) == (202, {"recorded": 2})
    found = noted(store)
    assert set(found) == {"ann", "bob"}
    assert found["ann"] == "long"


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"flag": "gone", "targetingKey": "ann"}, "flag"),
        ({"flag": "style", "targetingKey": "ann", "variant": "off"}, "flag"),
        ({"flag": "style", "targetingKey": 7}, "targetingKey"),
        ({"flag": "style", "targetingKey": "ann", "variant": ["long"]}, "variant"),
        ({"flag": "style", "targetingKey": "ann", "value": 1}, "value"),
        ("style", "exposure"),
    ],
)
def test_what_cannot_be_counted_is_named(client: TestClient, row: object, field: str) -> None:
    answer = client.post("/v1/exposures", json=[row, {"flag": "style", "targetingKey": "bob", "variant": "long"}])
    assert answer.json()["recorded"] == 1
    (error,) = answer.json()["errors"]
    assert (error["index"], error["field"]) == (0, field)


def test_too_many_at_once_are_refused(client: TestClient) -> None:
    assert client.post("/v1/exposures", json=[]).status_code == 400
    rows = [{"flag": "style", "targetingKey": "ann"}] * 1_001
    assert client.post("/v1/exposures", json=rows).status_code == 400


@pytest.mark.parametrize("reported", [True, False])
def test_the_client_counts_where_the_experiment_says(url: str, store: Store, reported: bool) -> None:
    start(store, reported=reported)
    with Quarterdeck(url) as deck:
        deck.variant("style", "ann")
        assert deck.expose("style", "bob")
        assert not deck.expose("style", "")
        assert not deck.expose("other", "bob")
    found = {each.targeting_key for each in list_exposures(store, "production", "style")}
    assert found == ({"bob"} if reported else {"ann", "bob"})


def test_the_end_of_an_experiment_takes_its_mark_out_of_the_flag(store: Store) -> None:
    start(store, reported=True)
    assert counts_reports_only(get_flag(store, "production", "style").definition)
    stop_experiment(store, get_experiment(store, "production", "longer"), ME)
    assert not counts_reports_only(get_flag(store, "production", "style").definition)
