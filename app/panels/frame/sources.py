"""Where the search of the frame looks: pages, flags, topics, prompts, documents and questions."""

from collections.abc import Callable, Iterable

import streamlit as st

from app.connections import find_unconnected
from app.navigation import TITLES, shown_environment, shown_service
from app.panels.corpus.resources import load_files, load_versions
from app.panels.prompts.resources import load_registered
from app.resources import get_config, get_store, list_environments, list_services
from app.visitor import may_read_questions
from core.coverage.backlog import list_backlog
from core.errors import QuarterdeckError
from core.flags.store import list_flags
from core.flags.upkeep import read_details
from core.log.filters import QuestionFilter
from core.log.questions import list_page
from core.search.ranking import SearchItem, SearchKind
from core.search.report import MOST_SHOWN, SearchSource
from quarterdeck.scope import Scope, fold_environment

# Words that people type for a page and that are not in its name.
ALSO = {
    "overview": "home start decisions to-do today", "questions": "queries log sessions answers feedback review",
    "drift": "score drop quality", "coverage": "gaps topics backlog",
    "prompts": "evaluations mlflow runs cases judge", "corpus": "documents index versions files dvc",
    "rollouts": "flags canary experiments schedules tokens", "ledger": "predictions effects",
    "alerts": "rules channels notifications webhook slack deliveries", "audit": "history trail changes undo revert",
}  # fmt: skip


def find_scope() -> tuple[str, Scope]:
    """Return the environment that the visitor sees, and the scope."""
    environment = shown_environment(list_environments())
    folded = fold_environment(environment)
    services = [scope.service for scope in list_services() if scope.environment == folded]
    return environment, Scope(folded, shown_service(services)) if services else Scope(folded)


def list_sources(environment: str, scope: Scope) -> dict[SearchKind, SearchSource]:
    """Return what can be searched; topics and questions only by those who may read questions."""
    where = _filters_of(environment)
    sources: dict[SearchKind, SearchSource] = {
        SearchKind.PAGE: lambda _words: [
            SearchItem(title, name, where, ALSO.get(name, "")) for name, title in TITLES.items()
        ],
        SearchKind.FLAG: lambda _words: [
            SearchItem(each.key, "rollouts", (("flag", each.key), *where), read_details(each.view).description)
            for each in list_flags(get_store(), environment)
        ],
    }
    if may_read_questions(environment):
        sources[SearchKind.TOPIC] = lambda _words: _list_topics(scope, where)
    sources[SearchKind.PROMPT] = lambda _words: _unless_new(_list_prompts)
    sources[SearchKind.DOCUMENT] = lambda _words: _unless_new(_list_documents)
    if may_read_questions(environment):
        sources[SearchKind.QUESTION] = lambda words: _list_questions(words, scope, where)
    return sources


def _filters_of(environment: str) -> tuple[tuple[str, str], ...]:
    """The part of an address that keeps the environment and the service."""
    kept = {"environment": environment if environment != list_environments()[0] else ""}
    kept["service"] = st.query_params.get("service", "")
    return tuple((name, value) for name, value in kept.items() if value)


def _unless_new(read: Callable[[], Iterable[SearchItem]]) -> Iterable[SearchItem]:
    """What a source holds; nothing where it was never connected, which is no failure."""
    try:
        return tuple(read())
    except QuarterdeckError as error:
        if find_unconnected(error):
            return ()
        raise


def _list_topics(scope: Scope, where: tuple[tuple[str, str], ...]) -> Iterable[SearchItem]:
    for each in list_backlog(get_store(), get_config().embedding_model, scope):
        yield SearchItem(each.label, "coverage", (("topic", each.topic_id), *where), str(each.state))


def _list_prompts() -> Iterable[SearchItem]:
    for each in load_registered():
        yield SearchItem(f"{each.name} {each.label}", "prompts", (), " ".join(each.aliases))


def _list_documents() -> Iterable[SearchItem]:
    versions = load_versions()
    newest = versions[0].name if versions else ""
    for each in load_files(newest) if newest else ():
        yield SearchItem(each.path, "corpus", (("tab", "Files"), ("version", newest), ("path", each.path)))


def _list_questions(words: str, scope: Scope, where: tuple[tuple[str, str], ...]) -> Iterable[SearchItem]:
    found = list_page(get_store(), QuestionFilter(scope=scope, search=words), limit=MOST_SHOWN + 1)
    for each in found.questions:
        yield SearchItem(each.query, "questions", (("question", each.retrieval_id), *where))
