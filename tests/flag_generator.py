"""Seeded flag definitions, contexts and defaults, common and odd, and what flagd-core itself answers to them."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError

from quarterdeck.documents import copy_json
from quarterdeck.flags import Evaluation, FlagSet

UNKNOWN = "unknown"
Answer = tuple[str, str | None, str, str | None]

_KEYS = ["new-ranker", "prompt.v2", "f", "naïve-überflag", "a flag with spaces and a long name, well over 24 bytes"]
_ATTRIBUTES = ["country", "plan", "version", "age", "email", "beta", "tags", "user.name", "user", "tags.0", "missing"]
_TEXTS = ["DE", "FR", "pro", "free", "1.2.0", "v2", "2.0.0-rc.1", "ann@example.com", "", "on", "off", "true", "10", "ü"]
_ODD = [
    None, True, False, 0, 1, 10, -1, 3.5, 1.0, float("nan"), float("inf"), 10**30, "\ud800", "0", " 7 ", "Infinity",
    [], ["DE"], ["DE", "pro"], [1], [[]], {}, {"name": "ann"}, {"name": None}, {"a": 1, "b": 2}, ("DE",),
    datetime(2026, 1, 1, tzinfo=UTC), b"DE",
]  # fmt: skip
_DEFAULTS = [True, False, "", "code", 0, 7, 0.0, 2.5, {}, {"a": 1}, []]
_VARIANTS: list[dict[str, Any]] = [
    {"on": True, "off": False},
    {"true": True, "false": False},
    {"blue": "blue", "green": "green"},
    {"a": "A", "b": "B", "c": "C", "on": "on"},
    {"small": 1, "big": 100, "on": 0},
    {"low": 0.1, "high": 2.0, "on": 5},
    {"x": {"k": [1, 2]}, "y": {}, "on": []},
    {"on": True, "off": None, "a": "text", "1": 1, "": "empty"},
]
_COMPARISONS = ["==", "!=", "===", "!==", "<", "<=", ">", ">="]
_SIGNS = ["=", "!=", "<", "<=", ">", ">=", "^", "~", "==="]
_ARITHMETIC = ["+", "-", "*", "/", "%", "min", "max", "cat", "merge", "substr", "!", "!!", "missing", "missing_some"]
_EVALUATORS = {
    "is_pro": {"==": [{"var": "plan"}, "pro"]},
    "is_us": {"and": [{"in": [{"var": "country"}, ["DE", "FR"]]}, {"$ref": "is_grown"}]},
    "is_grown": {">=": [{"var": "age"}, 18]},
    "is_circular": {"!": [{"$ref": "is_circular"}]},
}


@dataclass(frozen=True, slots=True)
class Case:
    """One question: a flagd document with one flag, what to ask of it and with what default."""

    document: dict[str, Any]
    key: str
    contexts: tuple[dict[str, Any] | None, ...]
    defaults: tuple[Any, ...]


def make_cases(seed: int, pairs: int) -> Iterator[Case]:
    """Cases that hold at least `pairs` pairs of definition and context."""
    rng = random.Random(seed)
    while pairs > 0:
        key = rng.choice(_KEYS)
        count = rng.choice((4, 8, 16))
        variants = rng.choice(_VARIANTS)
        yield Case(
            document=_document(rng, key, variants),
            key=key if rng.random() < 0.98 else UNKNOWN,
            contexts=tuple(_context(rng) for _ in range(count)),
            defaults=tuple(_default(rng, variants) for _ in range(count)),
        )
        pairs -= count


def find_differences(case: Case) -> list[str]:
    """Each question of a case that flagd-core and our rule answer differently; an empty list is agreement."""
    core, flags = load_flagd(case.document), FlagSet.from_definitions(case.document)
    found = []
    for context, default in zip(case.contexts, case.defaults, strict=True):
        wanted = flagd_answer(core, case.key, default, context)
        evaluation = flags.evaluate(case.key, default, context)
        if our_answer(evaluation) != wanted:
            found.append(f"{case.document} {case.key} {default!r} {context}: {wanted}, but {evaluation}")
        if isinstance(default, bool):
            enabled = flags.is_enabled(case.key, (context or {}).get("targetingKey"), context, default)
            if enabled is not evaluation.value:
                found.append(f"{case.document} {case.key} {context}: is_enabled {enabled}, but {evaluation}")
    return found


def load_flagd(document: Mapping[str, Any]) -> FlagdCore | None:
    """flagd-core with this document, or None where it refuses the flag."""
    core = FlagdCore()
    try:
        core.set_flags(copy_json(document))
    except OpenFeatureError:
        return None
    return core


def flagd_answer(core: FlagdCore | None, key: str, default: Any, context: Mapping[str, Any] | None) -> Answer:
    """Value and its type, variant, reason and error code, put as an OpenFeature client would see them."""
    if core is None:
        return _shown(default), None, "ERROR", "FLAG_NOT_FOUND" if key == UNKNOWN else "PARSE_ERROR"
    resolve = {
        bool: core.resolve_boolean_value,
        str: core.resolve_string_value,
        int: core.resolve_integer_value,
        float: core.resolve_float_value,
    }.get(type(default), core.resolve_object_value)
    try:
        found = resolve(key, default, None if context is None else _evaluation_context(context))
    except OpenFeatureError as error:
        return _shown(default), None, "ERROR", error.error_code.value
    except Exception:  # noqa: BLE001 - a client gives whatever an evaluator raises the code GENERAL
        return _shown(default), None, "ERROR", "GENERAL"
    return _shown(found.value), found.variant, str(found.reason.value), None


def our_answer(evaluation: Evaluation) -> Answer:
    return _shown(evaluation.value), evaluation.variant, evaluation.reason, evaluation.error_code


def _shown(value: Any) -> str:
    """Text that tells 1 from 1.0 from True, and calls NaN equal to itself."""
    return repr(value)


def _evaluation_context(context: Mapping[str, Any]) -> EvaluationContext:
    attributes = {name: value for name, value in context.items() if name != "targetingKey"}
    return EvaluationContext(context.get("targetingKey"), attributes)


def _default(rng: random.Random, variants: Mapping[str, Any]) -> Any:
    """Mostly a default of the flag's own type."""
    fitting = [default for default in _DEFAULTS if type(default) is type(next(iter(variants.values())))]
    return rng.choice(fitting if rng.random() < 0.8 else _DEFAULTS)


def _document(rng: random.Random, key: str, variants: dict[str, Any]) -> dict[str, Any]:
    definition: dict[str, Any] = {"state": "DISABLED" if rng.random() < 0.03 else "ENABLED", "variants": variants}
    if rng.random() < 0.9:
        odd = [None, "", "nowhere", True, False]
        definition["defaultVariant"] = rng.choice(list(variants)) if rng.random() < 0.9 else rng.choice(odd)
    if rng.random() < 0.9:
        definition["targeting"] = _targeting(rng, list(variants))
    if rng.random() < 0.2:
        definition["metadata"] = {"owner": "search", "n": 1}
    if rng.random() < 0.02:
        definition[rng.choice(("state", "variants", "metadata", "extra", "targeting"))] = rng.choice(_ODD[:20])
    document: dict[str, Any] = {"flags": {key: definition}}
    if rng.random() < 0.3:
        document["$evaluators"] = _EVALUATORS
    return document


def _targeting(rng: random.Random, names: list[str]) -> Any:
    """Mostly what people write; one time in four anything that is grammatical."""
    roll = rng.random()
    if roll < 0.3:
        return _fractional(rng, names, 0)
    if roll < 0.4:
        return _split(rng, names)
    if roll < 0.75:
        rules = [part for _ in range(rng.randint(1, 3)) for part in (_condition(rng, 2), _result(rng, names))]
        last = [_fractional(rng, names, 0)] if rng.random() < 0.5 else [_result(rng, names)]
        return {"if": rules + (last if rng.random() < 0.8 else [])}
    return _expression(rng, names, 4)


def _split(rng: random.Random, names: list[str]) -> Any:
    inner = {"fractional": [{"cat": [{"var": "$flagd.flagKey"}, "/", {"var": "targetingKey"}]}, *_buckets(rng, names)]}
    enrolled = rng.randint(0, 100_000)
    by = [{"var": "targetingKey"}] if rng.random() < 0.5 else []
    return {"fractional": [*by, [inner, enrolled], [rng.choice([*names, None]), 100_000 - enrolled]]}


def _fractional(rng: random.Random, names: list[str], depth: int) -> Any:
    by: list[Any] = []
    if rng.random() < 0.6:
        attribute = rng.choice(["targetingKey", "targetingKey", "email", "user.name", "age", "tags", "missing"])
        wrapped = [{"cat": [{"var": "$flagd.flagKey"}, {"var": attribute}]}, {"merge": [{"var": attribute}]}, "seed", 5]
        by = [{"var": attribute}] if rng.random() < 0.6 else [rng.choice(wrapped)]
    buckets = _buckets(rng, names)
    if depth and rng.random() < 0.3:
        buckets[0][0] = _expression(rng, names, depth - 1)
    return {"fractional": by + buckets}


def _buckets(rng: random.Random, names: list[str]) -> list[list[Any]]:
    chosen = [rng.choice(names) if rng.random() < 0.95 else rng.choice([None, True, 1, "x"]) for _ in range(3)]
    weights: list[Any] = [rng.choice([0, 1, 5, 20, 25, 50, 20_000, 80_000, rng.randint(0, 10**6)]) for _ in range(3)]
    if rng.random() < 0.08:
        weights[0] = rng.choice([-5, 0.5, True, "5", None, 2**31, 2**40, {"var": "age"}])
    pairs = [[name] if rng.random() < 0.1 else [name, weight] for name, weight in zip(chosen, weights, strict=True)]
    return pairs[: rng.randint(1, 3)]


def _result(rng: random.Random, names: list[str]) -> Any:
    if rng.random() < 0.93:
        return rng.choice(names)
    return rng.choice([None, "nowhere", True, False, 1, 1.0, "", [], {"var": "plan"}, {"var": "on"}, {"a": 1, "b": 2}])


def _condition(rng: random.Random, depth: int) -> Any:
    """A test over attributes, as rules have."""
    roll = rng.random()
    if depth and roll < 0.2:
        return {rng.choice(["and", "or"]): [_condition(rng, depth - 1) for _ in range(rng.randint(1, 3))]}
    if depth and roll < 0.27:
        inner = _condition(rng, depth - 1)
        return {rng.choice(["!", "!!"]): inner if rng.random() < 0.3 else [inner]}
    if roll < 0.33:
        return {"$ref": rng.choice([*_EVALUATORS, "nobody"])}
    if roll < 0.5:
        return {"in": [_variable(rng), rng.sample(_TEXTS, 3)] if rng.random() < 0.7 else [_value(rng), _variable(rng)]}
    if roll < 0.62:
        return {rng.choice(["starts_with", "ends_with"]): [_variable(rng), rng.choice(_TEXTS)]}
    if roll < 0.72:
        wanted = rng.choice(["1.2.0", "2", "v1.0", "2.0.0-rc.1", "x"])
        return {"sem_ver": [{"var": "version"}, rng.choice(_SIGNS), wanted]}
    if roll < 0.8:
        return rng.choice([{"var": "beta"}, _variable(rng), _value(rng)])
    sides = [_variable(rng), _value(rng)]
    rng.shuffle(sides)
    return {rng.choice(_COMPARISONS): sides}


def _expression(rng: random.Random, names: list[str], depth: int) -> Any:
    """Anything that is grammatical, and some things that are not."""
    roll = rng.random()
    if depth <= 0 or roll < 0.15:
        return rng.choice([_value(rng), _variable(rng), rng.choice(names)])
    if roll < 0.3:
        return _condition(rng, depth - 1)
    if roll < 0.45:
        return _fractional(rng, names, depth)
    parts = [_expression(rng, names, depth - 1) for _ in range(rng.randint(0, 4))]
    if roll < 0.6:
        return {rng.choice(["if", "?:"]): parts}
    if roll < 0.9:
        many = ["and", "or", "in", "sem_ver", "starts_with", *_COMPARISONS, *_ARITHMETIC]
        return {rng.choice(many): parts if rng.random() < 0.9 or not parts else parts[0]}
    if roll < 0.94:
        return {rng.choice(["map", "filter", "all", "some", "none", "reduce"]): [_variable(rng), *parts]}
    return rng.choice([{"nope": parts}, {"a.b": parts}, {"cat.x": parts}, parts, {}, {"if": "on", "or": 1}])


def _variable(rng: random.Random) -> Any:
    roll = rng.random()
    name = rng.choice(_ATTRIBUTES)
    if roll < 0.75:
        return {"var": name}
    if roll < 0.85:
        return {"var": [name]}
    if roll < 0.95:
        return {"var": [name, _value(rng)]}
    return {
        "var": rng.choice(["$flagd.flagKey", "$flagd", "targetingKey", "", 0, 1.5, [], None, "targetingKey.length"])
    }


def _value(rng: random.Random) -> Any:
    return rng.choice(_TEXTS) if rng.random() < 0.6 else rng.choice(_ODD[:-3])


def _context(rng: random.Random) -> dict[str, Any] | None:
    if rng.random() < 0.02:
        return None
    context: dict[str, Any] = {}
    for name in ("country", "plan", "version", "age", "email", "beta", "tags", "user", "on"):
        if rng.random() < 0.6:
            context[name] = rng.choice(_TEXTS) if rng.random() < 0.7 else rng.choice(_ODD)
    if rng.random() < 0.4:
        context["beta"] = rng.choice([True, False, 0, 0.0, float("nan"), "", "0", [], [0], {}, {"a": 1}, ()])
    if rng.random() < 0.3:
        context["age"] = rng.choice([17, 18, 18.0, 40, "18"])
    if rng.random() < 0.3:
        context["user"] = {"name": rng.choice(_TEXTS)}
    if rng.random() < 0.93:
        context["targetingKey"] = f"user-{rng.randrange(10**6)}" * rng.choice((1, 1, 1, 3, 30))
    elif rng.random() < 0.8:
        context["targetingKey"] = rng.choice(["", None, 5, 5.0, True, "\ud800", "ü" * 12, ["a"], {"a": 1}, 10**30])
    if rng.random() < 0.02:
        context["$flagd"] = {"flagKey": "forged"}
    return context
