"""Shell: an index's life: build it aside, probe it, put it live, roll back, remove old ones.

`ingest.py` gets the vectors, `backends.py` holds the tables, `operations.py` moves the aliases, and `retention.py`
decides what may be removed.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta

from core.audit.actions import Action
from core.audit.acts import Act, changing, require
from core.audit.settings import Family, get_setting, save_setting, setting_key
from core.embedding.chunks import Chunk, digest_chunks
from core.embedding.embed import Embedder, Vectors
from core.errors import Conflict, InvalidInput, NotFound
from core.indexes.backends import Passage, VectorIndexes, open_indexes
from core.indexes.canaried import list_canaried, list_left
from core.indexes.ingest import DocumentSource, OnProgress, Problem, embed_chunks
from core.indexes.operations import forget_index, register_index, retire_index, swap_index
from core.indexes.probes import (
    GoldenQuery,
    Hit,
    ProbeLimits,
    ProbeRecord,
    ProbeReport,
    check_count,
    check_golden,
    check_model,
    check_passages,
    check_recall,
    check_scores,
    parse_probe,
)
from core.indexes.registry import Index, IndexState, get_index, list_aliases, list_indexes, list_swaps, newest_swap_id
from core.indexes.retention import GRACE, KEEP, Kept, Retention, decide_retention
from core.log.retrievals import last_days, list_questions
from quarterdeck.clock import from_ms
from quarterdeck.scope import EVERYTHING, Scope
from quarterdeck.store import Store

RECENT_QUERIES = 200
_RECENT_DAYS = 7
_PASSAGES = 20


@dataclass(frozen=True, slots=True)
class BuildReport:
    """The result of a build. `embedded` counts newly embedded texts; an existing index is not rebuilt."""

    index: Index
    documents: int
    embedded: int
    problems: tuple[Problem, ...]
    skipped: int
    was_there: bool = False


def build_version(
    store: Store,
    embedder: Embedder,
    source: DocumentSource,
    by: Act,
    *,
    location: str,
    name: str | None = None,
    on_progress: OnProgress | None = None,
) -> BuildReport:
    """Build the index of a corpus version at `location` and register it; no alias points to it yet.

    Run it again after a kill: only texts that the store's cache does not know are embedded. The default name holds the
    hash of the content, so that the same content is built once. Raises InvalidInput when there is nothing to index
    or the name is too long,
    Conflict when the given name is in use for other content, Forbidden before anything is built.
    """
    require(by, Action.INDEX_REGISTER)
    if not source.chunks:
        raise InvalidInput("corpus version", f"{source.version} has no document with text to index")
    digest = digest_chunks(source.chunks, model=embedder.model, chunking=source.chunking)
    name = name or f"docs-{_slug(source.version)}-{digest[:8]}"
    setting_key(Family.PROBE, name)  # an index whose name is too long for its probe to be kept is not built
    indexes = open_indexes(location)
    known = next((index for index in list_indexes(store) if index.name == name), None)
    if known is not None:
        _check_same(open_indexes(known.location), name, source.chunks)
        return BuildReport(known, source.documents, 0, source.problems, source.skipped, was_there=True)
    vectors, embedded = embed_chunks(embedder, source.chunks, on_progress=on_progress)
    _write(indexes, name, source.chunks, vectors, on_progress)
    index = Index(
        name, location, source.version, embedder.model, len(source.chunks), by.at or datetime.now(UTC), by.actor,
        source.chunking,
    )  # fmt: skip
    register_index(store, index, by)
    return BuildReport(get_index(store, name), source.documents, embedded, source.problems, source.skipped)


def probe_index(
    store: Store,
    embedder: Embedder,
    name: str,
    *,
    golden: Sequence[GoldenQuery] = (),
    queries: Sequence[str] = (),
    live: str | None = None,
    limits: ProbeLimits | None = None,
) -> ProbeReport:
    """Check an index by searches before it goes live, and say whether it may.

    `golden` queries must find their documents; `queries` are recent ones, also searched in the index `live` if given,
    unless that is of another model: hits and scores of two models are compared by a replay, and pass no bar here.
    Raises NotFound and SourceUnavailable when an index is missing or unreadable.
    """
    limits = limits or ProbeLimits()
    index = get_index(store, name)
    if index.model != embedder.model:
        raise InvalidInput("index", f"{name} has vectors of {index.model}; the probe embeds with {embedder.model}")
    indexes = open_indexes(index.location)
    chunks = indexes.list_chunks(name)
    sample = chunks[:: max(1, len(chunks) // _PASSAGES)][:_PASSAGES]
    found = _search(embedder, index, [chunk.text for chunk in sample], limits.top_k)
    golden_check, missed = check_golden(
        golden, _search(embedder, index, [query.text for query in golden], limits.top_k), limits
    )
    checks = [
        check_count(len(chunks), index.chunks), check_passages([chunk.text for chunk in sample], found), golden_check
    ]  # fmt: skip
    former = get_index(store, live) if live is not None and live != name else None
    if former is not None and former.model != index.model:
        checks.append(check_model(former.model, index.model))
    elif former is not None:
        before = _search(embedder, former, queries, limits.top_k)
        after = _search(embedder, index, queries, limits.top_k)
        checks.append(check_recall(before, after, {chunk.text for chunk in chunks}, limits))
        checks.append(check_scores(before, after, limits))
    return ProbeReport(name, tuple(checks), missed)


def list_recent_queries(
    store: Store, *, today: date, limit: int = RECENT_QUERIES, scope: Scope = EVERYTHING
) -> tuple[str, ...]:
    """Return up to `limit` distinct queries of the last seven days: every n-th, from the most to the least asked."""
    asked = list_questions(store, last_days(_RECENT_DAYS, until=today), scope=scope)
    return tuple(query.text for query in asked[:: max(1, -(-len(asked) // limit))])


def find_live(store: Store, alias: str) -> Index | None:
    """Return the index that `alias` points to, or None before the first swap."""
    name = next((known.index_name for known in list_aliases(store) if known.alias == alias), None)
    return get_index(store, name) if name else None


def get_live(store: Store, alias: str) -> Index:
    """Return the index that `alias` points to. Raises NotFound."""
    live = find_live(store, alias)
    if live is None:
        raise NotFound(f"alias: {alias!r} points to no index yet; build one and swap it in")
    return live


def ship_index(store: Store, alias: str, report: ProbeReport, by: Act, *, expected: str | None) -> int:
    """Point `alias` to the probed index; return the audit entry's id.

    Raises InvalidInput when the probe failed, and what `swap_index` raises.
    """
    if not report.passed:
        raise InvalidInput(
            "index", f"{report.index_name} did not pass its probe, so it cannot go live; {report.summary}"
        )
    return swap_index(store, alias, report.index_name, by, expected=expected, probe=report.summary)


def save_probe(store: Store, report: ProbeReport, by: Act, *, live: str | None) -> int:
    """Save the result of a probe against the index `live`, replacing the last one; return the audit entry's id."""
    key = setting_key(Family.PROBE, report.index_name)
    _, version = get_setting(store, key)
    with changing(store, by) as change:
        record = ProbeRecord(report, live, from_ms(change.at_ms))
        stored = asdict(record) | {"probed": record.probed.isoformat()}
        save_setting(change.connection, key, stored, expected_version=version)
        change.record(Action.PROBE_SAVE, report.index_name, None, {"passed": report.passed, "summary": report.summary})
    return change.entry_id


def find_probe(store: Store, index_name: str) -> ProbeRecord | None:
    """Return the last saved probe of an index, or None."""
    stored, _ = get_setting(store, setting_key(Family.PROBE, index_name))
    return parse_probe(stored) if stored else None


def ship_probed_index(store: Store, alias: str, index_name: str, by: Act, *, expected: str | None) -> int:
    """Point `alias` to an index whose saved probe passed against the live index; return the audit entry's id.

    Raises what `find_fresh_probe` and `ship_index` raise.
    """
    return ship_index(store, alias, find_fresh_probe(store, index_name, live=expected), by, expected=expected)


def find_fresh_probe(store: Store, index_name: str, *, live: str | None) -> ProbeReport:
    """Return the saved probe of an index, passed or not.

    Raises InvalidInput when it was not probed, or against another index than the live one.
    """
    record = find_probe(store, index_name)
    if record is None:
        raise InvalidInput("index", f"{index_name} has not been probed; probe it first")
    if record.live != live:
        raise InvalidInput("index", f"{index_name} was probed against {record.live}, not {live}; probe it again")
    return record.report


def plan_garbage(store: Store, *, keep: int = KEEP, grace: timedelta = GRACE, now: datetime | None = None) -> Retention:
    """Return which indexes `collect_garbage` would remove, and which it keeps and why. Raises InvalidInput."""
    if keep < 0 or grace < timedelta(0):
        raise InvalidInput("keep", "keep and grace must not be below 0")
    aliases, at = list_aliases(store), now or datetime.now(UTC)
    with store.read() as connection:
        canaried = list_canaried(connection)
    return decide_retention(
        {index.name: index.built for index in list_indexes(store)},
        [alias.index_name for alias in aliases],
        [list_swaps(store, alias.alias) for alias in aliases],
        now=at,
        keep=keep,
        grace=grace,
        canaried=canaried,
        left=list_left(store, since=at - grace),
    )


def collect_garbage(
    store: Store, by: Act, *, keep: int = KEEP, grace: timedelta = GRACE, now: datetime | None = None
) -> Retention:
    """Remove the indexes that nobody needs (see `decide_retention`); return what it removed and kept, with reasons.

    Safe during swaps: an index is first barred from going live, in a transaction that checks that no alias points to it
    and that no swap happened since the decision. Resumes what a killed run left. Raises InvalidInput and Forbidden.
    """
    require(by, Action.INDEX_REMOVE)
    with store.read() as connection:
        newest_swap = newest_swap_id(connection)
    ready = list_indexes(store)
    decided = plan_garbage(store, keep=keep, grace=grace, now=now)
    disturbed = []
    for name in decided.removable:
        try:
            retire_index(store, name, by, newest_swap=newest_swap)
        except (Conflict, NotFound) as error:
            disturbed.append(Kept(name, str(error)))
    removed = tuple(index.name for index in list_indexes(store, state=IndexState.RETIRED))
    for index in list_indexes(store, state=IndexState.RETIRED):
        open_indexes(index.location).remove(index.name)
        with suppress(Conflict):  # another run did it first
            forget_index(store, index.name, by)
    for location in {index.location for index in ready}:
        open_indexes(location).remove_leftovers(older_than_s=grace.total_seconds())
    return replace(decided, removable=removed, kept=(*decided.kept, *disturbed))


def _write(
    indexes: VectorIndexes, name: str, chunks: Sequence[Chunk], vectors: Vectors, on_progress: OnProgress | None
) -> None:
    """Write the index; reuse a complete but unregistered one of the same name and content from a killed build."""
    if on_progress:
        on_progress("write", 0, len(chunks))
    if name in indexes.list_names():
        _check_same(indexes, name, chunks)
    else:
        indexes.build(name, chunks, vectors)
    if on_progress:
        on_progress("write", len(chunks), len(chunks))


def _check_same(indexes: VectorIndexes, name: str, chunks: Sequence[Chunk]) -> None:
    held, wanted = (
        sorted((chunk.document, chunk.text) for chunk in each) for each in (indexes.list_chunks(name), chunks)
    )
    if held != wanted:
        raise Conflict(f"index {name!r} already exists with other content; choose another name")


def _search(embedder: Embedder, index: Index, texts: Sequence[str], top_k: int) -> list[list[Hit]]:
    if not texts:
        return []
    hits = open_indexes(index.location).search(index.name, embedder.embed(texts), top_k=top_k)
    return [[_hit(passage) for passage in found] for found in hits]


def _hit(passage: Passage) -> Hit:
    return Hit(passage.document, passage.text, passage.score)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-._")[:60] or "unnamed"
