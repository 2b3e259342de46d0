"""Gateway to MLflow's traces: which hold retriever spans, and the questions in them. It never migrates a database.

`importing.py` stores them and remembers which came in.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from core.errors import InvalidInput, NotFound, SourceUnavailable
from core.intake.judgements import read_assessments
from core.intake.questions import ASKED, Question, Refused, assemble
from core.intake.spans import ChoicesOf, Span, SpanChoices, read_span
from core.tracking.addresses import describe
from core.tracking.client import TrackingHttpReader, check_writable, open_client, translated_errors
from core.tracking.sql import TrackingSqlReader
from quarterdeck.clock import DAY_MS, from_ms
from quarterdeck.redaction import Redactor, compose
from quarterdeck.retrieval import Retrieval

LOOK_BACK_MS = 7 * DAY_MS  # how long a tracking server is asked for late assessments of a trace
_PAGE = 500
_RETRIEVERS = "span.type = 'RETRIEVER'"


@dataclass(frozen=True, slots=True)
class Trace:
    """One finished trace: its id and start, its questions and refused searches, and assessments, not redacted yet."""

    trace_id: str
    started: datetime
    spans: tuple[Question | Refused, ...]
    assessments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class ListedTrace:
    """A finished trace by its id, and when it was last assessed, in milliseconds; 0 for never."""

    trace_id: str
    assessed_ms: int


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

    def list_traces(
        self, experiment_id: str, *, since_ms: int | None, before_ms: int | None = None
    ) -> Iterator[list[ListedTrace]]:
        """Yield the finished traces with a retriever span that started in a time, oldest first, page by page."""
        client, token = self._connect(), None
        where = _RETRIEVERS if since_ms is None else f"{_RETRIEVERS} AND trace.timestamp_ms >= {since_ms}"
        where = where if before_ms is None else f"{where} AND trace.timestamp_ms < {before_ms}"
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
                yield [_list(trace.info) for trace in page if trace.info.state.value != "IN_PROGRESS"]
                token = page.token
                if not token:
                    return

    @property
    def is_server(self) -> bool:
        """Whether it is a tracking server, which cannot be asked for traces by the time of their assessments."""
        return self.uri.startswith(("http://", "https://"))

    def list_assessed(self, experiment_id: str, *, since_ms: int, before_ms: int) -> Iterator[list[ListedTrace]]:
        """Yield the traces that started before a time and were assessed after another, page by page.

        Of a tracking server, all that started in the seven days before `before_ms` are listed.
        """
        if self.is_server:
            for page in self.list_traces(experiment_id, since_ms=before_ms - LOOK_BACK_MS, before_ms=before_ms):
                yield [each for each in page if each.assessed_ms > since_ms]
            return
        self._connect()
        reader = TrackingSqlReader(self.uri)
        found = reader.list_newly_assessed(experiment_id, since_ms=since_ms, before_ms=before_ms)
        for start in range(0, len(found), _PAGE):
            yield [ListedTrace(*each) for each in found[start : start + _PAGE]]

    def read_traces(
        self, trace_ids: Sequence[str], choices_of: ChoicesOf = lambda _scope: SpanChoices()
    ) -> tuple[Trace, ...]:
        """Return these traces with their retriever spans, as their services chose. Raises SourceUnavailable."""
        client = self._connect()
        with translated_errors(self.uri):
            found = (client.get_trace(trace_id, display=False) for trace_id in trace_ids)
            return tuple(_trace(trace, choices_of) for trace in found)

    def _connect(self) -> Any:
        if self._client is None:
            if self.is_server:
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


def parse_span(trace: Trace, span: Question | Refused, *, redact: Redactor) -> Retrieval:
    """Return the redacted retrieval of a question. Raises InvalidInput for a refused search, with its trace."""
    if isinstance(span, Refused):
        where = f"(span {span.note.name} of trace {trace.trace_id})"
        raise InvalidInput(span.error.field, f"{span.error.problem} {where}")
    found = span.retrieval
    attributes = dict(found.attributes or {})
    if ASKED in attributes:
        attributes[ASKED] = redact(attributes[ASKED])
    error = redact(found.error) if isinstance(found.error, str) else found.error
    return replace(found, query=redact(found.query), attributes=attributes or None, error=error)


def _trace(trace: Any, choices_of: ChoicesOf) -> Trace:
    notes = {**(trace.info.tags or {}), **(trace.info.trace_metadata or {})}
    name = trace.info.trace_id.removeprefix("tr-")  # as OpenTelemetry has it, for traces that come by OTLP as well
    read = [read_span(_span(span, name, notes), redact=compose(), choices_of=choices_of) for span in trace.data.spans]
    found = assemble(name, read)
    spans: tuple[Question | Refused, ...] = (*found.questions, *found.refused)
    return Trace(trace.info.trace_id, from_ms(trace.info.request_time), spans, tuple(trace.info.assessments or ()))


def _list(info: Any) -> ListedTrace:
    times = (each.last_update_time_ms or each.create_time_ms or 0 for each in info.assessments or ())
    return ListedTrace(info.trace_id, max(times, default=0))


def judge_trace(trace: Trace, *, redact: Redactor) -> tuple[list[dict[str, Any]], list[InvalidInput]]:
    """Return the scores that a trace's assessments give to its questions, as the store takes them, and what is wrong.

    An assessment of a span is about the question that the span searched for, any other about the first one.
    """
    questions = [span for span in trace.spans if isinstance(span, Question)]
    places = {span_id: question for question in questions for span_id in question.span_ids}
    rows: list[dict[str, Any]] = []
    wrong: list[InvalidInput] = []
    for assessment in trace.assessments if questions else ():
        row = places.get(getattr(assessment, "span_id", None) or "", questions[0]).retrieval
        found, refused = read_assessments([assessment], row.name, redact=redact)
        rows += [{**score._asdict(), **row.scope._asdict()} for score in found]
        wrong += refused
    return rows, wrong


def _span(span: Any, trace_id: str, notes: Mapping[str, Any]) -> Span:
    attributes = {
        **span.attributes, "mlflow.spanType": span.span_type, "mlflow.spanInputs": span.inputs,
        "mlflow.spanOutputs": span.outputs,
    }  # fmt: skip
    events = [(event.name, event.attributes or {}) for event in span.events or ()]
    return Span(
        trace_id, span.span_id, span.parent_id or "", span.name, "mlflow", span.start_time_ns, span.end_time_ns or 0,
        str(span.status.status_code).endswith("ERROR"), span.status.description or "", attributes, events, notes,
    )  # fmt: skip
