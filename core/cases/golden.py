"""Shell: the golden queries of an index swap: a case set or a file, and the cases of topics that are marked indexed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.cases.store import find_golden, list_cases_of_topics, read_reference
from core.coverage.backlog import TopicState, list_topic_ids_in
from core.errors import InvalidInput
from core.indexes.probes import GoldenQuery
from core.tracking.cases import Case, parse_cases
from quarterdeck.store import Store

INDEXED = "topics marked indexed"


@dataclass(frozen=True, slots=True)
class GoldenChoice:
    """Which golden set a probe uses: a file, a set of the store (`qa` or `qa@3`), else the one marked as golden.

    `fallback` is the file of the configuration, used where no set is marked.
    """

    file: Path | None = None
    set_name: str = ""
    fallback: Path | None = None


def load_golden(store: Store, choice: GoldenChoice) -> tuple[GoldenQuery, ...]:
    """Return the golden queries of a probe, each question once.

    Cases made of topics that are marked indexed are added, whatever set they are in. Cases that expect no document are
    left out. Raises InvalidInput, NotFound and SourceUnavailable.
    """
    if choice.file and choice.set_name:
        raise InvalidInput("golden", "give either a file or a set of the store")
    found = list(_load_chosen(store, choice))
    asked = {query.text for query in found}
    indexed = list_cases_of_topics(store, list_topic_ids_in(store, TopicState.INDEXED))
    added = golden_of([each.case for each in indexed], INDEXED)
    return (*found, *(query for query in added if query.text not in asked))


def golden_of(cases: Iterable[Case], origin: str = "") -> tuple[GoldenQuery, ...]:
    """Return evaluation cases as golden queries; those that expect no document are left out."""
    return tuple(
        GoldenQuery(case.question, case.expected_documents, origin) for case in cases if case.expected_documents
    )


def read_cases(path: Path, *, field: str = "cases") -> tuple[Case, ...]:
    """Return the cases of a file. Raises InvalidInput, naming the field, the file and the line."""
    try:
        return parse_cases(path.read_text(encoding="utf-8"), source=path.name)
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or error
        raise InvalidInput(field, f"{path} cannot be read: {said}") from error


def _load_chosen(store: Store, choice: GoldenChoice) -> Sequence[GoldenQuery]:
    if choice.file:
        return golden_of(read_cases(choice.file, field="golden"), choice.file.name)
    if choice.set_name:
        return golden_of(read_reference(store, choice.set_name).plain, choice.set_name)
    if marked := find_golden(store):
        return golden_of(marked.plain, f"{marked.name}@{marked.version}")
    if choice.fallback is not None and choice.fallback.exists():
        return golden_of(read_cases(choice.fallback, field="golden"), choice.fallback.name)
    return ()
