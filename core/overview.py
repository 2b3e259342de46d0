"""Shell: says in one sentence per area how it stands, with its number. One failing area does not stop the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from enum import StrEnum
from typing import Any

from core.causes.changes import WhatChanged
from core.corpus.corpus import Corpus
from core.coverage.report import Coverage
from core.coverage.shelves import Shelf, ShelvedTopic
from core.drift.outage import OutageKind
from core.drift.report import DriftOverview
from core.drift.verdict import DriftStatus
from core.drift.wording import say_fall
from core.errors import QuarterdeckError, SourceUnavailable
from core.flags.canary_plan import Automation
from core.flags.store import list_flags
from core.flags.upkeep import describe_partly
from core.indexes.registry import list_aliases, list_indexes
from core.prompts.contests import Naming, find_experiment, report_prompts
from core.prompts.decisions import Decision, WinnerRule
from core.rollouts import experiment
from core.rollouts.canaries import CanaryReport
from core.rollouts.canary import CanaryCall
from core.rollouts.experiments import ExperimentReport
from core.todo.items import Todo, TodoState
from core.tracking.gateway import Tracking
from core.wording.counts import count_of
from core.wording.scores import decimals_of, say_change
from quarterdeck.store import Store


class Standing(StrEnum):
    """The state of an area. Good is a verdict: without one it is decided, unknown, empty, or not connected yet."""

    GOOD = "good"
    DECIDE = "decide"
    BAD = "bad"
    DECIDED = "decided"
    UNKNOWN = "unknown"
    EMPTY = "empty"
    UNCONNECTED = "unconnected"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Area:
    """One area: its sentence, the number of its card, and its lines of the to-do list.

    `trend` are the values of the card's sparkline, oldest first, and `trend_of` says what they are.
    """

    page: str
    standing: Standing
    sentence: str
    figure: str = "—"
    change: str = ""
    todos: tuple[Todo, ...] = ()
    trend: tuple[float, ...] = ()
    trend_of: str = ""

    @property
    def decision(self) -> str:
        """The first decision that waits, "" for none."""
        return next((todo.text for todo in self.todos if todo.state is TodoState.DECIDE), "")


TREND_DAYS = 30
_MEAN_SCORES = f"mean score of each of the last {TREND_DAYS} days"
FEWEST_SCORED = 100  # below this many, no low question says little: see `low_score_threshold`
GAP_DAYS = 7  # the overview shows the gaps of the last week
_DRIFT_STANDING = {
    DriftStatus.OUTAGE: Standing.BAD,
    DriftStatus.DRIFTING: Standing.BAD,
    DriftStatus.WATCH: Standing.DECIDE,
    DriftStatus.STABLE: Standing.GOOD,
    DriftStatus.INSUFFICIENT_DATA: Standing.EMPTY,
}


def describe_drift(found: DriftOverview, explain: Callable[[], WhatChanged]) -> Area:
    """Say whether retrieval drifts, and if so, since when and why."""
    report = found.report
    if report.status is DriftStatus.OUTAGE:
        return _describe_outage(found)
    fell = say_fall(report)
    trend = tuple(day.mean for day in found.days[-TREND_DAYS:] if day.count)
    if report.recent_avg_score is None or report.delta is None or fell is None:
        return Area("drift", _DRIFT_STANDING[report.status], report.reason, trend=trend, trend_of=_MEAN_SCORES)
    todo = Todo(
        f"drift/{report.changed_on or ''}", "drift", "Find why the score fell, or accept the new level",
        since=datetime.combine(report.changed_on, time(), UTC) if report.changed_on else None,
    )  # fmt: skip
    return Area(
        "drift",
        _DRIFT_STANDING[report.status],
        explain().sentence if report.status is DriftStatus.DRIFTING else report.reason,
        f"{report.recent_avg_score:.{decimals_of(fell)}f}",
        f"{say_change(-fell)} against the reference",
        (todo,) if report.status is DriftStatus.DRIFTING else (),
        trend,
        _MEAN_SCORES,
    )


def _describe_outage(found: DriftOverview) -> Area:
    states = found.states
    if found.report.outage_kind is OutageKind.UNSCORED:
        count, what = states.unscored, "of the last days' searches had no score"
        told = "Hits come without a score: check what the service logs"
    else:
        count, what = states.empty + states.failed, "of the last days' searches found nothing"
        told = "Searches find nothing: check the index and what changed"
    figure = f"{states.share_of(count) or 0:.0%}"
    return Area("drift", Standing.BAD, found.report.reason, figure, what, (Todo("drift/outage", "drift", told),))


def describe_coverage(coverage: Coverage, shelved: Sequence[ShelvedTopic[Any]]) -> Area:
    """Say how many topics scored low in the last week (`GAP_DAYS`), which is the most worth indexing, and what is open.

    `shelved` are the topics with what was decided about them (`core.coverage.shelves`).
    """
    ranked = coverage.topics.ranked()
    if coverage.pending and not ranked:
        few = len(coverage.pending) == 1
        waiting = f"{count_of(len(coverage.pending), 'low-scoring question')} {'is' if few else 'are'}"
        said = f"{waiting} not grouped yet; open the page to group {'it' if few else 'them'}."
        return Area("coverage", Standing.UNKNOWN, said)
    todos = _list_gaps(shelved)
    if not ranked:
        standing = Standing.GOOD if coverage.scored_count >= FEWEST_SCORED else Standing.UNKNOWN
        standing = standing if coverage.scored_count else Standing.EMPTY
        return Area("coverage", standing, f"No topics to show: {coverage.topics.reason}.", "0", "", todos)
    biggest = ranked[0]
    share = biggest.count / coverage.scored_count if coverage.scored_count else 0.0
    score_low = "1 topic scores low" if len(ranked) == 1 else f"{len(ranked)} topics score low"
    sentence = (
        f"{score_low} in the last {GAP_DAYS} days; the one most worth indexing is "
        f"“{biggest.label}”: {share:.0%} of all questions.{_say_decided(shelved)}"
    )
    is_open = any(todo.state is TodoState.DECIDE for todo in todos)
    low = f"{coverage.low_share:.0%} score low, last {GAP_DAYS} days"
    return Area("coverage", Standing.DECIDE if is_open else Standing.DECIDED, sentence, str(len(ranked)), low, todos)


_FILES = "files of each version, oldest first"
_MOST_GAPS = 3  # of each kind, on the list; the page has all of them


def _list_gaps(shelved: Sequence[ShelvedTopic[Any]]) -> tuple[Todo, ...]:
    """The lines of the gaps: the first open one, those that are planned, and those that wait for their measurement."""
    here = [each for each in shelved if each.topic is not None or each.shelf is not Shelf.OPEN]
    waiting = [each for each in here if each.shelf is Shelf.SHIPPED and not _is_settled(each)]
    found = [_todo_of(each, TodoState.DECIDE) for each in here if each.shelf is Shelf.OPEN][:_MOST_GAPS]
    found += [_todo_of(each, TodoState.PLANNED) for each in here if each.shelf is Shelf.PLANNED][:_MOST_GAPS]
    found += [_todo_of(each, TodoState.MEASURING) for each in waiting][:_MOST_GAPS]
    return tuple(found)


def _is_settled(each: ShelvedTopic[Any]) -> bool:
    return each.closing is not None and each.closing.closed is not None


def _todo_of(each: ShelvedTopic[Any], state: TodoState) -> Todo:
    asked = f": {count_of(each.topic.count, 'question')} in {GAP_DAYS} days" if each.topic else ""
    since = each.decided or (each.known.first_seen if each.known else None)
    verb = "Index" if state is TodoState.DECIDE else "Gap"
    return Todo(
        f"topic/{each.topic_id}", "coverage", f"{verb} “{each.label}”{asked}",
        state, each.known.owner if each.known else "", since,
        (("topic", each.topic_id), ("shelf", str(each.shelf)), ("days", f"{GAP_DAYS}d")),
    )  # fmt: skip


def _say_decided(shelved: Sequence[ShelvedTopic[Any]]) -> str:
    counts = {shelf: sum(each.shelf is shelf and each.topic is not None for each in shelved) for shelf in Shelf}
    told = [f"{count} {shelf}" for shelf, count in counts.items() if count and shelf is not Shelf.OPEN]
    return f" Of them {', '.join([f'{counts[Shelf.OPEN]} open', *told])}." if told else ""


def describe_prompts(tracking: Tracking, experiment: str = "", *, naming: Naming | None = None) -> Area:
    """Say which prompt is live and whether another is ahead, by the runs of one experiment (`find_experiment`).

    `naming` says for each experiment under which names its runs keep their figures.
    """
    looked_at = find_experiment(tracking, experiment, naming=naming)
    if not looked_at:
        return Area("prompts", Standing.EMPTY, "No prompt has been evaluated yet.")
    found = report_prompts(tracking, experiment=looked_at, rule=WinnerRule.FAITHFULNESS_PER_COST, naming=naming)
    if not found.contenders:
        return Area("prompts", Standing.EMPTY, f"No prompt has been evaluated yet in the experiment {looked_at}.")
    if found.decision is None:
        return Area("prompts", Standing.EMPTY, f"No run of the experiment {looked_at} can be judged case by case.")
    live = found.production.label if found.production else "none"
    winner = found.winner
    is_news = winner is not None and winner.prompt is not None and winner.prompt != found.production
    standing = Standing.GOOD if winner else Standing.UNKNOWN  # without a winner there is no verdict on what is live
    todo = (
        Todo(f"prompt/{winner.label}", "prompts", f"Promote {winner.label}", since=winner.run.started)
        if winner and is_news
        else None
    )
    judged = sorted(found.judged, key=lambda each: each.run.started)
    return Area(
        "prompts",
        Standing.DECIDE if todo else standing,
        f"{live} is in production; {_who_wins(found.decision).rstrip('.')}.",
        live,
        count_of(len(found.judged or found.contenders), "variant"),
        (todo,) if todo else (),
        tuple(each.faithfulness for each in judged if each.faithfulness is not None),
        "faithfulness of each version, oldest first",
    )


def _who_wins(decision: Decision) -> str:
    if decision.winner:
        return f"{decision.winner.label} wins by {decision.rule}"
    return f"{decision.leader.label} leads, but no variant wins yet" if decision.leader else decision.reason


def describe_corpus(store: Store, corpus: Corpus) -> Area:
    """Say which corpus version is live and whether a newer one is waiting."""
    versions = corpus.list_versions()
    if not versions:
        return Area("corpus", Standing.EMPTY, "The corpus has no version yet.")
    indexes = list_indexes(store)
    by_name = {index.name: index for index in indexes}
    live = [by_name[alias.index_name].corpus_version for alias in list_aliases(store) if alias.index_name in by_name]
    newest = versions[0]
    is_built = any(newest.answers_to(index.corpus_version) for index in indexes)
    remedy = f"Ship corpus {newest.name}" if is_built else f"Build an index of corpus {newest.name}"
    tab = ("tab", "Indexes")
    sizes = tuple(float(each.files) for each in reversed(versions[:TREND_DAYS]) if each.files is not None)
    todo = (Todo(f"corpus/{newest.name}", "corpus", remedy, since=newest.committed, filters=(tab,)),)
    if not live:
        built = "is built and waits" if is_built else "has no index yet"
        said = f"No index is live; the newest corpus version, {newest.name}, {built}."
        return Area("corpus", Standing.DECIDE, said, newest.name, "", todo, sizes, _FILES)
    if any(newest.answers_to(version) for version in live):
        said = f"{newest.name}, the newest version, is live."
        return Area("corpus", Standing.GOOD, said, newest.name, trend=sizes, trend_of=_FILES)
    known = next((version for version in versions if version.answers_to(live[0])), None)
    added = corpus.count_changes(known.revision, newest.revision)[0] if known else None
    more = f" ({count_of(added, 'file')} more)" if added else ""
    built = "is built and waits" if is_built else "is committed, without an index yet"
    return Area(
        "corpus", Standing.DECIDE, f"{live[0]} is live; {newest.name}{more} {built}.",
        live[0], f"{newest.name} waits" if is_built else f"{newest.name} is not built", todo, sizes, _FILES,
    )  # fmt: skip


def describe_rollouts(
    store: Store, environment: str, canaries: Callable[[], Sequence[CanaryReport]],
    experiments: Callable[[], Sequence[ExperimentReport]] = tuple,
) -> Area:  # fmt: skip
    """Say how many flags are partly rolled out, whether canaries are healthy, and the results of experiments."""
    flags = list_flags(store, environment)
    if not flags:
        return Area("rollouts", Standing.EMPTY, "There are no flags yet.", "0")
    partly, said = describe_partly({flag.key: flag.view for flag in flags})
    watched = [report for report in canaries() if report.is_running]
    standing, health, todo = _describe_canaries(watched)
    if not todo:
        called, told, todo = _describe_experiments(experiments())
        standing = called if todo else standing
        health = f"{health} {told}".strip()
        if standing is Standing.GOOD and partly and not watched:
            standing = Standing.UNKNOWN  # nothing compares those who have it with the others
    return Area(
        "rollouts", standing, f"{said} {health}".strip(),
        str(partly), _count_canaries(watched) or f"of {count_of(len(flags), 'flag')}",
        (todo,) if todo else (),
    )  # fmt: skip


def _describe_canaries(running: Sequence[CanaryReport]) -> tuple[Standing, str, Todo | None]:
    """The canaries' joint state, in words, and the decision to make."""
    for report in running:
        if not report.verdict.is_healthy:
            remedy = "Roll back" if report.verdict.call is CanaryCall.ROLL_BACK else "Check"
            return Standing.BAD, report.verdict.reason, _todo_of_canary(report, f"{remedy} the canary")
    for report in running:
        if report.verdict.call is CanaryCall.PROMOTE and report.plan.automation is not Automation.FULL:
            text = f"Take the canary {report.flag.key} to its next step"
            return Standing.DECIDE, report.verdict.reason, _todo_of_canary(report, text, named=True)
    if not running:
        return Standing.GOOD, "", None
    is_confirmed = all(report.verdict.call is CanaryCall.PROMOTE for report in running)
    return Standing.GOOD if is_confirmed else Standing.UNKNOWN, running[0].verdict.reason, None


def _todo_of_canary(report: CanaryReport, text: str, *, named: bool = False) -> Todo:
    text = text if named else f"{text} {report.flag.key}"
    where = (("tab", "Canaries"), ("canary", report.flag.key))
    return Todo(f"canary/{report.flag.key}", "rollouts", text, since=report.since, filters=where)


def _describe_experiments(reports: Sequence[ExperimentReport]) -> tuple[Standing, str, Todo | None]:
    """The results of the running experiments, and the decision to make; stops come first."""
    called = [
        each
        for each in reports
        if each.experiment.is_running and each.verdict.call is not experiment.ExperimentCall.WAIT
    ]
    for report in sorted(called, key=lambda each: each.verdict.call is not experiment.ExperimentCall.STOP):
        is_over = report.verdict.call in (experiment.ExperimentCall.STOP, experiment.ExperimentCall.INVALID)
        name = report.experiment.design.name
        text = f"{'Stop' if is_over else 'Decide'} the experiment {name}"
        filters = (("tab", "Experiments"),)
        todo = Todo(f"experiment/{name}", "rollouts", text, since=report.experiment.started, filters=filters)
        return Standing.DECIDE, report.verdict.reason, todo
    return Standing.GOOD, "", None


def _count_canaries(running: Sequence[CanaryReport]) -> str:
    """How many canaries run, and what their verdicts are: one that is only held back so far is not called healthy."""
    if not running:
        return ""
    if not all(report.verdict.is_healthy for report in running):
        health = "not healthy"
    elif all(report.verdict.call is CanaryCall.PROMOTE for report in running):
        health = "confirmed"
    else:
        health = "no verdict yet"
    named = f"1 canary {running[0].share_pct:g}%" if len(running) == 1 else f"{len(running)} canaries"
    return f"{named}, {health}"


def describe_areas(
    steps: Sequence[tuple[str, Callable[[], Area]]], is_new: Callable[[str], bool] = lambda _page: False
) -> tuple[Area, ...]:
    """Run each area's step. An unreadable area says so in its own sentence; `is_new` tells those never connected."""
    areas = []
    for page, step in steps:
        try:
            areas.append(step())
        except QuarterdeckError as error:
            if isinstance(error, SourceUnavailable) and is_new(page):
                areas.append(Area(page, Standing.UNCONNECTED, "Not connected yet."))
            else:
                areas.append(Area(page, Standing.BROKEN, str(error)))
    return tuple(areas)
