"""Rule: the mean score of a day in which nobody weighs much: neither one session nor one repeated question.

A bot, a monitor or a popular button can be a third of a day's questions; the plain mean then follows it.
"""

from collections import defaultdict
from collections.abc import Iterable

from core.log.values import AskedBy, normalize_query

CAP_SHARE = 0.01


def cap_mean(asked: Iterable[AskedBy]) -> float | None:
    """Return the mean in which each session and each text weighs at most 1% of the day's questions, at least one.

    Texts that differ in case or spacing are the same. Questions without a user or session are sessions of their own.
    With n questions and a cap of c = max(1, n / 100): what a session asked is scaled down to c, then each text is.
    None without questions.
    """
    rows = list(asked)
    cap = max(1.0, CAP_SHARE * sum(row.asked for row in rows))
    by_user: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        if row.user is not None:
            by_user[row.user] += row.asked
    by_text: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in rows:
        kept = 1.0 if row.user is None else min(1.0, cap / by_user[row.user])
        sums = by_text[normalize_query(row.query)]
        sums[0] += kept * row.asked
        sums[1] += kept * row.total
    weight = sum(min(count, cap) for count, _ in by_text.values())
    if not weight:
        return None
    return sum(total * min(1.0, cap / count) for count, total in by_text.values() if count) / weight
