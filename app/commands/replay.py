"""The commands `replay` and `gate replay`: recent questions through a candidate index, against the live one."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.commands.common import (
    common,
    find_scope,
    open_store,
    service_option,
    settle_days,
    show,
    show_progress,
    to_json,
)
from app.commands.evaluations import finish, gate
from core.audit.acts import Act
from core.config import PROJECT, Config
from core.errors import InvalidInput
from quarterdeck.scope import Scope
from quarterdeck.store import Store

if TYPE_CHECKING:
    from core.replay.comparison import GroupShift, ReplayedQuestion, ReplayResult, ReplayShift

_SHOWN_GROUPS = 5


def _replaying(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what says which questions are replayed through which index."""
    for option in (
        click.argument("candidate", metavar="INDEX"),
        click.option("--alias", default="default", show_default=True, help="The name that readers use."),
        click.option(
            "--window-days", default=7, show_default=True, type=click.IntRange(1, 365),
            help="How many recent days of questions to use.",
        ),
        click.option(
            "--sample", default=5_000, show_default=True, type=click.IntRange(1, 100_000), metavar="N",
            help="How many questions to draw, by traffic.",
        ),
        click.option("--seed", default=0, show_default=True, type=int, help="Draws the same questions again."),
        click.option(
            "--top-k", default=5, show_default=True, type=click.IntRange(1, 100), help="How many hits to compare."
        ),
        click.option("--no-topics", is_flag=True, help="Do not group low-scoring questions into topics first."),
        service_option,
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("replay")
@_replaying
@click.option("--record", is_flag=True, help="Predict this effect in the ledger, for when the index goes live.")
@click.option(
    "--keep", is_flag=True, help="Keep the result for the page Corpus, and print it without what users asked."
)
@click.option("--reason", default="", help="Why, with --record: it goes into the audit trail.")
@common
def replay(
    config: Config, *, candidate: str, service: str | None, record: bool, keep: bool, reason: str, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Replay recent questions through INDEX and the live index, and say what would change.

    Prints the shift of the mean score and of low scores with 95% intervals, the overlap of hits, the topics and
    segments that win and lose, and the questions that change most. Each question is embedded once per model.

    Example: quarterdeck replay docs-v2 --record --reason "covers VPP"
    """
    from core.ledger.claims import INDEX_BUILT
    from core.ledger.operations import predict_effect
    from core.replay.operations import save_replay
    from core.replay.report import replay_key

    if record and not reason.strip():
        raise InvalidInput("reason", "say why with --reason, for the audit trail")
    store = open_store(config)
    scope = find_scope(config, store, service)
    if keep:
        replay_key(candidate, scope)  # a name that is too long is refused before anything is searched
    found = _replay(config, store, scope, candidate, **options)
    entry = None
    if keep:
        save_replay(
            store, found, Act(config.operator, reason or f"replayed against {found.about.live}", scope.environment)
        )
    if record:
        act = Act(config.operator, reason, scope.environment)
        entry = predict_effect(
            store, f"{INDEX_BUILT}:{candidate}", found.predicted, act, metric="score", service=scope.service
        )
    told = {**to_json(found), "predicted": to_json(found.predicted), "entry": entry}
    if keep:  # everybody who may look reads what a job prints
        told = {name: value for name, value in told.items() if name not in ("changed", "topics")}
    recorded = [f"recorded in the ledger (audit entry {entry})"] if entry else []
    show(as_json, told, [*_describe(found, with_questions=not keep), *recorded])


@gate.command("replay")
@_replaying
@click.option(
    "--thresholds", type=click.Path(path_type=Path), metavar="FILE", help="The thresholds (default: data/gates.yaml)."
)
@click.option("--questions", is_flag=True, help="Show what users asked in the reports; without it, it is left out.")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write a JUnit XML report.")
@click.option("--summary", type=click.Path(path_type=Path), metavar="FILE", help="Write a Markdown summary.")
@common
def gate_replay(
    config: Config, *, candidate: str, service: str | None, thresholds: Path | None, questions: bool,
    junit: Path | None, summary: Path | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Replay recent questions through INDEX: does a mean, a topic or the share of low scores get worse?

    Example: quarterdeck gate replay docs-v2 --summary gate.md
    """
    from core.prompts.bench import read_text
    from core.replay.gate import check_replay, parse_replay_thresholds

    path = thresholds.absolute() if thresholds else Path("data/gates.yaml")
    wanted = parse_replay_thresholds(read_text(path, below=PROJECT), source=str(path))
    store = open_store(config)
    found = _replay(config, store, find_scope(config, store, service), candidate, **options)
    report = check_replay(found, wanted, with_questions=questions)
    finish((report,), as_json, junit=junit, summary=summary)


def _replay(
    config: Config, store: Store, scope: Scope, candidate: str, *, alias: str, window_days: int, sample: int,
    seed: int, top_k: int, no_topics: bool,
) -> "ReplayResult":  # fmt: skip
    from core.coverage.assignments import assign_topics
    from core.coverage.report import find_threshold, report_coverage
    from core.embedding.embed import Embedder
    from core.embedding.vectors import VectorCache
    from core.indexes.builds import get_live
    from core.indexes.registry import get_index
    from core.log.retrievals import last_days
    from core.replay.replaying import ReplayPlan, replay_index

    live, index, cache = get_live(store, alias), get_index(store, candidate), VectorCache(store)
    today = settle_days(store, scope)
    topics = None
    if no_topics:
        threshold = find_threshold(store, scope=scope, today=today, low_score=config.low_score)
    else:
        coverage = report_coverage(
            store, Embedder(config.embedding_model, cache=cache), scope=scope, today=today, window_days=window_days,
            low_score=config.low_score,
        )  # fmt: skip
        topics, threshold = assign_topics(coverage), coverage.threshold
    plan = ReplayPlan(scope, last_days(window_days, until=today), threshold, sample=sample, top_k=top_k, seed=seed)
    return replay_index(
        store, lambda model: Embedder(model, cache=cache), live, index, plan, topics=topics, on_progress=show_progress
    )


def _describe(found: "ReplayResult", *, with_questions: bool) -> list[str]:
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
            f"{about.candidate_model} and {about.live_model} score on different scales: below, candidate scores are "
            "shown as the live model's score of the same rank"
        )
    for title, groups in (("topics", found.topics), ("segments", found.segments)):
        told = [each for each in groups if each.score.is_fall or each.score.is_rise]
        lines.append(f"{title}: {len(told)} of {len(groups)} change")
        lines += [_describe_group(each) for each in _pick(told) if with_questions or each.kind != "topic"]
    if with_questions:
        lines.append("questions that change most:")
        lines += [line for each in found.changed for line in _describe_question(each)]
    return [*lines, f"predicted effect on the mean that is watched: {_say(found.predicted)}"]


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
        f"  {each.change:+.2f}  {each.live_score:.2f} -> {each.candidate_score:.2f}  {each.asked:>5}x  {each.text}",
        f"         live:      {', '.join(f'{hit.document} {hit.score:.2f}' for hit in each.hits.live)}",
        f"         candidate: {', '.join(f'{hit.document} {hit.score:.2f}' for hit in each.hits.candidate)}",
    ]


def _say(shift: "ReplayShift | Any") -> str:
    return f"{shift.value:+.3f} (95% interval {shift.low:+.3f} to {shift.high:+.3f})"
