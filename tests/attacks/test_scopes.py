"""What a token of staging, or of one service, can do to production and to other services: nothing."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.http.server import CANARIES_EVERY_S
from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.flags.operations import create_flag
from core.flags.store import get_flag
from core.log.scores import apply_scores
from quarterdeck.clock import now_ms
from quarterdeck.definitions import boolean_flag, canary_flag
from quarterdeck.schema import (
    document_days,
    flag_evaluations,
    flag_exposures,
    intake,
    metric_bins,
    metric_sums,
    retrievals,
    rollups,
    scopes,
    scores,
)
from quarterdeck.store import Store
from tests.attacks.conftest import ACT, Target, fill_home
from tests.browser.conftest import serving

pytestmark = pytest.mark.slow

ROW = {
    "retrieval_id": "prod-1", "query": "what is an mbuf", "score": 0.8, "arm": "green", "user_id": "u-1",
    "documents": [["docs/mbuf.md", 0.8]], "service": "answers",
}  # fmt: skip
JUDGED = {"retrieval_id": "prod-1", "name": "feedback", "value": 1}
HARM = {"score": 0.0, "feedback": -1, "faithfulness": 0.0, "arm": "green"}


@dataclass(frozen=True)
class Attacked:
    """A server with rows and scores of production, and tokens by name."""

    target: Target

    def post(self, token: str, path: str, body: Any, **headers: str) -> tuple[int, dict]:
        answer = self.target.post(path, json.dumps(body).encode(), scope=token, **headers)
        return answer.status_code, answer.json()

    def look(self) -> dict[str, list[tuple]]:
        """Return everything that belongs to the service answers in production, with pending scores applied."""
        with closing(Store(self.target.url)) as store:
            apply_scores(store, now_ms=now_ms())
            with store.read() as connection:
                s = scopes.c
                own = select(s.id).where(s.environment == "production", s.service == "answers").scalar_subquery()
                found = {
                    table.name: sorted(map(tuple, connection.execute(select(table).where(table.c.scope_id == own))))
                    for table in (rollups, metric_sums, metric_bins, document_days, retrievals)
                }
                for table in (scores, flag_exposures, flag_evaluations):
                    query = select(table).where(table.c.environment == "production")
                    if table is scores:
                        query = query.where(table.c.service == "answers")  # others may have rows of the same ids
                    found[table.name] = sorted(map(tuple, connection.execute(query)))
                return found

    def wait_for_evaluations(self, environment: str) -> int:
        """Return how many evaluations the server reported, which it does every ten seconds."""
        c = flag_evaluations.c
        for _ in range(300):
            with closing(Store(self.target.url)) as store, store.read() as connection:
                if found := sum(connection.scalars(select(c.n).where(c.environment == environment))):
                    return found
            time.sleep(0.1)
        return 0

    def count(self, environment: str, reason: str) -> int:
        c = intake.c
        with closing(Store(self.target.url)) as store, store.read() as connection:
            query = select(c.n).where(c.environment == environment, c.reason == reason)
            return sum(connection.scalars(query))


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    home: Path = tmp_path_factory.mktemp("scoped") / "home"
    tokens = fill_home(home)
    staging = replace(ACT, environment="staging")
    with closing(Store(f"sqlite:///{home / 'quarterdeck.db'}")) as store:
        create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=50), staging)
        both = [TokenScope.INGEST, TokenScope.EVALUATE]
        tokens["staging"] = issue_token(store, "staging", both, staging)[0]
        tokens["staging admin"] = issue_token(store, "staging admin", [TokenScope.ADMIN], staging)[0]
        tokens["other"] = issue_token(store, "other", both, ACT, services=["other"])[0]
    with serving(home) as server:
        found = Attacked(Target(server.address, home, tokens))
        assert found.post("ingest", "/v1/retrievals", ROW)[0] == 201
        assert found.post("ingest", "/v1/scores", JUDGED | {"service": "answers"})[0] == 201
        yield found


@pytest.mark.deep
@pytest.mark.parametrize("token", ["staging", "staging admin", "other"])
@pytest.mark.parametrize("named", [{}, {"environment": "production", "service": "answers"}], ids=["unnamed", "named"])
def test_rows_change_nothing_of_production_and_other_services(attacked: Attacked, token: str, named: dict) -> None:
    before = attacked.look()
    status, answer = attacked.post(
        token, "/v1/retrievals", [HARM | {"query": "q", "user_id": f"u-{at}"} | named for at in range(50)]
    )
    assert status == (400 if named else 201), answer
    attacked.post(token, "/v1/retrievals", ROW | HARM | {"service": None} | named)
    assert attacked.look() == before


@pytest.mark.deep
def test_rows_of_staging_do_not_roll_back_a_canary_of_production_and_its_own_rows_do(attacked: Attacked) -> None:
    """The server judges canaries every ten seconds; what production itself reports shows that it did."""
    with closing(Store(attacked.target.url)) as store:
        planned = canary_flag(20, metadata={"canary_steps": "20% for 1h, 100%"})
        create_flag(store, "answerer", planned, replace(ACT, at=datetime.now(UTC) - timedelta(hours=3)))
        failing = [{"query": "q", "arm": "green", "score": None, "session_id": f"g-{at}"} for at in range(60)]
        good = [{"query": "q", "arm": "blue", "score": 0.9, "session_id": f"b-{at}"} for at in range(1_140)]
        for token in ("staging", "staging admin"):
            assert attacked.post(token, "/v1/retrievals", failing + good)[0] == 201
        time.sleep(3 * CANARIES_EVERY_S)
        assert get_flag(store, "production", "answerer").view.green_pct == 20
        assert attacked.post("ingest", "/v1/retrievals", failing + good)[0] == 201
        for _ in range(300):
            if get_flag(store, "production", "answerer").view.green_pct == 0:
                return
            time.sleep(0.2)
        pytest.fail("the canary was judged by nobody")


@pytest.mark.deep
@pytest.mark.parametrize("token", ["staging", "other"])
def test_an_id_of_production_is_as_good_as_any_other(attacked: Attacked, token: str) -> None:
    """The answer is that to an unknown id, and the row is stored beside production's."""
    assert attacked.post("ingest", "/v1/retrievals", ROW | {"retrieval_id": f"own-{token}"})[0] == 201
    before = attacked.look()
    for name in (f"own-{token}", f"none-{token}"):
        answer = attacked.post(token, "/v1/retrievals", ROW | HARM | {"retrieval_id": name, "service": None})
        assert answer == (201, {"stored": 1, "retrieval_ids": [name]})
    assert attacked.look() == before


def test_an_id_that_staging_took_first_is_still_free_in_production(attacked: Attacked) -> None:
    row = ROW | {"retrieval_id": "taken-1", "service": None}
    for token in ("staging", "other", "ingest"):
        assert attacked.post(token, "/v1/retrievals", row) == (201, {"stored": 1, "retrieval_ids": ["taken-1"]})
    trace = "ab" * 16
    for token in ("staging", "ingest"):
        assert attacked.post(token, "/v1/traces", make_trace(trace))[1] == {}
    with closing(Store(attacked.target.url)) as store, store.read() as connection:
        query = select(scopes.c.environment).join(retrievals, retrievals.c.scope_id == scopes.c.id)
        found = connection.scalars(query.where(retrievals.c.retrieval_id == trace))
        assert sorted(found) == ["production", "staging"]


@pytest.mark.parametrize("token", ["staging", "staging admin", "other"])
@pytest.mark.parametrize("source", ["user", "judge"])
@pytest.mark.parametrize("named", [{}, {"environment": "production", "service": "answers"}], ids=["unnamed", "named"])
def test_scores_change_nothing_of_production_and_other_services(
    attacked: Attacked, token: str, source: str, named: dict
) -> None:
    before = attacked.look()
    worse = {"value": -1, "source": source, "ts": now_ms() + 3_600_000}
    status, answer = attacked.post(token, "/v1/scores", JUDGED | worse | named)
    assert status == (400 if named else 201), answer
    assert attacked.look() == before


def make_trace(trace_id: str, **resource: str) -> dict:
    span = {
        "traceId": trace_id, "spanId": f"{len(resource):016x}", "name": "search",
        "startTimeUnixNano": str(now_ms() * 1_000_000), "endTimeUnixNano": str(now_ms() * 1_000_000 + 5_000_000),
        "attributes": [
            {"key": "openinference.span.kind", "value": {"stringValue": "RETRIEVER"}},
            {"key": "input.value", "value": {"stringValue": "what is a forged question"}},
            {"key": "retrieval.documents.0.document.id", "value": {"stringValue": "docs/mbuf.md"}},
            {"key": "retrieval.documents.0.document.score", "value": {"doubleValue": 0.01}},
        ],
    }  # fmt: skip
    names = {"environment": "deployment.environment.name", "service": "service.name"}
    named = [{"key": names[key], "value": {"stringValue": value}} for key, value in resource.items()]
    return {"resourceSpans": [{"resource": {"attributes": named}, "scopeSpans": [{"spans": [span]}]}]}


@pytest.mark.deep
@pytest.mark.parametrize("token", ["staging", "staging admin", "other"])
@pytest.mark.parametrize("named", [{}, {"environment": "production", "service": "answers"}], ids=["unnamed", "named"])
def test_traces_change_nothing_of_production_and_other_services(attacked: Attacked, token: str, named: dict) -> None:
    trace_id = f"{abs(hash((token, *named))) % 16**15:032x}"
    assert attacked.post("ingest", "/v1/traces", make_trace(trace_id, service="answers"))[0] == 200
    before = attacked.look()
    assert trace_id in {row[before_column()] for row in before["retrievals"]}
    for each in (trace_id, trace_id[::-1]):
        attacked.post(token, "/v1/traces", make_trace(each, **named))
    judged = make_trace(trace_id, **named)
    (span,) = judged["resourceSpans"][0]["scopeSpans"][0]["spans"]
    span |= {"spanId": "f" * 16, "parentSpanId": f"{1:016x}"}
    span["attributes"] = [
        {"key": "annotations.0.annotation.name", "value": {"stringValue": "feedback"}},
        {"key": "annotations.0.annotation.score", "value": {"intValue": "-1"}},
    ]
    attacked.post(token, "/v1/traces", judged)
    time.sleep(2.5)
    attacked.post(token, "/v1/traces", {"resourceSpans": []})
    attacked.post("ingest", "/v1/traces", {"resourceSpans": []})
    assert attacked.look() == before


def before_column() -> int:
    return list(retrievals.c.keys()).index("retrieval_id")


def test_what_was_refused_is_counted_where_it_came_from(attacked: Attacked) -> None:
    before = attacked.count("staging", "scope"), attacked.count("production", "scope")
    attacked.post("staging", "/v1/retrievals", {"query": "q", "environment": "production"})
    assert (attacked.count("staging", "scope"), attacked.count("production", "scope")) == (before[0] + 1, before[1])


@pytest.mark.deep
def test_evaluations_of_staging_expose_nobody_in_production(attacked: Attacked) -> None:
    before = attacked.look()
    for at in range(20):
        context = {"context": {"targetingKey": f"u-{at}", "environment": "production"}}
        status, _ = attacked.post("staging", "/ofrep/v1/evaluate/flags/use_hyde?environment=production", context)
        assert status == 200
    assert attacked.wait_for_evaluations("staging") == 20
    assert attacked.look() == before


def test_flags_of_production_are_not_for_staging(attacked: Attacked) -> None:
    address = f"{attacked.target.address}/flagd/flags.json?environment=production"
    assert httpx.get(address, headers=attacked.target.authorize("staging")).status_code == 403


def test_an_idempotency_key_of_production_is_neither_read_nor_taken(attacked: Attacked) -> None:
    row = {"query": "what is an mbuf", "score": 0.5}
    key = {"Idempotency-Key": "batch-7"}
    first = attacked.post("staging", "/v1/retrievals", row, **key)
    second = attacked.post("ingest", "/v1/retrievals", row, **key)
    again = attacked.post("staging", "/v1/retrievals", row, **key)
    assert first == again
    assert second[0] == 201
    assert second[1]["retrieval_ids"] != first[1]["retrieval_ids"]


@pytest.mark.deep
def test_random_names_of_services_and_scores_stay_within_their_bounds(attacked: Attacked) -> None:
    rows = [{"query": "q", "service": f"s-{at}", "environment": "staging"} for at in range(400)]
    assert attacked.post("staging", "/v1/retrievals", rows)[0] == 201
    names = [JUDGED | {"retrieval_id": "s-1", "name": f"n-{at}"} for at in range(400)]
    status, answer = attacked.post("staging", "/v1/scores", names)
    assert (status, answer["stored"]) == (207, 49)  # and one that an earlier test used
    with closing(Store(attacked.target.url)) as store, store.read() as connection:
        s = scopes.c
        assert len(connection.scalars(select(s.service).where(s.environment == "staging")).all()) <= 101
        counted = connection.scalars(select(intake.c.service).where(intake.c.environment == "staging"))
        assert len({*counted}) <= 101
