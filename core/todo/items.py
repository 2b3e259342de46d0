"""Rule: the to-do list: what waits for a decision, what was decided and is under way, and what was put off."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class TodoState(StrEnum):
    """Whether somebody has to decide, somebody works on it, or its effect is being measured."""

    DECIDE = "decide"
    PLANNED = "planned"
    MEASURING = "waits for its measurement"


@dataclass(frozen=True, slots=True)
class Todo:
    """One line of the list. `key` names what it is about for good, `filters` are those of its page's address."""

    key: str
    page: str
    text: str
    state: TodoState = TodoState.DECIDE
    owner: str = ""
    since: datetime | None = None
    filters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PutOff:
    """A line that somebody put off until the end of a day."""

    todo: Todo
    until: date


@dataclass(frozen=True, slots=True)
class TodoList:
    """The lines by what they wait for; within each in the order in which they came."""

    decide: tuple[Todo, ...]
    under_way: tuple[Todo, ...]
    put_off: tuple[PutOff, ...]


def arrange_todos(todos: Iterable[Todo], *, snoozed: Mapping[str, date], today: date) -> TodoList:
    """Return the list without what was put off; it comes back on the day after.

    >>> items = [Todo("corpus/v2", "corpus", "Ship v2"), Todo("prompt/qa", "prompts", "Promote qa")]
    >>> found = arrange_todos(items, snoozed={"prompt/qa": date(2026, 3, 2)}, today=date(2026, 3, 2))
    >>> [todo.text for todo in found.decide], [each.until.day for each in found.put_off]
    (['Ship v2'], [2])
    >>> len(arrange_todos(items, snoozed={"prompt/qa": date(2026, 3, 2)}, today=date(2026, 3, 3)).decide)
    2
    """
    decide, under_way, put_off = [], [], []
    for todo in todos:
        until = snoozed.get(todo.key)
        if todo.state is not TodoState.DECIDE:
            under_way.append(todo)
        elif until is not None and until >= today:
            put_off.append(PutOff(todo, until))
        else:
            decide.append(todo)
    return TodoList(tuple(decide), tuple(under_way), tuple(put_off))
