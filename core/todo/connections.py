"""Shell: tells a source that was never set up from one that used to work: the first is a next step, the other a fault.

What used to work leaves traces: settings that name it, files beside it, and rows of the store that came from it.
"""

from contextlib import suppress
from enum import StrEnum

from core.audit.actions import Action
from core.audit.trail import AuditFilter, list_audit
from core.config import Config
from core.errors import QuarterdeckError
from core.indexes.registry import list_indexes
from quarterdeck.store import Store, database_path

_TRACES = ("demo.json", "corpus", "mlflow", "indexes", "golden.jsonl")


class Source(StrEnum):
    """What the deck reads besides its settings."""

    STORE = "store"
    CORPUS = "corpus"
    TRACKING = "tracking"


def is_unconnected(source: Source, config: Config, store: Store) -> bool:
    """Return whether nobody has set this source up yet; False if it is there, or once was."""
    if source is Source.STORE:
        path = database_path(store.url)
        return path is not None and not path.exists() and not any((config.home / name).exists() for name in _TRACES)
    if (config.home / "demo.json").exists():
        return False
    if source is Source.CORPUS:
        place = config.home / "corpus"
        return config.corpus_repo == str(place) and not place.exists() and not _holds_indexes(store)
    place = config.home / "mlflow" / "mlflow.db"
    return config.tracking_uri == f"sqlite:///{place}" and not place.exists() and not _holds_promotions(store)


def _holds_indexes(store: Store) -> bool:
    with suppress(QuarterdeckError):
        return bool(list_indexes(store))
    return False


def _holds_promotions(store: Store) -> bool:
    with suppress(QuarterdeckError):
        return bool(list_audit(store, AuditFilter(action=Action.PROMPT_PROMOTE), limit=1))
    return False
