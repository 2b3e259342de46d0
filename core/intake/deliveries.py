"""Gateway to the store for what requests bring: rows and scores of many requests are stored in one transaction.

With them go the counts of what was taken and refused, and each request's idempotency key with its answer: a repeated
request gets the first answer and stores nothing. `app.http.batching` gathers the requests.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError

from core.errors import Conflict, InvalidInput, QuarterdeckError, SourceUnavailable
from core.intake.counts import bound_scopes
from core.intake.intake import KEYS_KEPT_MS, Ticket, claim_key, first_answer, forget_keys
from core.intake.judgements import PlacedScore
from core.intake.rows import UNKNOWN_FIELD, RefusedRow
from core.log.scores import MOST_NAMES, admit_names
from quarterdeck.exposures import store_scores
from quarterdeck.intake import DUPLICATE, TAKEN, Counted, make_example, reason_of, store_counts
from quarterdeck.log import SqlLog, as_log, begin_appending, find_known
from quarterdeck.recorder import append_retrievals
from quarterdeck.registry import registry_of
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store

MOST_NAMED = 100  # refused rows of a request, with what is wrong; the others are counted

Answer = dict[str, Any]
Counts = dict[Counted, tuple[int, str]]
_Name = tuple[Scope, str]
_MOST_WARNED = 200
_warned: set[tuple[str, str]] = set()
logger = logging.getLogger("quarterdeck")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one request brought: rows or scores that are right, those that are refused, and the counts of the latter."""

    source: str
    rows: Sequence[Retrieval] = ()
    scores: Sequence[PlacedScore] = ()
    refused: tuple[RefusedRow, ...] = ()
    counts: Mapping[Counted, tuple[int, str]] = field(default_factory=dict)
    ticket: Ticket | None = None

    @property
    def size(self) -> int:
        """How many rows and scores it would store."""
        return len(self.rows) + len(self.scores)


def store_each(store: Store, deliveries: Sequence[Delivery], *, now_ms: int) -> list[Answer | Exception]:
    """Store deliveries in one transaction; return each one's answer, or the error that it failed with.

    When the store is unavailable, all of them failed. Otherwise one that cannot be stored fails alone.
    """
    try:
        return _store_together(store, deliveries, now_ms)
    except SourceUnavailable as error:
        if not isinstance(error.__cause__, DataError | IntegrityError):
            return [error] * len(deliveries)
    except Exception as error:
        if not isinstance(error, QuarterdeckError):
            logger.exception("requests could not be stored together, each is stored by itself")
    return [_store_alone(store, delivery, now_ms) for delivery in deliveries]


def count_refused(
    source: str, refused: Iterable[RefusedRow], place: Callable[[int], Scope], given: Callable[[int], object]
) -> Counts:
    """Return the counts of refused rows by scope and reason, with one example each; warn once per reason.

    `place` and `given` return the scope and the row of a number.
    """
    counted: Counter[Counted] = Counter()
    examples: dict[Counted, str] = {}
    for row in refused:
        is_unknown = row.problem.startswith(UNKNOWN_FIELD)  # the sender chose its name: no reason to count by
        error = InvalidInput("unknown_field" if is_unknown else row.field, _describe_problem(row, is_unknown))
        name = Counted(place(row.row), source, reason_of(error))
        counted[name] += 1
        if name not in examples:
            examples[name] = make_example(error, given(row.row))
            warn_once(source, error)
    return {name: (n, examples[name]) for name, n in counted.items()}


def _describe_problem(row: RefusedRow, is_unknown: bool) -> str:
    return f"{row.field[:64]!r} {row.problem}" if is_unknown else row.problem


def warn_once(source: str, refusal: QuarterdeckError) -> None:
    """Log a refusal unless one of the same source and reason was logged by this process."""
    name = (source, reason_of(refusal))
    if name not in _warned and len(_warned) < _MOST_WARNED:
        _warned.add(name)
        logger.warning("%s: refused (%s), further ones are counted: %s", source, name[1], refusal)


def _store_alone(store: Store, delivery: Delivery, now_ms: int) -> Answer | Exception:
    """Store one delivery. If another server stored a row of the same id meanwhile, a second try finds it."""
    failure: Exception = SourceUnavailable("The store refused the rows.")
    for _ in range(2):
        try:
            (answer,) = _store_together(store, [delivery], now_ms)
            return answer
        except SourceUnavailable as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to this request alone
            failure = error
    return failure


def _store_together(store: Store, deliveries: Sequence[Delivery], now_ms: int) -> list[Answer | Exception]:
    answers: dict[int, Answer | Exception] = {}
    with begin_appending(store) as connection:
        places = _name_places(store, connection, deliveries)
        batch = _Batch(connection, _find_known(store, connection, deliveries, places), places)
        named = _admit_names(store, connection, deliveries)
        for source in {delivery.ticket.source for delivery in deliveries if delivery.ticket}:
            forget_keys(connection, source, before_ms=now_ms - KEYS_KEPT_MS)
        # Keys in one order, so that two servers that take the same ones do not wait for each other.
        for at in sorted(range(len(deliveries)), key=lambda at: _key_of(deliveries[at])):
            answers[at] = batch.add(deliveries[at], named, now_ms)
        append_retrievals(store, batch.rows, within=connection)  # a log elsewhere stores them before we commit
        store_scores(connection, batch.scores)
        store_counts(connection, bound_scopes(registry_of(store), connection, batch.sum_up()))
    return [answers[at] for at in range(len(deliveries))]


class _Batch:
    """What some deliveries add up to: rows and scores to store, and counts. `known` are ids that are stored.

    `places` are the scopes that the store has for those of rows with an id: beyond the bounds, several share one.
    """

    def __init__(self, connection: Connection, known: set[_Name], places: Mapping[Scope, Scope]) -> None:
        self.rows: list[Retrieval] = []
        self.scores: list[dict[str, Any]] = []
        self._connection = connection
        self._known, self._places = known, places
        self._counts: Counts = {}
        self._taken: Counter[tuple[Scope, str, str]] = Counter()

    def add(self, delivery: Delivery, named: Mapping[Scope, set[str]], now_ms: int) -> Answer | Exception:
        """Add a delivery unless its key is known; return its answer. `named` are the names that a scope may have."""
        new, old = self._split(delivery.rows)
        judged = [each for each in delivery.scores if each.score.name in named[each.scope]]
        beyond = [each for each in delivery.scores if each.score.name not in named[each.scope]]
        answer = _describe(delivery, new, judged, beyond)
        settled = _settle(self._connection, delivery, answer, now_ms)
        if settled is not answer:
            return settled
        self._known.update((self._places[row.scope], row.retrieval_id) for row in new if row.retrieval_id is not None)
        self.rows += new
        self.scores += [each.row for each in judged]
        scopes = [*(row.scope for row in new), *(each.scope for each in judged)]
        for scope in scopes:
            self._taken[scope, delivery.source, TAKEN] += 1
        for row in old:
            self._taken[row.scope, delivery.source, DUPLICATE] += 1
        if beyond or delivery.counts:
            _merge(self._counts, delivery.counts)
            _merge(self._counts, _count_beyond(delivery, beyond))
        return answer

    def sum_up(self) -> Counts:
        """Return the counts of everything that was added."""
        _merge(self._counts, {Counted(*name): (n, "") for name, n in self._taken.items()})
        return self._counts

    def _split(self, rows: Sequence[Retrieval]) -> tuple[Sequence[Retrieval], Sequence[Retrieval]]:
        """Return the rows whose id is new in their scope, each once, and those that are stored already."""
        if all(row.retrieval_id is None for row in rows):
            return rows, ()
        new: list[Retrieval] = []
        old: list[Retrieval] = []
        seen: set[_Name] = set()
        for row in rows:
            if row.retrieval_id is None:
                new.append(row)
                continue
            name = (self._places[row.scope], row.retrieval_id)
            (old if name in self._known or name in seen else new).append(row)
            seen.add(name)
        return new, old


def _find_known(
    store: Store, connection: Connection, deliveries: Iterable[Delivery], places: Mapping[Scope, Scope]
) -> set[_Name]:
    """Return which ids given by senders are stored, by scope; a log that does not look for them itself has none."""
    log, given = as_log(store), _list_given(deliveries)
    if not given or not isinstance(log, SqlLog):
        return set()
    if log.store.owns(connection):
        known = find_known(connection, given, registry_of(log.store).find_ids(connection, places))
    else:
        with log.store.begin() as elsewhere:
            known = find_known(elsewhere, given, registry_of(log.store).lend().find_ids(elsewhere, places))
    return {(places[scope], name) for scope, name in known}


def _name_places(store: Store, connection: Connection, deliveries: Iterable[Delivery]) -> dict[Scope, Scope]:
    scopes = {scope for scope, _ in _list_given(deliveries)}
    return registry_of(store).name_scopes(connection, scopes) if scopes else {}


def _list_given(deliveries: Iterable[Delivery]) -> set[_Name]:
    """Return the ids that senders gave to rows, by scope."""
    rows = (row for delivery in deliveries for row in delivery.rows)
    return {(row.scope, row.retrieval_id) for row in rows if row.retrieval_id is not None}


def _admit_names(store: Store, connection: Connection, deliveries: Iterable[Delivery]) -> dict[Scope, set[str]]:
    wanted: dict[Scope, set[str]] = {}
    for delivery in deliveries:
        for each in delivery.scores:
            wanted.setdefault(each.scope, set()).add(each.score.name)
    ids = registry_of(store).find_ids(connection, wanted)
    return {scope: admit_names(connection, ids[scope], names) for scope, names in wanted.items()}


def _refuse_name(placed: PlacedScore) -> RefusedRow:
    problem = f"{placed.score.name[:60]!r} is one name too many: a service has at most {MOST_NAMES} names of scores"
    return RefusedRow(placed.number, "name", problem)


def _settle(connection: Connection, delivery: Delivery, answer: Answer, now_ms: int) -> Answer | Exception:
    """Return the answer if the request's key is new or there is none; else the first answer, or why there is none.

    The key of a request that stores nothing stays free: it may be sent again.
    """
    ticket = delivery.ticket
    if ticket is None:
        return answer
    try:
        if not answer["stored"] + answer.get("duplicates", 0):
            first = first_answer(connection, ticket)
        elif claim_key(connection, ticket, answer, now_ms=now_ms):
            return answer
        else:
            first = first_answer(connection, ticket)
    except Conflict as error:
        return error
    return answer if first is None else dict(first)


def _describe(
    delivery: Delivery, new: Sequence[Retrieval], judged: Sequence[PlacedScore], beyond: Sequence[PlacedScore]
) -> Answer:
    answer: Answer = {"stored": len(new) + len(judged)}
    if delivery.rows:
        answer["retrieval_ids"] = [row.name for row in new]
    if duplicates := len(delivery.rows) - len(new):
        answer["duplicates"] = duplicates
    if refused := (*delivery.refused, *map(_refuse_name, beyond)):
        first = refused[0]
        answer["error"] = f"row {first.row}: {first.field}: {first.problem}"
        answer["errors"] = [asdict(each) for each in refused[:MOST_NAMED]]
        answer["refused"] = len(refused)
    return answer


def _count_beyond(delivery: Delivery, beyond: Sequence[PlacedScore]) -> Counts:
    by_number = {each.number: each for each in beyond}
    return count_refused(
        delivery.source,
        map(_refuse_name, beyond),
        lambda at: by_number[at].scope,
        lambda at: by_number[at].score,
    )


def _merge(counts: Counts, added: Mapping[Counted, tuple[int, str]]) -> None:
    for name, (n, example) in added.items():
        known, first = counts.get(name, (0, ""))
        counts[name] = (known + n, first or example)


def _key_of(delivery: Delivery) -> tuple[str, str]:
    return (delivery.ticket.source, delivery.ticket.key) if delivery.ticket else ("", "")
