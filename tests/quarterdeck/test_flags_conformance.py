"""flagd's own evaluator suite, read from its Gherkin files and played against the rule.

Feature files of that suite which are added to the folder are played as well.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from benchmarks.data import locate
from quarterdeck.documents import parse_document
from quarterdeck.flags import Evaluation, FlagSet

SUITE = locate("conformance", "flagd")
# The suite keeps the expectations of older hashes next to today's.
SUPERSEDED = {"@fractional-v1", "@fractional-v2"}


@dataclass(frozen=True, slots=True)
class Step:
    text: str
    table: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    tags: frozenset[str]
    steps: tuple[Step, ...]


@dataclass(slots=True)
class World:
    """What the steps of one scenario have said so far."""

    flags: FlagSet
    context: dict[str, Any]
    key: str = ""
    kind: str = ""
    default: Any = None
    found: Evaluation | None = None


def read_scenarios(text: str) -> Iterator[Scenario]:
    """Every scenario of a feature; an outline gives one for each row of its examples."""
    lines = [line.strip() for line in text.splitlines()]
    blocks = _blocks([line for line in lines if line and not line.startswith("#")])
    background: tuple[Step, ...] = ()
    outline: tuple[str, frozenset[str], tuple[Step, ...]] | None = None
    for keyword, title, tags, body in blocks:
        if keyword == "Background":
            background = _steps(body)
        elif keyword in ("Scenario", "Example"):
            yield Scenario(title, tags, background + _steps(body))
        elif keyword in ("Scenario Outline", "Scenario Template"):
            outline = (title, tags, background + _steps(body))
        elif keyword in ("Examples", "Scenarios") and outline is not None:
            for row in _table(body):
                steps = tuple(_filled(step, row) for step in outline[2])
                yield Scenario(f"{outline[0]}: {', '.join(row.values())}", outline[1] | tags, steps)


def _blocks(lines: list[str]) -> Iterator[tuple[str, str, frozenset[str], list[str]]]:
    """Keyword, title, tags and the lines up to the next block."""
    opening = re.compile(r"(Feature|Background|Scenario Outline|Scenario Template|Scenarios?|Examples?|Rule):\s*(.*)")
    tags: frozenset[str] = frozenset()
    block: tuple[str, str, frozenset[str], list[str]] | None = None
    for line in lines:
        opened = opening.fullmatch(line)
        if opened:
            if block:
                yield block
            block = (opened[1], opened[2], tags, [])
            tags = frozenset()
        elif line.startswith("@"):
            tags |= frozenset(line.split())
        elif block:
            block[3].append(line)
    if block:
        yield block


def _steps(lines: list[str]) -> tuple[Step, ...]:
    steps: list[Step] = []
    tables: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            tables[-1].append(line)
        else:
            steps.append(Step(re.sub(r"^(Given|When|Then|And|But|\*)\s+", "", line)))
            tables.append([])
    return tuple(Step(step.text, tuple(_table(table))) for step, table in zip(steps, tables, strict=True))


def _table(lines: list[str]) -> Iterator[dict[str, str]]:
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return (dict(zip(rows[0], row, strict=True)) for row in rows[1:])


def _filled(step: Step, row: dict[str, str]) -> Step:
    text = re.sub(r"<([^>]+)>", lambda match: row.get(match[1], match[0]), step.text)
    return Step(text, step.table)


def _value(kind: str, text: str) -> Any:
    """What a quoted word of the suite stands for."""
    if kind == "Boolean":
        return {"true": True, "false": False}[text.lower()]
    if kind == "Object":
        return json.loads(text.replace('\\"', '"'))
    return {"String": str, "Integer": int, "Float": float}[kind](text)


def _flag(world: World, kind: str, key: str, default: str) -> None:
    world.kind, world.key, world.default = kind, key, _value(kind, default)


def _attribute(world: World, name: str, kind: str, value: str) -> None:
    world.context[name] = _value(kind, value)


def _nested(world: World, outer: str, inner: str, value: str) -> None:
    world.context.setdefault(outer, {})[inner] = value


def _target(world: World, value: str) -> None:
    world.context["targetingKey"] = value


def _evaluate(world: World) -> None:
    world.found = world.flags.evaluate(world.key, world.default, world.context)


def _expect_value(world: World, text: str) -> None:
    wanted = _value(world.kind, text)
    assert (world.found.value, type(world.found.value)) == (wanted, type(wanted))


def _expect_reason(world: World, reason: str) -> None:
    assert world.found.reason == reason


def _expect_error(world: World, code: str) -> None:
    assert world.found.error_code == code
    assert world.found.reason == "ERROR"


def _expect_variant(world: World, variant: str) -> None:
    assert world.found.variant == variant


def _expect_no_metadata(world: World) -> None:
    assert world.found.flag_metadata == {}


STEPS: list[tuple[str, Callable[..., None]]] = [
    (r"an evaluator|a stable flagd provider", lambda world: None),
    (r'an? (\w+)-flag with key "(.*?)" and a (?:fallback|default) value "(.*)"', _flag),
    (r'a context containing a key "(.*?)", with type "(.*?)" and with value "(.*)"', _attribute),
    (
        r'a context containing a nested property with outer key "(.*?)" and inner key "(.*?)", with value "(.*)"',
        _nested,
    ),
    (r'a context containing a targeting key with value "(.*)"', _target),
    (r"the flag was evaluated with details", _evaluate),
    (r'the resolved details value should be "(.*)"', _expect_value),
    (r'the reason should be "(.*)"', _expect_reason),
    (r'the error-code should be "(.*)"', _expect_error),
    (r'the variant should be "(.*)"', _expect_variant),
    (r"the resolved metadata is empty", _expect_no_metadata),
]


def _play(world: World, step: Step) -> None:
    if step.text == "the resolved metadata should contain":
        wanted = {row["key"]: _value(row["metadata_type"], row["value"]) for row in step.table}
        assert world.found.flag_metadata == wanted
        return
    for pattern, action in STEPS:
        match = re.fullmatch(pattern, step.text)
        if match:
            action(world, *match.groups())
            return
    pytest.fail(f"no step reads {step.text!r}")


def _scenarios() -> list[Any]:
    if not SUITE.is_dir():
        skip = pytest.mark.skip(reason=f"flagd's suite is not at {SUITE}")
        return [pytest.param(None, marks=skip)]
    return [
        pytest.param(scenario, id=f"{path.stem}: {scenario.name}")
        for path in sorted(SUITE.glob("**/*.feature"))
        for scenario in read_scenarios(path.read_text(encoding="utf-8"))
        if not scenario.tags & SUPERSEDED
    ]


@pytest.fixture(scope="module")
def flags() -> FlagSet:
    return FlagSet.from_definitions(parse_document(next(SUITE.glob("**/testkit-flags.json")).read_bytes()))


@pytest.mark.parametrize("scenario", _scenarios())
def test_flagd_scenario_holds(scenario: Scenario, flags: FlagSet) -> None:
    world = World(flags, {})
    for step in scenario.steps:
        _play(world, step)
    assert world.found is not None


def test_every_flag_of_the_testkit_loads() -> None:
    if not SUITE.is_dir():
        pytest.skip(f"flagd's suite is not at {SUITE}")
    document = json.loads(next(SUITE.glob("**/testkit-flags.json")).read_text(encoding="utf-8"))
    flags = FlagSet.from_definitions(document)
    assert flags.keys() == tuple(document["flags"])
    assert {key: flags.problem(key) for key in document["flags"]} == dict.fromkeys(document["flags"])


def test_reader_expands_outlines_keeps_tags_and_tables() -> None:
    feature = """
    @all
    Feature: a feature
      Background:
        Given an evaluator
      @old
      Scenario Outline: words
        Given a String-flag with key "<key>" and a fallback value "x"
        Then the resolved metadata should contain
          | key | value |
          | a   | 1     |
        @v1
        Examples: first
          | key |
          | k1  |
        @v2
        Examples: second
          | key |
          | k2  |
    """
    first, second = read_scenarios(feature)
    assert (first.name, first.tags, second.tags) == ("words: k1", {"@old", "@v1"}, {"@old", "@v2"})
    assert [step.text for step in second.steps][:2] == [
        "an evaluator",
        'a String-flag with key "k2" and a fallback value "x"',
    ]
    assert second.steps[2].table == ({"key": "a", "value": "1"},)
