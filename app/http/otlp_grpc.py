"""OTLP over gRPC, in the server's own process: the same reading and the same answers as over HTTP.

It needs grpcio (`pip install 'quarterdeck-deck[grpc]'`). Without a setting it listens on 4317 if that can be had.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from anyio import to_thread

from app.http.backends import identify_headers
from app.http.bodies import MAX_BODY_BYTES
from app.http.otlp_api import ignore_signal, store_spans
from app.http.records import count_request
from app.http.refusals import status_of
from core.access.scopes import TokenScope
from core.errors import QuarterdeckError
from core.intake import otlp
from core.intake.open_traces import SOURCE
from core.safety.letters import show_text

DEFAULT_PORT = 4317
MOST_AT_ONCE = 32

_PACKAGE = "/opentelemetry.proto.collector"
_TRACES = f"{_PACKAGE}.trace.v1.TraceService/Export"
_IGNORED = {
    f"{_PACKAGE}.logs.v1.LogsService/Export": "logs",
    f"{_PACKAGE}.metrics.v1.MetricsService/Export": "metrics",
}
logger = logging.getLogger("quarterdeck")


async def start(host: str, port: int | None) -> Any:
    """Start to listen and return the server; None if that is off, or not set and cannot be done.

    `port` is the operator's, 0 for off, None for the default. A port that was set and is taken is logged as an error.
    """
    if port == 0:
        return None
    try:
        import grpc
    except ImportError:
        if port:
            logger.error("OTLP over gRPC needs grpcio: pip install 'quarterdeck-deck[grpc]'")
        return None
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MAX_BODY_BYTES)]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MOST_AT_ONCE)
    server.add_generic_rpc_handlers((_make_handlers(grpc),))
    address = f"[{host}]:{port or DEFAULT_PORT}" if ":" in host else f"{host}:{port or DEFAULT_PORT}"
    try:
        server.add_insecure_port(address)
    except RuntimeError:
        logger.log(logging.ERROR if port else logging.INFO, "OTLP over gRPC is off: %s is taken", address)
        await server.stop(None)
        return None
    await server.start()
    return server


def _make_handlers(grpc: Any) -> Any:
    class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
        """Finds who answers a call, by its path."""

        def service(self, call: Any) -> Any:
            if call.method == _TRACES:
                return grpc.unary_unary_rpc_method_handler(_answer_with(grpc, _take))
            if signal := _IGNORED.get(call.method):
                return grpc.unary_unary_rpc_method_handler(_answer_with(grpc, partial(_ignore, signal)))
            return None

    return Handlers()


async def _take(body: bytes, token: Any) -> bytes:
    return await to_thread.run_sync(store_spans, body, otlp.PROTOBUF, token)


async def _ignore(signal: str, body: bytes, token: Any) -> bytes:
    return await to_thread.run_sync(ignore_signal, signal, body, otlp.PROTOBUF, token)


def _answer_with(grpc: Any, take: Callable[[bytes, Any], Awaitable[bytes]]) -> Callable[[bytes, Any], Awaitable[bytes]]:
    """Return a handler of one call: it admits the caller, and turns our errors into gRPC's statuses."""
    codes = {
        400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED,
        403: grpc.StatusCode.PERMISSION_DENIED, 429: grpc.StatusCode.RESOURCE_EXHAUSTED,
        503: grpc.StatusCode.UNAVAILABLE,
    }  # fmt: skip

    async def answer(body: bytes, context: Any) -> bytes:
        headers = {key.lower(): value for key, value in context.invocation_metadata() if isinstance(value, str)}
        try:
            try:
                token = await identify_headers(headers, TokenScope.INGEST)
            except QuarterdeckError as error:
                if take is _take:
                    count_request(error, SOURCE, None)
                raise
            return await take(body, token)
        except QuarterdeckError as error:
            code = codes.get(status_of(error), grpc.StatusCode.INTERNAL)
            await context.abort(code, show_text(str(error)))
            raise

    return answer
