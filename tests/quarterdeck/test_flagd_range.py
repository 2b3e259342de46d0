"""The range of `openfeature-flagd-core` in the client: it ends at the version that these tests run on.

A user must stay in the arm he is in, so a newer version counts only when it deals 10,000 users as this one does. To try
one: pin it in constraints.txt and requirements.txt, raise the range in pyproject.toml, and run this file and
tests/quarterdeck/test_flags_conformance.py.
"""

import hashlib
import tomllib
from collections import Counter
from importlib.metadata import version

import pytest
from openfeature.contrib.tools.flagd.core.targeting import targeting
from openfeature.evaluation_context import EvaluationContext
from packaging.requirements import Requirement

from core.config import PROJECT

NAME = "openfeature-flagd-core"
# What version 2.0.0 answers, by its own interpreter. 1.0.0, which hashes otherwise, gives none of them.
DEALT = {
    "blue 5, green 95": "e4dc9fb7fb7b5553",
    "on 20, off 80": "522afed3e941dd2a",
    "a 1, b 1, c 1": "f311ac29fc7521bf",
    "a 25000, b 75000": "7d56693095394c06",
}


def deal(shares: str) -> list[str]:
    """Return the variant of each of 10,000 users."""
    pairs = [each.rsplit(" ", 1) for each in shares.split(", ")]
    rule = {"fractional": [[name, int(weight)] for name, weight in pairs]}
    return [targeting("new_prompt_v3", rule, EvaluationContext(f"user-{user}")) for user in range(10_000)]


@pytest.mark.parametrize("shares", DEALT)
def test_ten_thousand_users_get_the_variants_that_they_always_got(shares: str) -> None:
    variants = deal(shares)
    assert hashlib.sha256("\n".join(variants).encode()).hexdigest()[:16] == DEALT[shares], Counter(variants)


def test_the_range_ends_at_the_version_that_was_tried() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (needed,) = [each for each in map(Requirement, project["dependencies"]) if each.name == NAME]
    assert version(NAME) in needed.specifier
    assert str(needed.specifier) == f"<={version(NAME)},>=2.0"
    assert f"{NAME}=={version(NAME)}" in (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
