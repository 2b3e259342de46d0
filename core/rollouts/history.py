"""Gateway to a flag's own history: who changed it, by hand, as a canary or by an experiment, as the audit trail tells.

Since when it serves its users as it does now is decided by `canary.find_start`.
"""

from collections.abc import Sequence
from dataclasses import replace

from core.audit.trail import AuditEntry, list_audit
from quarterdeck.store import Store

_MOST_ENTRIES = 1_000


def list_flag_entries(store: Store, environment: str, key: str) -> Sequence[AuditEntry]:
    """Return the audit entries that changed a flag, newest first, each with the flag's definition before and after."""
    own = list_audit(store, target=key, environment=environment, limit=_MOST_ENTRIES)
    return [_unwrap(entry) for entry in own if entry.action.startswith(("flag.", "canary.", "experiment."))]


def _unwrap(entry: AuditEntry) -> AuditEntry:
    """An experiment's entry holds more than the flag."""
    if not entry.action.startswith("experiment."):
        return entry
    return replace(entry, before=(entry.before or {}).get("flag"), after=(entry.after or {}).get("flag"))
