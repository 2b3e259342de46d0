"""Checks that this process puts users into the buckets of the hash that flags chose their users by.

A release of flagd-core, mmh3 or cbor2 that hashes in another way would move users between variants without a word. So
known users are looked up once in a process, before the first flag that hashes is used; `flags` refuses such flags where
one of them lands in another bucket. How a definition is evaluated is left to `flags` and `compiled`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from quarterdeck.compiled import compile_targeting
from quarterdeck.errors import InvalidInput
from quarterdeck.hashing import CBOR, HASH_VERSIONS, STRING, interpret, read_hash_version

logger = logging.getLogger("quarterdeck")

_FLAG = "bucketing-check"
_BUCKETS = [[str(number), 1] for number in range(100)]
# Bucket of 100 by targeting key, and by the attribute `account`. Computed once: with flagd-core 2.0.0 for
# fractional-v3, and with flagd-core 1.0.0 for fractional-v2, which hashes nothing but text.
_BY_USER = {
    CBOR: {"ann": 77, "bob": 98, "jürgen": 85, "用户-7": 43, "user-00000000000000000001": 39, "x" * 300: 13},
    STRING: {"ann": 12, "bob": 94, "jürgen": 45, "用户-7": 51, "user-00000000000000000001": 40, "x" * 300: 9},
}
_BY_ACCOUNT: dict[str, dict[Any, int | None]] = {
    CBOR: {7: 40, -1: 49, 2.5: 41, 2**40: 35},
    STRING: {"ann": 20, "": None, 7: None},
}
_DECIDED_BY = ("openfeature-flagd-core", "mmh3", "cbor2")

_Ask = Callable[[dict[str, Any]], Any]


@lru_cache(maxsize=len(HASH_VERSIONS))
def find_bucketing_problem(hash_version: str = CBOR) -> str | None:
    """Return why flags with a `fractional` of this hash cannot be trusted here, in one line, or None where they can.

    The answer is found once in a process, in a few milliseconds, and a problem is logged then.
    """
    problem = next(_list_problems(hash_version), None)
    if problem is not None:
        logger.warning("flags that share users out by weight give the default in the code: %s", problem)
    return problem


def check_bucketing(definition: Mapping[str, Any]) -> None:
    """Raise InvalidInput where this flag shares users out by weight, and this process cannot be trusted to."""
    if not uses_fractional(definition.get("targeting")):
        return
    hash_version = read_hash_version(definition.get("metadata") or {})
    if hash_version not in HASH_VERSIONS:
        raise InvalidInput("metadata.hash_version", f"{hash_version!r} is none of {', '.join(HASH_VERSIONS)}")
    if (problem := find_bucketing_problem(hash_version)) is not None:
        raise InvalidInput("targeting.fractional", problem)


def uses_fractional(logic: Any) -> bool:
    """Return whether a `fractional` stands anywhere in this targeting."""
    if isinstance(logic, Mapping):
        return "fractional" in logic or any(uses_fractional(part) for part in logic.values())
    return isinstance(logic, list) and any(uses_fractional(part) for part in logic)


def _list_problems(hash_version: str) -> Iterator[str]:
    by_account = [{"var": "account"}, *_BUCKETS]
    yield from _compare({"fractional": _BUCKETS}, "targetingKey", _BY_USER[hash_version], hash_version)
    yield from _compare({"fractional": by_account}, "account", _BY_ACCOUNT[hash_version], hash_version)


def _compare(
    logic: dict[str, Any], attribute: str, known: Mapping[Any, int | None], hash_version: str
) -> Iterator[str]:
    for way, ask in _list_ways(logic, hash_version):
        for value, bucket in known.items():
            try:
                found = ask({attribute: value})
            except Exception as error:  # noqa: BLE001 - a broken library is a problem to report, not one to fail of
                found = f"{type(error).__name__} ({error})"
            if found != (None if bucket is None else str(bucket)):
                where = f"{attribute} {value!r:.24} falls into bucket {found} instead of {bucket}"
                yield f"{where} of {hash_version} ({way}; {_versions()}); install what quarterdeck requires"


def _list_ways(logic: dict[str, Any], hash_version: str) -> Iterator[tuple[str, _Ask]]:
    """Every way in which a `fractional` is answered: by flagd-core, compiled, and at once by the targeting key."""
    yield "flagd-core", lambda data: interpret(_FLAG, logic, data, hash_version=hash_version)
    compiled = compile_targeting(_FLAG, logic, hash_version=hash_version)
    if compiled is not None:
        yield "compiled", compiled.run
        if compiled.rollout is not None:
            decide = compiled.rollout.decider(compiled.rollout.variants)
            yield "compiled, at once", lambda data: decide(data["targetingKey"])


def _versions() -> str:
    """The installed versions of what decides about buckets."""
    found = []
    for name in _DECIDED_BY:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} of unknown version")
    return ", ".join(found)
