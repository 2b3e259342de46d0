"""Rule: reads retrievals from an OTLP trace request (OpenInference, GenAI, MLflow spans) and renders the answer.

Bytes in, retrievals and refused spans out. Spans of other kinds are accepted and ignored.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from core.errors import InvalidInput
from core.intake.rows import Parsed, RefusedRow, parse_record, parse_rows
from core.intake.spans import find_fields, find_query, find_top_score, parse_json
from core.safety.letters import parse_json as read_json
from core.safety.letters import show_text
from quarterdeck.clock import from_ms
from quarterdeck.redaction import Redactor
from quarterdeck.retrieval import LATEST, Retrieval

PROTOBUF, JSON = "application/x-protobuf", "application/json"

_SHOWN = 5
_HIDDEN = "__REDACTED__"  # OpenInference's value for inputs or outputs that an application hides
_STATUS_ERROR = 2
_FLAT = re.compile(r"retrieval\.documents\.(\d{1,6})\.document\.(\w+)")

# The attribute with a span's kind, and its value for a retrieval.
_KINDS = {
    "openinference.span.kind": "RETRIEVER",
    "gen_ai.operation.name": "RETRIEVAL",
    "mlflow.spanType": "RETRIEVER",
}
_QUERIES = ("gen_ai.retrieval.query.text", "gen_ai.retrieval.query", "input.value", "mlflow.spanInputs")
_SESSIONS = ("session.id", "gen_ai.conversation.id", "user.id", "enduser.id")
_PROMPT_VERSIONS = ("gen_ai.prompt.version", "llm.prompt_template.version")
_DOCUMENTS = ("gen_ai.retrieval.documents", "mlflow.spanOutputs")


def parse_request(body: bytes, content_type: str, *, redact: Redactor) -> Parsed:
    """Return the retrievals of a request, and its invalid retriever spans, numbered from 0.

    Raises InvalidInput when the body is not an ExportTraceServiceRequest in that encoding.
    """
    request = _decode(body, content_type)
    return parse_rows(_list_retrievals(request), partial(_parse_span, redact=redact))


def render_response(refused: Sequence[RefusedRow], content_type: str) -> bytes:
    """Return the ExportTraceServiceResponse in the request's encoding: a partial success if spans were refused."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    response = ExportTraceServiceResponse()
    if refused:
        response.partial_success.rejected_spans = len(refused)
        response.partial_success.error_message = describe_refused(refused)
    return _encode(response, content_type)


def render_failure(message: str, content_type: str) -> bytes:
    """Return the Status message that OTLP requires in the body of a failed request."""
    message = show_text(message)
    if content_type == JSON:
        return json.dumps({"message": message}, ensure_ascii=False).encode()
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess

    # On the wire a google.rpc.Status (number 1, text 2) is the same as this, so its package is not required.
    return bytes(ExportTracePartialSuccess(error_message=message).SerializeToString())


def describe_refused(refused: Sequence[RefusedRow]) -> str:
    """Return one line about the refused spans; it names the first five."""
    first = "; ".join(f"retrieval span {each.row}: {each.field}: {each.problem}" for each in refused[:_SHOWN])
    return show_text(first) + (f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else "")


def _decode(body: bytes, content_type: str) -> Any:
    from google.protobuf.json_format import ParseDict, ParseError  # type: ignore[import-untyped]
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        if content_type == PROTOBUF:
            return ExportTraceServiceRequest.FromString(body)
        document = _with_base64_ids(read_json(body))
        return ParseDict(document, ExportTraceServiceRequest(), ignore_unknown_fields=True)
    # protobuf's JSON parser lets non-objects, and names with lone surrogates, end in Python errors
    except (DecodeError, ParseError, ValueError, RecursionError, TypeError, AttributeError, SystemError) as error:
        problem = show_text((str(error).splitlines() or ["unreadable"])[0])
        raise InvalidInput("body", f"is not an OTLP trace request in {content_type}: {problem[:200]}") from error


def _with_base64_ids(value: Any) -> Any:
    """OTLP writes ids in JSON as hex, while protobuf's own JSON uses base64."""
    if isinstance(value, list):
        return [_with_base64_ids(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _hex_to_base64(item) if key in ("traceId", "spanId", "parentSpanId") else _with_base64_ids(item)
        for key, item in value.items()
    }


def _hex_to_base64(text: Any) -> str:
    try:
        return base64.b64encode(bytes.fromhex(text)).decode()
    except (TypeError, ValueError, binascii.Error) as error:
        raise ValueError(f"an id must be hex, not {text!r}") from error


def _encode(response: Any, content_type: str) -> bytes:
    if content_type == PROTOBUF:
        return bytes(response.SerializeToString())
    from google.protobuf.json_format import MessageToJson

    return str(MessageToJson(response, indent=None)).encode()


def _list_retrievals(request: Any) -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """Yield each retrieval span, with its own attributes and its resource's."""
    for of_resource in request.resource_spans:
        resource = _plain(of_resource.resource.attributes)
        for scope in of_resource.scope_spans:
            for span in scope.spans:
                attributes = _plain(span.attributes)
                if any(_kind(attributes.get(name)) == kind for name, kind in _KINDS.items()):
                    yield span, attributes, resource


def _kind(value: Any) -> str:
    return str(value or "").strip('"').upper()


def _plain(attributes: Iterable[Any]) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _plain(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


def _parse_span(found: Any, *, redact: Redactor) -> Retrieval:
    span, attributes, resource = found
    for event in span.events:
        attributes = {**_plain(event.attributes), **attributes}
    metadata = parse_json(attributes.get("metadata"))
    sources = (attributes, metadata if isinstance(metadata, Mapping) else {}, resource)
    record: dict[str, Any] = {
        "query": _find_query(attributes),
        "score": find_top_score(_find_documents(span, attributes)),
        "session_id": _first_text(_SESSIONS, *sources),
        "prompt_version": _first_text(_PROMPT_VERSIONS, *sources),
        **find_fields(*sources),
    }
    if span.end_time_unix_nano >= span.start_time_unix_nano:
        record["latency_ms"] = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
    return parse_record(record, read_time=lambda _none: _start(span), redact=redact)


def _start(span: Any) -> Any:
    if not 0 < span.start_time_unix_nano < int(LATEST.timestamp()) * 10**9:
        raise InvalidInput("ts", "the span has no start time between 1970 and 2100")
    return from_ms(span.start_time_unix_nano // 1_000_000)


def _find_query(attributes: Mapping[str, Any]) -> str:
    for name in _QUERIES:
        value = attributes.get(name)
        if value == _HIDDEN:
            raise InvalidInput("query", f"{name} is hidden by the application's own setting")
        if value is not None:
            is_json = name == "mlflow.spanInputs" or attributes.get("input.mime_type") == JSON
            return find_query(parse_json(value) if is_json else value)
    raise InvalidInput("query", f"the span has none of {', '.join(_QUERIES)}")


def _find_documents(span: Any, attributes: Mapping[str, Any]) -> Any:
    for name in _DOCUMENTS:
        if attributes.get(name) is not None:
            return parse_json(attributes[name])
    flat: dict[str, dict[str, Any]] = {}
    for key, value in attributes.items():
        if match := _FLAT.fullmatch(key):
            flat.setdefault(match[1], {})[match[2]] = value
    if flat:
        return list(flat.values())
    if span.status.code == _STATUS_ERROR:
        raise InvalidInput("documents", "the retrieval failed, so there are none")
    if _kind(attributes.get("openinference.span.kind")) != "RETRIEVER" or attributes.get("output.value") == _HIDDEN:
        raise InvalidInput("documents", "the span has none; enable content capture in the instrumentation")
    return []  # OpenInference writes one attribute per document, and none for an empty list


def _first_text(names: Sequence[str], *sources: Mapping[str, Any]) -> str | None:
    for name in names:
        for source in sources:
            if source.get(name) not in (None, ""):
                return str(source[name])
    return None
