"""Shell: imports scores from a file. Importing it again stores nothing twice: a score is known by its key.

Every row is stored or refused; afterwards the scores whose rows are there are added to the rollups.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import islice
from typing import Any

from core.errors import InvalidInput
from core.intake.deliveries import Delivery, count_refused, store_each
from core.intake.judgements import REQUIRED_FIELDS, SCORE_FIELDS, parse_scores, read_cells
from core.intake.rows import RefusedRow
from core.intake.tables import Layout, TableFile
from core.intake.times import FileTimes
from core.log.scores import SOURCE, apply_scores
from quarterdeck.clock import to_ms
from quarterdeck.redaction import Redactor
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

SCORES = Layout("score", SCORE_FIELDS, frozenset({"value"}), REQUIRED_FIELDS)
LISTED = 20

_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class ScoreImport:
    """The result of an import: `read` rows were `stored` or refused (`refused_count`; the first 20 are listed).

    `waiting` scores of the store have no row yet. `notes` list assumptions.
    """

    read: int
    stored: int
    refused_count: int
    refused: tuple[RefusedRow, ...]
    waiting: int
    notes: tuple[str, ...]


def import_scores(
    store: Store,
    file: TableFile,
    *,
    redact: Redactor,
    now: datetime,
    zone: tzinfo | None = None,
    on_progress: Callable[[float], None] = lambda _share: None,
) -> ScoreImport:
    """Store the scores of a file and add them to the rollups of their rows. Refused rows are numbered from 1.

    A score without a time is of `now`. Raises InvalidInput and SourceUnavailable.
    """
    times = FileTimes(zone)
    rows, read, stored = _records(file), 0, 0
    refused: list[RefusedRow] = []
    refused_count = 0
    while found := list(islice(rows, _BATCH)):
        answer = _store(store, found, times, first=read + 1, redact=redact, now=now)
        read += len(found)
        stored += answer["stored"]
        refused_count += answer.get("refused", 0)
        refused += [RefusedRow(**each) for each in answer.get("errors", ())][: LISTED - len(refused)]
        on_progress(file.share)
    waiting = apply_scores(store, now_ms=to_ms(now)).waiting if stored else 0
    return ScoreImport(read, stored, refused_count, tuple(refused), waiting, (*file.notes(), *times.notes()))


def _records(file: TableFile) -> Iterator[Any]:
    for row in file.rows():
        yield read_cells(row) if file.is_text and not isinstance(row, InvalidInput) else row


def _store(
    store: Store, found: list[Any], times: FileTimes, *, first: int, redact: Redactor, now: datetime
) -> dict[str, Any]:
    def read_time(given: object) -> datetime:
        return now.astimezone(UTC) if given is None or given == "" else times(given)

    parsed = parse_scores(found, read_time=read_time, redact=redact, first=first)
    counts = count_refused(SOURCE, parsed.refused, lambda _at: DEFAULT_SCOPE, lambda at: found[at - first])
    delivery = Delivery(SOURCE, (), parsed.scores, parsed.refused, counts)
    (answer,) = store_each(store, [delivery], now_ms=to_ms(now))
    if isinstance(answer, Exception):
        raise answer
    return answer
