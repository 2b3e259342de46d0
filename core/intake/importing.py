"""Shell: imports retrievals from a file of rows or from MLflow's traces. Resumable, and nothing is lost silently.

Every row is stored or refused, and each batch commits together with the note of how far the import has come, with the
scores of its rows, and with the counts of what was taken and refused.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from core.audit.settings import Family, SettingKey, get_setting, save_setting, setting_key
from core.errors import InvalidInput
from core.intake.choices import choices_of, kinds_of
from core.intake.counts import bound_scopes
from core.intake.intake import add_keys, find_keys, forget_keys
from core.intake.records import FileRows
from core.intake.rows import Parsed, RefusedRow, parse_rows
from core.intake.tables import TableFile
from core.intake.times import FileTimes
from core.intake.traces import Trace, TraceSource, judge_trace, parse_span
from core.log.named_rows import find_rows
from core.log.scores import SOURCE as SCORES
from quarterdeck.clock import DAY_MS, now_ms, to_ms
from quarterdeck.exposures import store_scores
from quarterdeck.intake import DUPLICATE, TAKEN, Counted, make_example, reason_of, store_counts
from quarterdeck.recorder import append_retrievals
from quarterdeck.redaction import Redactor
from quarterdeck.registry import name_scopes
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE, Scope, make_scope
from quarterdeck.store import Store

LISTED = 20

_BATCH_ROWS = 10_000
_BATCH_TRACES = 100
_LATE_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of an import. `read` rows were `stored` or refused (`refused_count`; the first 20 are listed).

    `skipped` rows were stored by an earlier import that this one resumed. Of the stored rows, `known` were in the log
    already, by their retrieval id, and are there once. `notes` list assumptions.
    """

    read: int
    stored: int
    refused_count: int
    refused: tuple[RefusedRow, ...]
    skipped: int
    notes: tuple[str, ...]
    known: int = 0


class _Tally:
    """Adds up the results of an import's batches."""

    def __init__(self, skipped: int = 0) -> None:
        self.skipped = skipped
        self.stored = self.refused_count = self.known = self.scores = 0
        self._refused: list[RefusedRow] = []

    def add(self, batch: Parsed, *, new: int) -> None:
        self.stored += len(batch.retrievals)
        self.known += len(batch.retrievals) - new
        self.refused_count += len(batch.refused)
        self._refused += batch.refused[: LISTED - len(self._refused)]

    def report(self, notes: Sequence[str]) -> ImportReport:
        read = self.stored + self.refused_count
        refused = tuple(self._refused)
        return ImportReport(read, self.stored, self.refused_count, refused, self.skipped, tuple(notes), self.known)


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
    """Store the rows of a file, 10,000 per transaction, and report; refused rows are numbered from 1.

    `resume` continues after the rows that an earlier import of this file processed; without it, such a file is refused,
    also a copy under another name, unless `again` allows storing it a second time. `strict` stops at the first invalid
    row and keeps the rows before. `on_progress` gets the processed share (0 to 1). Raises InvalidInput and
    SourceUnavailable, and Conflict while another import of the same file runs.
    """
    name = setting_key(Family.IMPORTED_FILE, file.digest)
    skip, version = _find_progress(store, name, file.path, resume=resume, again=again)
    times = FileTimes(zone)
    read = FileRows(read_time=times, redact=redact, is_text=file.is_text, now_ms=now_ms(), kind_of=kinds_of(store))
    rows, tally, done = file.rows(skip=skip), _Tally(skip), skip
    while found := list(islice(rows, _BATCH_ROWS)):
        first = done + 1
        batch = parse_rows(found, read, first=first, strict=strict)
        done += len(batch.retrievals) + len(batch.refused)
        progress = {"rows": done, "file": str(file.path)}
        save = partial(save_setting, name=name, value=progress, expected_version=version)
        new = _store(store, "file", batch, save, found=found, first=first, scores=read.take_scores())
        tally.add(batch, new=new)
        version += 1
        on_progress(file.share)
        if strict and batch.refused:
            break
    return tally.report([*file.notes(), *times.notes(), *read.notes()])


def import_traces(
    store: Store,
    source: TraceSource,
    *,
    redact: Redactor,
    on_progress: Callable[[int], None] = lambda _count: None,
) -> ImportReport:
    """Store the retriever spans of new traces with the scores of their assessments, and report.

    Rereads traces that started up to 24 hours before the last imported one, so that a trace that ended late is not
    missed; trace ids are remembered for as long. Older ones are reread for assessments since the last import: of a
    database whenever they come, of a tracking server up to seven days after the trace, looked for once a day. Refused
    spans are numbered from 1 in reading order. Raises NotFound, InvalidInput and SourceUnavailable.
    """
    tally = _Tally()
    for experiment_id in source.list_experiments():
        for traces in _import_experiment(store, source, experiment_id, tally=tally, redact=redact):
            on_progress(len(traces))
    return tally.report([f"assessments: {tally.scores:,} stored as scores"] if tally.scores else [])


def parse_zone(name: str) -> tzinfo:
    """Return the time zone with this name, for example Europe/Berlin. Raises InvalidInput."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput("timezone", f"{name!r} is not a time zone; use a name like Europe/Berlin") from error


def _store(
    store: Store,
    source: str,
    batch: Parsed,
    mark: Callable[[Connection], None],
    *,
    found: Sequence[Any],
    first: int,
    scores: Sequence[Mapping[str, Any]] = (),
    rows: Sequence[Retrieval] | None = None,
) -> int:
    """Store rows, their scores, the counts and a mark in one transaction; return how many rows are new.

    `found` are the rows as they were read, numbered from `first`; `rows` are those of the batch that may be new.
    """
    with store.begin() as connection:
        mark(connection)
        new = append_retrievals(store, batch.retrievals if rows is None else rows, within=connection)
        places = name_scopes(store, connection, {row.scope for row in batch.retrievals})
        store_scores(connection, [{**row, **_place(row, places)._asdict()} for row in scores])
        counts = _count(source, batch, found, places=places, first=first, known=len(batch.retrievals) - new)
        store_counts(connection, counts)
    return new


def _place(row: Mapping[str, Any], places: Mapping[Scope, Scope]) -> Scope:
    """Return where a score of a batch belongs: beyond the bounds, scopes are OTHER."""
    scope = Scope(row["environment"], row["service"])
    return places.get(scope, scope)


def _count(
    source: str, batch: Parsed, found: Sequence[Any], *, places: Mapping[Scope, Scope], first: int, known: int
) -> dict[Counted, tuple[int, str]]:
    """Return what a batch adds to the counts of what came in, with one redacted example of each reason."""
    scopes = Counter(places[row.scope] for row in batch.retrievals)
    counts: dict[Counted, tuple[int, str]] = {}
    for scope, rows in scopes.most_common():
        before = min(known, rows)  # which rows were stored before is not told: the largest scope's, if any
        known -= before
        counts[Counted(scope, source, TAKEN)] = (rows - before, "")
        counts[Counted(scope, source, DUPLICATE)] = (before, "")
    for refused in batch.refused:
        given, problem = found[refused.row - first], InvalidInput(refused.field, refused.problem)
        counted = Counted(_scope_of(given, scopes), source, reason_of(problem))
        rows, example = counts.get(counted, (0, ""))
        example = example or make_example(problem, None if isinstance(given, InvalidInput) else given)
        counts[counted] = (rows + 1, example)
    return counts


def _scope_of(given: Any, known: Container[Scope]) -> Scope:
    """Return the scope that a refused row names, if rows of it were stored; a wrong row makes no scope known."""
    if isinstance(given, Mapping):
        with suppress(InvalidInput):
            scope = make_scope(given.get("environment"), given.get("service"))
            return scope if scope in known else DEFAULT_SCOPE
    return DEFAULT_SCOPE


def _find_progress(store: Store, name: SettingKey, path: Path, *, resume: bool, again: bool) -> tuple[int, int]:
    """Return how many rows to skip, and the version of the stored progress."""
    with store.begin():
        pass  # creates the store if there is none yet
    state, version = get_setting(store, name)
    done = int(state["rows"]) if state else 0
    if done and not resume and not again:
        other = f" as {state['file']}" if str(path) != state.get("file") else ""
        remedy = "use --resume to continue, --again to store them twice"
        raise InvalidInput("file", f"{done:,} of its rows were imported before{other}; {remedy}")
    return (done if resume else 0), version


def _import_experiment(
    store: Store, source: TraceSource, experiment_id: str, *, tally: _Tally, redact: Redactor
) -> Iterator[Sequence[Trace]]:
    """Store the new traces of one experiment, and yield each batch once it is durable."""

    def read(found: Any) -> Retrieval:
        return parse_span(*found, redact=redact)

    known = setting_key(Family.IMPORTED_TRACES, source.digest(experiment_id))
    state, version = get_setting(store, known)
    progress = {name: int(state.get(name, 0)) if state else 0 for name in ("until_ms", "assessed_ms", "looked_ms")}
    since_ms, assessed_ms, newest_ms = progress["until_ms"] - _LATE_MS, progress["assessed_ms"], 0
    pages = ((page, False) for page in source.list_traces(experiment_id, since_ms=since_ms if state else None))
    looks_back = bool(state) and (not source.is_server or now_ms() - progress["looked_ms"] >= DAY_MS)
    late = source.list_assessed(experiment_id, since_ms=assessed_ms, before_ms=since_ms) if looks_back else ()
    for listed, is_late in chain(pages, ((page, True) for page in late)):
        names = [each.trace_id for each in listed]
        old = set(names) if is_late else find_keys(store, known, names)
        tally.skipped += 0 if is_late else len(old)
        wanted = [each for each in listed if each.trace_id not in old or each.assessed_ms > assessed_ms]
        for start in range(0, len(wanted), _BATCH_TRACES):
            some = wanted[start : start + _BATCH_TRACES]
            traces = source.read_traces([each.trace_id for each in some], choices_of(store))
            new = [trace for trace in traces if trace.trace_id not in old]
            progress["until_ms"] = max([progress["until_ms"], *(to_ms(trace.started) for trace in new)])
            newest_ms = max([newest_ms, *(each.assessed_ms for each in some)])
            spans = [(trace, span) for trace in new for span in trace.spans]
            first = tally.stored + tally.refused_count + 1
            batch = parse_rows(spans, read, first=first)
            scores, judged = _judge(traces, redact=redact)
            mark = partial(
                _mark_traces, store=store, source=known, traces=new, progress=progress, version=version, judged=judged
            )
            new_rows = _store(
                store, "mlflow", batch, mark, found=spans, first=first, rows=_leave_out_known(store, batch),
                scores=scores,
            )  # fmt: skip
            version += 1
            tally.scores += len(scores)
            tally.add(batch, new=new_rows)
            yield new
    looked_ms = now_ms() if looks_back or not state else progress["looked_ms"]
    ended = progress | {"assessed_ms": max(assessed_ms, newest_ms), "looked_ms": looked_ms}
    if ended != progress and (source.is_server or newest_ms > assessed_ms):
        with store.begin() as connection:  # only now: an import that is killed reads the assessments again
            save_setting(connection, known, ended, expected_version=version)


def _judge(traces: Sequence[Trace], *, redact: Redactor) -> tuple[list[dict[str, Any]], dict[Counted, tuple[int, str]]]:
    """Return the scores of traces as the store takes them, and the counts of these and of what is none."""
    scores: list[dict[str, Any]] = []
    counts: dict[Counted, tuple[int, str]] = {}
    for trace in traces:
        found, wrong = judge_trace(trace, redact=redact)
        scores += found
        scopes = [Scope(row["environment"], row["service"]) for row in found]
        told = [(Counted(scope, SCORES, TAKEN), "") for scope in scopes] + [
            (Counted(DEFAULT_SCOPE, SCORES, reason_of(error)), make_example(error, f"trace {trace.trace_id}"))
            for error in wrong
        ]
        for counted, example in told:
            n, known = counts.get(counted, (0, ""))
            counts[counted] = (n + 1, known or example)
    return scores, counts


def _leave_out_known(store: Store, batch: Parsed) -> list[Retrieval]:
    """Return the rows that no service of their environment has: by OTLP a trace comes under its service."""
    known = {(row.scope.environment, row.name) for row in find_rows(store, [row.name for row in batch.retrievals])}
    return [row for row in batch.retrievals if (row.scope.environment, row.name) not in known]


def _mark_traces(
    connection: Connection,
    *,
    store: Store,
    source: SettingKey,
    traces: Sequence[Trace],
    progress: Mapping[str, int],
    version: int,
    judged: Mapping[Counted, tuple[int, str]],
) -> None:
    save_setting(connection, source, dict(progress), expected_version=version)
    add_keys(connection, source, [(trace.trace_id, to_ms(trace.started)) for trace in traces])
    forget_keys(connection, source, before_ms=progress["until_ms"] - _LATE_MS)
    store_counts(connection, bound_scopes(store, connection, judged))
