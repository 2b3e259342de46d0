"""Rule: sets logged means side by side when there are no cases to judge by. It names who is ahead, never a winner."""

from collections.abc import Sequence

from core.prompts.decisions import Candidate, Decision, WinnerRule
from core.wording.counts import count_of
from core.wording.scores import decimals_of

_MOST_NAMED = 3
_TIE = 1e-9


def decide_by_means(
    candidates: Sequence[Candidate], *, rule: WinnerRule, ceiling_usd: float | None = None, cases: int = 0
) -> Decision:
    """Return who is ahead by its mean under the rule; `winner` is always None, since means alone have no interval.

    `cases` is how many cases the means are over, 0 if unknown.
    """
    affordable = [c for c in candidates if ceiling_usd is None or c.cost_usd_mean <= ceiling_usd]
    if not affordable:
        return Decision(rule, None, None, f"No run costs less than ${ceiling_usd or 0.0:.4f} a query.", False, cases)

    def value(each: Candidate) -> tuple[float, float]:
        if rule is WinnerRule.FAITHFULNESS_PER_COST and each.cost_usd_mean > 0:
            return each.faithfulness / each.cost_usd_mean, each.faithfulness
        return each.faithfulness, -each.cost_usd_mean if each.has_cost else 0.0

    ranked = sorted(affordable, key=value, reverse=True)
    leader, rival = ranked[0], ranked[1] if len(ranked) > 1 else None
    is_tied = rival is not None and all(
        abs(one - other) < _TIE for one, other in zip(value(leader), value(rival), strict=True)
    )
    apart = leader.faithfulness - rival.faithfulness if rival else 0.0
    places = decimals_of(apart) if abs(apart) > _TIE else 2
    figures = ", ".join(_say(each, places) for each in ranked[1 : 1 + _MOST_NAMED])
    over = f" over {count_of(cases, 'case')}" if cases else ""
    more = f" and {len(ranked) - 1 - _MOST_NAMED} more" if len(ranked) > 1 + _MOST_NAMED else ""
    against = f" against {figures}{more}" if figures else ""
    ahead = "No version is ahead by the means alone" if is_tied else f"{leader.label} is ahead by its mean alone"
    reason = (
        f"{ahead}{over}: {_say(leader, places)}{against}. This is uncertain: means without a table of cases prove "
        "nothing, because nobody can tell a difference from chance."
    )
    return Decision(rule, None, None if is_tied else leader, reason, False, cases, rival=rival)


def _say(each: Candidate, places: int) -> str:
    cost = f" at ${each.cost_usd_mean:.5f} a query" if each.has_cost else ""
    return f"{each.label} {each.faithfulness:.{places}f}{cost}"
