"""What a flag costs: an evaluation of a 20% rollout compared with three other clients, loading, scale, conformance.

    python -m benchmarks.flag_evaluation [--pairs 100000] [--seed 1]

Peers that are not installed are named; `benchmarks/requirements-peers.txt` makes an environment that has them all.
"""

import argparse
import importlib.util
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from quarterdeck.client import Quarterdeck
from quarterdeck.definitions import boolean_flag
from quarterdeck.flags import FlagSet
from quarterdeck.rules import RuleOperator, TargetingRule
from tests.flag_generator import find_differences, make_cases

KEY = "new-ranker"
USERS = [f"user-{number}" for number in range(2_000)]
Ask = Callable[[str], bool]


@contextmanager
def flagd_provider(document: dict[str, Any]) -> Iterator[Ask]:
    """flagd's provider, its resolver reading a file, asked directly."""
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType
    from openfeature.evaluation_context import EvaluationContext

    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document, file)
        file.flush()
        provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=file.name)
        provider.initialize(EvaluationContext())
        yield lambda user: provider.resolve_boolean_details(KEY, False, EvaluationContext(user)).value
        provider.shutdown()


@contextmanager
def flagd_through_openfeature(document: dict[str, Any]) -> Iterator[Ask]:
    """The same provider behind OpenFeature's client, as applications use it."""
    from openfeature import api
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType
    from openfeature.evaluation_context import EvaluationContext

    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document, file)
        file.flush()
        provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=file.name)
        api.set_provider_and_wait(provider, "benchmark")
        client = api.get_client("benchmark")
        yield lambda user: client.get_boolean_value(KEY, False, EvaluationContext(user))
        api.clear_providers()


@contextmanager
def unleash(_: dict[str, Any]) -> Iterator[Ask]:
    """Unleash's client, offline, with the same rollout as a flexibleRollout strategy."""
    from UnleashClient import UnleashClient
    from UnleashClient.cache import FileCache

    rollout = {"rollout": "20", "stickiness": "userId", "groupId": KEY}
    strategy = {"name": "flexibleRollout", "parameters": rollout}
    features = [{"name": KEY, "type": "release", "enabled": True, "strategies": [strategy]}]
    with tempfile.TemporaryDirectory() as directory:
        cache = FileCache("benchmark", directory=directory)
        cache.bootstrap_from_dict({"version": 1, "features": features})
        client = UnleashClient(
            "http://127.0.0.1:9/api", "benchmark", cache=cache, disable_metrics=True, disable_registration=True
        )
        client.initialize_client(fetch_toggles=False)
        yield lambda user: client.is_enabled(KEY, {"userId": user})
        client.destroy()


@contextmanager
def growthbook(_: dict[str, Any]) -> Iterator[Ask]:
    """GrowthBook's client with one long-lived instance, the cheapest way to ask it about many users."""
    from growthbook import GrowthBook

    client = GrowthBook(features={KEY: {"defaultValue": False, "rules": [{"force": True, "coverage": 0.2}]}})

    def ask(user: str) -> bool:
        client.set_attributes({"id": user})
        return client.is_on(KEY)

    yield ask
    client.destroy()


@contextmanager
def our_client(document: dict[str, Any]) -> Iterator[Ask]:
    """`Quarterdeck.is_enabled`, as a service calls it."""
    deck = Quarterdeck.from_definitions(document)
    yield lambda user: deck.is_enabled(KEY, user)


@contextmanager
def our_rule(document: dict[str, Any]) -> Iterator[Ask]:
    """The rule below the client, giving a whole evaluation with variant and reason."""
    flags = FlagSet.from_definitions(document)
    yield lambda user: flags.evaluate(KEY, False, {"targetingKey": user}).value


# Name, the module it needs, how to set it up, and the targeted speed-up.
PEERS = [
    ("flagd's Python provider", "openfeature.contrib.provider.flagd", flagd_provider, 10.0),
    ("the same, through OpenFeature's client", "openfeature.contrib.provider.flagd", flagd_through_openfeature, 10.0),
    ("Unleash's client", "UnleashClient", unleash, 10.0),
    ("GrowthBook's client", "growthbook", growthbook, 2.0),
]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--pairs", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    logging.disable(logging.ERROR)
    reached = [compare_evaluation(), measure_loading(), measure_scale(), compare_answers(chosen.seed, chosen.pairs)]
    return 0 if all(reached) else 1


def compare_evaluation() -> bool:
    """Ours and every installed peer alternately, so that a busy machine slows all alike; the best round counts."""
    document = {"flags": {KEY: boolean_flag(on=True, rollout_pct=20)}}
    print(f"One boolean flag, 20% rollout, {len(USERS):,} users, ns per evaluation:")
    with ExitStack() as stack:
        asked = {
            "Quarterdeck.is_enabled": stack.enter_context(our_client(document)),
            "FlagSet.evaluate": stack.enter_context(our_rule(document)),
        }
        for name, module, peer, _ in PEERS:
            if _is_installed(module):
                asked[name] = stack.enter_context(peer(document))
        costs = _measure(asked)
        shares = {name: sum(map(ask, USERS)) / len(USERS) for name, ask in asked.items()}
    ours = costs["Quarterdeck.is_enabled"]
    targets = {name: target for name, _, _, target in PEERS}
    for name, cost in costs.items():
        wanted = f", at least {targets[name]:.0f} wanted" if name in targets else ""
        print(f"  {name:40}{cost:10,.0f}   {cost / ours:6.1f} times ours{wanted}; on for {shares[name]:.1%}")
    for name, module, _, _ in PEERS:
        if not _is_installed(module):
            print(f"  {name:40}   missing: pip install -r benchmarks/requirements-peers.txt")
    return all(cost >= targets.get(name, 0) * ours for name, cost in costs.items())


def measure_loading() -> bool:
    """A flag is compiled at its first evaluation, so two times are shown: loading, and loading plus evaluating all."""
    document = {"flags": _many_flags(1_000)}

    def load_and_ask() -> None:
        flags = FlagSet.from_definitions(document)
        for key in flags.keys():  # noqa: SIM118 - a set of flags is no mapping
            flags.is_enabled(key, "ann", {"country": "US", "version": "3.1.0"})

    loaded, asked = (
        min(_timed(work) for _ in range(9)) * 1000
        for work in (lambda: FlagSet.from_definitions(document), load_and_ask)
    )
    print(f"1,000 flags with two rules and a rollout each load in {loaded:.0f} ms (under 100 wanted)")
    print(f"  and with each of them evaluated once in {asked:.0f} ms")
    return loaded < 100


def measure_scale() -> bool:
    """The same flag asked for in small and large sets: one lookup in a dictionary stands between them."""
    asked: dict[str, Ask] = {}
    for count in (1, 100, 10_000):
        flags = FlagSet.from_definitions({"flags": _many_flags(count) | {KEY: boolean_flag(on=True, rollout_pct=20)}})
        asked[f"{count:,}"] = lambda user, flags=flags: flags.is_enabled(KEY, user)
    costs = _measure(asked)
    print("ns per is_enabled among n other flags: " + ", ".join(f"{name}: {cost:.0f}" for name, cost in costs.items()))
    return costs["10,000"] < 2 * costs["1"]


def compare_answers(seed: int, pairs: int) -> bool:
    """Value, variant, reason and error code of generated definitions and contexts, ours against flagd-core's."""
    different, asked, reasons = 0, 0, 0
    for case in make_cases(seed, pairs):
        asked += len(case.contexts)
        differences = find_differences(case)
        different += len(differences)
        for difference in differences[: max(0, 5 - reasons)]:
            reasons += 1
            print(f"  {difference}")
    print(f"{asked:,} generated pairs of definition and context, seed {seed}: {different} answered unlike flagd-core")
    return different == 0


def _many_flags(count: int) -> dict[str, Any]:
    rules = [
        TargetingRule("country", RuleOperator.ONE_OF, ["DE", "FR", "NL"], "on"),
        TargetingRule("version", RuleOperator.VERSION_LESS, "2.0.0", "off"),
    ]
    return {f"flag-{number}": boolean_flag(on=True, rollout_pct=25, rules=rules) for number in range(count)}


def _measure(asked: dict[str, Ask]) -> dict[str, float]:
    """Nanoseconds for one question, the best of seven rounds over all users."""
    best = dict.fromkeys(asked, float("inf"))
    for _ in range(7):
        for name, ask in asked.items():
            best[name] = min(best[name], _timed(lambda ask=ask: [ask(user) for user in USERS]) / len(USERS) * 1e9)
    return best


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
