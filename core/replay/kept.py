"""Rule: a replay as it is kept in the store, as JSON knows it, and back."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date
from typing import Any

from core.replay.answering import AnswerComparison, AnswerMetric
from core.replay.comparison import (
    FoundPassage,
    HitLists,
    HitState,
    ReplayedQuestion,
    ReplayOf,
    ReplayResult,
    SideCost,
    StateShift,
)
from core.replay.shifts import GroupShift, ReplayShift
from core.replay.watching import WatchedVerdict

_METRICS = ("faithfulness", "relevancy", "refused")


def write_replay(found: ReplayResult) -> dict[str, Any]:
    """Return a replay as JSON knows it."""
    answers = replace(found.answers, by_place={}) if found.answers else None
    told = asdict(replace(found, answers=answers))
    about = told["about"]
    return {**told, "about": {**about, "first": found.about.first.isoformat(), "last": found.about.last.isoformat()}}


def parse_replay(told: Mapping[str, Any]) -> ReplayResult:
    """Return the replay that `write_replay` wrote, in this release or before a replay had costs and answers."""
    about = told["about"]
    answers = told.get("answers")
    return ReplayResult(
        **{
            **told,
            "about": ReplayOf(
                **{
                    **about, "first": date.fromisoformat(about["first"]), "last": date.fromisoformat(about["last"]),
                    "changes": tuple(about.get("changes", ())), "kinds": tuple(about.get("kinds", ())),
                }
            ),
            "score": ReplayShift(**told["score"]),
            "carried": ReplayShift(**told["carried"]) if told.get("carried") else None,
            "states": tuple(
                StateShift(HitState(each["state"]), each["live"], each["candidate"], ReplayShift(**each["share"]))
                for each in told["states"]
            ),
            "topics": tuple(_read_group(each) for each in told["topics"]),
            "segments": tuple(_read_group(each) for each in told["segments"]),
            "changed": tuple(
                ReplayedQuestion(**{**each, "hits": _read_hits(each["hits"])}) for each in told["changed"]
            ),
            "costs": tuple(SideCost(**each) for each in told.get("costs", ())),
            "answers": _read_answers(answers) if answers else None,
            "watched": tuple(WatchedVerdict(**each) for each in told.get("watched", ())),
        }
    )  # fmt: skip


def _read_answers(told: Mapping[str, Any]) -> AnswerComparison:
    metrics = {
        name: AnswerMetric(**{**told[name], "shift": ReplayShift(**told[name]["shift"])}) for name in _METRICS
    }  # fmt: skip
    return AnswerComparison(**{**told, **metrics, "topics": tuple(_read_group(each) for each in told["topics"])})


def _read_group(told: Mapping[str, Any]) -> GroupShift:
    return GroupShift(**{**told, "score": ReplayShift(**told["score"])})


def _read_hits(told: Mapping[str, Any]) -> HitLists:
    live, candidate = (tuple(FoundPassage(**hit) for hit in told[side]) for side in ("live", "candidate"))
    return HitLists(live, candidate, told["overlap"], told["document_overlap"])
