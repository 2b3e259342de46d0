"""OTLP over HTTP: what the stock SDK and exporter send, in both encodings, and what becomes of an invalid span."""

import gzip
import json
import socket
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.trace import Status, StatusCode
from sqlalchemy import select
from starlette.applications import Starlette

from app.http import api, backends
from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from core.audit.settings import save_setting
from core.errors import InvalidInput
from core.intake.counts import IntakeCount, list_counts, list_refusals
from core.intake.otlp import JSON, PROTOBUF, parse_request, read_request
from core.log.services import service_key
from quarterdeck.redaction import compose, redact
from quarterdeck.schema import retrievals, scopes
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.api_server import wait_until

START_NS = 1_772_366_400_000_000_000  # 2026-03-01 12:00 UTC
HIT = {"id": "a", "score": 0.5}
RETRIEVER = {"openinference.span.kind": "RETRIEVER", "input.value": "what is an mbuf"}


@dataclass(frozen=True)
class Listener:
    """A server that really listens, and the store behind it."""

    address: str
    store: Store

    def rows(self, *columns: str) -> list[tuple]:
        with self.store.read() as connection:
            query = select(*(retrievals.c[name] for name in columns)).order_by(retrievals.c.id)
            return [tuple(row) for row in connection.execute(query)]

    def post(self, body: bytes, path: str = "/v1/traces", **headers: str) -> tuple[int, str, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{self.address}{path}", data=body, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers["content-type"], answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["content-type"], error.read()


@pytest.fixture
def listener(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    backends.close()
    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=api.ROUTES), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([opened],))
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield Listener(f"http://127.0.0.1:{opened.getsockname()[1]}", store)
    server.should_exit = True
    thread.join()
    backends.close()


def of_span(**fields: Any) -> dict[str, Any]:
    """A request in JSON of one span, with these fields."""
    span = {"traceId": "0a", "spanId": "0b", "startTimeUnixNano": "1", **fields}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def flat(*documents: Mapping[str, Any]) -> dict[str, Any]:
    """The documents as OpenInference writes them: one attribute a property."""
    return {
        f"retrieval.documents.{number}.document.{name}": value
        for number, document in enumerate(documents)
        for name, value in document.items()
    }


def export(
    listener: Listener,
    *spans: Mapping[str, Any],
    resource: Mapping[str, Any] | None = None,
    compression: Compression = Compression.NoCompression,
) -> None:
    """Send spans as an instrumented application does: the SDK's tracer, batches, the OTLP exporter."""
    provider = TracerProvider(resource=Resource.create(dict(resource or {})))
    exporter = OTLPSpanExporter(f"{listener.address}/v1/traces", compression=compression)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    for attributes in spans:
        span = tracer.start_span("retrieve", start_time=START_NS, attributes=dict(attributes))
        span.end(START_NS + 12_500_000)
    provider.shutdown()


def build(*spans: Mapping[str, Any], resource: Mapping[str, Any] | None = None) -> ExportTraceServiceRequest:
    """A request with these attributes, as the SDK's exporter encodes them."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create(dict(resource or {})))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    for attributes in spans:
        span = provider.get_tracer("test").start_span("retrieve", start_time=START_NS)
        for name, value in attributes.items():
            if name == "status":
                span.set_status(Status(StatusCode.ERROR, str(value)))
            else:
                span.set_attribute(name, value)
        span.end(START_NS + 1_000_000)
    request: ExportTraceServiceRequest = encode_spans(kept.get_finished_spans())
    return request


def parse(*spans: Mapping[str, Any], resource: Mapping[str, Any] | None = None) -> Any:
    return parse_request(build(*spans, resource=resource).SerializeToString(), PROTOBUF, redact=compose())


def as_otlp_json(request: ExportTraceServiceRequest) -> bytes:
    """The request in OTLP's JSON: ids as hex, 64-bit numbers as text, enumerations as numbers."""
    document = MessageToDict(request, use_integers_for_enums=True)
    for of_resource in document["resourceSpans"]:
        for scope in of_resource["scopeSpans"]:
            for number, span in enumerate(scope["spans"]):
                span["traceId"], span["spanId"] = f"5b8efff798038103d269b633813fc{number:03x}", "eee19b7ec3c1b174"
    return json.dumps(document).encode()


@pytest.mark.slow
@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
def test_an_app_with_the_stock_exporter_needs_no_code_of_ours(listener, compression):
    openinference = RETRIEVER | flat({"id": "a", "score": 0.4}, {"id": "b", "score": 0.81}) | {"session.id": "s-1"}
    genai = {
        gen_ai.GEN_AI_OPERATION_NAME: gen_ai.GenAiOperationNameValues.RETRIEVAL.value,
        gen_ai.GEN_AI_RETRIEVAL_QUERY_TEXT: "mail bob@example.com",
        gen_ai.GEN_AI_RETRIEVAL_DOCUMENTS: json.dumps([{"id": "a", "score": 0.95}, {"id": "b", "score": 0.5}]),
        "gen_ai.conversation.id": "c-7",
        "quarterdeck.arm": "blue",
    }
    chat = {"openinference.span.kind": "LLM", "input.value": "not a retrieval"}
    resource = {"quarterdeck.arm": "green", "quarterdeck.prompt_version": "v3", "quarterdeck.index_version": "docs-2"}
    export(listener, openinference, genai, chat, RETRIEVER, resource=resource, compression=compression)
    assert sorted(listener.rows("query", "score", "session_id", "arm", "prompt_version", "index_version"), key=str) == [
        ("mail [e-mail]", 0.95, "c-7", "blue", "v3", "docs-2"),
        ("what is an mbuf", 0.81, "s-1", "green", "v3", "docs-2"),
        ("what is an mbuf", None, None, "green", "v3", "docs-2"),
    ]
    assert set(listener.rows("ts_ms", "latency_ms")) == {(START_NS // 1_000_000, 12.5)}


@pytest.mark.slow
def test_a_wrong_span_is_rejected_in_a_partial_success_and_the_others_are_stored(listener, caplog):
    good = RETRIEVER | flat(HIT)
    request = build(good, RETRIEVER | {"input.value": " "}, good, {"http.url": "x"}).SerializeToString()
    status, kind, body = listener.post(request, Content_Type=PROTOBUF)
    answer = ExportTraceServiceResponse.FromString(body)
    assert (status, kind, answer.partial_success.rejected_spans) == (200, PROTOBUF, 1)
    assert answer.partial_success.error_message == (
        "retrieval span 1: no_query: neither the span nor its trace has a question"
    )
    assert listener.rows("score") == [(0.5,), (0.5,)]


@pytest.mark.slow
def test_a_request_in_json_is_answered_in_json(listener):
    request = as_otlp_json(build(RETRIEVER | flat(HIT), {"openinference.span.kind": "RETRIEVER"}))
    status, kind, body = listener.post(gzip.compress(request), Content_Type=JSON, Content_Encoding="gzip")
    assert (status, kind) == (200, JSON)
    assert json.loads(body)["partialSuccess"]["rejectedSpans"] == "1"
    assert listener.rows("score", "latency_ms") == [(0.5, 1.0)]


@pytest.mark.slow
def test_a_batch_without_a_fault_is_answered_with_an_empty_response(listener):
    request = build(RETRIEVER | flat(HIT))
    assert listener.post(request.SerializeToString(), Content_Type=PROTOBUF) == (200, PROTOBUF, b"")
    assert listener.post(as_otlp_json(request), Content_Type=JSON) == (200, JSON, b"{}")


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/v1/logs", "/v1/metrics"])
def test_logs_and_metrics_are_answered_with_an_empty_success_and_counted(listener, path):
    assert listener.post(b"anything", path, Content_Type=PROTOBUF) == (200, PROTOBUF, b"")
    assert listener.post(b"{}", path, Content_Type=JSON) == (200, JSON, b"{}")
    assert listener.post(b"x" * 10_000_001, path, Content_Type=JSON)[0] == 413
    assert list_counts(listener.store) == [IntakeCount("otlp", 0, 0, {}, {path.removeprefix("/v1/"): 2})]
    assert list_refusals(listener.store) == []


@pytest.mark.slow
def test_deflate_is_understood_with_and_without_its_header_and_is_bounded(listener):
    body = build(RETRIEVER | flat(HIT)).SerializeToString()
    without_header = zlib.compress(body)[2:-4]
    for zipped in (zlib.compress(body), without_header):
        assert listener.post(zipped, Content_Type=PROTOBUF, Content_Encoding="deflate")[0] == 200
    bomb = zlib.compress(b"\x00" * 20_000_000)
    assert listener.post(bomb, Content_Type=PROTOBUF, Content_Encoding="deflate")[0] == 413
    status, _, said = listener.post(zlib.compress(body)[:-6], Content_Type=JSON, Content_Encoding="deflate")
    assert (status, b"is not deflate: it ends too early" in said) == (400, True)
    assert listener.rows("score") == [(0.5,)]


@pytest.mark.slow
def test_a_body_that_cannot_be_read_is_counted(listener):
    listener.post(b"{", Content_Type=JSON)
    assert list_counts(listener.store) == [IntakeCount("otlp", 0, 1, {"body": 1})]


@pytest.mark.slow
def test_a_request_that_is_refused_before_it_is_read_is_counted_too(listener):
    body, typed = build(RETRIEVER | flat(HIT)).SerializeToString(), {"Content_Type": PROTOBUF}
    assert listener.post(body, Content_Type="text/plain")[0] == 415
    assert listener.post(b"x", **typed, Content_Encoding="gzip")[0] == 400
    assert listener.post(b"x" * 10_000_001, **typed)[0] == 413
    assert listener.post(body, **typed, Authorization="Bearer nobody")[0] == 401
    wanted = {"content_type": 1, "body": 1, "too_large": 1, "token": 1}
    assert wait_until(lambda: list_counts(listener.store) == [IntakeCount("otlp", 0, 4, wanted)])
    assert {each.scope for each in list_refusals(listener.store)} == {Scope()}


@pytest.mark.slow
def test_what_a_token_s_sender_gets_wrong_is_its_environment_s(listener):
    secret, _ = issue_token(listener.store, "ci", [TokenScope.INGEST], Act("tester", "spans", "staging"))
    assert listener.post(b"{", Content_Type=JSON, Authorization=f"Bearer {secret}")[0] == 400
    assert [each.scope.environment for each in list_refusals(listener.store)] == ["staging"]


@pytest.mark.slow
def test_logs_and_metrics_on_the_path_of_traces_are_refused_and_counted(listener):
    for name in ("resourceLogs", "resourceMetrics"):
        status, _, said = listener.post(json.dumps({name: [{}]}).encode(), Content_Type=JSON)
        assert (status, f"it holds {name} and no resourceSpans".encode() in said) == (400, True)
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add(body={"string_value": "hello"}, time_unix_nano=START_NS)
    status, _, said = listener.post(logs.SerializeToString(), Content_Type=PROTOBUF)
    assert (status, b"it holds no span with a time" in said) == (400, True)
    assert list_counts(listener.store) == [IntakeCount("otlp", 0, 3, {"body": 3})]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (5, "resourceSpans must be a list in an object"),
        ({"resourceSpans": [7]}, "resourceSpans must be a list of objects, and one is int"),
        ({"resourceSpans": [{"resource": 1}]}, "resource must be an object, not int"),
        ({"resourceSpans": [{"scopeSpans": [0]}]}, "scopeSpans must be a list of objects, and one is int"),
        ({"resourceSpans": [{"scopeSpans": [{"spans": [0]}]}]}, "spans must be a list of objects, and one is int"),
        (of_span(attributes=[3]), "attributes must be a list of objects, and one is int"),
        (of_span(attributes=[{"value": {}}]), "the key of an attribute must be text"),
        (of_span(attributes=[{"key": "a", "value": {"intValue": "x"}}]), "intValue must be a number, not 'x'"),
        (of_span(startTimeUnixNano="noon"), "startTimeUnixNano must be a number, not 'noon'"),
        (of_span(status="ok"), "status must be an object, not str"),
        (of_span(events=[1]), "events must be a list of objects, and one is int"),
        (of_span(traceId="xyz"), "an id must be hex, not 'xyz'"),
    ],
)  # fmt: skip
def test_a_body_of_another_shape_names_what_is_wrong(request_, said):
    with pytest.raises(InvalidInput) as refused:
        read_request(json.dumps(request_).encode(), JSON)
    assert refused.value.problem == f"is not an OTLP trace request in {JSON}: {said}"


@pytest.mark.slow
def test_the_scope_is_the_resource_s_and_a_token_s_where_that_names_none(listener):
    prod = {"service.name": "Answers", "deployment.environment.name": "Prod-EU"}
    export(listener, RETRIEVER | flat(HIT), resource=prod)
    export(listener, RETRIEVER | flat(HIT))
    with listener.store.read() as connection:
        found = {tuple(row) for row in connection.execute(select(scopes.c.environment, scopes.c.service))}
    assert found == {("production", "default"), ("prod-eu", "answers")}


@pytest.mark.slow
def test_a_service_chooses_whether_answers_are_kept_and_what_its_scores_are(listener):
    span = RETRIEVER | flat(HIT) | {"output.value": "text"}
    answer = {"openinference.span.kind": "LLM", "output.value": "mail bob@example.com"}
    with listener.store.begin() as connection:
        chosen = {"keep_answers": True, "score_kind": "dot"}
        save_setting(connection, service_key("answers"), chosen, expected_version=0)
    for service in ("answers", "other"):
        request = build(span, answer, resource={"service.name": service})
        spans = request.resource_spans[0].scope_spans[0].spans
        spans[1].trace_id, spans[1].parent_span_id = spans[0].trace_id, spans[0].span_id
        listener.post(request.SerializeToString(), Content_Type=PROTOBUF)
    assert listener.rows("answer", "score_kind") == [("mail [e-mail]", "dot"), (None, None)]


@pytest.mark.slow
def test_a_token_takes_spans_of_its_own_environment_alone(listener):
    secret, _ = issue_token(listener.store, "ci", [TokenScope.INGEST], Act("tester", "spans", "staging"))
    bearer = {"Content_Type": PROTOBUF, "Authorization": f"Bearer {secret}"}
    own = build(RETRIEVER | flat(HIT), resource={"deployment.environment": "staging"})
    none = build(RETRIEVER | flat(HIT))
    other = build(RETRIEVER | flat(HIT), resource={"deployment.environment": "production", "service.name": "a"})
    for request in (own, none, other):
        status, _, body = listener.post(request.SerializeToString(), **bearer)
        assert status == 200
    said = ExportTraceServiceResponse.FromString(body).partial_success
    assert (said.rejected_spans, "is for the environment staging alone" in said.error_message) == (1, True)
    with listener.store.read() as connection:
        named = select(scopes.c.environment).join(retrievals, retrievals.c.scope_id == scopes.c.id)
        assert list(connection.scalars(named)) == ["staging", "staging"]
    assert list_counts(listener.store) == [IntakeCount("otlp", 2, 1, {"scope": 1})]


@pytest.mark.slow
def test_an_exporter_that_sends_again_stores_nothing_twice(listener):
    request = build(RETRIEVER | flat(HIT), {"openinference.span.kind": "RETRIEVER"}).SerializeToString()
    first, second = (listener.post(request, Content_Type=PROTOBUF) for _ in range(2))
    assert (first[0], second[0]) == (200, 200)
    assert listener.rows("score") == [(0.5,)]
    assert list_counts(listener.store) == [IntakeCount("otlp", 1, 3, {"duplicate": 2, "no_query": 1})]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"\xff\xff\xff", {"Content_Type": PROTOBUF}, 400, "body: is not an OTLP trace request"),
        (b"{", {"Content_Type": JSON}, 400, "body: is not an OTLP trace request"),
        (b'{"resourceSpans": 3}', {"Content_Type": JSON}, 400, "body: is not an OTLP trace request"),
        (b"[" * 100_000, {"Content_Type": JSON}, 400, "body: is not an OTLP trace request"),
        (b"5", {"Content_Type": JSON}, 400, "body: is not an OTLP trace request"),
        (b'{"\\ud800": 1}', {"Content_Type": JSON}, 400, "body: is not an OTLP trace request"),
        (b"x", {"Content_Type": PROTOBUF, "Content_Encoding": "gzip"}, 400, "body: is not gzip"),
        (b"x", {"Content_Type": "text/plain"}, 415, "Content-Type: text/plain is not understood here"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_with_a_status_in_its_encoding(listener, body, headers, status, said):
    code, kind, answer = listener.post(body, **headers)
    assert code == status
    assert kind == (JSON if headers["Content_Type"] == JSON else PROTOBUF)
    text = json.loads(answer)["message"] if kind == JSON else answer.decode(errors="replace")
    assert said in text
    assert "\n" not in text.removeprefix(text[:3])


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (RETRIEVER | flat({"content": "a", "metadata": '{"score": 0.33}'}), 0.33),
        (RETRIEVER | flat({"content": "a"}, {"id": "b", "score": 0.2}, {"id": "c", "score": 0.6}), 0.6),
        (RETRIEVER | flat({"id": "a", "score": 1}), 1.0),
        (RETRIEVER | flat({"id": "a", "score": "0.4"}), 0.4),
        (RETRIEVER, None),
        ({"openinference.span.kind": "retriever", "input.value": "q"}, None),
        (
            {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.query": "q", "gen_ai.retrieval.documents": "[]"},
            None,
        ),
        (
            {
                "mlflow.spanType": '"RETRIEVER"',
                "mlflow.spanInputs": '{"query": "q"}',
                "mlflow.spanOutputs": '[{"page_content": "x", "metadata": {"score": 0.7}}]',
            },
            0.7,
        ),
    ],
)
def test_the_score_is_the_best_of_the_documents_and_none_for_an_empty_list(attributes, expected):
    parsed = parse(attributes)
    assert [each.score for each in parsed.retrievals] == [expected], parsed.refused


def test_documents_may_be_structured_values():
    request = build({"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.query.text": "q"})
    span = request.resource_spans[0].scope_spans[0].spans[0]
    documents = span.attributes.add(key="gen_ai.retrieval.documents").value.array_value
    for score in (0.2, 0.9):
        document = documents.values.add().kvlist_value.values
        document.add(key="id").value.string_value = f"d-{score}"
        document.add(key="score").value.double_value = score
    parsed = parse_request(request.SerializeToString(), PROTOBUF, redact=compose())
    assert [each.score for each in parsed.retrievals] == [0.9]


def test_bytes_are_read_as_text():
    request = build(RETRIEVER | flat(HIT))
    attributes = request.resource_spans[0].scope_spans[0].spans[0].attributes
    attributes.add(key="session.id").value.bytes_value = b"s-1\xff"
    attributes.add(key="quarterdeck.feedback").value.bytes_value = b"1"
    (found,) = parse_request(request.SerializeToString(), PROTOBUF, redact=compose()).refused
    assert (found.field, found.problem) == ("feedback", "must be a number, not str")


@pytest.mark.parametrize(
    ("attributes", "query"),
    [
        ({"input.value": '{"question": "why"}', "input.mime_type": "application/json"}, "why"),
        ({"input.value": '"why"', "input.mime_type": "application/json"}, "why"),
        ({"input.value": '{"question": "why"}'}, '{"question": "why"}'),
        ({"input.value": "call +49 30 901820"}, "call [phone]"),
    ],
)
def test_the_query_is_found_in_the_input_and_redacted(attributes, query):
    request = build({"openinference.span.kind": "RETRIEVER"} | attributes).SerializeToString()
    assert [each.query for each in parse_request(request, PROTOBUF, redact=redact).retrievals] == [query]


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        (RETRIEVER | {"output.value": "__REDACTED__"}, "hidden"),
        (RETRIEVER | {"input.value": "__REDACTED__"}, "hidden"),
        (RETRIEVER | {"input.value": "  "}, "no_query"),
        (RETRIEVER | {"input.value": "q" * 9_000}, "query"),
        ({"openinference.span.kind": "RETRIEVER"}, "no_query"),
        ({"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.query.text": "q"}, "no_documents"),
        (RETRIEVER | flat(HIT) | {"quarterdeck.score_kind": "cosines"}, "score_kind"),
        (RETRIEVER | flat(HIT | {"score": 3.0}) | {"quarterdeck.score_kind": "cosine"}, "score"),
        (
            {
                "gen_ai.operation.name": "retrieval",
                "gen_ai.retrieval.query.text": "q",
                "gen_ai.retrieval.documents": '{"found": 3}',
            },
            "no_documents",
        ),
        (RETRIEVER | {"quarterdeck.arm": "a\nb"}, "arm"),
        (RETRIEVER | {"quarterdeck.faithfulness": 3.0}, "faithfulness"),
    ],
)
def test_a_span_that_is_no_retrieval_is_refused_by_its_field(attributes, field):
    parsed = parse(attributes)
    assert (len(parsed.retrievals), [each.field for each in parsed.refused]) == (0, [field])


def test_what_a_span_says_of_itself_goes_before_its_metadata_and_its_resource():
    spans = [
        RETRIEVER | {"quarterdeck.arm": "span"},
        RETRIEVER | {"metadata": json.dumps({"quarterdeck.arm": "metadata", "session.id": "m-1"})},
        RETRIEVER | {"quarterdeck.prompt_version": 3, "quarterdeck.feedback": 1.0, "user.id": "u-1"},
        RETRIEVER | {"llm.prompt_template.version": "v9", "session.id": "s-1", "user.id": "u-1"},
    ]
    found = parse(*spans, resource={"quarterdeck.arm": "resource"}).retrievals
    assert [each.arm for each in found] == ["span", "metadata", "resource", "resource"]
    assert [each.prompt_version for each in found] == [None, None, "3", "v9"]
    assert [each.session_id for each in found] == [None, "m-1", None, "s-1"]
    assert [each.user_id for each in found] == [None, None, "u-1", "u-1"]
    assert found[2].feedback == 1.0


def test_a_span_without_a_start_is_refused():
    request = build(RETRIEVER)
    request.resource_spans[0].scope_spans[0].spans[0].start_time_unix_nano = 0
    parsed = parse_request(request.SerializeToString(), PROTOBUF, redact=compose())
    assert [each.field for each in parsed.refused] == ["ts"]


def test_every_retrieval_span_is_stored_or_refused():
    spans: Sequence[dict[str, Any]] = [
        (RETRIEVER if number % 3 else {"openinference.span.kind": "RETRIEVER"}) | flat(HIT) for number in range(30)
    ]
    parsed = parse(*spans)
    assert (len(parsed.retrievals), len(parsed.refused)) == (20, 10)
    assert [each.row for each in parsed.refused] == list(range(0, 30, 3))


def test_ids_in_json_must_be_hex():
    body = b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "xyz"}]}]}]}'
    with pytest.raises(InvalidInput, match="an id must be hex"):
        parse_request(body, JSON, redact=compose())
