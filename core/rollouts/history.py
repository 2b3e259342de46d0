"""Gateway to a flag's own history in the audit trail: who changed it, by hand, as a canary or by an experiment.

`canary.find_start` decides since when it has served its users as it does now.
"""

from collections.abc import Sequence
from dataclasses import replace

from core.audit.actions import Subject, subject_of
from core.audit.trail import AuditEntry, AuditFilter, list_audit
from core.rollouts.audited import ExperimentAudit
from quarterdeck.store import Store

_MOST_ENTRIES = 1_000
_OF_FLAGS = (Subject.FLAG, Subject.CANARY, Subject.EXPERIMENT)


def list_flag_entries(store: Store, environment: str, key: str) -> Sequence[AuditEntry]:
    """Return the audit entries that changed a flag, newest first, each with the flag's definition before and after."""
    own = list_audit(store, AuditFilter(target=key, environment=environment), limit=_MOST_ENTRIES)
    return [_unwrap(entry) for entry in own if subject_of(entry.action) in _OF_FLAGS]


def _unwrap(entry: AuditEntry) -> AuditEntry:
    """An experiment's entry holds more than the flag."""
    if subject_of(entry.action) is not Subject.EXPERIMENT:
        return entry
    before, after = ExperimentAudit.read(entry.before).flag, ExperimentAudit.read(entry.after).flag
    return replace(entry, before=before, after=after)
