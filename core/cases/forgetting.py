"""Gateway to the cases that hold a text of somebody: they are forgotten with all their history when it is erased."""

from collections.abc import Collection
from itertools import groupby
from operator import itemgetter

from sqlalchemy import Connection, delete, update

from core.cases.store import list_sources
from core.log.values import normalize_query
from quarterdeck.schema import case_history, case_sets, cases
from quarterdeck.store import Store

_SLICE = 500
_Case = tuple[str, str]  # the set's name and the case's id


def count_cases(store: Store, retrieval_ids: Collection[tuple[str, str]], texts: Collection[str]) -> int:
    """Return how many cases, of today or earlier, were made of these questions or have one of these texts.

    `retrieval_ids` are pairs of environment and id, `texts` are normalized.
    """
    with store.read() as connection:
        return len(_find(connection, retrieval_ids, texts))


def forget_cases(connection: Connection, retrieval_ids: Collection[tuple[str, str]], texts: Collection[str]) -> None:
    """Delete these cases and every former state of them, in an open transaction; their sets become new versions."""
    found = _find(connection, retrieval_ids, texts)
    for name, pairs in groupby(sorted(found), key=itemgetter(0)):
        ids = [case_id for _, case_id in pairs]
        for start in range(0, len(ids), _SLICE):
            part = ids[start : start + _SLICE]
            connection.execute(delete(cases).where(cases.c.set_name == name, cases.c.case_id.in_(part)))
            connection.execute(
                delete(case_history).where(case_history.c.set_name == name, case_history.c.case_id.in_(part))
            )
        later = update(case_sets).where(case_sets.c.name == name)
        connection.execute(later.values(version=case_sets.c.version + 1))


def _find(connection: Connection, retrieval_ids: Collection[tuple[str, str]], texts: Collection[str]) -> set[_Case]:
    """The cases of these questions and texts; the history is read whole, since sets are small."""
    wanted, named = set(texts), set(retrieval_ids)
    return {
        (name, case_id)
        for name, case_id, source, question in list_sources(connection)
        if source in named or normalize_query(question) in wanted
    }
