"""Rule: the gate `replay`: thresholds and a replay in; a report out that passes, or says what got worse."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import yaml

from core.errors import InvalidInput
from core.prompts.gates import CaseFailure, GateCheck, GateReport
from core.replay.answering import AnswerComparison
from core.replay.candidates import name_model
from core.replay.comparison import FoundPassage, ReplayedQuestion, ReplayResult
from core.replay.shifts import GroupShift
from core.wording.scores import say_beside, say_change

PART = "replay"
_NOISE = 1e-9
_OPEN = {"cost_rise"}  # shares that may be more than 1


@dataclass(frozen=True, slots=True)
class ReplayThresholds:
    """What a candidate may change: scores, shares and overlap are 0 to 1, `questions` and `topic_questions` distinct.

    `score_drop` and `topic_drop` are the largest fall of a mean, `low_share_rise` the largest rise of the share of low
    scores, `overlap` the least mean overlap of the first k passages. Of a prompt: `answers` are compared at least,
    `refused_rise` is of the share of refusals, and `cost_rise` the share by which an answer may cost more.
    """

    questions: int = 30
    score_drop: float = 0.02
    low_share_rise: float = 0.02
    overlap: float = 0.0
    topic_drop: float = 0.1
    topic_questions: int = 10
    answers: int = 30
    faithfulness_drop: float = 0.02
    refused_rise: float = 0.05
    cost_rise: float = 0.25


def parse_replay_thresholds(text: str, *, source: str = "gates.yaml") -> ReplayThresholds:
    """Return the thresholds of the part `replay` of a YAML text; the defaults where it has none.

    Raises InvalidInput, naming the source and the field, for one that is unknown or out of range.
    """
    try:
        table = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InvalidInput(source, f"is not YAML: {str(error).splitlines()[0]}") from error
    found = (table.get(PART) or {}) if isinstance(table, dict) else None
    if not isinstance(found, dict):
        raise InvalidInput(source, f"must contain `{PART}:` with its thresholds")
    known = {field.name: field.type for field in fields(ReplayThresholds)}
    if unknown := sorted(found.keys() - known.keys(), key=str):
        raise InvalidInput(f"{source}, {unknown[0]}", f"is unknown; the thresholds are: {', '.join(known)}")
    return ReplayThresholds(**{name: _number(found, name, source) for name in found})


def check_replay(found: ReplayResult, thresholds: ReplayThresholds, *, with_questions: bool = False) -> GateReport:
    """Return whether the candidate may go live.

    A fall or rise counts where it is larger than allowed and its 95% interval excludes zero. Across embedding
    models, scores are on different scales, so mean and low scores are not held to a threshold, and a note says so.
    Users' questions stay out of the report unless `with_questions`.
    """
    worst = tuple(_failure(at, each, with_questions) for at, each in enumerate(found.changed, 1) if each.loses)
    checks = [_check_enough(found, thresholds)]
    notes: tuple[str, ...] = ()
    if found.about.changes_model:
        notes = (
            f"{name_model(found.about.candidate_model)} and {name_model(found.about.live_model)} score on different "
            "scales: mean score and low "
            "share are not compared, topics by their rank among all questions.",
        )
    else:
        checks += [_check_score(found, thresholds, worst), _check_low(found, thresholds, worst)]
    checks += [_check_overlap(found, thresholds), *_check_topics(found, thresholds, with_questions)]
    if found.answers:
        checks += _check_answers(found.answers, thresholds, worst)
        if found.answers.stopped:
            notes = (*notes, f"Not all answers were made: {found.answers.stopped}.")
    if not found.topics or all(not topic.name for topic in found.topics):
        notes = (*notes, "No topic is known, so topics were not checked.")
    return GateReport(PART, f"{found.about.candidate} against {found.about.live}", tuple(checks), notes)


def _check_enough(found: ReplayResult, thresholds: ReplayThresholds) -> GateCheck:
    detail = f"{found.replayed:,} distinct questions, needed {thresholds.questions:,}"
    return GateCheck("enough questions", found.replayed >= thresholds.questions, detail)


def _check_score(found: ReplayResult, thresholds: ReplayThresholds, worst: tuple[CaseFailure, ...]) -> GateCheck:
    shift = found.score
    passed = not (shift.value < -thresholds.score_drop - _NOISE and shift.is_fall)
    detail = f"{_say(shift.value, shift.low, shift.high)}, allowed -{thresholds.score_drop:g}"
    return GateCheck("mean score", passed, detail, () if passed else worst)


def _check_low(found: ReplayResult, thresholds: ReplayThresholds, worst: tuple[CaseFailure, ...]) -> GateCheck:
    shift = found.low_share.share
    passed = not (shift.value > thresholds.low_share_rise + _NOISE and shift.is_rise)
    detail = f"{_say(shift.value, shift.low, shift.high)}, allowed +{thresholds.low_share_rise:g}"
    return GateCheck("share of low scores", passed, detail, () if passed else worst)


def _check_answers(
    found: AnswerComparison, thresholds: ReplayThresholds, worst: tuple[CaseFailure, ...]
) -> list[GateCheck]:
    """The checks of the answers: enough of them, as faithful, not refused more often, not much dearer."""
    faithful, refused = found.faithfulness.shift, found.refused.shift
    is_faithful = not (faithful.value < -thresholds.faithfulness_drop - _NOISE and faithful.is_fall)
    is_open = not (refused.value > thresholds.refused_rise + _NOISE and refused.is_rise)
    dearest = found.live_cost_usd * (1 + thresholds.cost_rise)
    return [
        GateCheck(
            "enough answers", found.compared >= thresholds.answers,
            f"{found.compared:,} questions answered on both sides, needed {thresholds.answers:,}",
        ),
        GateCheck(
            "faithfulness", is_faithful,
            f"{_say(faithful.value, faithful.low, faithful.high)}, allowed -{thresholds.faithfulness_drop:g}",
            () if is_faithful else worst,
        ),
        GateCheck(
            "refusals", is_open,
            f"{_say(refused.value, refused.low, refused.high)}, allowed +{thresholds.refused_rise:g}",
            () if is_open else worst,
        ),
        GateCheck(
            "cost of an answer", found.candidate_cost_usd <= dearest + _NOISE,
            f"${found.live_cost_usd:.6f} to ${found.candidate_cost_usd:.6f}, allowed ${dearest:.6f}",
        ),
    ]  # fmt: skip


def _check_overlap(found: ReplayResult, thresholds: ReplayThresholds) -> GateCheck:
    detail = f"{say_beside(found.overlap, thresholds.overlap)}, needed {thresholds.overlap:g}"
    return GateCheck(f"overlap@{found.about.top_k}", found.overlap >= thresholds.overlap - _NOISE, detail)


def _check_topics(found: ReplayResult, thresholds: ReplayThresholds, with_questions: bool) -> list[GateCheck]:
    listed = [each for each in found.topics if each.name and each.distinct >= thresholds.topic_questions]
    if not listed:
        return []
    lost = [each for each in listed if each.score.value < -thresholds.topic_drop - _NOISE and each.score.is_fall]
    failures = tuple(_fail_topic(each, with_questions) for each in lost)
    detail = f"{len(lost)} of {len(listed)} fall by more than {thresholds.topic_drop:g}"
    return [GateCheck("each topic", not lost, detail, failures)]


def _fail_topic(topic: GroupShift, with_questions: bool) -> CaseFailure:
    shift = topic.score
    return CaseFailure(
        topic.name, topic.label if with_questions else "(topic)", f"{topic.live_score:.2f} in the live index",
        f"{topic.candidate_score:.2f} in the candidate", (_say(shift.value, shift.low, shift.high),),
    )  # fmt: skip


def _failure(at: int, question: ReplayedQuestion, with_questions: bool) -> CaseFailure:
    return CaseFailure(
        f"q{at}", question.text if with_questions else "(question hidden; --questions shows it)",
        _list(question.hits.live), _list(question.hits.candidate),
        (_say_change(question),),
    )  # fmt: skip


def _say_change(question: ReplayedQuestion) -> str:
    said = f"asked {question.asked:,} times, score {question.live_score:.2f} to {question.candidate_score:.2f}"
    if not question.answer_change:
        return said
    return f"{said}, faithfulness {question.live_faithfulness:.2f} to {question.candidate_faithfulness:.2f}"


def _list(hits: tuple[FoundPassage, ...]) -> str:
    return ", ".join(f"{hit.document} ({hit.score:.2f})" for hit in hits)


def _say(value: float, low: float, high: float) -> str:
    return f"{say_change(value)} (95% interval {say_change(low)} to {say_change(high)})"


def _number(found: Mapping[str, Any], name: str, source: str) -> Any:
    value, is_count = found[name], name.endswith(("questions", "answers"))
    most = 1_000_000 if is_count else 1.0 if name not in _OPEN else 1_000.0
    kind = int if is_count else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 <= value <= most:
        wanted = f"a whole number from 0 to {most:,}" if is_count else f"a number from 0 to {most:,g}"
        raise InvalidInput(f"{source}, {name}", f"must be {wanted}, not {value!r}")
    return value
