"""Rule: reads an OTLP trace request, as protobuf or JSON, and renders the answers.

Bytes in, spans out. What a span says is read in `spans.py`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.errors import InvalidInput
from core.intake.names import RETRIEVER, STORE
from core.intake.notes import SpanNote
from core.intake.questions import Assembled, assemble
from core.intake.rows import Parsed, RefusedRow
from core.intake.spans import Span, read_span
from core.safety.letters import parse_json as read_json
from core.safety.letters import show_text
from quarterdeck.redaction import Redactor

PROTOBUF, JSON = "application/x-protobuf", "application/json"

_SHOWN = 5
_STATUS_ERROR = 2
_LONGEST_ID = 64
_DEEPEST = 20
_OTHER_SIGNALS = {"resourceLogs": "logs", "resourceMetrics": "metrics"}
_NEVER_READ = ("embedding.embeddings.", "llm.tools.", "llm.input_messages.", "gen_ai.tool.definitions")
_READ_OF_THOSE = ("embedding.embeddings.0.embedding.text",)
_NUMBERS: Mapping[str, type[int] | type[float]] = {"intValue": int, "doubleValue": float}


def read_request(body: bytes, content_type: str) -> list[Span]:
    """Return the spans of a request.

    Raises InvalidInput when the body is not an ExportTraceServiceRequest in that encoding.
    """
    try:
        return _read_protobuf(body) if content_type == PROTOBUF else _read_json(body)
    except (ValueError, RecursionError, TypeError, AttributeError, KeyError, SystemError) as error:
        said = error.problem if isinstance(error, InvalidInput) else str(error)
        if isinstance(error, RecursionError | SystemError):
            said = "it is nested too deeply"
        problem = show_text((said.splitlines() or ["unreadable"])[0])
        raise InvalidInput("body", f"is not an OTLP trace request in {content_type}: {problem[:200]}") from error


def parse_request(body: bytes, content_type: str, *, redact: Redactor) -> Parsed:
    """Return the questions of a request, as if no other span of its traces came, and its refused retriever spans.

    Those are numbered from 0 among the retriever spans. Raises InvalidInput as `read_request` does.
    """
    traces: dict[str, list[SpanNote]] = {}
    places: dict[tuple[str, str], int] = {}
    for span in read_request(body, content_type):
        note = read_span(span, redact=redact)
        traces.setdefault(span.trace_id, []).append(note)
        if note.role in (RETRIEVER, STORE):
            places[span.trace_id, span.span_id] = len(places)
    found: list[tuple[str, Assembled]] = [(trace_id, assemble(trace_id, notes)) for trace_id, notes in traces.items()]
    refused = [
        RefusedRow(places[trace_id, each.note.span_id], each.error.field, each.error.problem)
        for trace_id, assembled in found
        for each in assembled.refused
    ]
    questions = tuple(question.retrieval for _, assembled in found for question in assembled.questions)
    return Parsed(questions, tuple(sorted(refused, key=lambda each: each.row)))


def render_response(refused: Sequence[RefusedRow], content_type: str) -> bytes:
    """Return the ExportTraceServiceResponse in the request's encoding: a partial success if spans were refused."""
    if content_type == JSON:
        said = {"rejectedSpans": str(len(refused)), "errorMessage": describe_refused(refused)}
        return json.dumps({"partialSuccess": said} if refused else {}, ensure_ascii=False).encode()
    if not refused:
        return b""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = len(refused)
    response.partial_success.error_message = describe_refused(refused)
    return bytes(response.SerializeToString())


def render_empty(content_type: str) -> bytes:
    """Return the answer that says that everything is well: of traces, logs and metrics alike."""
    return b"{}" if content_type == JSON else b""


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


def _read_protobuf(body: bytes) -> list[Span]:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    spans = []
    for of_resource in request.resource_spans:
        resource = _plain(of_resource.resource.attributes)
        for scope in of_resource.scope_spans:
            library = scope.scope.name
            for span in scope.spans:
                failed = span.status.code == _STATUS_ERROR
                events = [(event.name, _plain(event.attributes)) for event in span.events] if span.events else ()
                spans.append(
                    Span(
                        _check_id(span.trace_id.hex()), _check_id(span.span_id.hex()), span.parent_span_id.hex(),
                        span.name, library, span.start_time_unix_nano, span.end_time_unix_nano, failed,
                        span.status.message if failed else "", _plain(span.attributes), events, resource,
                    )
                )  # fmt: skip
    if spans and not any(span.start_ns or (span.trace_id and span.name) for span in spans):
        raise ValueError("it holds no span with a time; logs and metrics, which are not stored, have their own paths")
    return spans


def _plain(attributes: Iterable[Any]) -> dict[str, Any]:
    return {
        key: _value(each.value)
        for each in attributes
        if not (key := each.key).startswith(_NEVER_READ) or key in _READ_OF_THOSE
    }


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _plain(value.kvlist_value.values)
    found = getattr(value, kind) if kind else None
    return found.decode(errors="replace") if isinstance(found, bytes) else found


def _read_json(body: bytes) -> list[Span]:
    request, spans = read_json(body), list[Span]()
    if isinstance(request, dict) and "resourceSpans" not in request:
        for name in _OTHER_SIGNALS.keys() & request.keys():
            signal = _OTHER_SIGNALS[name]
            raise ValueError(f"it holds {name} and no resourceSpans; {signal} are not stored, send traces here")
    for of_resource in _list(request, "resourceSpans"):
        resource = _plain_json(_list(_object(of_resource, "resource"), "attributes"))
        for scope in _list(of_resource, "scopeSpans"):
            library = _text(_object(scope, "scope").get("name"))
            spans += [_span_of_json(span, library, resource) for span in _list(scope, "spans")]
    return spans


def _span_of_json(span: Any, library: str, resource: Mapping[str, Any]) -> Span:
    status = _object(span, "status")
    failed = status.get("code") in (_STATUS_ERROR, "STATUS_CODE_ERROR")
    return Span(
        _check_id(_hex(span.get("traceId"))), _check_id(_hex(span.get("spanId"))), _hex(span.get("parentSpanId")),
        _text(span.get("name")), library, _nanoseconds(span, "startTimeUnixNano"),
        _nanoseconds(span, "endTimeUnixNano"), failed, _text(status.get("message")) if failed else "",
        _plain_json(_list(span, "attributes")),
        [(_text(event.get("name")), _plain_json(_list(event, "attributes"))) for event in _list(span, "events")],
        resource,
    )  # fmt: skip


def _list(value: Any, name: str) -> list[Any]:
    """Return the list of objects under a name. Raises ValueError, naming it."""
    found = value.get(name) if isinstance(value, dict) else value
    if found is None and isinstance(value, dict):
        return []
    if not isinstance(found, list) or not isinstance(value, dict):
        raise ValueError(f"{name} must be a list in an object")
    if wrong := [each for each in found if not isinstance(each, dict)]:
        raise ValueError(f"{name} must be a list of objects, and one is {type(wrong[0]).__name__}")
    return found


def _object(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{name} must be an object, not {type(found).__name__}")
    return found or {}


def _plain_json(attributes: list[Any], depth: int = _DEEPEST) -> dict[str, Any]:
    plain = {}
    for each in attributes:
        key = each.get("key")
        if not isinstance(key, str):
            raise ValueError("the key of an attribute must be text")
        if not key.startswith(_NEVER_READ) or key in _READ_OF_THOSE:
            plain[key] = _value_of_json(each.get("value"), depth)
    return plain


def _value_of_json(value: Any, depth: int) -> Any:
    if not isinstance(value, dict) or not value or not depth:
        return None
    kind, found = next(iter(value.items()))
    if kind in _NUMBERS:
        return _number(kind, found)
    if kind == "arrayValue":
        items = found.get("values") if isinstance(found, dict) else None
        return [_value_of_json(each, depth - 1) for each in items] if isinstance(items, list) else []
    if kind == "kvlistValue":
        return _plain_json(_list(found, "values"), depth - 1)
    return found


def _hex(text: Any) -> str:
    """Return an id in lower case. OTLP writes ids in JSON as hex; protobuf's own JSON would be base64."""
    if text in (None, ""):
        return ""
    try:
        return bytes.fromhex(text).hex()
    except (TypeError, ValueError) as error:
        raise ValueError(f"an id must be hex, not {text!r}") from error


def _check_id(text: str) -> str:
    if len(text) > _LONGEST_ID:
        raise ValueError("an id is too long")
    return text


def _nanoseconds(span: Mapping[str, Any], name: str) -> int:
    number = int(_number(name, span.get(name) or 0))
    if not 0 <= number < 2**64:
        raise ValueError(f"{name} must be nanoseconds since 1970, not {number}")
    return number


def _number(name: str, value: Any) -> float | int:
    """Return the number under a name, which may be written as text. Raises ValueError, naming it."""
    try:
        return _NUMBERS.get(name, int)(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be a number, not {str(value)[:40]!r}") from error


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError("a name must be text")
    return value or ""
