"""Shell: notes a restored backup in the audit trail."""

from core.audit.actions import Action
from core.audit.acts import Act, changing
from quarterdeck.store import Store


def record_restore(store: Store, created: str, by: Act) -> int:
    """Note in the audit trail that everything in the store came from a backup of that time."""
    with changing(store, by) as change:
        change.record(Action.STORE_RESTORE, "store", None, {"backup": created})
    return change.entry_id
