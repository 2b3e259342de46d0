"""Opens what alerts read beside the store, for the server, the command line, the API and the page."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from core.alerts.values import AlertSources
from core.arms.histories import share_histories
from core.causes.changes import gather_changes
from core.causes.timeline import TimelineChange
from core.config import Config
from core.corpus.corpus import Corpus
from core.rollouts.canaries import report_canaries
from core.rollouts.canary import CanaryVerdict
from core.tracking.gateway import Tracking
from quarterdeck.scope import Scope
from quarterdeck.store import Store


def open_sources(config: Config, store: Store) -> AlertSources:
    """Return where alerts read canaries, the backlog and what changed; each is opened when it is needed."""
    return AlertSources(
        model=config.embedding_model,
        low_score=config.low_score,
        canaries=partial(_list_canaries, config, store),
        changes=partial(_list_changes, config, store),
    )


def _list_canaries(config: Config, store: Store, environment: str) -> Mapping[str, CanaryVerdict]:
    histories = share_histories(config.database_url, config.log_url)
    reports = report_canaries(store, histories, environment, now=datetime.now(UTC))
    return {report.flag.key: report.verdict for report in reports if report.is_running}


def _list_changes(config: Config, store: Store, scope: Scope, since: datetime) -> Sequence[TimelineChange]:
    corpus, tracking = partial(Corpus, config.corpus_repo), partial(Tracking, config.tracking_uri)
    return gather_changes(store, corpus, tracking, scope=scope, since=since)[0]
