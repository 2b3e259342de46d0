"""Shell: looks for emerging topics in the log of a scope, keeps what it found, and reads it back with its questions.

Kept are hashes of the questions; their texts stay in the log, where erasing and retention reach them.
"""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from core.audit.settings import Family, SettingKey, get_setting, save_setting, scope_key
from core.coverage.bets import AskedDay, EmergingCall, ReferenceQuestions
from core.coverage.emerging import LIVES, WINDOWS, EmergingReport, EmergingTopic, Watch, merge_calls
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache, hash_text
from core.errors import Conflict, NotFound, QuarterdeckError
from core.log.filters import QuestionFilter
from core.log.questions import with_spellings
from core.log.retrievals import Window, find_bounds, list_asked_by, list_questions, list_scopes, today_in
from core.log.values import normalize_query
from quarterdeck.scope import Scope
from quarterdeck.store import Store

REFERENCE_DAYS = 28
LEAST_DAYS = 14  # of the reference, with questions
MOST_REFERENCE = 4_000  # questions of the reference that are compared with, a sample
MOST_OF_DAY = 3_000  # distinct questions of a day that are watched, a sample
MOST_SHOWN = 50  # questions of a topic that are kept
_BLOCK = 7  # days that share a reference
_MOST_TEXTS = 200_000


def look_for_all(store: Store, embedder: Embedder, *, now: datetime) -> int:
    """Look for emerging topics in every scope; return how many scopes had a day that was not looked at yet.

    A scope that cannot be looked at stops no other: it is named in the QuarterdeckError that is raised at the end.
    """
    due, problems = list_due(store, embedder.model, now=now), []
    for scope in due:
        try:
            look_for_emerging(store, embedder, scope=scope, now=now)
        except Conflict:
            continue  # another server was faster
        except Exception as error:  # noqa: BLE001 - whatever it is, the other scopes are looked at
            kind = "" if isinstance(error, QuarterdeckError) else f"{type(error).__name__}: "
            problems.append(f"{scope.service} in {scope.environment}: {kind}{' '.join(str(error).split())[:300]}")
    if problems:
        raise QuarterdeckError("; ".join(problems))
    return len(due)


def look_aside(url: str, log_url: str | None, model: str, now: datetime) -> int:
    """Call `look_for_all` for the store at an address: for a process of its own, where minutes hold up no page."""
    with closing(Store(url, log_url=log_url)) as store:
        return look_for_all(store, Embedder(model, cache=VectorCache(store)), now=now)


def list_due(store: Store, model: str, *, now: datetime) -> tuple[Scope, ...]:
    """Return the scopes with a day that was not looked at yet with this embedding model."""
    return tuple(scope for scope in list_scopes(store) if not _is_looked_at(store, model, scope, now=now))


def look_for_emerging(store: Store, embedder: Embedder, *, scope: Scope, now: datetime) -> bool:
    """Look for emerging topics up to yesterday and keep them; False where that was done already.

    Embeds the questions that have no vector yet, which takes minutes the first time. Raises SourceUnavailable, and
    Conflict where another server was faster.
    """
    if _is_looked_at(store, embedder.model, scope, now=now):
        return False
    until = _find_last_day(store, scope, now=now)
    name = scope_key(Family.EMERGING, scope)
    _, version = get_setting(store, name)
    calls, problem = _find_calls(store, embedder, scope, until)
    kept = {
        "until": until.isoformat(), "model": embedder.model, "problem": problem,
        "topics": [_dump(call) for call in sorted(calls, key=lambda each: (-each.called, -each.evidence))],
    }  # fmt: skip
    _save(store, name, kept, version)
    return True


def report_emerging(store: Store, scope: Scope, *, readable: bool = True) -> EmergingReport:
    """Return what the last look found, with the questions as the log has them; without any unless `readable`."""
    kept = get_setting(store, scope_key(Family.EMERGING, scope)).value
    if not kept:
        return EmergingReport(None)
    until = date.fromisoformat(kept["until"])
    texts: dict[str, str] = {}
    if readable and kept["topics"]:
        first = min(date.fromisoformat(each["since"]) for each in kept["topics"])
        asked = list_questions(store, Window(first, until), limit=_MOST_TEXTS, scope=scope)
        texts = {hash_text(query.text).hex(): query.text for query in asked}
    topics = (
        EmergingTopic(
            each["id"], date.fromisoformat(each["since"]), date.fromisoformat(each["called_on"]), each["count"],
            each["expected"], each["odds"], tuple(texts[name] for name in each["questions"] if name in texts),
        )
        for each in kept["topics"]
    )  # fmt: skip
    return EmergingReport(until, tuple(topics), kept["problem"])


def narrow_to_new(store: Store, wanted: QuestionFilter, scope: Scope, topic_id: str) -> tuple[str, QuestionFilter]:
    """Return the label of an emerging topic, and the filter of its most typical questions since it is new.

    Raises NotFound for one that was not called in the last two weeks.
    """
    found = report_emerging(store, scope)
    topic = next((each for each in found.topics if each.topic_id == topic_id), None)
    if topic is None or found.until is None:
        raise NotFound(f"new: no topic {topic_id[:40]!r} was called in the last two weeks")
    first = topic.since - timedelta(days=WINDOWS[-1])
    start_ms, end_ms = find_bounds(store, scope, Window(first, found.until + timedelta(days=1)))
    inside = replace(wanted, texts=topic.questions, start_ms=start_ms, end_ms=end_ms)
    return topic.label, with_spellings(store, inside, start_ms=start_ms, end_ms=end_ms)


def _is_looked_at(store: Store, model: str, scope: Scope, *, now: datetime) -> bool:
    known = get_setting(store, scope_key(Family.EMERGING, scope)).value
    until = _find_last_day(store, scope, now=now)
    return bool(known) and (known["until"], known["model"]) == (until.isoformat(), model)


def _find_last_day(store: Store, scope: Scope, *, now: datetime) -> date:
    return today_in(store, scope, now=now) - timedelta(days=1)


def _find_calls(store: Store, embedder: Embedder, scope: Scope, until: date) -> tuple[list[EmergingCall], str]:
    """Return the calls of the last two weeks, or why there can be none.

    Earlier weeks are looked at as well, so that a topic that was called before is not called again.
    """
    last = until.toordinal()
    first_block = _block_of(last - 2 * LIVES + 1)
    days = {day: _read_day(store, scope, day) for day in range(first_block - REFERENCE_DAYS, last + 1)}
    vectors = _Vectors(embedder)
    calls: list[EmergingCall] = []
    problem = ""
    for block in range(first_block, last + 1, _BLOCK):
        reference = [days[day] for day in range(block - REFERENCE_DAYS, block)]
        if (held := sum(bool(texts) for texts in reference)) < LEAST_DAYS:
            problem = f"needs questions of {LEAST_DAYS} days before this week, and there are {held}"
            continue
        sample = _sample_reference(reference, block - REFERENCE_DAYS)
        known = ReferenceQuestions(vectors.get(sample), sample)
        if not known.is_enough:
            problem = f"needs more different questions in the four weeks before: there are {len(set(sample)):,}"
            continue
        problem, watch = "", Watch(known)
        for day in range(block - WINDOWS[-1] + 1, min(last, block + _BLOCK + LIVES - 2) + 1):
            texts = tuple(days[day])
            asked = AskedDay(day, vectors.get(texts), texts, tuple(days[day].values()))
            watch.add_day(asked, forms=block <= day < block + _BLOCK)
        calls += watch.list_calls()
    return [call for call in merge_calls(calls) if call.called > last - LIVES], problem


class _Vectors:
    """The vectors of texts, each embedded or read once."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, Any] = {}

    def get(self, texts: Sequence[str]) -> Any:
        """Return a row for each text."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(missing, self._embedder.embed(missing), strict=True))
        rows = [self._known[text] for text in texts]
        return np.stack(rows) if rows else np.empty((0, 1), dtype=np.float32)


def _read_day(store: Store, scope: Scope, day: int) -> dict[str, str]:
    """Return the distinct questions of a day, each with a session that asked it, at most `MOST_OF_DAY`."""
    on = date.fromordinal(day)
    start_ms, end_ms = find_bounds(store, scope, Window(on, on))
    found: dict[str, str] = {}
    for row in list_asked_by(store, start_ms=start_ms, end_ms=end_ms, scope=scope):
        if text := normalize_query(row.query):
            session = row.user if row.user is not None else f"\x00{text}"
            found[text] = min(found.get(text, session), session)
    picked = sorted(found, key=lambda text: _draw(text, day))[:MOST_OF_DAY]
    return {text: found[text] for text in picked}


def _sample_reference(days: Sequence[dict[str, str]], first: int) -> tuple[str, ...]:
    """Return questions of the reference, one for each day on which it was asked; the same ones each time."""
    drawn = sorted((_draw(text, first + at), text) for at, texts in enumerate(days) for text in texts)
    return tuple(text for _, text in drawn[:MOST_REFERENCE])


def _draw(text: str, day: int) -> bytes:
    return hashlib.blake2b(f"{day}\x00{text}".encode(errors="surrogatepass"), digest_size=8).digest()


def _block_of(day: int) -> int:
    """Return the Monday of a day's week."""
    return day - (day - 1) % _BLOCK


def _dump(call: EmergingCall) -> dict[str, Any]:
    hashes = [hash_text(text).hex() for text in call.texts[:MOST_SHOWN]]
    return {
        "id": f"n-{hashes[0][:10]}", "since": date.fromordinal(call.since).isoformat(),
        "called_on": date.fromordinal(call.called).isoformat(), "count": call.count,
        "expected": round(call.expected, 2), "odds": float(np.exp(min(call.evidence, 100.0))), "questions": hashes,
    }  # fmt: skip


def _save(store: Store, name: SettingKey, kept: dict[str, Any], version: int) -> None:
    """Keep what was found: an observation, not a decision, so that it has no audit entry."""
    with store.begin() as connection:
        save_setting(connection, name, kept, expected_version=version)
