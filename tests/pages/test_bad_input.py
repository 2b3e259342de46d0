"""Invalid input is refused before it is stored: each error names its field in one line; nothing is changed."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli import main
from core.audit.acts import Act
from core.audit.trail import list_audit
from core.errors import InvalidInput
from core.flags.operations import create_flag, import_flags, update_flag
from core.flags.store import get_flag, list_flags
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store

KEY, GOOD, ME = "use_hyde", boolean_flag(on=True, rollout_pct=20), Act("ada", "because")


def targeting(logic: Any) -> dict[str, Any]:
    return {"state": "ENABLED", "variants": {"a": "A", "b": "B"}, "defaultVariant": "a", "targeting": logic}


BAD = [
    (targeting({"fractional": [["a", -1], ["b", 2]]}), "targeting.fractional"),
    (targeting({"fractional": [["a", "1"], ["b", 2]]}), "targeting.fractional"),
    (targeting({"fractional": [["a", True], ["b", 2]]}), "targeting.fractional"),
    (targeting({"fractional": [["a", 0], ["b", 0]]}), "targeting.fractional"),
    (targeting({"if": [{"resembles": [{"var": "x"}, 1]}, "b"]}), "targeting"),
    (targeting({"if": [{"$ref": "nobody"}, "b"]}), "targeting"),
    ({**GOOD, "defaultVariant": "gray"}, "defaultVariant"),
    ({**GOOD, "state": "PERHAPS"}, "state"),
    ({**GOOD, "metadata": {"canary_steps": "5%"}}, "metadata.canary_steps"),
]


@pytest.fixture
def kept(store: Store) -> Store:
    create_flag(store, KEY, GOOD, ME)
    return store


def assert_untouched(store: Store) -> None:
    (flag,) = list_flags(store, "production")
    assert (flag.key, flag.definition, flag.version) == (KEY, GOOD, 1)
    assert len(list_audit(store)) == 1


@pytest.mark.parametrize(("definition", "field"), BAD)
def test_a_bad_definition_is_refused_with_its_field_and_the_former_one_stands(
    definition: dict[str, Any], field: str, kept: Store
) -> None:
    for change in (
        lambda: update_flag(kept, get_flag(kept, "production", KEY), definition, ME),
        lambda: create_flag(kept, "other", definition, ME),
        lambda: import_flags(kept, {"flags": {"fine": GOOD, KEY: definition}}, ME),
    ):
        with pytest.raises(InvalidInput) as refused:
            change()
        assert field in refused.value.field
        assert "\n" not in str(refused.value)
        assert_untouched(kept)


def test_references_in_a_circle_are_refused_as_one(kept: Store) -> None:
    circle = {"first": {"!": [{"$ref": "second"}]}, "second": {"!": [{"$ref": "first"}]}}
    document = {"flags": {KEY: targeting({"if": [{"$ref": "first"}, "b"]})}, "$evaluators": circle}
    with pytest.raises(InvalidInput, match="circle: first -> second -> first"):
        import_flags(kept, document, ME)
    assert_untouched(kept)


@pytest.mark.deep
@pytest.mark.parametrize("key", ["k" * 10_000, "a\nb", "a\x00b", "a\x1bb", ""])
def test_a_key_that_is_too_long_or_holds_control_characters_is_refused(key: str, kept: Store) -> None:
    for change in (lambda: create_flag(kept, key, GOOD, ME), lambda: import_flags(kept, {"flags": {key: GOOD}}, ME)):
        with pytest.raises(InvalidInput, match=r"key|flags"):
            change()
    assert_untouched(kept)


@pytest.mark.parametrize("key", ["k" * 10_000, "a\nb", "a\x00b", "a\x1bb", ""])
def test_such_a_key_gives_a_service_its_default(key: str, kept: Store, url: str, tmp_path: Path) -> None:
    with Quarterdeck(url, snapshot_path=tmp_path / "snapshot.json") as deck:
        assert deck.is_enabled(key, "user-1", default=True) is True
        assert deck.is_enabled(KEY, "u" * 10_000) in (True, False)


def test_two_flags_of_one_name_are_refused_before_either_is_taken(kept: Store, url: str, tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    text = json.dumps(boolean_flag(on=False))
    file.write_text(f'{{"flags": {{"{KEY}": {text}, "{KEY}": {text}}}}}')
    done = CliRunner().invoke(main, ["flags", "import", str(file), "--reason", "r", "--database", url])
    assert "'use_hyde' appears twice in one object" in str(done.exception)
    assert_untouched(kept)
