"""Rule: whether searches suddenly find nothing, fail, or come back without a score, by the share of whole days.

Such questions have no score, so the verdict on scores cannot see them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from core.log.values import DailyScores

ERROR = 1 / 1_000  # chance of a false call on a day, both kinds together; as much again for runs of days
RUN_DAYS = 7  # days in a row that are judged together, at most, where one alone has too few questions
LEAST_JUMP = 0.05  # a smaller rise of the share is no outage, however certain
DESIGN_DOUBT = 0.05  # chance that the design effect is larger than assumed
LEAST_DESIGN = 2.0  # variance of a day's share / that of independent questions: sessions repeat themselves
REFERENCE_DAYS = 30
MIN_QUESTIONS = 20  # before the day that is judged
MIN_DAYS = 2


class OutageKind(StrEnum):
    """What happens to the questions: nothing is found or the search fails, or hits come without a number."""

    NOTHING_FOUND = "nothing found"
    UNSCORED = "unscored"


@dataclass(frozen=True, slots=True)
class Outage:
    """A share that jumped, on the last whole day. It has been up since `since`; `reference` is the share before.

    `count` of `questions` are those of the days from `first` to `day`: of one, or of as many as it takes to be sure.
    """

    kind: OutageKind
    first: date
    day: date
    since: date
    count: int
    questions: int
    reference: float

    @property
    def reason(self) -> str:
        """Return what happens, in a sentence."""
        share, since = self.count / self.questions, f"{self.since.day} {self.since:%b %Y}"
        what = "found nothing" if self.kind is OutageKind.NOTHING_FOUND else "came back without a score"
        days = f"{self.day.day} {self.day:%b %Y}"
        days = f"of {days}" if self.first == self.day else f"from {self.first.day} {self.first:%b} to {days}"
        return (
            f"{share:.0%} of the searches {days} {what}, {self.count:,} of "
            f"{self.questions:,}, against {_say_share(self.reference)} before; this began on {since}."
        )

    @property
    def action(self) -> str:
        """Return what to do."""
        if self.kind is OutageKind.NOTHING_FOUND:
            return "Check that the index is there, is filled and answers, and what changed on that day."
        return "Check what the service logs: its hits have no score since then, so no drop can be detected."


def find_outage(days: Sequence[DailyScores], *, today: date, window_days: int = 7) -> Outage | None:
    """Return the outage at the end of `today`, from whole days in any state, or None.

    A day is out when its share of such questions (found nothing or failed; without a score) is at least `LEAST_JUMP`
    above that of the last `REFERENCE_DAYS` days that were not out, and so many would be seen with a chance of at most
    `ERROR` / 2 if nothing had changed: the upper tail of the beta-binomial distribution, exact, with Jeffreys' prior.
    So is each of up to `RUN_DAYS` days in a row, where it takes the questions of all of them to be sure: by a chance of
    `ERROR` / 2 for all lengths together, if each of these days lies nearer to their share than to the one before.
    Counts are divided by the design effect first: the upper 95% limit of Pearson's chi-square of the reference days per
    degree of freedom, at least `LEAST_DESIGN`. Assumes that the days of the reference are exchangeable: a weekly
    pattern raises the design effect and makes the test slower, not wrong. Smallest reference: `MIN_DAYS` days with
    `MIN_QUESTIONS` questions. The last day with questions counts, if it is one of
    the last `window_days`.
    """
    known = [day for day in days if day.day <= today and day.questions]
    if not known or (today - known[-1].day).days >= window_days:
        return None
    found = (_replay(known, kind)[-1] for kind in OutageKind)
    return next((outage for outage in found if outage), None)


def list_outages(days: Sequence[DailyScores]) -> tuple[tuple[date, date, date | None], ...]:
    """Return the outages of a log: the first day, the day at whose end it was called, the first whole day after it.

    Outages of two kinds that share days are one. A log in which nothing was ever found is out from its first day on.
    """
    known = [day for day in days if day.questions]
    out = _days_of_nothing(known)
    for kind in OutageKind:
        out |= {at: outage.since for at, outage in enumerate(_replay(known, kind)) if outage and at not in out}
    found: list[tuple[date, date, date | None]] = []
    for at in sorted(out):
        ended = known[at + 1].day if at + 1 < len(known) else None
        if at - 1 in out:
            since, called, _ = found.pop()
            found.append((since, called, ended))
        else:
            found.append((out[at], known[at].day, ended))
    return tuple(found)


def _days_of_nothing(days: Sequence[DailyScores]) -> dict[int, date]:
    """The days up to which no search ever found anything, once there are enough questions to say so."""
    out: dict[int, date] = {}
    asked = 0
    for at, day in enumerate(days):
        if day.empty + day.failed < day.questions:
            break
        asked += day.questions
        if asked >= MIN_QUESTIONS:
            out[at] = days[0].day
    return out


def _count(day: DailyScores, kind: OutageKind) -> int:
    return day.empty + day.failed if kind is OutageKind.NOTHING_FOUND else day.unscored


def _replay(days: Sequence[DailyScores], kind: OutageKind) -> list[Outage | None]:
    """The outage at the end of each day, or None."""
    states: list[Outage | None] = []
    reference: list[tuple[int, int]] = []
    run: list[tuple[date, int, int]] = []  # the last days of the present state, each with its count and its questions
    outage: Outage | None = None
    for day in days:
        run = [*run[1 - RUN_DAYS :], (day.day, _count(day, kind), day.questions)]
        found = _judge(run, reference, kind, is_open=outage is not None)
        if found is None:
            run = run[-1:] if outage else run
            reference.append(run[-1][1:])
        elif outage is None:
            run = [each for each in run if each[0] >= found.first]
            reference = reference[: len(reference) + 1 - len(run)]
        outage = replace(found, since=outage.since) if found and outage else found
        states.append(outage)
    return states


def _judge(
    run: Sequence[tuple[date, int, int]], reference: Sequence[tuple[int, int]], kind: OutageKind, *, is_open: bool
) -> Outage | None:
    """The outage that the fewest of the last days show; without one, the last of `reference` are of the same run."""
    for length in range(1, len(run) + 1):
        last = run[-length:]
        before = reference if is_open else reference[: len(reference) + 1 - length]
        before = before[-REFERENCE_DAYS:]
        counted, asked = sum(k for k, _ in before), sum(n for _, n in before)
        if len(before) < MIN_DAYS or asked < MIN_QUESTIONS:
            return None
        _, lost, of = last[0]
        if lost / of < counted / asked + LEAST_JUMP / 2:
            return None  # longer runs hold this day, too
        chance = ERROR / len(OutageKind) / (1 if length == 1 else RUN_DAYS - 1)
        if _is_jump([each[1:] for each in last], before, chance):
            count, questions = sum(k for _, k, _ in last), sum(n for _, _, n in last)
            first, day = last[0][0], last[-1][0]
            return Outage(kind, first, day, first, count, questions, counted / asked)
    return None


def _is_jump(last: Sequence[tuple[int, int]], reference: Sequence[tuple[int, int]], chance: float) -> bool:
    counted, asked = sum(k for k, _ in reference), sum(n for _, n in reference)
    count, questions = sum(k for k, _ in last), sum(n for _, n in last)
    share, former = count / questions, counted / asked
    if share - former < LEAST_JUMP or any(k / n < (share + former) / 2 for k, n in last):
        return False
    design = _design_effect(reference)
    few, many = round(count / design), max(1, round(questions / design))
    return _tail(min(few, many), many, counted / design, (asked - counted) / design) <= chance


def _design_effect(reference: Sequence[tuple[int, int]]) -> float:
    """Return by how much the shares of days vary more than chance, at most: Pearson's chi-square per degree."""
    from scipy.stats import chi2

    counted, asked = sum(k for k, _ in reference), sum(n for _, n in reference)
    share = (counted + 0.5) / (asked + 1)
    square = sum((k - n * share) ** 2 / (n * share * (1 - share)) for k, n in reference)
    return max(LEAST_DESIGN, square / float(chi2.ppf(DESIGN_DOUBT, len(reference) - 1)))


def _tail(count: int, questions: int, former: float, others: float) -> float:
    """Return the chance of at least `count` of `questions`, after `former` such ones and `others` before."""
    from scipy.stats import betabinom

    return float(betabinom.sf(count - 1, questions, former + 0.5, others + 0.5))


def describe_nothing_found(days: Sequence[DailyScores], *, since: date | None = None) -> str:
    """Return the sentence for a log in which no search ever found anything; "" if one did, or nothing is recorded."""
    known = [day for day in days if since is None or day.day >= since]
    lost, asked = sum(day.empty + day.failed for day in known), sum(day.questions for day in known)
    if not asked or lost < asked:
        return ""
    first = known[0].day
    failed = sum(day.failed for day in known)
    why = f"; {failed:,} of them failed" if failed else ""
    if asked == 1:
        return f"1 search is recorded, on {first.day} {first:%b %Y}, and it {'failed' if failed else 'found nothing'}."
    return f"{asked:,} searches are recorded since {first.day} {first:%b %Y}, and none found anything{why}."


def _say_share(share: float) -> str:
    return f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"
