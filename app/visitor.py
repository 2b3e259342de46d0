"""Who looks at the pages, and what they may do: changes through the pages are made under this name and role."""

from dataclasses import dataclass
from typing import Any

from app.resources import get_config
from app.ui import plain
from core.acts import Act
from core.permissions import Roles, explain_refusal, hold_everywhere


@dataclass(frozen=True, slots=True)
class Visitor:
    """One person at the pages."""

    name: str
    roles: Roles


def get_visitor() -> Visitor:
    """Return who looks at the page that is being drawn."""
    config = get_config()
    return Visitor(config.operator, hold_everywhere(config.operator_role))


def make_act(reason: str, environment: str) -> Act:
    """Return what the visitor does as an act. Raises InvalidInput when the reason is empty or too long."""
    visitor = get_visitor()
    return Act(visitor.name, reason, environment, roles=visitor.roles)


def lock(action: str, environment: str) -> dict[str, Any]:
    """Return the options that lock a control and say why, when the visitor may not do this; {} when they may.

    `st.button("Save", **lock("flag.update", environment))`; the operation itself refuses too.
    """
    refusal = explain_refusal(get_visitor().roles, action, environment)
    return {"disabled": True, "help": plain(refusal)} if refusal else {}
