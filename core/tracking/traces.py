"""Gateway to the traces of evaluations: those that `mlflow.genai.evaluate` made for a run, with their assessments.

Read by SQL from a database, or with MLflow's client from a server. `tables.py` makes cases of them.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from core.tracking.queries import CHOSEN, Query, list_columns
from core.tracking.tables import AssessedTrace

MOST_TRACES = 20_000  # of one run
_RUN = "mlflow.sourceRun"
_INPUTS, _OUTPUTS, _COST = "mlflow.traceInputs", "mlflow.traceOutputs", "mlflow.trace.cost"
_SCORED_FOR = "mlflow.assessment.sourceRunId"
_CUT = 250  # characters that MLflow keeps of a trace's inputs beside the trace
_CUT_PREVIEW = 1_000
_PAGE = 500

_MADE_BY = "SELECT m.value, m.request_id FROM trace_request_metadata m WHERE m.key = :key AND m.value IN ({chosen})"
_LINKED_TO = """SELECT a.destination_id, a.source_id FROM entity_associations a
WHERE a.source_type = 'trace' AND a.destination_type = 'run' AND a.destination_id IN ({chosen})"""
_NOTES = (
    "SELECT request_id, key, value FROM trace_request_metadata WHERE key IN (:a, :b, :c) AND request_id IN ({chosen})"
)
_ASSESSMENTS = """SELECT trace_id, name, value, assessment_metadata FROM assessments
WHERE valid AND assessment_type = 'feedback' AND trace_id IN ({chosen}) ORDER BY created_timestamp"""
_ROOTS = "SELECT trace_id, content FROM spans WHERE parent_span_id IS NULL AND trace_id IN ({chosen})"


def read_by_sql(query: Query, backend: str, run_ids: Sequence[str]) -> Mapping[str, tuple[AssessedTrace, ...]]:
    """Return the assessed traces of these runs, by run; runs without any are left out."""
    if not run_ids or not list_columns(query, backend, "assessments"):
        return {}
    chosen = CHOSEN[backend]
    runs = {"ids": json.dumps(list(run_ids))}
    pairs = [(str(run), str(trace)) for run, trace in query(_MADE_BY.format(chosen=chosen), {**runs, "key": _RUN})]
    if list_columns(query, backend, "entity_associations"):
        pairs += [(str(run), str(trace)) for run, trace in query(_LINKED_TO.format(chosen=chosen), runs)]
    traces_of: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for run_id, trace_id in pairs:
        traces_of[run_id][trace_id] = None
    ids = {"ids": json.dumps(sorted({trace_id for _, trace_id in pairs}))}
    assessments: defaultdict[str, list[tuple[str, Any, str]]] = defaultdict(list)
    for trace_id, name, value, notes in query(_ASSESSMENTS.format(chosen=chosen), ids):
        assessments[trace_id].append((name, _json(value), str((_json(notes) or {}).get(_SCORED_FOR) or "")))
    if not assessments:
        return {}
    told = _read_traces(query, backend, ids)
    return {
        run_id: tuple(_assess(told.get(trace_id, {}), trace_id, assessments[trace_id], run_id) for trace_id in traces)
        for run_id, traces in traces_of.items()
    }


def _read_traces(query: Query, backend: str, ids: Mapping[str, str]) -> Mapping[str, dict[str, Any]]:
    """Inputs, answer, cost and latency of each trace, from wherever this release of MLflow keeps them."""
    chosen = CHOSEN[backend]
    told: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    keys = {"a": _INPUTS, "b": _OUTPUTS, "c": _COST}
    for trace_id, key, value in query(_NOTES.format(chosen=chosen), {**ids, **keys}):
        told[trace_id][key] = value
    known = list_columns(query, backend, "trace_info")
    optional = ("request_preview", "response_preview", "total_cost")
    columns = ", ".join(name if name in known else f"NULL AS {name}" for name in optional)
    rows = query(
        f"SELECT request_id, execution_time_ms, {columns} FROM trace_info WHERE request_id IN ({chosen})",
        ids,
    )
    for trace_id, latency, asked, answered, cost in rows:
        more = {"latency": latency, "asked": asked, "answered": answered, "cost": cost}
        told[trace_id] |= {name: value for name, value in more.items() if value is not None}
    cut = [trace_id for trace_id, each in told.items() if _is_cut(each)]
    if cut and list_columns(query, backend, "spans"):
        for trace_id, content in query(_ROOTS.format(chosen=chosen), {"ids": json.dumps(cut)}):
            attributes = (_json(content) or {}).get("attributes") or {}
            if inputs := attributes.get("mlflow.spanInputs"):
                told[trace_id]["asked"] = inputs
    return told


def _is_cut(told: Mapping[str, Any]) -> bool:
    asked = told.get("asked")
    return len(asked) >= _CUT_PREVIEW if asked else len(told.get(_INPUTS, "")) >= _CUT


def read_by_client(client: Any, experiment_id: str, run_id: str) -> tuple[AssessedTrace, ...]:
    """Return the assessed traces of one run behind a tracking server."""
    found: list[Any] = []
    token = None
    while len(found) < MOST_TRACES:
        page = client.search_traces(
            locations=[experiment_id], run_id=run_id, include_spans=False, max_results=_PAGE, page_token=token
        )
        found.extend(page)
        token = page.token
        if not token:
            break
    return tuple(_of_client(trace.info, run_id) for trace in found)


def _of_client(info: Any, run_id: str) -> AssessedTrace:
    notes = dict(info.trace_metadata or {})
    told = {
        "asked": info.request_preview, "answered": info.response_preview, "latency": info.execution_duration,
        **{key: notes[key] for key in (_INPUTS, _OUTPUTS, _COST) if key in notes},
    }  # fmt: skip
    scores = [
        (each.name, each.value, str((each.metadata or {}).get(_SCORED_FOR) or ""))
        for each in sorted(info.assessments or [], key=lambda each: each.create_time_ms or 0)
        if getattr(each, "feedback", None) is not None and each.valid is not False
    ]
    return _assess(told, info.trace_id, scores, run_id)


def _assess(
    told: Mapping[str, Any], trace_id: str, assessments: Sequence[tuple[str, Any, str]], run_id: str
) -> AssessedTrace:
    """Join a trace with its assessments; of several with one name, the newest made for this run counts."""
    scores = {name: value for name, value, scored_for in assessments if scored_for in ("", run_id)}
    cost = told.get("cost")
    if cost is None:
        priced = _json(told.get(_COST))
        cost = priced.get("total_cost") if isinstance(priced, dict) else None
    latency = told.get("latency")
    return AssessedTrace(
        trace_id=trace_id,
        inputs=str(told.get("asked") or told.get(_INPUTS) or ""),
        answer=str(_json(told.get("answered") or told.get(_OUTPUTS)) or ""),
        scores=scores,
        cost_usd=float(cost) if cost is not None else None,
        latency_ms=float(latency) if latency is not None else None,
    )


def _json(text: object) -> Any:
    """What a JSON text says; any other text stands for itself."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
