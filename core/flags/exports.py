"""Rule: recognizes whose export a file of flags is (flagd, Unleash or GrowthBook), and reads it."""

from typing import Any

from core.errors import InvalidInput
from core.flags.conversion import Converted
from core.flags.growthbook import convert_growthbook
from core.flags.unleash import convert_unleash
from quarterdeck.documents import check_document, parse_json


def read_export(text: str | bytes, environment: str) -> tuple[dict[str, Any], Converted | None]:
    """Return the flagd document that an export stands for; and what became of it, where it is another tool's.

    Of an export that holds several environments the one of that name is read. Raises InvalidInput.
    """
    export = parse_json(text)
    if isinstance(export, dict) and "flags" not in export and isinstance(export.get("features"), dict | list):
        listed = export["features"]
        is_growthbook = isinstance(listed, dict) or any("environments" in each and "id" in each for each in listed)
        convert = convert_growthbook if is_growthbook else convert_unleash
        converted = convert(export, environment)
        return {"flags": converted.flags}, converted
    if not isinstance(export, dict) or "flags" not in export:
        raise InvalidInput("definitions", "give a flagd document with `flags`, or an export of Unleash or GrowthBook")
    return check_document(export), None
