"""What is in deploy/prometheus: rules that promtool accepts, names that /metrics has, and a real scrape."""

import json
import re
import shutil
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import yaml

from app.http.observing import REGISTRY
from core.config import PROJECT
from core.coverage.backlog import TopicState
from core.drift.verdict import DriftStatus
from core.rollouts.canary import CanaryCall
from quarterdeck.retrieval import STATES
from quarterdeck.store import Store
from tests.app.http.v1.conftest import fill
from tests.browser.conftest import serving

FOLDER = PROJECT / "deploy" / "prometheus"
METRICS = PROJECT / "docs" / "metrics.md"
RULES, DASHBOARD = FOLDER / "rules.yml", FOLDER / "grafana-dashboard.json"

STATES_OF = {
    "quarterdeck_drift_state": set(DriftStatus), "quarterdeck_canary_state": set(CanaryCall),
    "quarterdeck_topics": set(TopicState), "quarterdeck_questions": set(STATES),
}  # fmt: skip


def find_tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed here: apt-get install prometheus")
    return path


def list_rules() -> list[dict]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def list_queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    shown = [target["expr"] for panel in panels for target in panel["targets"]]
    return [*(rule["expr"] for rule in list_rules()), *shown]


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    for arguments in (("check", "rules", RULES), ("check", "config", FOLDER / "prometheus.yml")):
        done = subprocess.run([find_tool("promtool"), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_dashboard_name_metrics_that_there_are() -> None:
    families = {family.name: family for family in REGISTRY.collect()}
    metrics = {f"{name}_total" if each.type == "counter" else name for name, each in families.items()}
    metrics |= {f"{name}_bucket" for name, each in families.items() if each.type == "histogram"}
    recorded = {rule["record"] for rule in list_rules() if "record" in rule}
    for query in list_queries():
        assert set(re.findall(r"\bquarterdeck_\w+", query)) <= metrics, query
        assert set(re.findall(r"\bquarterdeck:[\w:]+", query)) <= recorded, query


def test_rules_and_dashboard_ask_for_labels_that_each_metric_has() -> None:
    """docs/metrics.md is held against what is exported; here the queries are held against it."""
    table = re.findall(r"^\| (`quarterdeck_.+?) \| \w+ \| (.*?) \|", METRICS.read_text(encoding="utf-8"), re.MULTILINE)
    labels = {
        name: set(re.findall(r"`(\w+)`", told)) for names, told in table for name in re.findall(r"`(\w+)`", names)
    }
    asked = 0
    for query in list_queries():
        for name, selected in re.findall(r"\b(quarterdeck_\w+)\{([^}]*)\}", query):
            known = labels[name.removesuffix("_bucket")] | ({"le"} if name.endswith("_bucket") else set())
            found = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selected))
            assert found <= known, (query, name)
            for state in re.findall(r'state="([^"]*)"', selected):
                assert state in STATES_OF[name], (query, name)
            asked += len(found)
    assert asked > 5


def test_alerts_fire_when_they_should_and_stay_quiet_otherwise(tmp_path: Path) -> None:
    drift, other = (
        f'quarterdeck_drift_state{{environment="production",service="{name}",state="drifting"}}' for name in "ab"
    )
    labels = {"severity": "warning", "environment": "production", "service": "a"}
    said = {"summary": "Retrieval drifts in production/a", "description": "The page Drift names the likeliest cause."}
    case = {
        "interval": "1m",
        "input_series": [{"series": drift, "values": "0x5 1x30"}, {"series": other, "values": "0x35"}],
        "alert_rule_test": [
            {"eval_time": "10m", "alertname": "QuarterdeckDrift", "exp_alerts": []},
            {"eval_time": "20m", "alertname": "QuarterdeckDrift",
             "exp_alerts": [{"exp_labels": labels, "exp_annotations": said}]},
        ],
    }  # fmt: skip
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [case]}))
    done = subprocess.run([find_tool("promtool"), "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.deep
def test_prometheus_scrapes_a_server_and_has_its_values(tmp_path: Path) -> None:
    program = find_tool("prometheus")
    home = tmp_path / "home"
    home.mkdir()
    url = f"sqlite:///{home / 'quarterdeck.db'}"
    with closing(Store(url, create=True)) as store, store.begin():
        pass
    fill(url)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(home) as server:
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
        config["rule_files"] = [str(RULES)]
        config["scrape_configs"][0] |= {
            "scrape_interval": "10s", "static_configs": [{"targets": [server.address.removeprefix("http://")]}]
        }  # fmt: skip
        path = tmp_path / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        process = subprocess.Popen(
            [program, f"--config.file={path}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            found = wait_for(f"http://127.0.0.1:{port}", 'quarterdeck_questions{state="scored"}')
        finally:
            process.terminate()
            process.wait(30)
    values = {(each["metric"]["environment"], each["metric"]["service"]): each["value"][1] for each in found}
    assert values == {
        ("production", "answers"): "7", ("production", "billing"): "7", ("staging", "answers"): "7",
    }  # fmt: skip


def wait_for(address: str, query: str) -> list[dict]:
    """Return what Prometheus has for a query, once it has something."""
    for _ in range(240):
        try:
            answer = httpx.get(f"{address}/api/v1/query", params={"query": query}).json()
            if answer["data"]["result"]:
                found: list[dict] = answer["data"]["result"]
                return found
        except (httpx.TransportError, ValueError, KeyError):
            pass
        time.sleep(0.5)
    pytest.fail("Prometheus scraped nothing within two minutes")
