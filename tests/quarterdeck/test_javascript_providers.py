"""OpenFeature's JavaScript providers give every user what the Python client gives.

The server's and the web's OFREP provider ask a running deck; flagd's, in process, reads the file that it exports. They
come from npm into a folder of the test run; where node, npm or their registry is missing, the test says so.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.audit.acts import Act
from core.flags.layers import Layer
from core.flags.operations import import_flags
from core.rollouts.layers import create_layer
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag, canary_flag, set_hash_version, split_flag, switch_flag
from quarterdeck.hashing import STRING
from quarterdeck.rules import RuleOperator, TargetingRule
from quarterdeck.slices import Slice, set_slices
from tests.api_server import Served, serving

ME = Act("ada", "because")
HELD_OUT = Slice("holdout/2026q4", ((0, 95_000),))
TAKEN = [((0, 20_000), (50_000, 70_000)), ((20_000, 50_000),), ((70_000, 100_000),)]
FIRST, SECOND, THIRD = ((Slice("layer/answers", ranges), HELD_OUT) for ranges in TAKEN)
ASKING = """
const { what, address, file, keys, contexts } = JSON.parse(require('fs').readFileSync(0));
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const isWeb = what === 'web';
const { OpenFeature } = require(isWeb ? '@openfeature/web-sdk' : '@openfeature/server-sdk');
const makers = {
  server: () => new (require('@openfeature/ofrep-provider').OFREPProvider)({ baseUrl: address }),
  web: () => new (require('@openfeature/ofrep-web-provider').OFREPWebProvider)(
    { baseUrl: address, cacheMode: 'disabled', changeDetection: 'none' }, quiet),
  flagd: () => new (require('@openfeature/flagd-provider').FlagdProvider)(
    { resolverType: 'in-process', offlineFlagSourcePath: file }, quiet),
};
const ask = { boolean: 'getBooleanDetails', string: 'getStringDetails', number: 'getNumberDetails' };
(async () => {
  OpenFeature.setLogger(quiet);
  if (isWeb) await OpenFeature.setContext(contexts[0]);
  await OpenFeature.setProviderAndWait(makers[what]());
  const client = OpenFeature.getClient();
  const found = [];
  for (const context of contexts) {
    if (isWeb) await OpenFeature.setContext(context);
    found.push(await Promise.all(Object.entries(keys).map(async ([key, fallback]) => {
      const { value, variant } = await client[ask[typeof fallback]](key, fallback, isWeb ? undefined : context);
      return [key, value, variant ?? ''];
    })));
  }
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


@pytest.fixture
def served(store, url, monkeypatch, tmp_path) -> Iterator[Served]:
    """A running deck with every kind of flag."""
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    create_layer(store, Layer("answers", STRING), ME)
    import_flags(store, {"flags": make_flags()}, ME)
    with serving(store) as running:
        yield running


def make_flags() -> dict[str, Any]:
    """Every kind of flag that a form makes, in the hash of flagd's JavaScript SDK, and one that it is not given."""
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
        "sliced": set_slices(boolean_flag(on=True, rollout_pct=50, rules=RULES[:1]), FIRST),
        "sliced-canary": set_slices(canary_flag(12.5), SECOND),
        "sliced-split": set_slices(split_flag({"a": 1, "b": 2, "c": 1}, 70), THIRD),
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


def ask(packages: Path, what: str, keys: dict[str, Any], contexts: list[dict[str, Any]], **where: str) -> list[Any]:
    """What a provider answers, by context and key."""
    (packages / "ask.js").write_text(ASKING)
    asked = {"what": what, "keys": keys, "contexts": contexts, **where}
    done = subprocess.run(
        ["node", "ask.js"], cwd=packages, capture_output=True, text=True, timeout=600, input=json.dumps(asked)
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def list_differences(
    deck: Quarterdeck, keys: dict[str, Any], contexts: list[dict[str, Any]], answers: list[Any]
) -> list[Any]:
    """The answers that are not those of the Python client."""
    differences, asked = [], 0
    for context, found in zip(contexts, answers, strict=True):
        for key, value, variant in found:
            ours = deck.evaluate(key, keys[key], context)
            asked += 1
            if (value, variant) != (ours.value, ours.variant or ""):
                differences.append((key, context, (value, variant), ours))
    assert asked >= 10_000
    return differences


def usual(flags: dict[str, Any]) -> dict[str, Any]:
    """A default in the code for each flag, of its type. JavaScript has one type of number."""
    defaults: dict[type, Any] = {str: "", int: 0.0, float: 0.0}
    firsts = {key: next(iter(flag["variants"].values())) for key, flag in flags.items()}
    return {key: defaults.get(type(value), value) for key, value in firsts.items()}


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.sqlite_only("it compares evaluations, whatever store the flags come from")
@pytest.mark.parametrize("what", ["server", "web", "flagd"])
def test_a_javascript_provider_gives_every_user_what_the_client_gives(openfeature_packages, served, tmp_path, what):
    flags, contexts = make_flags(), list(make_contexts())
    file = tmp_path / "flags.json"
    if what == "flagd":
        exported = httpx2.get(f"{served.address}/flagd/flags.json", params={"bucketing": "string"})
        assert list(exported.json()["leftOut"]) == ["newer"]
        file.write_bytes(exported.content)
        flags = {key: flag for key, flag in flags.items() if key != "newer"}
    keys = usual(flags)
    answers = ask(openfeature_packages, what, keys, contexts, address=served.address, file=str(file))
    deck = Quarterdeck.from_definitions({"flags": make_flags()})
    assert list_differences(deck, keys, contexts, answers) == []
