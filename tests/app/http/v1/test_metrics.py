"""Metrics under /v1: listed with what they are, defined and removed with an audit entry, used by experiments."""

from core.audit.trail import get_audit_entry
from core.flags.operations import create_flag
from core.rollouts.experiment_records import get_experiment
from quarterdeck.definitions import split_flag
from tests.core.rollouts.test_experiments import SETUP

STARS = {"source": "score", "of": "stars", "statistic": "mean", "margin": 0.2, "reason": "what users give"}


def test_a_metric_is_defined_used_and_removed(deck):
    made = deck.post("/v1/metric-definitions/stars", STARS)
    assert made.status_code == 200, made.text
    entry = get_audit_entry(deck.store, made.json()["audit_entry"])
    assert (entry.action, entry.target) == ("metric.add", "stars")
    assert deck.post("/v1/metric-definitions/stars", STARS).status_code == 409
    listed = {each["name"]: each for each in deck.get("/v1/metric-definitions?limit=50").json()["items"]}
    assert listed["stars"]["definition"] == "mean of the score stars over users"
    assert (listed["stars"]["is_built_in"], listed["latency p95"]["is_built_in"]) == (False, True)
    create_flag(deck.store, "style", split_flag({"short": 1, "long": 1}), SETUP)
    design = {
        "name": "longer", "flag": "style", "version": 1, "metric": "stars", "effect": 0.1, "control": "short",
        "guardrails": [{"metric": "latency p95", "amount": 0.2}, {"metric": "tokens"}], "reason": "try",
    }  # fmt: skip
    started = deck.post("/v1/experiments", design)
    assert started.status_code == 200, started.text
    kept = get_experiment(deck.store, "production", "longer").design
    assert [(str(each.metric), each.amount) for each in kept.guardrails] == [("latency p95", 0.2), ("tokens", 0.15)]
    (shown,) = deck.get("/v1/experiments").json()["items"]
    assert shown["metric"] == "stars"
    assert deck.ask("DELETE", "/v1/metric-definitions/stars?reason=no+longer", token="editor").status_code == 200


def test_wrong_metrics_are_refused_in_one_line(deck):
    assert deck.post("/v1/metric-definitions/latency", STARS).status_code == 400
    wrong = deck.post("/v1/metric-definitions/late", {**STARS, "statistic": "ratio"})
    assert (wrong.status_code, "per: give what" in wrong.json()["detail"]) == (400, True)
    assert deck.post("/v1/metric-definitions/late", {**STARS, "statistic": "median"}).status_code in (400, 422)


def test_a_metric_is_read_by_segment(deck):
    path = "/v1/metric-definitions/score/segments?service=answers&dimension=prompt_version"
    found = deck.get(path, token="reader")
    assert found.status_code == 200, found.text
    body = found.json()
    assert (body["metric"], body["dimension"], body["carrier"]) == ("score", "prompt_version", None)
    assert sum(each["count"] for each in body["segments"]) == body["whole"]["count"] > 0
    assert deck.get(path.replace("prompt_version", "tenant"), token="reader").json()["field"] == "dimension"
    assert deck.get(path.replace("answers", "billing"), token="answers").status_code == 403
