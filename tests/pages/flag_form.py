"""Fills in the form of a flag on the rollouts page, and reads what was stored."""

import json
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.pages.opening import ask


def field(kind: Any, name: str) -> Any:
    """The control of the chosen flag whose key starts so; the rest of its key names the version that was seen."""
    return next(each for each in kind if str(each.key).startswith(f"{name}-production-"))


def edit(app: AppTest, *, on: bool | None = None, share: float | None = None) -> AppTest:
    """Change the form of the chosen flag, as far as the preview."""
    if on is not None:
        field(app.toggle, "on").set_value(on).run()
    if share is not None:
        field(app.number_input, "share").set_value(share).run()
    return app


def save(app: AppTest, reason: str, *, name: str = "") -> AppTest:
    """Fill in the form under the preview and press Save."""
    field(app.text_input, "reason").input(reason)
    if name:
        field(app.text_input, "name").input(name)
    return next(button for button in app.button if button.label == "Save").click().run()


def flip(app: AppTest, *, on: bool, reason: str) -> AppTest:
    """Switch the chosen flag, its name typed where it is asked for."""
    edit(app, on=on)
    asked = any(str(each.key).startswith("name-production-") for each in app.text_input)
    return save(app, reason, name=str(app.selectbox(key="flag").value) if asked else "")


def last_changes(url: str, key: str) -> list[str]:
    """What happened to a flag in production, newest first."""
    query = "SELECT action FROM audit WHERE environment = 'production' AND target = ? ORDER BY id DESC"
    return [action for (action,) in ask(url, query, key)]


def stored_flag(url: str, key: str) -> dict[str, Any]:
    ((definition,),) = ask(url, "SELECT definition FROM flags WHERE environment = 'production' AND key = ?", key)
    found: dict[str, Any] = json.loads(definition)
    return found
