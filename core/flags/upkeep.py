"""Rule: who owns a flag according to its metadata, and whether the flag has outlived its purpose."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from core.errors import InvalidInput
from core.flags.definition import FlagDefinition, set_metadata

FULL_DAYS = 30
UNUSED_DAYS = 14
MAX_DETAIL = 2_000
_NAMES = ("description", "owner", "tags", "expires")


@dataclass(frozen=True, slots=True)
class Details:
    """A flag's descriptive metadata. `tags` are unique and sorted; `expires` is the day to remove it by."""

    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    expires: date | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """A flag's last evaluation (None: never), and whether any client reports evaluations at all."""

    last_evaluated: datetime | None = None
    is_reported: bool = False


def read_details(definition: FlagDefinition) -> Details:
    """Return a definition's descriptive metadata; values that are not text or dates are ignored."""
    metadata = definition.metadata
    found = {name: metadata[name] if isinstance(metadata.get(name), str) else "" for name in _NAMES}
    return Details(found["description"], found["owner"], split_tags(found["tags"]), _read_day(found["expires"]))


def set_details(definition: Mapping[str, Any], details: Details) -> dict[str, Any]:
    """Return the flag with these details in its metadata; the rest stays. Raises InvalidInput, naming the field."""
    texts = {
        "description": details.description.strip(),
        "owner": details.owner.strip(),
        "tags": ", ".join(split_tags(",".join(details.tags))),
        "expires": details.expires.isoformat() if details.expires else "",
    }
    for name, text in texts.items():
        if len(text) > MAX_DETAIL or "\x00" in text:
            raise InvalidInput(name, f"must be at most {MAX_DETAIL:,} characters, without null characters")
    return set_metadata(definition, {name: text or None for name, text in texts.items()})


MOST_NAMED = 3


def describe_partly(definitions: Mapping[str, FlagDefinition]) -> tuple[int, str]:
    """Return how many of these flags (by key) are on for some of the users, and a sentence that names up to three."""
    partly = [
        f"{key} at {definition.share_pct:g}%" for key, definition in definitions.items() if definition.is_partly_on
    ]
    if not partly:
        return 0, f"No flag is partly rolled out ({len(definitions)} in all)."
    verb = "is" if len(partly) == 1 else "are"
    named = ", ".join(partly[:MOST_NAMED])
    if more := len(partly) - MOST_NAMED if len(partly) > MOST_NAMED else 0:
        named += f" and {more} more"
    return len(partly), f"{len(partly)} of {len(definitions)} flags {verb} partly rolled out: {named}."


def describe_state(definition: FlagDefinition) -> str:
    """Return a flag's state in words: off, on, or on for a percentage."""
    if not definition.is_on:
        return "off"
    share = definition.rollout_pct
    return "on" if share is None or share == 100 else f"on for {share:g}%"


def split_tags(text: str) -> tuple[str, ...]:
    """Return the distinct tags of a comma-separated text, in alphabetical order."""
    return tuple(sorted({tag.strip() for tag in text.split(",") if tag.strip()}))


def find_staleness(definition: FlagDefinition, *, updated: datetime, use: Use, now: datetime) -> tuple[str, ...]:
    """Return short reasons why a flag could be removed; () if there are none.

    The age of a flag that is on for everybody counts from its last change of any kind, so it is a lower bound. Metadata
    `permanent: true` marks a switch that is meant to stay; its expiry still counts.
    """
    reasons = []
    expires = read_details(definition).expires
    if expires is not None and expires < now.date():
        reasons.append(f"expired on {expires.day} {expires:%b %Y}")
    if definition.metadata.get("permanent") is True:
        return tuple(reasons)
    age = now - updated
    if definition.share_pct == 100 and age >= timedelta(days=FULL_DAYS):
        reasons.append(f"at 100% for {age.days} days")
    quiet = now - max(updated, use.last_evaluated or updated)
    if use.is_reported and quiet >= timedelta(days=UNUSED_DAYS):
        reasons.append(f"not evaluated for {quiet.days} days")
    return tuple(reasons)


def _read_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
