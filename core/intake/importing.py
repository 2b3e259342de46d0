"""Shell that imports retrievals from a file of rows or from MLflow's traces. Resumable, and nothing is lost silently.

What is read is stored or refused, and each batch lands together with the note how far the import has come.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from core.audit.settings import Family, SettingKey, get_setting, save_setting, setting_key
from core.errors import InvalidInput
from core.intake.intake import add_keys, find_keys, forget_keys, store_retrievals
from core.intake.rows import FileTimes, Parsed, RefusedRow, parse_cells, parse_record, parse_rows
from core.intake.tables import TableFile
from core.intake.traces import Trace, TraceSource, parse_span
from quarterdeck.clock import to_ms
from quarterdeck.redaction import Redactor
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store

LISTED = 20

_BATCH_ROWS = 10_000
_BATCH_TRACES = 100
_LATE_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did. `read` rows are `stored` or refused (`refused_count`; the first 20 are listed).

    `skipped` were stored by an earlier import that this one went on from. `notes` say what was assumed.
    """

    read: int
    stored: int
    refused_count: int
    refused: tuple[RefusedRow, ...]
    skipped: int
    notes: tuple[str, ...]


class _Tally:
    """Adds up what the batches of an import came to."""

    def __init__(self, skipped: int = 0) -> None:
        self.skipped = skipped
        self.stored = self.refused_count = 0
        self._refused: list[RefusedRow] = []

    def add(self, batch: Parsed) -> None:
        self.stored += len(batch.retrievals)
        self.refused_count += len(batch.refused)
        self._refused += batch.refused[: LISTED - len(self._refused)]

    def report(self, notes: Sequence[str]) -> ImportReport:
        read = self.stored + self.refused_count
        return ImportReport(read, self.stored, self.refused_count, tuple(self._refused), self.skipped, tuple(notes))


def import_file(
    store: Store,
    file: TableFile,
    *,
    redact: Redactor,
    zone: tzinfo | None = None,
    resume: bool = False,
    again: bool = False,
    strict: bool = False,
    on_progress: Callable[[float], None] = lambda _share: None,
) -> ImportReport:
    """Store the rows of a file, 10,000 a transaction, and report on them; refused rows are numbered from 1.

    `resume` goes on after the rows that an earlier import of this file dealt with; without it, such a file is refused
    unless `again` says to store it a second time. `strict` stops at the first wrong row, with those before it stored.
    `on_progress` hears how much of the file is dealt with (0 to 1). Raises InvalidInput and SourceUnavailable, and
    Conflict when another import of the same file is under way.
    """
    name = setting_key(Family.IMPORTED_FILE, file.digest())
    skip, version = _find_progress(store, name, resume=resume, again=again)
    times = FileTimes(zone)
    parse = parse_cells if file.is_text else parse_record
    read = partial(parse, read_time=times, redact=redact)
    rows, tally, done = file.rows(skip=skip), _Tally(skip), skip
    while found := list(islice(rows, _BATCH_ROWS)):
        batch = parse_rows(found, read, first=done + 1, strict=strict)
        done += len(batch.retrievals) + len(batch.refused)
        progress = {"rows": done, "file": str(file.path)}
        store_retrievals(
            store, batch.retrievals, partial(save_setting, name=name, value=progress, expected_version=version)
        )
        version += 1
        tally.add(batch)
        on_progress(file.share)
        if strict and batch.refused:
            break
    unused = [f"columns not used: {', '.join(sorted(file.unused))}"] if file.unused else []
    return tally.report([*times.notes(), *unused])


def import_traces(
    store: Store,
    source: TraceSource,
    *,
    redact: Redactor,
    on_progress: Callable[[int], None] = lambda _count: None,
) -> ImportReport:
    """Store the retriever spans of the traces that did not come in before, and report on them.

    Traces that started up to 24 hours before the last one imported are looked at again, so that one that ended late is
    not missed; each trace's id is remembered for as long. Refused spans are numbered from 1 in the order of reading.
    Raises NotFound, InvalidInput and SourceUnavailable.
    """
    tally = _Tally()
    for experiment_id in source.list_experiments():
        for traces in _import_experiment(store, source, experiment_id, tally=tally, redact=redact):
            on_progress(len(traces))
    return tally.report([])


def parse_zone(name: str) -> tzinfo:
    """Return the time zone of that name, for example Europe/Berlin. Raises InvalidInput."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput("timezone", f"{name!r} is no time zone; give one like Europe/Berlin") from error


def _find_progress(store: Store, name: SettingKey, *, resume: bool, again: bool) -> tuple[int, int]:
    """Return how many rows to skip, and the version of the note that says so."""
    with store.begin():
        pass  # makes the store when there is none yet
    state, version = get_setting(store, name)
    done = int(state["rows"]) if state else 0
    if done and not resume and not again:
        raise InvalidInput(
            "file",
            f"{done:,} rows of it were imported before. --resume goes on after them; --again stores them a second time",
        )
    return (done if resume else 0), version


def _import_experiment(
    store: Store, source: TraceSource, experiment_id: str, *, tally: _Tally, redact: Redactor
) -> Iterator[Sequence[Trace]]:
    """Store the new traces of one experiment, and yield each batch that is durable."""
    known = setting_key(Family.IMPORTED_TRACES, source.digest(experiment_id))
    state, version = get_setting(store, known)
    until_ms = int(state["until_ms"]) if state else 0
    for ids in source.list_traces(experiment_id, since_ms=until_ms - _LATE_MS if state else None):
        old = find_keys(store, known, ids)
        tally.skipped += len(old)
        new = [each for each in ids if each not in old]
        for start in range(0, len(new), _BATCH_TRACES):
            traces = source.read_traces(new[start : start + _BATCH_TRACES])
            until_ms = max([until_ms, *(to_ms(trace.started) for trace in traces)])
            batch = _parse_traces(traces, redact, first=tally.stored + tally.refused_count + 1)
            mark = partial(_mark_traces, source=known, traces=traces, until_ms=until_ms, version=version)
            store_retrievals(store, batch.retrievals, mark)
            version += 1
            tally.add(batch)
            yield traces


def _parse_traces(traces: Sequence[Trace], redact: Redactor, *, first: int) -> Parsed:
    def read(found: Any) -> Retrieval:
        return parse_span(*found, redact=redact)

    return parse_rows([(trace, span) for trace in traces for span in trace.spans], read, first=first)


def _mark_traces(
    connection: Connection, *, source: SettingKey, traces: Sequence[Trace], until_ms: int, version: int
) -> None:
    save_setting(connection, source, {"until_ms": until_ms}, expected_version=version)
    add_keys(connection, source, [(trace.trace_id, to_ms(trace.started)) for trace in traces])
    forget_keys(connection, source, before_ms=until_ms - _LATE_MS)
