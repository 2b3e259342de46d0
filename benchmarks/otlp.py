"""How many spans per second does the deck take over OTLP: parsed, read, and their questions stored?

Run: `python -m benchmarks.otlp [--spans 20000] [--url URL]`. Each trace has the seven spans of a LangChain question as
OpenInference writes them: a root, a retriever with three documents, prompts, a model with its tokens. Requests have 511
spans, as the SDK's batches do, so that some traces are split between two. No HTTP; one process, one store.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from core.intake import otlp
from core.intake.open_traces import take_spans
from core.intake.spans import read_span
from quarterdeck.redaction import redact
from quarterdeck.scope import make_scope
from quarterdeck.store import Store

SPANS_A_REQUEST = 511
START_NS = 1_795_000_000_000_000_000
_TEXT = "A ring is a lockless FIFO queue of pointers; it is resized by creating another one. " * 3


def make_requests(spans: int) -> Iterator[bytes]:
    """Yield requests in protobuf with about this many spans in all."""
    waiting: list[Span] = []
    for number in range(spans // 7):
        waiting += _make_trace(number)
        while len(waiting) >= SPANS_A_REQUEST:
            yield _make_request(waiting[:SPANS_A_REQUEST])
            waiting = waiting[SPANS_A_REQUEST:]
    if waiting:
        yield _make_request(waiting)


def as_json(request: bytes) -> bytes:
    """Return a request in OTLP's JSON."""
    parsed = ExportTraceServiceRequest.FromString(request)
    spans = [
        {
            "traceId": span.trace_id.hex(), "spanId": span.span_id.hex(), "parentSpanId": span.parent_span_id.hex(),
            "name": span.name, "startTimeUnixNano": str(span.start_time_unix_nano),
            "endTimeUnixNano": str(span.end_time_unix_nano),
            "attributes": [_attribute_as_json(each) for each in span.attributes],
        }
        for span in parsed.resource_spans[0].scope_spans[0].spans
    ]  # fmt: skip
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


def measure(requests: list[bytes], content_type: str, url: str) -> tuple[float, float]:
    """Return the seconds that it takes to store all requests, by the clock and of this process's processor time."""
    store = Store(url, create=True)
    with store.begin():
        pass
    cached = lru_cache(1_024)(redact)
    began, busy = time.perf_counter(), time.process_time()
    for number, body in enumerate(requests):
        read = partial(read_span, redact=cached, scope_of=lru_cache(64)(make_scope))
        notes = [(span.trace_id, read(span)) for span in otlp.read_request(body, content_type)]
        take_spans(store, notes, now_ms=START_NS // 1_000_000 + number)
    took = time.perf_counter() - began, time.process_time() - busy
    store.close()
    return took


def _make_trace(number: int) -> list[Span]:
    question = f"how do I resize ring {number % 997}"
    chain = {"openinference.span.kind": "CHAIN", "input.value": question, "session.id": f"s-{number % 300}"}
    documents: dict[str, str | float] = {}
    for place in range(3):
        name = f"retrieval.documents.{place}.document"
        metadata = json.dumps({"source": f"d{(number + place) % 500}.md", "score": 0.8 - place / 10})
        documents |= {f"{name}.content": _TEXT, f"{name}.metadata": metadata}
    retriever = {**chain, "openinference.span.kind": "RETRIEVER", "output.value": _TEXT * 3, **documents}
    prompt = {**chain, "openinference.span.kind": "PROMPT", "input.mime_type": "application/json",
              "input.value": json.dumps({"context": [_TEXT] * 3, "question": question})}  # fmt: skip
    model = {"openinference.span.kind": "LLM", "llm.token_count.total": 120, "output.value": _TEXT,
             "llm.input_messages.0.message.content": _TEXT * 3}  # fmt: skip
    parents = (("root", "", chain), ("map", "root", chain), ("retrieve", "map", retriever), ("pass", "map", chain),
               ("prompt", "root", prompt), ("model", "root", model), ("parse", "root", chain))  # fmt: skip
    made = [_make_span(number, name, parent, attributes) for name, parent, attributes in parents]
    return [*made[1:], made[0]]  # the root ends last


def _make_span(number: int, name: str, parent: str, attributes: dict[str, str | float]) -> Span:
    span = Span(
        trace_id=number.to_bytes(16, "big"), span_id=name.encode().ljust(8), name=name,
        parent_span_id=parent.encode().ljust(8) if parent else b"", start_time_unix_nano=START_NS + number * 1_000_000,
        end_time_unix_nano=START_NS + number * 1_000_000 + 900_000,
    )  # fmt: skip
    for key, value in attributes.items():
        kept = span.attributes.add(key=key).value
        if isinstance(value, str):
            kept.string_value = value
        else:
            kept.double_value = value
    return span


def _make_request(spans: list[Span]) -> bytes:
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.add(key="service.name").value.string_value = "answers"
    of_resource.scope_spans.add().spans.extend(spans)
    return bytes(request.SerializeToString())


def _attribute_as_json(attribute: object) -> dict[str, object]:
    value = attribute.value  # type: ignore[attr-defined]
    kind = value.WhichOneof("value")
    named = {"string_value": "stringValue", "double_value": "doubleValue"}[kind]
    return {"key": attribute.key, "value": {named: getattr(value, kind)}}  # type: ignore[attr-defined]


def main() -> None:
    """Measure both encodings and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--url", help="a store to write into; by default a new SQLite file for each encoding")
    arguments = parser.parse_args()
    requests = list(make_requests(arguments.spans))
    total = arguments.spans // 7 * 7
    for content_type, bodies in ((otlp.PROTOBUF, requests), (otlp.JSON, [as_json(each) for each in requests])):
        with tempfile.TemporaryDirectory() as folder:
            url = arguments.url or f"sqlite:///{Path(folder) / 'deck.db'}"
            took, busy = measure(bodies, content_type, url)
        size = sum(map(len, bodies)) / total
        print(f"{content_type}: {total / took:,.0f} spans/s, {total / busy:,.0f} per second of a core")
        print(f"  {total:,} spans of {size:,.0f} bytes in {took:.1f} s")


if __name__ == "__main__":
    main()
