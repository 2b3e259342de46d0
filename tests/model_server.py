"""A server that speaks the OpenAI and the Anthropic protocol, and fails in the ways that real ones do."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.http_stand_in import QuietHandler, serving


class Fault(StrEnum):
    """What goes wrong with one reply."""

    NONE = "none"
    MALFORMED = "malformed JSON in the stream"
    CUT = "the connection breaks in the middle of the stream"
    ENDS_EARLY = "the stream ends without its last event"
    EMPTY = "an answer without a word"
    NO_USAGE = "no token counts"
    HANG = "no answer in time"
    ERROR_EVENT = "an error inside the stream"
    FILTERED = "stopped by a content filter"


@dataclass(frozen=True)
class Reply:
    """One reply: its text and token counts, or a status, or a fault."""

    text: str = "It is 128 bytes."
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    fault: Fault = Fault.NONE
    message: str = "try later"
    input_tokens: int = 1_000
    output_tokens: int = 100


@dataclass
class ModelServer:
    """Gives the scripted replies in order, then what `answer` makes of the request's text."""

    script: list[Reply] = field(default_factory=list)
    answer: Callable[[str], Reply] = lambda _text: Reply()
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def base_url(self, protocol: str) -> str:
        return f"{self.url}/v1" if protocol == "openai" else self.url

    def take(self, body: dict[str, Any]) -> Reply:
        with self.lock:
            self.requests.append(body)
            if self.script:
                return self.script.pop(0)
        return self.answer(body["messages"][0]["content"])


@contextmanager
def serve_models() -> Iterator[ModelServer]:
    """Serve on a free port of this machine."""
    server = ModelServer()
    with serving(_Handler, models=server) as server.url:
        yield server


class _Handler(QuietHandler):
    models: ModelServer

    def post(self) -> None:
        reply = self.models.take(self.read_json())
        if reply.fault is Fault.HANG:
            time.sleep(1.0)
            return
        if reply.status != 200:
            self._send_error(reply)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        # A length that is never reached makes a stream that stops early a broken one.
        if reply.fault is Fault.CUT:
            self.send_header("Content-Length", "100000")
        self.end_headers()
        for event in (_chat_events if self.path == "/v1/chat/completions" else _message_events)(reply):
            self.wfile.write(event.encode())

    def _send_error(self, reply: Reply) -> None:
        content = json.dumps({"type": "error", "error": {"type": "test", "message": reply.message}}).encode()
        self.send(reply.status, content, {"Content-Type": "application/json", **reply.headers})


def _chat_events(reply: Reply) -> Iterator[str]:
    def chunk(**values: Any) -> str:
        common = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return f"data: {json.dumps(common | {'choices': []} | values)}\n\n"

    for part in _halves(reply):
        yield chunk(choices=[{"index": 0, "delta": {"content": part}, "finish_reason": None}])
        if reply.fault is Fault.MALFORMED:
            yield "data: {not json\n\n"
        if reply.fault is Fault.ERROR_EVENT:
            yield f"data: {json.dumps({'error': {'type': 'server_error', 'message': reply.message}})}\n\n"
        if reply.fault in (Fault.CUT, Fault.ENDS_EARLY):
            return
    finish = "content_filter" if reply.fault is Fault.FILTERED else "stop"
    yield chunk(choices=[{"index": 0, "delta": {}, "finish_reason": finish}])
    if reply.fault is not Fault.NO_USAGE:
        total = reply.input_tokens + reply.output_tokens
        yield chunk(
            usage={
                "prompt_tokens": reply.input_tokens, "completion_tokens": reply.output_tokens, "total_tokens": total
            }
        )  # fmt: skip
    yield "data: [DONE]\n\n"


def _message_events(reply: Reply) -> Iterator[str]:
    def event(kind: str, **values: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind} | values)}\n\n"

    start = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
    usage = {} if reply.fault is Fault.NO_USAGE else {"input_tokens": reply.input_tokens, "output_tokens": 1}
    yield event("message_start", message={**start, "usage": usage})
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for part in _halves(reply):
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": part})
        if reply.fault is Fault.MALFORMED:
            yield "event: content_block_delta\ndata: {not json\n\n"
        if reply.fault is Fault.ERROR_EVENT:
            yield event("error", error={"type": "overloaded_error", "message": reply.message})
        if reply.fault in (Fault.CUT, Fault.ENDS_EARLY):
            return
    yield event("content_block_stop", index=0)
    stop = "refusal" if reply.fault is Fault.FILTERED else "end_turn"
    counted = {} if reply.fault is Fault.NO_USAGE else {"output_tokens": reply.output_tokens}
    yield event("message_delta", delta={"stop_reason": stop}, usage=counted)
    yield event("message_stop")


def _halves(reply: Reply) -> tuple[str, str]:
    text = "" if reply.fault is Fault.EMPTY else reply.text
    return text[: len(text) // 2], text[len(text) // 2 :]
