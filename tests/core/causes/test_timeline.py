"""Every source's records become changes in plain words, with the segments and the share of users they can reach."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.audit.trail import AuditEntry
from core.causes.timeline import (
    ChangeKind,
    TimelineChange,
    fold_changes,
    summarize_audit,
    summarize_prompts,
    summarize_versions,
)
from core.corpus.versions import Version
from core.tracking.runs import PromptVersion
from quarterdeck.definitions import boolean_flag, canary_flag, set_rollout, split_flag, switch_flag

WHEN = datetime(2026, 11, 17, 9, 30, tzinfo=UTC)


def entry(action: str, target: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> AuditEntry:
    return AuditEntry(7, WHEN, "production", "ada", action, target, "to try it", before, after, "", "")


def told(action: str, target: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> TimelineChange:
    change = summarize_audit(entry(action, target, before, after))
    assert change is not None
    return change


def test_an_entry_keeps_who_when_why_and_the_way_back() -> None:
    change = told("flag.create", "hyde", None, boolean_flag(on=True))
    assert (change.ts, change.actor, change.reason, change.entry_id) == (WHEN, "ada", "to try it", 7)
    assert change.kind is ChangeKind.FLAG


def test_what_changed_all_the_time_is_one_change_an_hour() -> None:
    created = [told("flag.create", "hyde", None, boolean_flag(on=True, rollout_pct=pct)) for pct in range(1, 14)]
    flips = [
        replace(each, ts=WHEN + timedelta(minutes=at), entry_id=at, actor="bot" if at % 2 else "ada")
        for at, each in enumerate(created, start=1)
    ]
    assert fold_changes(flips[:12]) == tuple(flips[:12])
    (folded,) = fold_changes(flips)
    assert folded.summary == "hyde changed over 12 times within an hour; the last change: hyde created at 13%"
    assert (folded.ts, folded.entry_id, folded.actor) == (flips[-1].ts, 13, "ada, bot")
    assert folded.reach == pytest.approx(0.13)
    later = [replace(change, ts=change.ts + timedelta(hours=at)) for at, change in enumerate(flips)]
    assert fold_changes(later) == tuple(later)


FIVE, TWENTY = boolean_flag(on=True, rollout_pct=5), boolean_flag(on=True, rollout_pct=20)
OFF = boolean_flag(on=False)
CANARY = canary_flag(5)


@pytest.mark.parametrize(
    ("before", "after", "summary", "reach"),
    [
        (FIVE, TWENTY, "new_prompt_v3 rolled out from 5% to 20%", 0.15),
        (TWENTY, FIVE, "new_prompt_v3 rolled back from 20% to 5%", 0.15),
        (None, FIVE, "new_prompt_v3 created at 5%", 0.05),
        (None, OFF, "new_prompt_v3 created, switched off", 0.0),
        (TWENTY, switch_flag(TWENTY, on=False), "new_prompt_v3 switched off", 0.20),
        (switch_flag(TWENTY, on=False), TWENTY, "new_prompt_v3 switched on at 20%", 0.20),
        (TWENTY, None, "new_prompt_v3 deleted, was at 20%", 0.20),
        (OFF, switch_flag(OFF, on=True), "new_prompt_v3 switched on at 100%", 1.0),
        (TWENTY, {**TWENTY, "metadata": {"description": "x"}}, "new_prompt_v3: only the description changed", 0.0),
    ],
)
def test_a_flag_says_what_changed_and_for_how_many(
    before: dict[str, Any] | None, after: dict[str, Any] | None, summary: str, reach: float
) -> None:
    change = told("flag.update", "new_prompt_v3", before, after)
    assert change.summary == summary
    assert change.reach == pytest.approx(reach)
    assert change.touches == ()


def test_a_flag_names_the_segment_it_acts_on_in_its_metadata() -> None:
    flag = boolean_flag(on=True, metadata={"prompt_version": "v3"})
    assert told("flag.create", "new_prompt", None, flag).touches == (("prompt_version", "v3"),)


def test_a_canary_touches_the_green_arm() -> None:
    change = told("flag.update", "answers", CANARY, set_rollout(CANARY, 20))
    assert change.kind is ChangeKind.CANARY
    assert change.summary == "canary answers rolled out from 5% to 20%"
    assert change.touches == (("arm", "green"),)


def test_an_experiment_that_moves_its_shares_reaches_those_who_move() -> None:
    before, after = split_flag({"a": 50, "b": 50}), split_flag({"a": 20, "b": 80})
    change = told("flag.update", "tone", before, after)
    assert change.summary == "tone: shares from a 50%, b 50% to a 20%, b 80%"
    assert change.reach == pytest.approx(0.30)


def test_a_swap_touches_the_new_index_and_a_build_reaches_nobody() -> None:
    swap = told("index.swap", "default", {"index": "docs-v1"}, {"index": "docs-v2"})
    assert swap.summary == "default swapped from docs-v1 to docs-v2"
    assert (swap.touches, swap.reach) == ((("index_version", "docs-v2"),), 1.0)
    built = told("index.register", "docs-v2", None, {"corpus_version": "v2", "chunks": 1258})
    assert built.summary == "index docs-v2 built from corpus v2: 1,258 chunks"
    assert built.reach == 0.0


def test_a_promotion_touches_the_prompt_version_however_services_spell_it() -> None:
    change = told("prompt.promote", "qa", {"version": 2}, {"version": 3})
    assert change.summary == "prompt qa v3 promoted, was v2"
    assert change.touches == (("prompt_version", "v3"), ("prompt_version", "3"))


@pytest.mark.parametrize("verb", ["retire", "remove"])
def test_taking_an_index_away_that_nobody_reads_reaches_nobody(verb: str) -> None:
    assert told(f"index.{verb}", "docs-v1", {"state": "ready"}, None).reach == 0.0


def test_a_promotion_with_a_flag_reaches_those_for_whom_the_flag_changed() -> None:
    shares = {share: boolean_flag(on=True, rollout_pct=share) for share in (5, 20)}
    before = {"version": 8, "label": "v2", "flag": {"key": "new_prompt_v3", "definition": shares[5]}}
    after = {"version": 9, "label": "v3", "flag": {"key": "new_prompt_v3", "definition": shares[20]}}
    change = told("prompt.promote", "qa", before, after)
    assert change.summary == "prompt qa v3 promoted, was v2; new_prompt_v3 rolled out from 5% to 20%"
    assert (change.touches[0], change.reach) == (("prompt_version", "v3"), pytest.approx(0.15))
    back = told("prompt.rollback", "qa", after, before)
    assert back.summary == "prompt qa rolled back to v2, was v3; new_prompt_v3 rolled back from 20% to 5%"
    assert (back.kind, back.touches[0]) == (ChangeKind.PROMPT, ("prompt_version", "v3"))


def test_the_first_promotion_taken_back_leaves_no_version() -> None:
    none = {"version": None, "label": None, "flag": None}
    change = told("prompt.rollback", "qa", {"version": 1, "label": "v1", "flag": None}, none)
    assert change.summary == "prompt qa rolled back to none, was v1"


def test_an_accepted_level_is_on_the_timeline_and_reaches_nobody() -> None:
    change = told("drift.accept", "retrieval score", None, {"accepted_on": "2026-11-20"})
    assert (change.kind, change.reach) == (ChangeKind.LEVEL, 0.0)
    assert change.summary == "level accepted as normal from 2026-11-20"


def test_entries_that_change_nothing_in_the_product_are_not_on_the_timeline() -> None:
    assert summarize_audit(entry("topic.mark", "t1", None, {"state": "planned"})) is None
    assert summarize_audit(entry("drift.map", "retrieval score", None, {"former": "a", "model": "b"})) is None
    assert summarize_audit(entry("prompt.map", "answers", None, {"prompt": "qa"})) is None


def test_a_corpus_version_says_what_it_brought() -> None:
    version = Version("f" * 40, "fffffff", ("v2",), "v2", WHEN, "ada", "Add VPP\n\nmore", 55, 9, 17, 0, 2, 1, "d")
    (change,) = summarize_versions([version])
    assert change.summary == "corpus v2 committed: +17 files, 2 modified, 1 renamed"
    assert (change.kind, change.actor, change.reason, change.entry_id) == (ChangeKind.CORPUS, "ada", "Add VPP", None)


def test_only_the_prompt_in_production_reaches_anybody() -> None:
    live = PromptVersion("qa", 2, "text", ("production",), "shorter", WHEN, (), {})
    draft = PromptVersion("qa", 3, "text", (), "", WHEN, (), {})
    first, second = summarize_prompts([live, draft])
    assert (first.summary, first.reach) == ("prompt qa v2 registered, now in production", 1.0)
    assert (second.summary, second.reach) == ("prompt qa v3 registered", 0.0)
