"""Rule: reads the rows of files: the fields of a retrieval, and what else an export of questions holds.

Cells of text become numbers and JSON; `rows.py` reads the record that results.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from core.errors import InvalidInput
from core.intake.rows import FIELDS, NUMBERS, KindOf, TimeReader, parse_record
from core.intake.times import FarTimes, shorten
from quarterdeck.redaction import Redactor
from quarterdeck.retrieval import COLUMNS, STATES, Retrieval
from quarterdeck.scores import check_score
from quarterdeck.similarity import COSINE

EXPORTED = ("similarity", "state", "answerability", "finding", "scores", "trace_link")  # an export's further names
FILE_FIELDS = (*FIELDS, *EXPORTED)
FILE_NUMBERS = NUMBERS | {"similarity", "answerability", "weight"}
_ID = COLUMNS.index("retrieval_id")
_JSON = ("documents", "attributes", "scores")
_NO = frozenset({"", "0", "false", "no", "none", "null"})


class FileRows:
    """Reads one row of a file after the other; keeps the scores of its rows, and counts what has to be said.

    `is_text` says that values are cells of text: an empty one means None.
    """

    def __init__(
        self,
        *,
        read_time: TimeReader,
        redact: Redactor,
        is_text: bool,
        now_ms: int,
        kind_of: KindOf = lambda _scope: "",
    ) -> None:
        self._kind_of = kind_of
        self._read_time = read_time
        self._redact = redact
        self._is_text = is_text
        self._scores: list[dict[str, Any]] = []
        self._ignored: Counter[str] = Counter()
        self._far = FarTimes(now_ms)

    def __call__(self, row: Any) -> Retrieval:
        """Return the retrieval of a row. Raises InvalidInput, naming the field."""
        record = dict(_read_cells(row) if self._is_text else row)
        for field in _JSON:
            if isinstance(record.get(field), str):
                record[field] = _read_json(field, record[field])
        exported = {name: record.pop(name, None) for name in EXPORTED}
        _follow_state(record, exported["state"], exported["similarity"])
        _plain_types(record)
        retrieval = parse_record(record, read_time=self._read_time, redact=self._redact, kind_of=self._kind_of)
        scores = _read_scores(exported["scores"], retrieval)
        self._scores += scores
        if exported["answerability"] is not None:
            self._ignored["answerability"] += 1
        self._far.add(retrieval.ts_ms)
        return retrieval

    def take_scores(self) -> list[dict[str, Any]]:
        """Return the scores of the rows read since the last call, as `exposures.store_scores` takes them."""
        taken, self._scores = self._scores, []
        return taken

    def notes(self) -> tuple[str, ...]:
        """Return what the rows had that is not stored, and how many lie far from the present."""
        ignored = (f"{name}: {rows:,} not imported, the deck computes it" for name, rows in self._ignored.items())
        return (*ignored, *self._far.notes())


def _read_cells(cells: Mapping[str, str]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for field, text in cells.items():
        if field in FILE_NUMBERS:
            record[field] = _read_number(field, text)
        elif field == "error":
            record[field] = None if text.strip().casefold() in _NO else text
        else:
            record[field] = text if text or field == "query" else None
    return record


def _read_number(field: str, text: str) -> float | int | None:
    if not text.strip():
        return None
    try:
        number = float(text.replace("_", "no"))  # Python would read 0_5 as a number
    except ValueError as error:
        raise InvalidInput(field, f"must be a number, not {shorten(text)}") from error
    return int(number) if field == "weight" and number.is_integer() else number


def _read_json(field: str, text: str) -> Any:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        example = '{"tenant": "acme"}' if field == "attributes" else '[{"id": "a.md", "score": 0.5}]'
        if field == "scores":
            example = '[{"name": "feedback", "value": 1}]'
        raise InvalidInput(field, f"must be JSON like {example}, not {shorten(text)}") from error


def _follow_state(record: dict[str, Any], state: Any, similarity: Any) -> None:
    """Put what an export says about a row into the fields that a retrieval has. Raises InvalidInput."""
    if state is not None and state not in STATES:
        raise InvalidInput("state", f"must be one of {', '.join(STATES)}, not {shorten(state)}")
    if state == "failed" and not record.get("error"):
        record["error"] = True  # what failed is among the attributes of an export
    if record.get("score") is None and similarity is not None and state in (None, "scored"):
        record["score"], record["score_kind"] = similarity, COSINE
    has_hits = bool(record.get("documents"))
    if state == "scored" and record.get("score") is None and not has_hits:
        raise InvalidInput("score", "is missing, though the state is scored")
    if state == "unscored" and not has_hits:
        raise InvalidInput("documents", "are missing, though the state is unscored")


def _plain_types(record: dict[str, Any]) -> None:
    """Bring the types of Parquet into those of a retrieval: maps are lists of pairs, whole numbers may be decimals."""
    attributes, weight = record.get("attributes"), record.get("weight")
    if isinstance(attributes, list) and all(isinstance(each, tuple) and len(each) == 2 for each in attributes):
        record["attributes"] = dict(attributes)
    if weight is not None and not isinstance(weight, bool | int | str) and weight == int(weight):
        record["weight"] = int(weight)


def _read_scores(given: Any, retrieval: Retrieval) -> list[dict[str, Any]]:
    """Return the later scores of a row. Raises InvalidInput for those that are none."""
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(each, Mapping) for each in given):
        raise InvalidInput("scores", "must be a list of objects with name and value")
    rows, name = [], retrieval.row[_ID]
    for each in given:
        try:
            score = check_score(
                name, each.get("name"), each.get("value"), comment=each.get("comment"),
                source=each.get("source") or "user", ts_ms=retrieval.ts_ms,
            )  # fmt: skip
        except InvalidInput as error:
            raise InvalidInput("scores", f"{error.field} {error.problem}") from error
        rows.append({**score._asdict(), **retrieval.scope._asdict()})
    return rows
