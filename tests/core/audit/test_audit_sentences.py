"""Every action of the audit trail is said as a sentence."""

import pytest

from core.audit.actions import Action
from core.audit.sentences import say_action, say_entry


@pytest.mark.parametrize("action", list(Action))
def test_every_action_is_said_in_words_with_its_target(action: Action) -> None:
    said = say_entry("ada", action, "{}x")
    assert said.startswith("ada ")
    assert "{}x" in said
    assert str(action) not in said
    assert "  " not in f"{say_action(action)}"


def test_an_action_of_another_release_is_said_by_its_name() -> None:
    assert say_entry("ada", "moon.land", "sea") == "ada did moon.land of sea"


@pytest.mark.parametrize("action", list(Action))
def test_what_is_said_without_a_target_ends_in_no_preposition(action: Action) -> None:
    assert say_action(action).split()[-1] not in {"as", "for", "from", "in", "of", "to"}
