"""Rule: the backlog as files and as issues: one row a topic, a Markdown table, and the text of an issue."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.coverage.shelves import Closing, KnownGap, Shelf, ShelvedTopic
from core.coverage.topics import Topic
from core.log.values import AskedQuery
from core.safety.letters import show_text
from core.wording.counts import count_of

Row = dict[str, Any]
_MOST_SAMPLES = 5
_MARKUP = re.compile(r"([\\*_{}\[\]()!|~$^+=])")
# What GitHub makes a link even when it is escaped; a space of no width behind it prevents that.
_ALIVE = re.compile(r"(@|#|://|\bwww\.|\bGH-)", re.IGNORECASE)
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "'"})


def list_rows(
    shelved: Sequence[ShelvedTopic[Any]], *, scored_count: int, of_drop: Mapping[str, float], cures: Mapping[str, str]
) -> list[Row]:
    """Return a row for each topic, with the same columns for all; what is not known is None.

    `of_drop` and `cures` (the best predicted one, in words) are by topic id.
    """
    return [_row(each, scored_count, of_drop.get(each.topic_id), cures.get(each.topic_id, "")) for each in shelved]


def _row(each: ShelvedTopic[Any], scored_count: int, of_drop: float | None, cure: str) -> Row:
    topic, known, closing = each.topic, each.known, each.closing
    return {
        "topic": each.label,
        "state": str(each.shelf),
        "owner": known.owner if known else "",
        "asked": topic.count if topic else None,
        "share of all": topic.count / max(1, scored_count) if topic else None,
        "share of the drop": of_drop,
        "trend": str(topic.trend) if topic else "",
        "mean score": round(topic.mean_score, 3) if topic else None,
        "gain": round(topic.gain, 2) if topic else None,
        "keywords": ", ".join(topic.keywords) if topic else "",
        "best cure": cure,
        "typical question": topic.sample_queries[0] if topic and topic.sample_queries else "",
        "effect": say_effect(closing) if closing else "",
        "first seen": known.first_seen.date() if known else None,
        "last seen": known.last_seen.date() if known else None,
        "note": known.note if known else "",
        "topic id": each.topic_id,
    }


def count_weeks(topic: Topic, queries: Sequence[AskedQuery]) -> list[int]:
    """Return how often a topic's low questions were asked in each of the last weeks, oldest first."""
    weeks = [queries[member].weekly_counts for member in topic.members]
    longest = max(map(len, weeks), default=0)
    padded = [(0,) * (longest - len(each)) + tuple(each) for each in weeks]
    return [sum(column) for column in zip(*padded, strict=True)]


def say_effect(closing: Closing) -> str:
    """Return what was measured of a gap since an index went live, in one line.

    >>> from datetime import date
    >>> say_effect(Closing("docs-v2", date(2026, 3, 1), 40, 0.31, 12, 0.62, True))
    'docs-v2: 0.31 before, 0.62 over 12 questions since: closed'
    >>> say_effect(Closing("docs-v2", date(2026, 3, 1), 40, 0.31, 0, None, None, undone=date(2026, 3, 2)))
    'docs-v2 was rolled back on 2 Mar: no cure'
    """
    if closing.undone:
        return f"{closing.index_name} was rolled back on {closing.undone.day} {closing.undone:%b}: no cure"
    before = f"{closing.before_score:.2f} before" if closing.before_score is not None else "no question before"
    if closing.closed is not None and closing.after_score is not None:
        verdict = "closed" if closing.closed else "still open"
        return (
            f"{closing.index_name}: {before}, {closing.after_score:.2f} over "
            f"{count_of(closing.after_count, 'question')} since: {verdict}"
        )
    if closing.searched_score is None:
        return f"{closing.index_name}: {before}; too few questions since to tell"
    return (
        f"{closing.index_name}: {before}, {closing.searched_score:.2f} when the same {closing.searched_count:,} are "
        f"searched again; too few questions since to tell"
    )


def marker_of(topic_id: str) -> str:
    """Return the comment in an issue's text by which a later export finds it."""
    return f"<!-- quarterdeck-topic: {topic_id} -->"


def write_issue(each: ShelvedTopic[KnownGap], *, where: str, cure: str, days: int) -> tuple[str, str]:
    """Return title and text of an issue about a gap. `where` is its service and environment.

    Users' text is escaped: it mentions nobody and no issue, links to nothing, and opens no tag.
    """
    topic = each.topic
    lines = [f"Users of {_escape(where)} ask about this, and the index hardly answers."]
    if topic:
        lines.append(
            f"- Asked {count_of(topic.count, 'time')} in the last {count_of(days, 'day')}, trend: {topic.trend}; mean "
            f"score {topic.mean_score:.2f}"
        )
    if cure:
        lines.append(f"- Best predicted cure: {_escape(cure)}")
    if each.closing:
        lines.append(f"- Measured: {_escape(say_effect(each.closing))}")
    if topic and topic.sample_queries:
        lines += ["", "Typical questions:", *(f"- {_escape(text)}" for text in topic.sample_queries[:_MOST_SAMPLES])]
    title = f"Coverage gap: {' '.join(each.label.split())}"[:200]
    return title, "\n".join([*lines, "", marker_of(each.topic_id)])


def is_exported(each: ShelvedTopic[Any]) -> bool:
    """Return whether a gap is worth an issue: somebody has still to do something about it."""
    return each.known is not None and each.shelf in (Shelf.OPEN, Shelf.PLANNED)


def count_by_shelf(shelved: Sequence[ShelvedTopic[Any]]) -> dict[Shelf, int]:
    """Return how many topics each shelf holds."""
    return {shelf: sum(each.shelf is shelf for each in shelved) for shelf in Shelf}


def _escape(text: str) -> str:
    short = show_text(" ".join(text.split())[:400])
    return _ALIVE.sub("\\1\u200b", _MARKUP.sub(r"\\\1", short.translate(_HTML)))
