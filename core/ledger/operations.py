"""Shell: writes predictions of changes, and effects that are measured for good, into the audit trail."""

from collections.abc import Callable
from datetime import datetime, timedelta

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.causes.changes import gather_changes
from core.corpus.corpus import Corpus
from core.coverage.report import find_threshold
from core.ledger.claims import SettledEffect, check_metric, check_thing, write_settled
from core.ledger.entries import EffectPrediction
from core.ledger.report import DAYS, Ledger, list_settled, report_ledger
from core.log.retrievals import list_scopes, today_in
from core.tracking.gateway import Tracking
from quarterdeck.clock import start_of
from quarterdeck.scope import make_scope
from quarterdeck.store import Store

_REASON = "fourteen days after the change"
_ACTOR = "quarterdeck"


def predict_effect(
    store: Store,
    about: str,
    predicted: EffectPrediction,
    by: Act,
    *,
    metric: str,
    service: str,
    change_id: str = "",
) -> int:
    """Predict the effect of the next change of a thing (`flag:new_prompt`), or of a change that is known already.

    A later prediction of the same supersedes it; none can be edited or removed. A prediction that names a change which
    has happened is shown as made afterwards. Returns the audit entry. Raises InvalidInput and Forbidden.
    """
    after = {
        "service": make_scope(by.environment, service).service,
        "metric": check_metric(metric),
        **predicted.to_audit(),
    }
    if change_id:
        after["change_id"] = change_id
    with changing(store, by) as change:
        change.record(Action.LEDGER_PREDICT, check_thing(about), None, after)
    return change.entry_id


def settle_ledger(store: Store, ledger: Ledger) -> int:
    """Keep the effects whose days are all over, so that a purge of the log does not forget them; return how many."""
    settled, known = 0, list_settled(store, ledger.scope)
    for entry in ledger.entries:
        name = (entry.change_id, ledger.scope.service, entry.metric)
        if not entry.is_over or entry.measured is None or name in known:
            continue
        with changing(store, Act(_ACTOR, _REASON, ledger.scope.environment)) as change:
            told = write_settled(SettledEffect(*name, entry.measured))
            change.record(Action.LEDGER_MEASURE, entry.change_id, None, told)
        settled += 1
    return settled


def settle_all(
    store: Store,
    corpus: Callable[[], Corpus],
    tracking: Callable[[], Tracking],
    *,
    now: datetime,
    low_score: float | None = None,
) -> int:
    """Settle the ledger of every scope; return how many effects were kept. Raises SourceUnavailable."""
    settled = 0
    for scope in list_scopes(store):
        today = today_in(store, scope, now=now)
        since = start_of(today - timedelta(days=DAYS))
        changes, problems = gather_changes(store, corpus, tracking, scope=scope, since=since)
        if problems:
            continue  # an effect is kept for good: it waits until every change can be read
        threshold = find_threshold(store, scope=scope, today=today, low_score=low_score)
        found = report_ledger(store, changes, scope=scope, today=today, threshold=threshold)
        settled += settle_ledger(store, found)
    return settled
