"""What the models of the API under /v1 share: the base of answers and requests, pages of a list, and their bounds."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from core.errors import InvalidInput

MOST_ON_A_PAGE = 200
MOST_TEXT = 2_000
UNTRUSTED = "x-untrusted"
_Item = TypeVar("_Item")
_Value = TypeVar("_Value")
# What users, their documents or other systems wrote, or a sentence that quotes it.
Untrusted = Annotated[_Value, Field(json_schema_extra={UNTRUSTED: True})]


class Answered(BaseModel):
    """The base of what is answered. It is made from the values of `core`, by the names of their fields."""

    model_config = ConfigDict(from_attributes=True, frozen=True, ser_json_inf_nan="null")


class Asked(BaseModel):
    """The base of what is sent. An unknown field is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Reasoned(Asked):
    """A change, which needs a reason for the audit trail."""

    reason: str = Field(
        min_length=1, max_length=MOST_TEXT, description="Why: it goes into the audit trail.",
        examples=["it answers too slowly"],
    )  # fmt: skip


class Page(Answered, Generic[_Item]):
    """One page of a list. `next` is the cursor of the following page, null on the last one."""

    items: tuple[_Item, ...]
    next: str | None = Field(description="Send it as `cursor` to get the following page; null on the last one.")


Environment = Annotated[
    str | None,
    Query(
        max_length=64,
        description="The environment (default: the token's, else the deck's own).",
        examples=["production"],
    ),
]
Service = Annotated[
    str | None,
    Query(max_length=128, description="The service (default: the only one that you may see).", examples=["docs-chat"]),
]
Limit = Annotated[int, Query(ge=1, le=MOST_ON_A_PAGE, description="How many items a page has at most.")]
Position = Annotated[str | None, Query(max_length=400, description="`next` of the page before.")]
Reason = Annotated[
    str,
    Query(
        min_length=1, max_length=MOST_TEXT, description="Why: it goes into the audit trail.", examples=["not needed"]
    ),
]
Version = Annotated[int, Query(ge=0, description="The version that was read: 409 if somebody changed it since.")]
Days = Annotated[int, Query(ge=1, le=90, description="How many days the window has, today included.")]


def lead_to(**links: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return what an operation says of its answer: the operations that follow, and what of it they are asked with.

    They are links of OpenAPI, with `parameters` or a `requestBody`: readers see what to send next, and programs follow.
    """
    return {200: {"links": {name: {"operationId": name, **link} for name, link in links.items()}}}


def cut_page(items: Sequence[_Item], cursor: str | None, limit: int) -> tuple[Sequence[_Item], str | None]:
    """Return the items after a cursor and the next cursor. The cursor is a position. Raises InvalidInput."""
    start = read_position(cursor)
    following = start + limit
    return items[start:following], str(following) if following < len(items) else None


def read_position(cursor: str | None) -> int:
    """Return the position that a cursor means, 0 for none. Raises InvalidInput."""
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit()) or len(cursor) > 9:
        raise InvalidInput("cursor", f"must be `next` of the page before, not {cursor[:40]!r}")
    return int(cursor)
