"""Rehearsals over a real store: each kind of rollback, from what the log says, and where it says nothing."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli import main
from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.deployments.colors import Color, Deployment
from core.drift.operations import save_model_map
from core.drift.scales import ModelMap
from core.flags.operations import create_flag
from core.flags.store import get_flag
from core.indexes.operations import register_index, swap_index
from core.indexes.registry import Index
from core.prompts.audited import ProductionState
from core.rehearsals.comparing import Rehearsed
from core.rehearsals.report import (
    rehearse_canary,
    rehearse_color,
    rehearse_flag,
    rehearse_index,
    rehearse_prompt,
)
from core.rollouts.index_canaries import start_index_canary
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag, canary_flag
from quarterdeck.scope import Scope
from quarterdeck.store import Store

ME = Act("ada", "because", at=datetime.now(UTC) - timedelta(hours=6))
SCOPE = Scope("production", "default")
KNOWN = ("what is an mbuf", "how do I pin a core", "what is a ring")


@pytest.fixture
def deck(url: str, store: Store, tmp_path: Path) -> Iterator[Quarterdeck]:
    with Quarterdeck(url, poll_s=60, snapshot_path=tmp_path / "snapshot.json") as opened:
        yield opened


def now() -> datetime:
    return datetime.now(UTC)


def log(deck: Quarterdeck, scores: dict[str, float | None], *, hours_ago: float = 1, **fields: Any) -> None:
    for text, score in scores.items():
        deck.log_retrieval(text, score, ts=now() - timedelta(hours=hours_ago), **fields)
    deck.flush()


def counts(found: Any) -> tuple[int, int, int, int]:
    return found.asked, found.known, found.worse, found.better


def log_both(deck: Quarterdeck, name: str, gone: str, back: str) -> None:
    """What would go is better for one question, worse for one that the other side found nothing for, alone in one."""
    fields: tuple[dict[str, Any], dict[str, Any]] = ({name: gone}, {name: back})
    log(deck, {KNOWN[0]: 0.9, KNOWN[1]: None, KNOWN[2]: 0.7, "only here": 0.8}, **fields[0])
    log(deck, {KNOWN[0]: 0.6, KNOWN[1]: 0.5, KNOWN[2]: 0.7, "only there": 0.8}, **fields[1])


def test_a_canary_by_its_arms(store: Store, deck: Quarterdeck) -> None:
    create_flag(store, "answer-service", canary_flag(20), ME)
    log(deck, {"before it began": 0.1}, hours_ago=9, arm="green")
    log_both(deck, "arm", "green", "blue")
    found = rehearse_canary(store, get_flag(store, "production", "answer-service"), now=now())
    assert (counts(found), found.back_to) == ((4, 3, 1, 1), "blue")
    assert [each.text for each in found.named] == [KNOWN[0], KNOWN[1]]
    assert "4 answers of what would go, 4 of what would come back" in found.basis


def test_an_index_and_its_canary_by_the_indexes_of_the_rows(store: Store, deck: Quarterdeck) -> None:
    for name in ("v1", "v2"):
        register_index(store, Index(name, "indexes", name, "minilm", 9, now(), "ada"), ME)
    swap_index(store, "default", "v1", ME, expected=None)
    assert rehearse_index(store, "default", SCOPE, now=now()) is None
    start_index_canary(store, "default", "v2", ME, unprobed=True)
    canary = get_flag(store, "production", "index:default")
    assert "no question was answered yet" in rehearse_canary(store, canary, now=now()).unknown
    log_both(deck, "index_version", "v2", "v1")
    assert counts(rehearse_canary(store, canary, now=now())) == (4, 3, 1, 1)
    swap_index(store, "default", "v2", ME, expected="v1")
    found = rehearse_index(store, "default", SCOPE, now=now())
    assert found
    assert (counts(found), found.back_to) == ((4, 3, 1, 1), "v1")


def test_two_models_are_not_compared(store: Store, deck: Quarterdeck) -> None:
    for name, model in (("v1", "minilm"), ("v2", "e5")):
        register_index(store, Index(name, "indexes", name, model, 9, now(), "ada"), ME)
    swap_index(store, "default", "v1", ME, expected=None)
    swap_index(store, "default", "v2", ME, expected="v1")
    log_both(deck, "index_version", "v2", "v1")
    found = rehearse_index(store, "default", SCOPE, now=now())
    assert found
    assert (found.known, "different scales" in found.unknown) == (0, True)


def test_with_a_map_the_scores_of_two_models_are_compared_on_one_scale(store: Store, deck: Quarterdeck) -> None:
    """The map lifts scores by 0.2: e5's 0.8, 0.7 and 0.6 are minilm's 0.6, 0.5 and 0.4."""
    for name, model in (("v1", "minilm"), ("v2", "e5")):
        register_index(store, Index(name, "indexes", name, model, 9, now(), "ada"), ME)
    swap_index(store, "default", "v1", ME, expected=None)
    swap_index(store, "default", "v2", ME, expected="v1")
    save_model_map(store, ModelMap("minilm", "e5", ((0.1, 0.3), (0.7, 0.9)), 0.004, 400), ME)
    log(deck, dict(zip(KNOWN, (0.6, 0.3, 0.5), strict=True)), index_version="v1", model="minilm")
    log(deck, dict(zip(KNOWN, (0.8, 0.7, 0.6), strict=True)), index_version="v2")
    found = rehearse_index(store, "default", SCOPE, now=now())
    assert found
    assert (counts(found), found.mean) == ((3, 3, 1, 1), None)
    assert [(each.text, round(each.change, 6)) for each in found.named] == [(KNOWN[1], -0.2), (KNOWN[2], 0.1)]
    assert found.basis.endswith("scores of minilm on the scale of e5 by their map: 3 answers of what would go, 3 of "
                                "what would come back")  # fmt: skip
    switched = Deployment("default", "production", Color.GREEN, now() - timedelta(minutes=30))
    log(deck, {KNOWN[0]: 0.8}, index_version="v2", hours_ago=0)
    color = rehearse_color(store, switched, now=now() + timedelta(seconds=1))
    assert counts(color) == (1, 1, 0, 0)


def test_a_flag_by_the_part_of_the_log_that_it_names(store: Store, deck: Quarterdeck) -> None:
    create_flag(store, "rerank", boolean_flag(on=True, rollout_pct=20, metadata={"model": "e5"}), ME)
    create_flag(store, "other", boolean_flag(on=True, rollout_pct=20), ME)
    log_both(deck, "model", "e5", "minilm")
    found = rehearse_flag(store, get_flag(store, "production", "rerank"), now=now())
    assert counts(found) == (4, 3, 1, 1)
    found = rehearse_flag(store, get_flag(store, "production", "other"), now=now())
    assert found.known == 0
    assert "the log does not say which answers other changed" in found.unknown


def test_a_flag_by_the_users_that_clients_noted(store: Store, deck: Quarterdeck) -> None:
    create_flag(store, "rerank", boolean_flag(on=True, rollout_pct=50, metadata={"experiment": True}), ME)
    deck.refresh()
    users = [f"user-{at}" for at in range(40)]
    on = {user for user in users if deck.is_enabled("rerank", user)}
    for user in users:
        log(deck, {KNOWN[0]: 0.9 if user in on else 0.6}, user_id=user, hours_ago=0)
    found = rehearse_flag(store, get_flag(store, "production", "rerank"), now=now() + timedelta(seconds=1))
    assert (0 < len(on) < 40, counts(found)) == (True, (1, 1, 1, 0))


def test_a_color_by_the_questions_before_and_since_the_switch(store: Store, deck: Quarterdeck) -> None:
    switched = Deployment("default", "production", Color.GREEN, now() - timedelta(hours=3))
    log(deck, {KNOWN[0]: 0.6, KNOWN[1]: 0.9}, hours_ago=30)
    assert "no question of a service default" in rehearse_color(store, switched, now=now()).unknown
    log(deck, {KNOWN[0]: 0.9, KNOWN[2]: 0.9})
    found = rehearse_color(store, switched, now=now())
    assert (counts(found), found.back_to) == ((2, 1, 1, 0), "blue")
    assert "whatever else changed then" in found.basis


@pytest.mark.parametrize("metric", ["faithfulness", "feedback"])
def test_a_prompt_by_how_its_answers_were_judged(store: Store, deck: Quarterdeck, metric: str) -> None:
    assert rehearse_prompt(store, "qa", now=now()) is None
    with changing(store, ME) as change:
        change.record(Action.PROMPT_PROMOTE, "qa", ProductionState(2), ProductionState(3))
    log_both(deck, "prompt_version", "v3", "v2")  # searches alone say nothing of a prompt
    found = rehearse_prompt(store, "qa", now=now())
    assert found
    assert (found.known, "no question has judged answers" in found.unknown) == (0, True)
    for version, value in (("v3", 0.9), ("2", 0.4)):
        log(deck, {KNOWN[0]: 0.7}, prompt_version=version, **{metric: value})
    found = rehearse_prompt(store, "qa", now=now())
    assert found
    assert (counts(found), found.metric, found.back_to) == ((1, 1, 1, 0), Rehearsed(metric), "v2")


def test_the_commands_preview_says_it_and_changes_nothing(url: str, store: Store, deck: Quarterdeck) -> None:
    create_flag(store, "answer-service", canary_flag(20), ME)
    log_both(deck, "arm", "green", "blue")

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(main, [*arguments, "--database", url])

    said = run("canary", "rollback", "answer-service", "--preview").output
    assert said.startswith("If rolled back to blue now: 1 question would get worse, 1 better")
    assert " 0.900 -> 0.600       2x  what is an mbuf" in said
    told = json.loads(run("flags", "preview", "answer-service", "--off", "--json").output)
    assert (told["worse"], told["better"], told["known"]) == (1, 1, 3)
    assert get_flag(store, "production", "answer-service").view.green_pct == 20
    assert "reason: is empty" in str(run("canary", "rollback", "answer-service").exception)
    assert "default has no previous index" in run("index", "rollback", "--preview").output
    assert "no promotion of qa is recorded here" in run("prompts", "rollback", "qa", "--preview").output
