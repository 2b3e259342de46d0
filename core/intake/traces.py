"""Gateway to MLflow's traces: which hold retriever spans, and what those say. It never migrates a database.

`importing.py` stores them and remembers which came in.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.errors import InvalidInput, NotFound, SourceUnavailable
from core.intake.rows import parse_record
from core.intake.spans import find_fields, find_query, find_top_score
from core.tracking.addresses import describe
from core.tracking.client import TrackingHttpReader, check_writable, open_client, translated_errors
from core.tracking.sql import TrackingSqlReader
from quarterdeck.clock import from_ms
from quarterdeck.redaction import Redactor
from quarterdeck.retrieval import Retrieval

_PAGE = 500
_RETRIEVERS = "span.type = 'RETRIEVER'"
_SESSIONS = ("mlflow.trace.session", "mlflow.trace.user")


@dataclass(frozen=True, slots=True)
class RetrieverSpan:
    """A span of type RETRIEVER: its inputs, outputs and attributes."""

    name: str
    started: datetime
    latency_ms: float | None
    failed: bool
    inputs: Any
    outputs: Any
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """One finished trace: its id, start, tags and metadata, and its retriever spans."""

    trace_id: str
    started: datetime
    notes: Mapping[str, Any]
    spans: tuple[RetrieverSpan, ...]


class TraceSource:
    """The traces of one MLflow tracking URI, of one experiment or of all."""

    def __init__(self, tracking_uri: str, *, experiment: str | None = None) -> None:
        self.uri = tracking_uri
        self.experiment = experiment
        self._client: Any = None

    def digest(self, experiment_id: str) -> str:
        """Return a fingerprint of an experiment of this source."""
        return hashlib.sha256(f"{describe(self.uri).rstrip('/')}\0{experiment_id}".encode()).hexdigest()[:32]

    def list_experiments(self) -> list[str]:
        """Return the ids of the requested experiments. Raises NotFound and SourceUnavailable."""
        client = self._connect()
        with translated_errors(self.uri):
            return self._find_experiments(client)

    def list_traces(self, experiment_id: str, *, since_ms: int | None) -> Iterator[list[str]]:
        """Yield the ids of the finished traces with a retriever span, oldest first, one page at a time."""
        client = self._connect()
        where = _RETRIEVERS if since_ms is None else f"{_RETRIEVERS} AND trace.timestamp_ms >= {since_ms}"
        token = None
        with translated_errors(self.uri):
            while True:
                page = client.search_traces(
                    locations=[experiment_id],
                    filter_string=where,
                    max_results=_PAGE,
                    order_by=["timestamp_ms ASC"],
                    page_token=token,
                    include_spans=False,
                )
                yield [trace.info.trace_id for trace in page if trace.info.state.value != "IN_PROGRESS"]
                token = page.token
                if not token:
                    return

    def read_traces(self, trace_ids: Sequence[str]) -> tuple[Trace, ...]:
        """Return these traces with their retriever spans. Raises SourceUnavailable."""
        client = self._connect()
        with translated_errors(self.uri):
            return tuple(_trace(client.get_trace(trace_id, display=False)) for trace_id in trace_ids)

    def _connect(self) -> Any:
        if self._client is None:
            if self.uri.startswith(("http://", "https://")):
                TrackingHttpReader(self.uri).list_experiments()  # fails within seconds if nothing answers
            else:
                reader = TrackingSqlReader(self.uri)
                if reader.schema_revision() is None:
                    raise SourceUnavailable(f"There is no MLflow store at {describe(self.uri)}; check the address")
                check_writable(reader)
            self._client = open_client(self.uri)
        return self._client

    def _find_experiments(self, client: Any) -> list[str]:
        if self.experiment is not None:
            found = client.get_experiment_by_name(self.experiment)
            if found is None:
                raise NotFound(f"MLflow: there is no experiment {self.experiment!r}")
            return [found.experiment_id]
        ids, token = [], None
        while True:
            page = client.search_experiments(max_results=1_000, page_token=token)
            ids += [each.experiment_id for each in page]
            token = page.token
            if not token:
                return ids


def parse_span(trace: Trace, span: RetrieverSpan, *, redact: Redactor) -> Retrieval:
    """Return the retrieval described by a span. Raises InvalidInput with the field and the trace."""
    try:
        if span.failed and not span.outputs:
            raise InvalidInput("documents", "the retrieval failed, so there are none")
        if span.outputs is None:
            raise InvalidInput("documents", "the span has no outputs")
        record = {
            "query": find_query(span.inputs),
            "score": find_top_score(span.outputs),
            "session_id": next((str(trace.notes[name]) for name in _SESSIONS if trace.notes.get(name)), None),
            "latency_ms": span.latency_ms,
            **find_fields(span.attributes, trace.notes),
        }
        return parse_record(record, read_time=lambda _none: span.started, redact=redact)
    except InvalidInput as error:
        raise InvalidInput(error.field, f"{error.problem} (span {span.name} of trace {trace.trace_id})") from error


def _trace(trace: Any) -> Trace:
    spans = tuple(_span(span) for span in trace.data.spans if span.span_type == "RETRIEVER")
    notes = {**(trace.info.tags or {}), **(trace.info.trace_metadata or {})}
    return Trace(trace.info.trace_id, from_ms(trace.info.request_time), notes, spans)


def _span(span: Any) -> RetrieverSpan:
    latency_ms = (span.end_time_ns - span.start_time_ns) / 1e6 if span.end_time_ns else None
    return RetrieverSpan(
        name=span.name,
        started=from_ms(span.start_time_ns // 1_000_000),
        latency_ms=latency_ms,
        failed=str(span.status.status_code).endswith("ERROR"),
        inputs=span.inputs,
        outputs=span.outputs,
        attributes=span.attributes,
    )
