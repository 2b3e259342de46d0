"""Shell: purges old retrievals, or parts of them, with an audit entry."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import update

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.errors import InvalidInput
from core.log.exposures import count_reported, delete_reported
from quarterdeck.clock import to_ms
from quarterdeck.log import as_log
from quarterdeck.retrieval import FORGETTABLE
from quarterdeck.schema import review_labels, scores
from quarterdeck.store import Store


def purge_retrievals(store: Store, before: datetime, by: Act) -> int:
    """Delete the retrievals older than `before`; return how many. Rollup counts, which contain no text, stay.

    Also deletes later scores, exposures, tracked events and evaluation counts of that age. The audit entry is written
    first, with the number found then; the rows are deleted in batches, so after an interruption simply run the purge
    again. Raises SourceUnavailable.
    """
    log, before_ms = as_log(store), to_ms(before)
    found, reported = log.count_before(before_ms), count_reported(store, before)
    if not found and not reported:
        return 0
    with changing(store, by) as change:
        delete_reported(change.connection, before)
        gone = {"rows": found} | ({"flag_reports": reported} if reported else {})
        change.record(Action.LOG_PURGE, "retrievals", gone, {"older_than": before.isoformat()})
    return log.purge(before_ms)


def forget_parts(store: Store, before: Mapping[str, datetime], by: Act) -> dict[str, int]:
    """Remove parts of the retrievals, each of those older than its time; return of how many rows, by part.

    The parts are `text` (the query becomes empty, and so do comments of scores and notes of labels), `answers` and
    `documents`. The rows stay, with their scores, states and ids, and so do the rollups. The audit entry is written
    first; after an interruption run it again. Raises InvalidInput for another part, and SourceUnavailable.
    """
    if unknown := before.keys() - FORGETTABLE.keys():
        raise InvalidInput("part", f"must be one of {', '.join(FORGETTABLE)}, not {min(unknown)!r}")
    if not before:
        return {}
    with changing(store, by) as change:
        ages = {part: at.isoformat() for part, at in sorted(before.items())}
        change.record(Action.LOG_PURGE, ", ".join(sorted(before)), None, {"older_than": ages})
        if "text" in before:
            old = (scores.c.ts_ms < to_ms(before["text"]), scores.c.comment != "")
            change.connection.execute(update(scores).where(*old).values(comment=""))
            noted = (review_labels.c.labeled_ms < to_ms(before["text"]), review_labels.c.note != "")
            change.connection.execute(update(review_labels).where(*noted).values(note=""))
    log = as_log(store)
    return {part: log.forget(part, to_ms(at)) for part, at in sorted(before.items())}
