"""Gateway to the saved views of an environment: filters of the questions page under a name."""

from dataclasses import dataclass
from typing import Any

from core.audit.settings import Family, SettingKey, get_setting, setting_key
from core.errors import InvalidInput
from core.questions.wanted import COUNTABLE
from core.safety.letters import check_letters
from quarterdeck.store import Store

MOST_VIEWS = 100  # of an environment
_NOT_KEPT = "(not kept)"
_LONGEST_NAME, _LONGEST_VALUE, _MOST_FILTERS = 80, 500, 50


@dataclass(frozen=True, slots=True)
class SavedView:
    """A name and the filters of the page's address, as pairs. Raises InvalidInput."""

    name: str
    filters: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= _LONGEST_NAME or not self.name.isprintable() or self.name != self.name.strip():
            raise InvalidInput("name", f"must be 1 to {_LONGEST_NAME} printable characters, without spaces at the ends")
        if len(self.filters) > _MOST_FILTERS or any(len(value) > _LONGEST_VALUE for _, value in self.filters):
            problem = f"must be at most {_MOST_FILTERS}, of at most {_LONGEST_VALUE} characters each"
            raise InvalidInput("filters", problem)
        check_letters(self.filters, "filters")

    def to_audit(self) -> dict[str, Any]:
        """Return the view as the trail keeps it: without values that may name somebody or quote a question."""
        return {"filters": [[name, value if name in COUNTABLE else _NOT_KEPT] for name, value in self.filters]}


@dataclass(frozen=True, slots=True)
class SavedViews:
    """The views of an environment by name, and the version that the next writer has to expect."""

    views: tuple[SavedView, ...]
    version: int


def list_views(store: Store, environment: str) -> SavedViews:
    """Return the views of an environment, by name. Raises SourceUnavailable."""
    stored = get_setting(store, views_key(environment))
    views = (SavedView(name, tuple((key, value) for key, value in filters)) for name, filters in stored.value or ())
    return SavedViews(tuple(sorted(views, key=lambda view: view.name.casefold())), stored.version)


def views_key(environment: str) -> SettingKey:
    """Return the name of the setting that holds the views of an environment."""
    return setting_key(Family.VIEWS, environment)
