"""The corpus and what serves it: versions with their files and differences, indexes, aliases, and predictions."""

from datetime import datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field

from app.http.backends import get_store
from app.http.v1.callers import From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.models import Answered, Environment, Limit, Page, Position, Reasoned, Service, Untrusted, cut_page
from app.http.v1.reads import get_corpus, load_versions
from app.http.v1.routing import make_router
from core.audit.acts import Act
from core.corpus.manifests import FileChangeKind
from core.errors import NotFound
from core.flags.canary_plan import Automation
from core.indexes.builds import find_probe, ship_probed_index
from core.indexes.operations import find_rollback, swap_index
from core.indexes.probes import ProbeRecord
from core.indexes.registry import IndexState, list_aliases, list_indexes
from core.predictions.prediction import hide_questions
from core.predictions.predictions import list_predictions
from core.rollouts.index_canaries import start_index_canary

router = make_router("corpus")


class VersionAnswer(Answered):
    """A version of the corpus: a tag, or a commit that changed it. Null counts are unknown."""

    revision: str
    name: Untrusted[str]
    tags: Untrusted[tuple[str, ...]]
    committed: datetime
    author: Untrusted[str]
    message: Untrusted[str]
    files: int | None
    size_bytes: int | None
    added: int | None
    removed: int | None
    modified: int | None
    renamed: int | None
    problem: Untrusted[str]
    notes: Untrusted[tuple[str, ...]]


class FileAnswer(Answered):
    """A file of a corpus version."""

    path: Untrusted[str]
    size_bytes: int | None
    md5: str


class FileChangeAnswer(Answered):
    """A file that differs between two versions."""

    kind: FileChangeKind
    path: Untrusted[str]
    old_path: Untrusted[str | None]
    md5: str | None
    old_md5: str | None
    size_bytes: int | None
    old_size_bytes: int | None


class CheckAnswer(Answered):
    """One check of a probe."""

    name: str
    passed: bool
    measured: float | None
    reason: str


class ProbeAnswer(Answered):
    """The last probe of an index, and the index that was live then."""

    passed: bool
    live: str | None
    probed: datetime
    checks: tuple[CheckAnswer, ...]


class BuiltIndexAnswer(Answered):
    """A vector index."""

    name: str
    corpus_version: str
    model: str
    chunks: int
    chunking: str
    built: datetime
    built_by: str
    state: IndexState
    live_as: tuple[str, ...] = Field(description="The aliases that point to it.")
    probe: ProbeAnswer | None


class AliasAnswer(Answered):
    """The name that readers use, and the index it points to."""

    alias: str
    index_name: str
    version: int
    updated: datetime
    updated_by: str


class ForecastAnswer(Answered):
    """What replacing the live index by one of a corpus version is predicted to do. Scores and shares are 0 to 1."""

    target: str
    live: str
    threshold: float
    lifted_share: float
    lift: float
    new_documents: int
    new_chunks: int
    removed_chunks: int
    topics: tuple["TopicForecastAnswer", ...]


class TopicForecastAnswer(Answered):
    """What it is predicted to do for one topic. The label is users' text, and untrusted."""

    topic_id: str
    label: Untrusted[str]
    count: int
    live_score: float
    predicted_score: float
    lifted_share: float
    documents: Untrusted[tuple[str, ...]]


class SwapChange(Reasoned):
    """Points an alias to another index that passed its probe."""

    index: str = Field(min_length=1, max_length=200)
    expected: str | None = Field(max_length=200, description="The index it points to now; null for none.")


class IndexCanaryStart(Reasoned):
    """Lets a share of users search another index than the live one."""

    index: str = Field(min_length=1, max_length=200)
    steps: str | None = Field(None, max_length=1_000, description='Such as "5% for 24h, 100%"; null for the last ones.')
    automation: Automation | None = None
    services: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] | None = Field(None, max_length=20)
    environment: str | None = Field(None, max_length=64)


class RollbackChange(Reasoned):
    """Points an alias back to its previous index."""

    expected: str = Field(min_length=1, max_length=200, description="The index it points to now.")


Revision = Annotated[str, Path(min_length=1, max_length=200)]
AliasName = Annotated[str, Path(min_length=1, max_length=100, examples=["default"])]


@router.get("/v1/corpus/versions")
def list_corpus_versions(caller: From, limit: Limit = 50, cursor: Position = None) -> Page[VersionAnswer]:
    """Return the versions of the corpus, newest first."""
    caller.check_shared()
    items, following = cut_page(load_versions(), cursor, limit)
    return Page[VersionAnswer](items=tuple(map(VersionAnswer.model_validate, items)), next=following)


@router.get("/v1/corpus/versions/{revision}/files", name="list_corpus_files")
def list_version_files(
    caller: From,
    revision: Revision,
    search: Annotated[str, Query(max_length=200, description="A part of the path.")] = "",
    limit: Limit = 50,
    cursor: Position = None,
) -> Page[FileAnswer]:
    """Return the files of a corpus version by their path."""
    caller.check_shared()
    items, following = cut_page(get_corpus().list_files(revision, search=search), cursor, limit)
    return Page[FileAnswer](items=tuple(map(FileAnswer.model_validate, items)), next=following)


@router.get("/v1/corpus/diff")
def compare_corpus_versions(
    caller: From,
    old: Annotated[str, Query(min_length=1, max_length=200)],
    new: Annotated[str, Query(min_length=1, max_length=200)],
    limit: Limit = 50,
    cursor: Position = None,
) -> Page[FileChangeAnswer]:
    """Return the files that differ between two corpus versions."""
    caller.check_shared()
    items, following = cut_page(get_corpus().compare_versions(old, new).changes, cursor, limit)
    return Page[FileChangeAnswer](items=tuple(map(FileChangeAnswer.model_validate, items)), next=following)


@router.get("/v1/indexes", name="list_indexes")
def list_built_indexes(caller: From, limit: Limit = 50, cursor: Position = None) -> Page[BuiltIndexAnswer]:
    """Return the indexes that can be used, newest first, each with its last probe."""
    caller.check_shared()
    store = get_store()
    aliases = list_aliases(store)
    items, following = cut_page(list_indexes(store), cursor, limit)
    answers = []
    for index in items:
        found = find_probe(store, index.name)
        probe = _describe_probe(found) if found else None
        told = {name: getattr(index, name) for name in BuiltIndexAnswer.model_fields if hasattr(index, name)}
        live_as = tuple(alias.alias for alias in aliases if alias.index_name == index.name)
        answers.append(BuiltIndexAnswer(**told, live_as=live_as, probe=probe))
    return Page[BuiltIndexAnswer](items=tuple(answers), next=following)


@router.get("/v1/aliases", name="list_aliases")
def list_index_aliases(caller: From, limit: Limit = 50, cursor: Position = None) -> Page[AliasAnswer]:
    """Return the aliases, and the index each points to."""
    caller.check_shared()
    items, following = cut_page(list_aliases(get_store()), cursor, limit)
    return Page[AliasAnswer](items=tuple(map(AliasAnswer.model_validate, items)), next=following)


@router.post("/v1/aliases/{alias}/swap")
def swap_alias(alias: AliasName, body: SwapChange, make: Make) -> ChangeAnswer:
    """Point an alias to an index that passed its probe against the live one. The token needs the scope `shared` too."""
    make.caller.check_shared()
    return make.make(
        body.reason,
        make.caller.environment,
        lambda act: ship_probed_index(get_store(), alias, body.index, act, expected=body.expected),
    )


@router.post("/v1/aliases/{alias}/canary")
def start_alias_canary(alias: AliasName, body: IndexCanaryStart, make: Make) -> ChangeAnswer:
    """Let a share of users search an index that passed its probe against the live one. It is a canary from then on."""
    return make.make(
        body.reason,
        make.caller.find_environment(body.environment),
        lambda act: start_index_canary(
            get_store(), alias, body.index, act,
            steps=body.steps, automation=body.automation, services=body.services,
        ),
    )  # fmt: skip


@router.post("/v1/aliases/{alias}/rollback")
def roll_back_alias(alias: AliasName, body: RollbackChange, make: Make) -> ChangeAnswer:
    """Point an alias back to its previous index. The token needs the scope `shared` too."""
    make.caller.check_shared()

    def roll_back(act: Act) -> int:
        former = find_rollback(get_store(), alias)
        if former is None:
            raise NotFound(f"alias: {alias[:80]!r} has no previous index that still exists")
        return swap_index(get_store(), alias, former, act, expected=body.expected, rollback=True)

    return make.make(body.reason, make.caller.environment, roll_back)


@router.get("/v1/predictions", name="list_predictions")
def list_forecasts(
    caller: From,
    environment: Environment = None,
    service: Service = None,
    limit: Limit = 50,
    cursor: Position = None,
) -> Page[ForecastAnswer]:
    """Return what corpus versions are predicted to fix. Without the scope `questions`, topics go by number."""
    scope = caller.find_scope(environment, service)
    found, following = cut_page(list_predictions(get_store(), scope), cursor, limit)
    shown = found if caller.may_read(scope.environment) else tuple(map(hide_questions, found))
    return Page[ForecastAnswer](items=tuple(map(ForecastAnswer.model_validate, shown)), next=following)


def _describe_probe(found: ProbeRecord) -> ProbeAnswer:
    checks = tuple(map(CheckAnswer.model_validate, found.report.checks))
    return ProbeAnswer(passed=found.report.passed, live=found.live, probed=found.probed, checks=checks)
