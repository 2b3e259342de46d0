"""Shell: compares the users who are held out with the rest, in one metric: what all rollouts did together.

Everybody with a question since the holdout began counts, whether a rollout touched them or not. `layers.py` begins and
ends holdouts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from core.arms.arms import Arm, ArmsReading, ComparedMetric
from core.arms.comparisons import ArmComparison, Margin, compare_arms, say_amount, say_value
from core.arms.histories import ArmHistories, Watched, scopes_of_flag
from core.arms.sequential import ALPHA, LEAST_USERS, MISMATCH_P, compare_shares
from core.errors import NotFound
from core.flags.layer_store import get_holdout
from core.flags.layers import Holdout, is_held_out
from core.log.exposures import Exposure
from core.metrics.daily import list_metrics
from core.metrics.definition import MetricDefinition
from core.metrics.values import RowsRead, list_questions_asked
from core.rollouts.experiment_design import parse_metric
from core.wording.counts import count_of
from quarterdeck.clock import from_ms, to_ms
from quarterdeck.scope import Scope
from quarterdeck.store import Store

HELD, REST = "held out", "rest"
_SHOWN = 0.02  # no margin is judged here


@dataclass(frozen=True, slots=True)
class HoldoutReport:
    """The held-out users against the rest, in one metric. `compared` is None while a group has no figure.

    `users` counts those with questions since the start, by group. `mismatch_p` is the always-valid p-value of these
    counts under the holdout's share. `looks` are hourly readings of both groups.
    """

    holdout: Holdout
    metric: ComparedMetric
    users: dict[str, int]
    compared: ArmComparison | None
    mismatch_p: float | None
    looks: tuple[ArmsReading, ...]

    @property
    def sentence(self) -> str:
        """What rollouts did to the metric, as far as it is sure."""
        return _say(self)


def report_holdout(
    store: Store, histories: ArmHistories, environment: str, metric: str, *, now: datetime,
    services: Sequence[str] = (),
) -> HoldoutReport:  # fmt: skip
    """Compare the rest with those held out, in a metric by its name. Always valid: you may check it at any time.

    The interval of the difference covers it in at least 95% of holdouts, however often it is read, one metric alone. It
    is narrowed by what the same users did before. Smallest sample: 30 users in each group. Raises NotFound where no
    holdout runs, InvalidInput for an unknown metric, and SourceUnavailable.
    """
    holdout = get_holdout(store, environment)
    if holdout is None or holdout.since is None:
        raise NotFound(f"holdout: none runs in {environment}")
    found = parse_metric(metric, list_metrics(store, Scope(environment, "")))
    scopes = scopes_of_flag(environment, services)
    members = _list_members(store, holdout, scopes, holdout.since, now)
    counts = {group: sum(each.variant == group for each in members) for group in (HELD, REST)}
    own = (found,) if isinstance(found, MetricDefinition) else ()
    watched = Watched(
        "", (HELD, REST), holdout.since, scopes, expects=not own, own=own, drawn_since=holdout.since
    )  # fmt: skip
    looks = histories.read(watched, until=now, exposures=members) if members else ()
    arms = looks[-1].arms if looks else {}
    compared = compare_arms(arms.get(HELD, Arm()), arms.get(REST, Arm()), [Margin(found, _SHOWN)], alpha=ALPHA / 2)
    shares = {HELD: holdout.share_pct, REST: 100 - holdout.share_pct}
    p = compare_shares(counts, shares) if members else None
    return HoldoutReport(holdout, found, counts, compared[0] if compared else None, p, looks)


def _list_members(
    store: Store, holdout: Holdout, scopes: Iterable[Scope], since: datetime, until: datetime
) -> tuple[Exposure, ...]:
    """Return everybody who asked since a time, with the group of each, and since when."""
    first: dict[str, int] = {}
    for scope in scopes:
        for row in list_questions_asked(store, RowsRead(scope, to_ms(since), to_ms(until))):
            if row.user is not None:
                first[row.user] = min(row.start_ms, first.get(row.user, row.start_ms))
    began_ms = to_ms(since)
    return tuple(
        Exposure(user, HELD if is_held_out(holdout, user) else REST, from_ms(max(at_ms, began_ms)))
        for user, at_ms in first.items()
    )


def _say(report: HoldoutReport) -> str:
    compared, metric = report.compared, report.metric
    if report.mismatch_p is not None and report.mismatch_p < MISMATCH_P:
        seen = report.users[HELD] / sum(report.users.values())
        return (
            f"No figure can be trusted: {seen:.1%} of users are held out where {report.holdout.share_pct:g}% are "
            "expected, so users of a group are lost or counted twice."
        )
    if compared is None or compared.difference is None:
        held = count_of(report.users[HELD], "user")
        return f"Too early to tell: {held} held out have asked so far; {LEAST_USERS} in each group need the {metric}."
    rest, held = (say_value(metric, moments.mean) for moments in (compared.other, compared.stable))
    figures = f"{rest} for the rest, {held} for those held out"
    low, high = compared.least_harm, compared.most_harm
    if low > 0:
        return f"Rollouts made the {metric} worse, by at least {say_amount(metric, low)}: {figures}."
    if high < 0:
        return f"Rollouts made the {metric} better, by at least {say_amount(metric, high)}: {figures}."
    return (
        f"No effect on the {metric} is sure yet: {figures}; the rest is between {say_amount(metric, low)} better and "
        f"{say_amount(metric, high)} worse."
    )
