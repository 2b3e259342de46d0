"""Shell: notes a restored backup in the audit trail."""

from core.audit.actions import Action
from core.audit.acts import Act, changing
from quarterdeck.store import Store


def record_restore(store: Store, created: str, by: Act) -> int:
    """Record in the audit trail that the store's content came from a backup of that time."""
    with changing(store, by) as change:
        change.record(Action.STORE_RESTORE, "store", None, {"backup": created})
    return change.entry_id
