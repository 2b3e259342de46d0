"""What ever new names can do to a running server, by accident or on purpose: each kind stays within its bound."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select

from core.audit.acts import Act
from core.drift.report import report_drift
from core.log.dimensions import declare_dimensions
from core.log.documents import pack_documents
from core.log.scores import MOST_NAMES, apply_scores
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from quarterdeck.clock import now_ms
from quarterdeck.schema import (
    DIMENSIONS,
    MOST_DOCUMENTS,
    MOST_VALUES,
    dimension_values,
    document_days,
    intake,
    metric_sums,
    rollups,
    scopes,
)
from quarterdeck.scope import MOST_SERVICES, Scope
from quarterdeck.store import Store
from tests.attacks.conftest import Target, attacking
from tests.attacks.test_scopes import make_trace

pytestmark = [pytest.mark.slow, pytest.mark.deep]

ROWS = 600
SERVICE = "careless"
DECLARED = ("tenant", "plan")


def name() -> str:
    return uuid.uuid4().hex * 4


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server that was sent rows, scores and spans in which every name is a new one."""
    home = tmp_path_factory.mktemp("flooded") / "home"
    with attacking(home) as target:
        with closing(Store(target.url)) as store:
            save_service(store, ServiceSettings(SERVICE, dimensions=DECLARED), Act("ada", "the tenants"))
        for _ in range(2):
            assert send(target, "/v1/retrievals", [make_row() for _ in range(ROWS)]) == 201
        assert send(target, "/v1/retrievals", [{"query": "q", "service": name()} for _ in range(ROWS)]) == 201
        judged = [{"retrieval_id": "r", "name": name()[:100], "value": 1, "service": SERVICE} for _ in range(ROWS)]
        assert send(target, "/v1/scores", judged) == 207
        assert send(target, "/v1/retrievals", [{name(): name(), "query": "q"} for _ in range(ROWS)]) in (400, 207, 201)
        spans = [make_trace(name()[:32], service=name()) for _ in range(ROWS)]
        assert send(target, "/v1/traces", {"resourceSpans": [each["resourceSpans"][0] for each in spans]}) == 200
        with closing(Store(target.url)) as store:
            declare_dimensions(store)
            apply_scores(store, now_ms=now_ms())
            pack_documents(store, now=datetime.now(UTC))
        yield target


def make_row() -> dict[str, Any]:
    labels = ("arm", "prompt_version", "index_version", "model", "session_id", "user_id", "trace_id", "span_id")
    return {
        "query": name(), "score": 0.5, "service": SERVICE, **{label: name() for label in labels},
        "documents": [[name(), 0.5] for _ in range(20)], "attributes": {each: name() for each in DECLARED},
    }  # fmt: skip


def send(target: Target, path: str, body: Any) -> int:
    return target.post(path, json.dumps(body).encode()).status_code


@pytest.mark.parametrize("dimension", [*DIMENSIONS, *DECLARED])
def test_the_values_of_a_dimension_are_bounded(flooded: Target, dimension: str) -> None:
    c = rollups.c
    counted = count(flooded, lambda: select(func.count(c.value.distinct())).where(c.dimension == dimension))
    named = count(
        flooded, lambda: select(func.count()).select_from(dimension_values).where(
            dimension_values.c.dimension == dimension, dimension_values.c.scope_id == scope_id()
        )
    )  # fmt: skip
    assert 0 < named <= 2 * MOST_VALUES  # midnight may pass meanwhile
    assert counted <= 2 * MOST_VALUES + 2  # and the others, and rows without a value


@pytest.mark.parametrize(
    ("most", "query"),
    [
        (2 * MOST_DOCUMENTS + 2, lambda: select(func.count()).select_from(document_days)),
        (MOST_SERVICES + 2, lambda: select(func.count()).select_from(scopes)),
        (MOST_NAMES + 10, lambda: select(func.count(metric_sums.c.metric.distinct()))),
        (MOST_SERVICES + 2, lambda: select(func.count(intake.c.service.distinct()))),
        (50, lambda: select(func.count(intake.c.reason.distinct()))),
    ],
    ids=["documents", "services", "scores", "services of what came in", "reasons"],
)
def test_documents_services_scores_and_counts_are_bounded(flooded: Target, most: int, query: Callable[[], Any]) -> None:
    assert 0 < count(flooded, query) <= most


def test_a_verdict_is_made_of_the_bounded_counts(flooded: Target) -> None:
    """Its segments are few, and no read of the pages grows with the names that were sent."""
    with closing(Store(flooded.url)) as store:
        found = report_drift(store, scope=Scope("production", SERVICE), today=datetime.now(UTC).date())
        with store.read() as connection:
            stored = connection.scalar(
                select(func.count()).select_from(rollups).where(rollups.c.scope_id == scope_id())
            )
    assert found.report.status
    assert stored <= (len(DIMENSIONS) + len(DECLARED) + 1) * 2 * (2 * MOST_VALUES + 2)


def scope_id() -> Any:
    return (
        select(scopes.c.id).where(scopes.c.environment == "production", scopes.c.service == SERVICE).scalar_subquery()
    )


def count(target: Target, query: Callable[[], Any]) -> int:
    with closing(Store(target.url)) as store, store.read() as connection:
        return int(connection.scalar(query()))
