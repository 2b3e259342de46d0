"""OTLP over gRPC: the stock exporter, admission, bounds and faults; logs and metrics are taken and ignored."""

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from sqlalchemy import select

from app.http import backends, otlp_grpc
from core.intake.counts import IntakeCount, list_counts
from quarterdeck.schema import retrievals
from tests.api_server import wait_until
from tests.core.intake.test_otlp import HIT, RETRIEVER, build, flat

pytestmark = [pytest.mark.slow, pytest.mark.sqlite_only("the store is not what is new here")]


def find_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@pytest.fixture
def port(url: str, store, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where the deck listens for gRPC, in a loop of its own."""
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    backends.close()
    loop, chosen = asyncio.new_event_loop(), find_port()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(otlp_grpc.start("127.0.0.1", chosen), loop).result(30)
    yield chosen
    asyncio.run_coroutine_threadsafe(server.stop(1), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    backends.close()


@pytest.fixture
def channel(port: int) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened


def read(store) -> list[tuple]:
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(select(retrievals.c.query, retrievals.c.score))]


def test_the_stock_exporter_needs_no_code_of_ours(store, port):
    provider = TracerProvider()
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{port}", insecure=True, compression=grpc.Compression.Gzip)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("test").start_span("retrieve", attributes=RETRIEVER | flat(HIT)).end()
    provider.shutdown()
    assert read(store) == [("what is an mbuf", 0.5)]


def test_refused_spans_are_named_in_a_partial_success(store, channel):
    request = build(RETRIEVER | flat(HIT), {"openinference.span.kind": "RETRIEVER"})
    answer = trace_service_pb2_grpc.TraceServiceStub(channel).Export(request, timeout=30)
    assert answer.partial_success.rejected_spans == 1
    assert answer.partial_success.error_message.startswith("retrieval span 1: no_query")


def test_logs_and_metrics_are_answered_with_an_empty_success(channel):
    logs = logs_service_pb2_grpc.LogsServiceStub(channel)
    assert logs.Export(logs_service_pb2.ExportLogsServiceRequest(), timeout=30).ByteSize() == 0
    metrics = metrics_service_pb2_grpc.MetricsServiceStub(channel)
    assert metrics.Export(metrics_service_pb2.ExportMetricsServiceRequest(), timeout=30).ByteSize() == 0


def test_a_call_needs_a_token_like_a_request(store, url, channel, monkeypatch):
    monkeypatch.setenv("QUARTERDECK_REQUIRE_TOKENS", "on")
    backends.close()
    traces = trace_service_pb2_grpc.TraceServiceStub(channel)
    for metadata in ((), (("authorization", "Bearer wrong"),)):
        with pytest.raises(grpc.RpcError) as refused:
            traces.Export(build(RETRIEVER), metadata=metadata, timeout=30)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert read(store) == []
    assert wait_until(lambda: list_counts(store) == [IntakeCount("otlp", 0, 2, {"token": 2})])


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT), (b"\x00" * 10_000_001, grpc.StatusCode.RESOURCE_EXHAUSTED)],
)
def test_what_cannot_be_read_is_refused(channel, body, code):
    call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with pytest.raises(grpc.RpcError) as refused:
            call(body, timeout=30, compression=compression)
        assert refused.value.code() is code


def test_other_services_are_not_there(channel):
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/quarterdeck.Store/Drop")(b"", timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_empty_request_is_taken(channel):
    empty = trace_service_pb2.ExportTraceServiceRequest()
    assert trace_service_pb2_grpc.TraceServiceStub(channel).Export(empty, timeout=30).ByteSize() == 0


def test_it_is_off_when_told_or_when_its_port_is_taken(port, caplog):
    caplog.set_level(logging.INFO, "quarterdeck")
    assert asyncio.run(otlp_grpc.start("127.0.0.1", 0)) is None
    assert asyncio.run(otlp_grpc.start("127.0.0.1", port)) is None
    assert [(each.levelname, "is taken" in each.message) for each in caplog.records] == [("ERROR", True)]
