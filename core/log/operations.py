"""Shell: purges old retrievals, with its audit entry."""

from datetime import datetime

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.log.exposures import count_reported, delete_reported
from quarterdeck.clock import to_ms
from quarterdeck.log import as_log
from quarterdeck.store import Store


def purge_retrievals(store: Store, before: datetime, by: Act) -> int:
    """Delete the retrievals older than `before`; return how many. What was counted of them stays, without any text.

    So go the users of experiments, the tracked events and the counts of flag evaluations of that age. The audit entry
    is written first, with the number found then; the rows go in slices, so that a purge that was cut off is simply run
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
