"""Rule: cells of a CSV file that a spreadsheet shows as text, whatever end users typed into them.

Spreadsheets take a cell that begins with one of a few signs for a formula, and run it. The advice is OWASP's.
"""

from typing import Any

_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_cell(value: Any) -> Any:
    """Return a cell as a file may hold it: text that a spreadsheet would run starts with an apostrophe, numbers stay.

    >>> [write_cell(cell) for cell in ("=1+1", "-0.5", -0.5, "mbuf")]
    ["'=1+1", '-0.5', -0.5, 'mbuf']
    """
    if not isinstance(value, str) or not value.startswith(_BEGINS_FORMULA) or _is_number(value):
        return value
    return f"'{value}"


def write_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as a file may hold it: its cells and the names of its columns."""
    return {write_cell(name): write_cell(cell) for name, cell in row.items()}


def _is_number(text: str) -> bool:
    digits = text[1:].replace(".", "", 1)
    return digits.isascii() and digits.isdigit()
