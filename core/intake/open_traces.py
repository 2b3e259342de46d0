"""Gateway to the traces that are still open: keeps what their spans say, and stores a row for each question.

A row is stored as soon as the root of its trace came, or after a short silence. The trace stays open for a minute after
its last span; what comes until then amends its rows. Every server of a store sees the same open traces.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, select, text, update
from sqlalchemy.orm import aliased

from core.errors import InvalidInput
from core.intake.counts import IntakeTally
from core.intake.intake import add_keys, forget_keys
from core.intake.names import RETRIEVER, STORE
from core.intake.notes import SpanNote, dump_note, load_note
from core.intake.questions import Assembled, Question, Refused, assemble, is_rooted, is_whole, name_row
from core.log.amending import Replaced, replace_rows
from core.log.scores import SOURCE as SCORES
from quarterdeck.clock import DAY_MS
from quarterdeck.exposures import store_scores
from quarterdeck.log import SqlLog, as_log
from quarterdeck.registry import name_scopes
from quarterdeck.schema import ingest_keys, retrievals, scopes, trace_spans
from quarterdeck.scores import FOR_ANY_SERVICE, FOR_OWN_SERVICE
from quarterdeck.store import Store

SOURCE = "otlp"
QUIET_MS = 2_000  # after this silence a row is stored, though its root did not come
OPEN_MS = 60_000
MOST_SPANS = 2_000  # of a trace

_WAITING, _SETTLED, _REFUSED = range(3)
_TRACE_LOCK = 0x7472_6163  # "trac": PostgreSQL's advisory lock while a server settles traces
_SLICE = 500
_KEPT_MS = 7 * DAY_MS  # how long an external log's rows are recognized
_SEARCHES = (RETRIEVER, STORE)
_KEEP = "INSERT INTO trace_spans (environment, trace_id, span_id, body, received_ms, settled)"


@dataclass(slots=True)
class _Open:
    """One trace: what was known of it before, what came now, and the state in which each span is kept."""

    trace_id: str
    known: dict[str, SpanNote] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    came: dict[str, SpanNote] = field(default_factory=dict)

    @property
    def notes(self) -> list[SpanNote]:
        return [*self.known.values(), *self.came.values()]

    @property
    def searches(self) -> int:
        return sum(note.role in _SEARCHES for note in self.notes)

    @property
    def is_judged_only(self) -> bool:
        """Whether its spans say something of the quality of a row that others hold, and nothing else."""
        return not self.searches and any(note.judgements for note in self.notes)


def take_spans(
    store: Store,
    spans: Iterable[tuple[str, SpanNote]],
    *,
    now_ms: int,
    source: str = SOURCE,
    environment: str = "",
) -> list[tuple[str, Refused]]:
    """Keep what spans say, store the rows of traces whose root came, and count; return the refused ones by trace.

    A span that came before is ignored. `environment` is the one that the sender may write in, "" for any: a trace
    whose id is known elsewhere is another one. Raises SourceUnavailable.
    """
    traces: dict[str, _Open] = {}
    repeated: list[SpanNote] = []
    for trace_id, note in spans:
        came = traces.setdefault(trace_id, _Open(trace_id)).came
        if note.span_id in came:
            repeated.append(note)
        came.setdefault(note.span_id, note)
    tally = IntakeTally(source)
    with store.begin_in_turn() as connection:
        _lock(connection)
        _bound_scopes(store, connection, traces.values())
        _read_known(connection, environment, traces)
        refused = _Settling(store, connection, tally, environment, now_ms).take(traces.values())
        for note in repeated:
            _ignore(tally, note)
        tally.store(store, connection)
    return refused


def tend_traces(store: Store, *, now_ms: int, most: int = 500, source: str = SOURCE) -> int:
    """Store the rows of traces that went quiet, and forget those that are over; return how many were tended.

    Raises SourceUnavailable.
    """
    with store.read() as connection:
        if not _list_quiet(connection, now_ms, 1) and not _list_over(connection, now_ms, 1):
            return 0
    tally = IntakeTally(source)
    with store.begin_in_turn() as connection:
        _lock(connection)
        quiet, over = _list_quiet(connection, now_ms, most), _list_over(connection, now_ms, most)
        for environment in sorted({environment for environment, _ in (*quiet, *over)}):
            ended = {name for of, name in over if of == environment}
            traces = {name: _Open(name) for of, name in (*quiet, *over) if of == environment}
            _read_known(connection, environment, traces)
            waiting = [each for each in traces.values() if _WAITING in each.states.values()]
            _Settling(store, connection, tally, environment, now_ms).settle(waiting, over=ended)
            for part in _slices(sorted(ended)):
                connection.execute(delete(trace_spans).where(_are_spans_of(environment, part)))
        tally.store(store, connection)
    return len({*quiet, *over})


class _Settling:
    """Makes rows of traces of senders of one environment ("" for any), in one transaction."""

    def __init__(self, store: Store, connection: Connection, tally: IntakeTally, environment: str, now_ms: int) -> None:
        self._store = store
        self._environment = environment
        self._connection = connection
        self._tally = tally
        self._now_ms = now_ms
        log = as_log(store)
        self._log = log
        self._can_amend = isinstance(log, SqlLog)
        self._is_inside = isinstance(log, SqlLog) and log.store is store

    def take(self, traces: Iterable[_Open]) -> list[tuple[str, Refused]]:
        """Keep new spans, and settle the traces whose root came. Return what was refused."""
        new = []
        for trace in traces:
            for name in trace.came.keys() & trace.known.keys():
                _ignore(self._tally, trace.came.pop(name))
            self._bound(trace)
            if trace.came:
                new.append(trace)
        _count_judgements(note for trace in new for note in trace.came.values()).store(self._store, self._connection)
        refused = self.settle([trace for trace in new if is_rooted(trace.notes)], over=set())
        self._keep(new)
        return refused

    def settle(self, traces: Sequence[_Open], *, over: set[str]) -> list[tuple[str, Refused]]:
        """Store or amend the rows of these traces, count, and note that they are settled."""
        refused: list[tuple[str, Refused]] = []
        ready = [trace for trace in traces if self._can_amend or trace.trace_id in over or is_whole(trace.notes)]
        new = [trace for trace in ready if not any(trace.states.values())]
        closed = self._find_closed([trace for trace in new if trace.searches or trace.is_judged_only])
        for trace in ready:
            if stored := closed.get(trace.trace_id):
                refused += [(trace.trace_id, each) for each in self._add_late(trace, stored)]
        ready = [trace for trace in ready if trace.trace_id not in closed]
        made = {trace.trace_id: assemble(trace.trace_id, trace.notes) for trace in ready if trace.searches}
        questions = [question for assembled in made.values() for question in assembled.questions]
        among = [name_row(trace.trace_id, n) for trace in ready for n in range(1, trace.searches + 1)]
        if among:
            self._count(self._replace(questions, among, _list_environments(ready)))
            self._store_components(questions)
        for trace in ready:
            if trace.trace_id in made:
                self._store_judgements(made[trace.trace_id])
            elif trace.is_judged_only:
                if trace.trace_id not in over:
                    continue  # its search may still come
                self._store_scores(_judge(note, trace.trace_id, self._now_ms) for note in trace.notes)
            assembled = made.get(trace.trace_id, Assembled((), ()))
            refused += [(trace.trace_id, each) for each in self._count_refused(trace, assembled)]
        return refused

    def _bound(self, trace: _Open) -> None:
        room = MOST_SPANS - len(trace.known)
        for number, (name, note) in enumerate(list(trace.came.items())):
            if number >= room:
                del trace.came[name]
                if note.role in _SEARCHES:
                    problem = f"the trace has more than {MOST_SPANS:,} spans"
                    self._tally.refuse(InvalidInput("too_many_spans", problem), note.name, note.scope)

    def _replace(self, questions: Sequence[Question], among: Sequence[str], environments: Collection[str]) -> Replaced:
        rows = [question.retrieval.row for question in questions]
        if self._is_inside:
            return replace_rows(self._store, self._connection, rows, among, environments)
        if isinstance(self._log, SqlLog):
            with self._log.store.begin() as connection:
                return replace_rows(self._log.store, connection, rows, among, environments)
        known = self._find_keys([_key_of(question) for question in questions])
        new = [question for question in questions if _key_of(question) not in known]
        if new:
            self._log.append([question.retrieval.row for question in new])
            keys = [(_key_of(question), self._now_ms) for question in new]
            add_keys(self._connection, SOURCE, keys)
            forget_keys(self._connection, SOURCE, before_ms=self._now_ms - _KEPT_MS)
        return Replaced(tuple(question.retrieval.scope for question in new))

    def _find_keys(self, names: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for part in _slices(names):
            query = select(ingest_keys.c.key).where(ingest_keys.c.source == SOURCE, ingest_keys.c.key.in_(part))
            found.update(self._connection.scalars(query))
        return found

    def _count(self, replaced: Replaced) -> None:
        for scope in replaced.added:
            self._tally.take(scope)
        for scope in replaced.removed:
            self._tally.take(scope, -1)

    def _count_refused(self, trace: _Open, assembled: Assembled) -> list[Refused]:
        """Count what is refused for the first time, and take back what is not any more."""
        now = {each.note.span_id: each for each in assembled.refused}
        former = {name for name, state in trace.states.items() if state == _REFUSED}
        for each in assemble(trace.trace_id, list(trace.known.values())).refused if former - now.keys() else ():
            if each.note.span_id in former - now.keys():
                self._tally.take_back(each.note.scope, each.error.field)
        new = [each for name, each in now.items() if name not in former]
        for each in new:
            self._tally.refuse(each.error, _describe(each.note), each.note.scope)
        for name in (*trace.known, *trace.came):
            state = _REFUSED if name in now else _SETTLED
            if name in trace.known and trace.states[name] != state:
                same = and_(_are_spans_of(self._environment, [trace.trace_id]), trace_spans.c.span_id == name)
                self._connection.execute(update(trace_spans).where(same).values(settled=state))
            trace.states[name] = state
        return new

    def _store_components(self, questions: Iterable[Question]) -> None:
        rows: list[Mapping[str, Any]] = [
            {
                "retrieval_id": question.retrieval.retrieval_id, "name": component.kind, "source": component.name[:128],
                "value": component.value, "comment": "", "ts_ms": question.retrieval.ts_ms,
                **question.retrieval.scope._asdict(),
            }
            for question in questions
            for component in question.components
        ]  # fmt: skip
        store_scores(self._connection, rows)

    def _store_judgements(self, assembled: Assembled) -> None:
        names = [str(question.retrieval.retrieval_id) for question in assembled.questions]
        if names:
            self._store_scores(
                _judge(note, names[place], self._now_ms, first=names[0]) for place, note in assembled.judged
            )

    def _store_scores(self, judged: Iterable[list[dict[str, Any]]]) -> None:
        store_scores(self._connection, [row for rows in judged for row in rows])

    def _find_closed(self, traces: Sequence[_Open]) -> dict[str, list[tuple[str, str]]]:
        """Return the traces that were over before these spans came: the span and the text of each of their rows."""
        if not isinstance(self._log, SqlLog):
            return {}
        found: dict[str, list[tuple[str, str]]] = {}
        wanted = [trace.trace_id for trace in traces]
        c, number, environments = retrievals.c, 1, _list_environments(traces)
        while wanted:
            rows: dict[str, tuple[str, str]] = {}
            names = {name_row(trace_id, number): trace_id for trace_id in wanted}
            for part in _slices(list(names)):
                query = (
                    select(c.retrieval_id, c.span_id, c.query)
                    .join(scopes, scopes.c.id == c.scope_id)
                    .where(c.retrieval_id.in_(part), scopes.c.environment.in_(environments))
                )
                rows |= {names[name]: (str(span), query) for name, span, query in self._read_log(query)}
            for trace_id, row in rows.items():
                found.setdefault(trace_id, []).append(row)
            wanted, number = list(rows), number + 1
        return found

    def _read_log(self, query: Any) -> Sequence[Any]:
        if self._is_inside:
            return self._connection.execute(query).all()
        assert isinstance(self._log, SqlLog)
        with self._log.store.read() as connection:
            return connection.execute(query).all()

    def _add_late(self, trace: _Open, stored: Sequence[tuple[str, str]]) -> list[Refused]:
        """Add what a trace that was over searched for since; its rows stay as they are, and its spans are not kept."""
        spans, texts, first = {span for span, _ in stored}, {query for _, query in stored}, trace.trace_id
        assembled = assemble(trace.trace_id, trace.notes)
        new: list[Question] = []
        for question in assembled.questions:
            scope, query = question.retrieval.scope, question.retrieval.query
            if spans & set(question.span_ids):
                self._tally.ignore(scope)
            elif query in texts:
                self._tally.refuse(InvalidInput("late", "its trace was over for a minute"), query, scope)
            else:
                name = name_row(trace.trace_id, len(stored) + len(new) + 1)
                new.append(replace(question, retrieval=replace(question.retrieval, retrieval_id=name)))
        if new:
            names = [str(question.retrieval.retrieval_id) for question in new]
            self._count(self._replace(new, names, _list_environments([trace])))
            self._store_components(new)
        places = {span: name_row(trace.trace_id, at) for at, (span, _) in enumerate(stored, 1)}
        self._store_scores(
            _judge(note, places.get(note.span_id) or places.get(note.parent_id, first), self._now_ms, first=first)
            for note in trace.notes
        )
        refused = self._count_refused(trace, assembled)
        trace.came.clear()
        self._connection.execute(delete(trace_spans).where(_are_spans_of(self._environment, [trace.trace_id])))
        return refused

    def _keep(self, traces: Iterable[_Open]) -> None:
        rows = [
            (self._environment, trace.trace_id, name, dump_note(note), self._now_ms, trace.states.get(name, _WAITING))
            for trace in traces
            for name, note in trace.came.items()
        ]
        if rows:
            mark = "?" if self._connection.dialect.name == "sqlite" else "%s"
            self._connection.exec_driver_sql(f"{_KEEP} VALUES ({', '.join([mark] * 6)})", rows)


def _bound_scopes(store: Store, connection: Connection, traces: Iterable[_Open]) -> None:
    """Give what came the scopes that the store counts by name: beyond the bounds they are OTHER."""
    notes = [(trace, note) for trace in traces for note in trace.came.values()]
    places = name_scopes(store, connection, {note.scope for _, note in notes if note.role or note.judgements})
    for trace, note in notes:
        if (place := places.get(note.scope, note.scope)) != note.scope:
            trace.came[note.span_id] = replace(note, scope=place)


def _are_spans_of(environment: str, trace_ids: Sequence[str]) -> ColumnElement[bool]:
    return and_(trace_spans.c.environment == environment, trace_spans.c.trace_id.in_(trace_ids))


def _list_environments(traces: Iterable[_Open]) -> set[str]:
    """Return the environments that the rows of some traces belong to."""
    notes = (note for trace in traces for note in trace.notes)
    return {note.scope.environment for note in notes if note.role in _SEARCHES or note.judgements}


def _judge(note: SpanNote, name: str, now_ms: int, *, first: str = "") -> list[dict[str, Any]]:
    """Return a span's judgments as scores of a row; those of the trace are scores of its first row."""
    ts_ms = min(note.start_ns // 1_000_000 or now_ms, now_ms)
    pending = FOR_OWN_SERVICE if note.is_own_only else FOR_ANY_SERVICE
    return [
        {
            "retrieval_id": first or name if judged.of_trace else name, "name": judged.name, "source": judged.source,
            "value": judged.value, "comment": judged.comment, "ts_ms": ts_ms, "pending": pending,
            **note.scope._asdict(),
        }
        for judged in note.judgements
    ]  # fmt: skip


def _count_judgements(notes: Iterable[SpanNote]) -> IntakeTally:
    """Count what spans say of quality, and what of it cannot be understood."""
    tally = IntakeTally(SCORES)
    for note in notes:
        for _ in note.judgements:
            tally.take(note.scope)
        for reason, problem in note.misjudged:
            tally.refuse(InvalidInput(reason, problem), f"span {note.name!r}", note.scope)
    return tally


def _key_of(question: Question) -> str:
    """Return the mark of a row that is stored in a log elsewhere."""
    return f"{question.retrieval.scope.environment} {question.retrieval.retrieval_id}"


def _read_known(connection: Connection, environment: str, traces: Mapping[str, _Open]) -> None:
    c = trace_spans.c
    for part in _slices(list(traces)):
        query = select(c.trace_id, c.span_id, c.body, c.settled).where(_are_spans_of(environment, part))
        for trace_id, span_id, body, settled in connection.execute(query):
            traces[trace_id].known[span_id] = load_note(span_id, body)
            traces[trace_id].states[span_id] = settled


def _list_quiet(connection: Connection, now_ms: int, most: int) -> list[tuple[str, str]]:
    """Return the senders' environment and the id of traces that wait for their rows, and went quiet."""
    c, newer = trace_spans.c, aliased(trace_spans)
    until_ms = now_ms - QUIET_MS
    same = and_(newer.c.environment == c.environment, newer.c.trace_id == c.trace_id)
    waits = and_(text("settled = 0"), c.received_ms <= until_ms, ~exists().where(same, newer.c.received_ms > until_ms))
    found = connection.execute(select(c.environment, c.trace_id).where(waits).distinct().limit(most))
    return [(environment, trace_id) for environment, trace_id in found]


def _list_over(connection: Connection, now_ms: int, most: int) -> list[tuple[str, str]]:
    """Return the senders' environment and the id of the traces whose last span came a minute ago."""
    c, newer = trace_spans.c, aliased(trace_spans)
    until_ms = now_ms - OPEN_MS
    same = and_(newer.c.environment == c.environment, newer.c.trace_id == c.trace_id)
    is_over = and_(c.received_ms <= until_ms, ~exists().where(same, newer.c.received_ms > until_ms))
    found = connection.execute(select(c.environment, c.trace_id).where(is_over).distinct().limit(most))
    return [(environment, trace_id) for environment, trace_id in found]


def _lock(connection: Connection) -> None:
    """Let only one server settle traces: each then sees the spans that the others took."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _TRACE_LOCK})


def _ignore(tally: IntakeTally, note: SpanNote) -> None:
    if note.role in _SEARCHES:
        tally.ignore(note.scope)


def _describe(note: SpanNote) -> str:
    """Return what a refused search looks like, without more of its text than the question."""
    return f"span {note.name!r} ({note.role}), question {note.question!r}"


def _slices(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _SLICE):
        yield names[start : start + _SLICE]
