"""Rule: which days a verdict compares: those before and since a change, or the newest and the former ones.

Sentence, metrics and chart all show these two windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from core.drift.detector import Replay
from core.log.values import DailyScores


@dataclass(frozen=True, slots=True)
class Windows:
    """Indices of the days compared. `change` is the first day of the new level; None where no change is suspected."""

    recent: tuple[int, ...]
    baseline: tuple[int, ...]
    since: date
    change: int | None = None

    def list_left_out(self, known: Sequence[DailyScores]) -> tuple[date, ...]:
        """Return the days between the first and the last one compared that are in neither window."""
        used = {*self.recent, *self.baseline}
        return tuple(known[at].day for at in range(min(used), max(used)) if at not in used) if used else ()


def choose_windows(
    known: Sequence[DailyScores], seen: Replay, *, since: date, baseline_days: int, change: int | None
) -> Windows:
    """Return the days since the `change` (else since a day) and the `baseline_days` of the level before.

    Days of a drop that is over are in neither window, nor are days of a level before the former one. Where the days
    before the windows are fewer than `baseline_days`, the last ones there are count, however old.
    """
    over = {i for each in seen.episodes if each.is_over for i in range(each.changed, each.back)}
    first = known[change].day if change is not None else since
    kept = [i for i in range(len(known)) if i not in over]
    recent = [i for i in kept if known[i].day >= first]
    if not recent and known[-1].day >= first:  # the drop ended on the last day
        recent = [len(known) - 1]
    former = max((at for at in seen.levels if known[at].day < first), default=0)
    older = [i for i in kept if known[i].day < first and i >= former]
    near = [i for i in older if known[i].day >= first - timedelta(days=baseline_days)]
    return Windows(tuple(recent), tuple(near or older[-baseline_days:]), first, change)
