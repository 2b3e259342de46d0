"""Verdicts as Argo Rollouts and Flagger ask for them, by the manifests in deploy/."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from app.http import backends
from app.http.api import ApiAhead
from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from core.config import PROJECT
from quarterdeck import Quarterdeck
from quarterdeck.store import Store
from tests.core.rollouts.test_canaries import KEY, serve, start

MANIFESTS = PROJECT / "deploy" / "kubernetes"
PATH = f"/v1/canaries/{KEY}/verdict"
ME = Act("ada", "because")


@pytest.fixture
def deck(url: str, store: Store, tmp_path: Path) -> Iterator[Quarterdeck]:
    with Quarterdeck(url, snapshot_path=tmp_path / "snapshot.json") as opened:
        yield opened


@pytest.fixture
def client(url: str, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TestClient]:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    backends.close()
    with TestClient(Starlette(middleware=[Middleware(ApiAhead)])) as opened:
        yield opened
    backends.close()


def load(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


@dataclass(frozen=True)
class Argo:
    """What Argo Rollouts' web metric does with the template: it asks, takes the JSON path, and evaluates."""

    client: TestClient
    token: str

    def measure(self) -> str:
        """Successful, Failed, Inconclusive or Error."""
        documents = load("argo-rollouts.yaml")
        [template] = [each for each in documents if each["kind"] == "AnalysisTemplate"]
        [rollout] = [each for each in documents if each["kind"] == "Rollout"]
        step = next(each["analysis"] for each in rollout["spec"]["strategy"]["canary"]["steps"] if "analysis" in each)
        assert step["templates"] == [{"templateName": template["metadata"]["name"]}]
        values = {each["name"]: each["value"] for each in step["args"]} | {"token": self.token}
        assert set(values) == {each["name"] for each in template["spec"]["args"]}
        [metric] = template["spec"]["metrics"]
        web = metric["provider"]["web"]
        headers = {each["key"]: fill(each["value"], values) for each in web["headers"]}
        answer = self.client.get(fill(web["url"], values).removeprefix("http://quarterdeck:8501"), headers=headers)
        if not 200 <= answer.status_code < 300:
            return "Error"
        assert web["jsonPath"] == "{$.verdict}"
        result = answer.json()["verdict"]
        if holds(metric["failureCondition"], result):
            return "Failed"
        return "Successful" if holds(metric["successCondition"], result) else "Inconclusive"


def fill(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\{\{\s*args\.([\w-]+)\s*\}\}", lambda found: values[found[1]], text)


def holds(condition: str, result: str) -> bool:
    found = re.fullmatch(r'result == "(\w+)"', condition)
    assert found
    return result == found[1]


def call_flagger(client: TestClient, token: str) -> dict[str, bool]:
    """Whether each webhook of the manifest gets its yes, by the type of the hook."""
    [canary] = load("flagger.yaml")
    said = {}
    for hook in canary["spec"]["analysis"]["webhooks"]:
        payload = {
            "name": "answer-service", "namespace": "default", "phase": "Progressing", "checksum": "85d557f47b",
            "metadata": hook["metadata"] | {"token": token},
        }  # fmt: skip
        path = hook["url"].removeprefix("http://quarterdeck:8501")
        said[hook["type"]] = client.post(path, json=payload).status_code <= 202
    return said


CASES = {
    "good": (0.7, "promote", "Successful", {"rollout": True, "confirm-promotion": True, "rollback": False}),
    "bad": (0.5, "roll_back", "Failed", {"rollout": False, "confirm-promotion": False, "rollback": True}),
    "new": (None, "hold", "Inconclusive", {"rollout": True, "confirm-promotion": False, "rollback": False}),
}


@pytest.mark.parametrize("case", CASES)
def test_argo_rollouts_and_flagger_read_the_verdict_by_their_manifests(client, store, deck, case):
    score, verdict, phase, hooks = CASES[case]
    start(store, error_margin=0.05)
    deck.refresh()
    if score is not None:
        serve(deck, green_score=score, users=1_500)
    secret, _ = issue_token(store, "rollouts", [TokenScope.EVALUATE], ME)
    answer = client.get(PATH, headers={"Authorization": f"Bearer {secret}"})
    assert (answer.status_code, answer.json()["verdict"]) == (200, verdict), answer.text
    assert answer.json()["reason"]
    assert Argo(client, secret).measure() == phase
    assert call_flagger(client, secret) == hooks
    assert Argo(client, "wrong").measure() == "Error"
    assert not any(call_flagger(client, "wrong").values())


def test_the_share_and_the_start_of_a_step_can_be_another_tools(client, store, deck):
    start(store, share=0)
    assert client.get(PATH).json()["reason"] == "Nobody gets green."
    since = datetime.now(UTC) - timedelta(minutes=10)
    driven = client.get(PATH, params={"share": 20, "since": since.isoformat()}).json()
    assert (driven["share_pct"], driven["verdict"]) == (20, "hold")
    assert datetime.fromisoformat(driven["since"]) == since
    for query, field in [({"share": "much"}, "share"), ({"share": "120"}, "share"), ({"since": "soon"}, "since")]:
        wrong = client.get(PATH, params=query)
        assert (wrong.status_code, wrong.json()["error"].split(":")[0]) == (400, field)
    assert client.post(PATH, params={"confirm": "x"}, json={}).status_code == 400
    assert client.get("/v1/canaries/unknown/verdict").status_code == 404


def test_the_manifests_are_what_the_controllers_read():
    kinds = [(each["apiVersion"], each["kind"]) for each in load("argo-rollouts.yaml")]
    assert kinds == [
        ("v1", "Secret"), ("argoproj.io/v1alpha1", "AnalysisTemplate"), ("argoproj.io/v1alpha1", "Rollout"),
    ]  # fmt: skip
    [canary] = load("flagger.yaml")
    assert (canary["apiVersion"], canary["kind"]) == ("flagger.app/v1beta1", "Canary")
    assert json.dumps(canary).count("REPLACE_ME") == 3
