"""Gateway to exports of the audit trail, as CSV or JSON: every entry with before, after and the chain of hashes."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.safety.spreadsheets import write_cell

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def write_csv(entries: Iterable["DataclassInstance"]) -> str:
    """Return a line an entry, under the names of its fields; `before` and `after` are JSON in their cells.

    Cells that a spreadsheet would run start with an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for number, entry in enumerate(entries):
        if number == 0:
            writer.writerow(field.name for field in fields(entry))
        writer.writerow(_write(value, in_cell=True) for value in asdict(entry).values())
    return out.getvalue()


def write_json(entries: Iterable["DataclassInstance"]) -> str:
    """Return a JSON list with one object per entry."""
    told = [{name: _write(value, in_cell=False) for name, value in asdict(entry).items()} for entry in entries]
    return json.dumps(told, indent=1, ensure_ascii=False)


def _write(value: Any, *, in_cell: bool) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if in_cell and isinstance(value, dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    if in_cell:
        return "" if value is None else write_cell(value)
    return value
