"""flagd's JavaScript provider, in process and reading the export from a file, answers as OFREP does.

It comes from npm into a folder of the test run; where node, npm or their registry is missing, the test says so.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.http import api, backends
from core.audit.acts import Act
from core.flags.operations import import_flags
from quarterdeck.definitions import boolean_flag, canary_flag, set_hash_version, split_flag, switch_flag
from quarterdeck.hashing import STRING
from quarterdeck.rules import RuleOperator, TargetingRule

ME = Act("ada", "because")
PACKAGES = ("@openfeature/flagd-provider@0.16.1", "@openfeature/flagd-core@4.0.1", "@openfeature/server-sdk@1.23.0")
SCRIPT = """
const { OpenFeature } = require('@openfeature/server-sdk');
const { FlagdProvider } = require('@openfeature/flagd-provider');
const { file, keys, contexts } = JSON.parse(require('fs').readFileSync(0));
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
(async () => {
  OpenFeature.setLogger(quiet);
  const provider = new FlagdProvider({ resolverType: 'in-process', offlineFlagSourcePath: file }, quiet);
  await OpenFeature.setProviderAndWait(provider);
  const client = OpenFeature.getClient();
  const ask = { boolean: 'getBooleanDetails', string: 'getStringDetails', number: 'getNumberDetails' };
  const found = [];
  for (const context of contexts)
    found.push(await Promise.all(Object.entries(keys).map(async ([key, fallback]) => {
      const { value, variant } = await client[ask[typeof fallback]](key, fallback, context);
      return [key, value, variant ?? ''];
    })));
  console.log(JSON.stringify(found));
  await OpenFeature.close();
})();
"""
RULES = [
    TargetingRule("country", RuleOperator.ONE_OF, ["DE", "FR"], "on"),
    TargetingRule("country", RuleOperator.NONE_OF, ["DE", "FR", "US"], "off"),
    TargetingRule("plan", RuleOperator.EQUALS, "pro", "on"),
    TargetingRule("plan", RuleOperator.DIFFERS, "free", "off"),
    TargetingRule("age", RuleOperator.LESS, 18, "off"),
    TargetingRule("age", RuleOperator.AT_LEAST, 65, "on"),
    TargetingRule("email", RuleOperator.CONTAINS, "beta", "on"),
    TargetingRule("email", RuleOperator.STARTS_WITH, "ann", "on"),
    TargetingRule("email", RuleOperator.ENDS_WITH, "@x.org", "off"),
    TargetingRule("version", RuleOperator.VERSION_LESS, "2.0.0", "off"),
    TargetingRule("version", RuleOperator.VERSION_SAME_MAJOR, "3.1.0", "on"),
]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed: flagd's JavaScript provider cannot be asked")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text("{}")
    done = subprocess.run(
        ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"npm could not fetch flagd's JavaScript provider: {done.stderr.strip()[-200:]}")
    return folder


def make_flags() -> dict[str, Any]:
    """Every kind of flag that a form makes, in the hash of the JavaScript SDK, and one that it is not given."""
    hashed = {
        "half": boolean_flag(on=True, rollout_pct=50),
        "by-account": boolean_flag(on=True, rollout_pct=30, bucket_by="account"),
        "canary": canary_flag(12.5),
        "split": split_flag({"a": 1, "b": 2, "c": 1}, 70),
        "split-by-account": split_flag({"a": 1, "b": 1}, 40, bucket_by="account", values={"a": 1, "b": 2.5, "off": 0}),
        "off": switch_flag(boolean_flag(on=True, rollout_pct=50), on=False),
        "by-email": canary_flag(50) | {"targeting": {"fractional": [{"var": "email"}, ["blue", 1], ["green", 1]]}},
        **{f"rule-{place}": boolean_flag(on=True, rollout_pct=20, rules=[rule]) for place, rule in enumerate(RULES)},
        "all-rules": boolean_flag(on=True, rollout_pct=20, rules=RULES),
    }
    flags = {key: set_hash_version(definition, STRING) for key, definition in hashed.items()}
    return flags | {"all": boolean_flag(on=True), "newer": boolean_flag(on=True, rollout_pct=50)}


def make_contexts() -> Iterator[dict[str, Any]]:
    for number in range(500):
        context = {
            "targetingKey": f"user-{number}",
            "account": [number, f"acme-{number}", "", 0, None, 2.5, number / 8][number % 7],
            "country": ["DE", "US", "NL", "", None][number % 5],
            "plan": ["pro", "free", "team", None][number % 4],
            "age": [17, 18, 64.5, 65, 80, "20", None][number % 7],
            "email": ["ann@x.org", "bob+beta@y.org", "ann@y.org", "", None][number % 5],
            "version": ["1.9.9", "2.0.0-rc.1", "v3.2", "3", "latest", "3.1.0", None][number % 7],
        }
        yield {name: value for name, value in context.items() if value is not None}


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.sqlite_only("it compares evaluations, whatever store the flags come from")
def test_the_javascript_provider_answers_as_ofrep_does(packages, store, url, monkeypatch, tmp_path):
    flags, contexts = make_flags(), list(make_contexts())
    import_flags(store, {"flags": flags}, ME)
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    backends.close()
    with TestClient(Starlette(routes=api.ROUTES)) as client:
        exported = client.get("/flagd/flags.json", params={"bucketing": "string"})
        ofrep = [client.post("/ofrep/v1/evaluate/flags", json={"context": each}).json()["flags"] for each in contexts]
    backends.close()
    assert list(exported.json()["leftOut"]) == ["newer"]
    file = tmp_path / "flags.json"
    file.write_bytes(exported.content)
    defaults: dict[str, Any] = {key: next(iter(flags[key]["variants"].values())) for key in exported.json()["flags"]}
    defaults = {key: value if isinstance(value, bool) else type(value)() for key, value in defaults.items()}
    (packages / "ask.js").write_text(SCRIPT)
    done = subprocess.run(
        ["node", "ask.js"], cwd=packages, capture_output=True, text=True, timeout=300,
        input=json.dumps({"file": str(file), "keys": defaults, "contexts": contexts}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    asked, differences = 0, []
    for context, answers, found in zip(contexts, ofrep, json.loads(done.stdout), strict=True):
        ours = {each["key"]: each for each in answers}
        for key, value, variant in found:
            asked += 1
            wanted = (ours[key].get("value", defaults[key]), ours[key].get("variant"))
            if (value, variant) != wanted:
                differences.append((key, context, (value, variant), ours[key]))
    assert asked >= 10_000
    assert differences == []
