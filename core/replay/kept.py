"""Rule: a replay as it is kept in the store, as JSON knows it, and back."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

from core.replay.comparison import (
    FoundPassage,
    GroupShift,
    HitLists,
    HitState,
    ReplayedQuestion,
    ReplayOf,
    ReplayResult,
    ReplayShift,
    StateShift,
)


def write_replay(found: ReplayResult) -> dict[str, Any]:
    """Return a replay as JSON knows it."""
    told = asdict(found)
    about = told["about"]
    return {**told, "about": {**about, "first": found.about.first.isoformat(), "last": found.about.last.isoformat()}}


def parse_replay(told: Mapping[str, Any]) -> ReplayResult:
    """Return the replay that `write_replay` wrote."""
    about = told["about"]
    return ReplayResult(
        **{
            **told,
            "about": ReplayOf(
                **{**about, "first": date.fromisoformat(about["first"]), "last": date.fromisoformat(about["last"])}
            ),
            "score": ReplayShift(**told["score"]),
            "states": tuple(
                StateShift(HitState(each["state"]), each["live"], each["candidate"], ReplayShift(**each["share"]))
                for each in told["states"]
            ),
            "topics": tuple(_read_group(each) for each in told["topics"]),
            "segments": tuple(_read_group(each) for each in told["segments"]),
            "changed": tuple(
                ReplayedQuestion(**{**each, "hits": _read_hits(each["hits"])}) for each in told["changed"]
            ),
        }
    )


def _read_group(told: Mapping[str, Any]) -> GroupShift:
    return GroupShift(**{**told, "score": ReplayShift(**told["score"])})


def _read_hits(told: Mapping[str, Any]) -> HitLists:
    live, candidate = (tuple(FoundPassage(**hit) for hit in told[side]) for side in ("live", "candidate"))
    return HitLists(live, candidate, told["overlap"], told["document_overlap"])
