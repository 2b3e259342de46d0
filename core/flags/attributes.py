"""Rule: reads the context of a user as a person types it."""

import json
from typing import Any

from core.errors import InvalidInput


def parse_context(user: str, text: str) -> dict[str, Any]:
    """Return the context of a user with these attributes, a JSON object or nothing. Raises InvalidInput."""
    try:
        more = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        raise InvalidInput("attributes", "give a JSON object") from None
    if not isinstance(more, dict):
        raise InvalidInput("attributes", "give a JSON object")
    return {**more, **({"targetingKey": user} if user else {})}
