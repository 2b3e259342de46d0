"""Layers and the holdout under /v1: the operations of the pages, and stale versions."""

from core.flags.operations import create_flag
from core.flags.store import get_flag
from quarterdeck.definitions import split_flag
from tests.app.http.v1.conftest import ACT, Deck


def test_an_experiment_takes_a_part_of_a_layer(deck: Deck) -> None:
    create_flag(deck.store, "style", split_flag({"a": 1, "b": 1}), ACT)
    made = deck.post("/v1/layers", {"name": "texts", "reason": "they would mix"})
    assert (made.status_code, made.json()["action"]) == (200, "layer.create")
    start = {
        "name": "styles", "flag": "style", "version": 1, "metric": "score", "effect": 0.02, "control": "a",
        "layer": "texts", "layer_share_pct": 30, "reason": "try it",
    }  # fmt: skip
    refused = deck.post("/v1/experiments", start)
    assert (refused.status_code, "type style" in refused.json()["detail"]) == (400, True)
    assert deck.post("/v1/experiments", {**start, "confirm": "style"}).status_code == 200
    (layer,) = deck.get("/v1/layers").json()["items"]
    assert layer["uses"] == [{"flag": "style", "share": 0.3, "experiment": "styles"}]
    assert layer["free"] == 0.7
    (experiment,) = deck.get("/v1/experiments").json()["items"]
    assert experiment["layer"] == "texts"
    gone = deck.post("/v1/layers/remove", {"name": "texts", "version": layer["version"], "reason": "no use"})
    assert (gone.status_code, "take the flag out first" in gone.json()["detail"]) == (409, True)
    stop = {"name": "styles", "version": experiment["version"], "reason": "enough"}
    assert deck.post("/v1/experiments/stop", stop).status_code == 200
    leave = {"flag": "style", "version": get_flag(deck.store, "production", "style").version, "reason": "free it"}
    assert deck.post("/v1/layers/leave", {**leave, "version": 1, "confirm": "style"}).status_code == 409
    assert deck.post("/v1/layers/leave", {**leave, "confirm": "style"}).status_code == 200
    gone = deck.post("/v1/layers/remove", {"name": "texts", "version": layer["version"], "reason": "no use"})
    assert gone.json()["action"] == "layer.remove"
    assert deck.get("/v1/layers").json()["items"] == []


def test_a_holdout_is_started_read_and_ended(deck: Deck) -> None:
    assert deck.get("/v1/holdout").json()["name"] is None
    wrong = deck.post("/v1/holdout/start", {"name": "Q 4", "share_pct": 5, "reason": "measure"})
    assert (wrong.status_code, wrong.json()["field"]) == (400, "name")
    started = deck.post("/v1/holdout/start", {"name": "2026q4", "share_pct": 5, "reason": "measure"})
    assert started.json()["action"] == "holdout.start"
    found = deck.get("/v1/holdout").json()
    assert (found["name"], found["share_pct"]) == ("2026q4", 5)
    assert deck.post("/v1/holdout/end", {"version": 9, "reason": "measured"}).status_code == 409
    assert deck.post("/v1/holdout/end", {"version": found["version"], "reason": "measured"}).status_code == 200
    assert deck.post("/v1/holdout/end", {"version": 3, "reason": "measured"}).status_code == 404


def test_the_holdout_is_compared_with_the_rest(deck: Deck) -> None:
    assert deck.get("/v1/holdout/report").status_code == 404
    started = deck.post("/v1/holdout/start", {"name": "2026q4", "share_pct": 5, "reason": "measure"})
    assert started.status_code == 200, started.text
    found = deck.get("/v1/holdout/report?metric=latency").json()
    assert (found["name"], found["metric"], found["held_out_users"], found["harm"]) == ("2026q4", "latency", 0, None)
    assert found["sentence"].startswith("Too early to tell: 0 users held out")
    assert deck.get("/v1/holdout/report?metric=speed").status_code == 400
