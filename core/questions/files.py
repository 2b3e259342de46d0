"""Gateway to exports of questions, as CSV and JSON Lines; `quarterdeck import` reads the same names."""

import csv
import dataclasses
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from core.log.filters import GivenScore, LoggedHit, LoggedQuestion
from core.log.services import ServiceSettings
from core.safety.spreadsheets import write_cell

MOST_ROWS = 10_000  # of a file of the page


def to_record(question: LoggedQuestion, service: ServiceSettings) -> dict[str, Any]:
    """Return a question as an export holds it, with the address of its trace; the import reads the same names."""
    record = {field.name: getattr(question, field.name) for field in dataclasses.fields(question)}
    return {**record, "trace_link": service.link_to(question.trace_id or "") or None}


def write_lines(records: Iterable[Mapping[str, Any]]) -> str:
    """Return JSON Lines: an object per question."""
    return "".join(f"{json.dumps(_plain(record), ensure_ascii=False)}\n" for record in records)


def write_csv(records: Iterable[Mapping[str, Any]]) -> str:
    """Return a line per question; lists and objects are JSON in their cells.

    Cells that a spreadsheet would run start with an apostrophe.
    """
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\r\n")
    for number, record in enumerate(records):
        if number == 0:
            writer.writerow(record)
        writer.writerow(_write(value) for value in _plain(record).values())
    return "".join(lines.written)


class _Lines:
    """What a csv writer writes to."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, text: str) -> None:
        self.written.append(text)


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _simplify(value) for name, value in record.items()}


def _simplify(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, LoggedHit | GivenScore):
        return value._asdict()
    return [_simplify(each) for each in value] if isinstance(value, tuple) else value


def _write(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    return write_cell(value)
