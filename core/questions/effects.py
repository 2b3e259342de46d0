"""Shell: what a corpus version did to the questions of a document that it changed: before it went live, and since."""

from dataclasses import dataclass
from datetime import date, timedelta

from core.indexes.registry import list_indexes, list_swaps
from core.log.documents import DocumentSums, list_documents
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_LONGEST = 28


@dataclass(frozen=True, slots=True)
class DocumentEffect:
    """The questions that found a document before an index of a version went live on `shipped`, and since.

    Both windows have the same number of whole UTC days, without the day itself; the shares are of low questions.
    """

    index_name: str
    shipped: date
    days: int
    before: int
    after: int
    low_before: float | None
    low_after: float | None


def measure_effect(
    store: Store, scope: Scope, document: str, version: str, *, below: float, today: date, alias: str = "default"
) -> DocumentEffect | None:
    """Return what happened to a document's questions when a corpus version went live; None where it never did.

    Raises SourceUnavailable.
    """
    versions = {index.name: index.corpus_version for index in list_indexes(store)}
    swaps = [swap for swap in list_swaps(store, alias) if versions.get(swap.index) == version]
    if not swaps:
        return None
    shipped = swaps[0].at.date()
    days = min(_LONGEST, (today - shipped).days)
    if days < 1:
        return None
    after = list_documents(store, scope, first=shipped + timedelta(days=1), last=shipped + timedelta(days=days))
    before = list_documents(store, scope, first=shipped - timedelta(days=days), last=shipped - timedelta(days=1))
    (n_before, low_before), (n_after, low_after) = (_read(sums, document, below) for sums in (before, after))
    return DocumentEffect(swaps[0].index, shipped, days, n_before, n_after, low_before, low_after)


def _read(found: DocumentSums, document: str, below: float) -> tuple[int, float | None]:
    if document not in found.names:
        return 0, None
    at = found.names.index(document)
    share = float(found.low_share(below)[at])
    return int(found.retrieved[at]), None if share != share else share
