"""A replay in words, for the command line."""

from typing import TYPE_CHECKING, Any

from core.replay.candidates import name_model
from core.wording.scores import round_interval

if TYPE_CHECKING:
    from core.replay.answering import AnswerComparison, AnswerMetric
    from core.replay.comparison import ReplayedQuestion, ReplayResult, SideCost
    from core.replay.shifts import GroupShift, ReplayShift
    from core.replay.watching import WatchedVerdict

_SHOWN_GROUPS = 5


def describe_replay(found: "ReplayResult", *, with_questions: bool) -> list[str]:
    """Return the lines of a replay; without questions, nothing that users asked."""
    about, low = found.about, found.low_share
    lines = [
        f"{about.candidate} against {about.live}: {found.replayed:,} of {about.distinct:,} distinct questions, asked "
        f"{about.asked:,} times from {about.first} to {about.last}",
        f"mean score   {found.live_score:.3f} -> {found.candidate_score:.3f}, {_say(found.score)}",
        f"low scores   {low.live:.1%} -> {low.candidate:.1%}, {_say(low.share)}",
        f"overlap@{about.top_k}    {found.overlap:.1%} of passages, {found.document_overlap:.1%} of documents",
        f"better {found.better:.1%}, worse {found.worse:.1%} of the times asked; the log has a mean of "
        f"{found.logged_score:.3f} for these questions",
    ]
    if about.changes_model:
        lines.append(
            f"{name_model(about.candidate_model)} and {name_model(about.live_model)} score on different scales: below, "
            "candidate scores are shown as the live model's score of the same rank"
        )
        lines.append(
            f"by their map, on the scale of {name_model(about.live_model)}: {_say(found.carried)}"
            if found.carried
            else "no map between them is known (`quarterdeck index map`): the effect below is that of the raw scores, "
            "and the drift reference starts anew"
        )
    if about.kinds:
        lines.append(f"the log maps {', '.join(about.kinds)} to similarities: scores are carried over to its scale")
    lines += [_describe_cost(name, cost) for name, cost in zip(("live", "candidate"), found.costs, strict=False)]
    if found.answers:
        lines += _describe_answers(found.answers)
    for title, groups in (("topics", found.topics), ("segments", found.segments)):
        told = [each for each in groups if each.score.is_fall or each.score.is_rise]
        lines.append(f"{title}: {len(told)} of {len(groups)} change")
        lines += [_describe_group(each) for each in _pick(told) if with_questions or each.kind != "topic"]
    if with_questions:
        lines.append("questions that change most:")
        lines += [line for each in found.changed for line in _describe_question(each)]
    lines += [_describe_watched(each) for each in found.watched]
    return [*lines, f"predicted effect on the mean that is watched: {_say(found.predicted)}"]


def _describe_cost(name: str, cost: "SideCost") -> str:
    reranked = "" if cost.rerank_ms is None else f", {cost.rerank_ms:.2f} ms of reranking"
    spent = f", ${cost.usd:.4f} spent now" if cost.usd else ""
    return f"{name:<12} {cost.search_ms:.2f} ms of search a question, in batches{reranked}{spent}"


def _describe_answers(found: "AnswerComparison") -> list[str]:
    left_out = [
        said
        for said, count in ((f"{found.failed} failed", found.failed), (f"{found.not_run} not run", found.not_run))
        if count
    ]
    counts = [f"{found.compared:,} questions compared", f"{found.remembered:,} answers remembered", *left_out]
    lines = [
        f"answers      {found.candidate} against {found.live} by {found.answerer}, judged by {found.judge}: "
        f"{', '.join(counts)}",
        *(_describe_metric(name, getattr(found, name)) for name in ("faithfulness", "relevancy", "refused")),
        f"cost         ${found.live_cost_usd:.6f} -> ${found.candidate_cost_usd:.6f} an answer; "
        f"${found.spent_usd:.4f} spent now",
    ]
    if found.live_latency_ms is not None and found.candidate_latency_ms is not None:
        lines.append(f"latency      {found.live_latency_ms:.0f} ms -> {found.candidate_latency_ms:.0f} ms (median)")
    return [*lines, *([f"stopped: {found.stopped}"] if found.stopped else [])]


def _describe_metric(name: str, found: "AnswerMetric") -> str:
    return (
        f"{name:<12} {found.live:.3f} -> {found.candidate:.3f}, {_say(found.shift)}; another week: "
        f"{found.low:.3f} to {found.high:.3f}"
    )


def _describe_watched(found: "WatchedVerdict") -> str:
    after = f" after {found.after_days} days" if found.after_days else ""
    return (
        f"verdict on the {found.name}: {found.today} today, {found.predicted} within 14 days of the change{after} "
        f"(at the interval's ends: {found.at_low}, {found.at_high})"
    )


def _pick(groups: "list[GroupShift]") -> "list[GroupShift]":
    """Return the first losers and the last winners: groups are sorted by what they lose."""
    return groups if len(groups) <= 2 * _SHOWN_GROUPS else [*groups[:_SHOWN_GROUPS], *groups[-_SHOWN_GROUPS:]]


def _describe_group(each: "GroupShift") -> str:
    name = each.label if each.kind == "topic" else f"{each.kind} {each.label}"
    return (
        f"  {each.verdict:<5} {each.live_score:.2f} -> {each.candidate_score:.2f}  {_say(each.score)}  "
        f"{name}, {each.distinct:,} questions"
    )


def _describe_question(each: "ReplayedQuestion") -> list[str]:
    return [
        f"  {each.change:+.2f}  {each.live_score:.2f} -> {each.candidate_score:.2f}  {each.asked:>5}x  {each.text}"
        f"{_describe_change(each)}",
        f"         live:      {', '.join(f'{hit.document} {hit.score:.2f}' for hit in each.hits.live)}",
        f"         candidate: {', '.join(f'{hit.document} {hit.score:.2f}' for hit in each.hits.candidate)}",
    ]


def _describe_change(each: "ReplayedQuestion") -> str:
    if each.live_faithfulness is None or each.candidate_faithfulness is None:
        return ""
    return f"  (faithfulness {each.live_faithfulness:.2f} -> {each.candidate_faithfulness:.2f})"


def _say(shift: "ReplayShift | Any") -> str:
    said, low, high = round_interval(shift.value, shift.low, shift.high)
    return f"{said} (95% interval {low} to {high})"
