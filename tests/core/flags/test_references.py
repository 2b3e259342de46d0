"""Where flags stand in code, which are dead, and what to clean up."""

import json
from pathlib import Path

import pytest

from core.audit.acts import Act
from core.errors import InvalidInput
from core.flags.cleanup import Cleanup, CodeReference, plan_cleanup, say_places
from core.flags.operations import create_flag
from core.flags.references import find_references
from quarterdeck.definitions import boolean_flag

PYTHON = """deck.is_enabled("use_reranker", user)
limits = {"use_reranker_2": 1, 'top-k': 2}  # use_reranker
client.get_boolean_value("ghost", False)
"""
SCRIPT = "await client.getBooleanDetails('top-k', false);\nconst x = 'not-top-k';\n"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    (folder / "node_modules").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "app.py").write_text(PYTHON)
    (folder / "shop.js").write_text(SCRIPT)
    (folder / "picture.bin").write_bytes(b"use_reranker\0")
    for hidden in ("node_modules/a.js", ".git/b.py"):
        (folder / hidden).write_text(PYTHON)
    (folder / "elsewhere.py").symlink_to(folder / "app.py")
    return folder


def test_keys_are_found_as_whole_words_and_clients_calls_are_told_apart(code):
    read = find_references(code, ["use_reranker", "top-k", "dead"])
    assert read.files == 2
    assert [(each.key, each.place, each.is_asked) for each in read.found] == [
        ("use_reranker", "app.py:1", True),
        ("top-k", "app.py:2", False),
        ("use_reranker", "app.py:2", False),
        ("ghost", "app.py:3", True),
        ("top-k", "shop.js:1", True),
    ]


def test_without_flags_only_calls_are_found_and_a_folder_must_be_one(code, tmp_path):
    assert {each.key for each in find_references(code, []).found} == {"use_reranker", "ghost", "top-k"}
    with pytest.raises(InvalidInput, match="folder: .* is no folder"):
        find_references(tmp_path / "nowhere", [])


def test_dead_stale_and_missing_flags_are_to_be_cleaned_up_and_a_live_one_is_not():
    found = [
        CodeReference("live", "a.py", 1, True),
        CodeReference("old", "a.py", 2),
        CodeReference("ghost", "b.py", 3, True),
    ]
    flags = {"live": (), "old": ("at 100% for 40 days",), "dead": (), "index:default": ()}
    plan = plan_cleanup(flags, found, where="production")
    assert plan == (
        Cleanup("old", "at 100% for 40 days", "take it out of a.py:2, then delete it"),
        Cleanup("dead", "it stands nowhere in the code", "delete the flag, unless other code asks for it"),
        Cleanup(
            "ghost", "the code asks for it at b.py:3",
            "create the flag in production, or take the code out: it gets its default",
        ),
    )  # fmt: skip


def test_many_places_are_counted():
    assert say_places([CodeReference("k", "a.py", line) for line in range(1, 6)]) == "a.py:1, a.py:2, a.py:3 and 2 more"


@pytest.mark.sqlite_only("it lists two flags")
def test_the_command_prints_places_and_the_clean_up_list(quarterdeck, store, url, code):
    for key in ("use_reranker", "dead"):
        create_flag(store, key, boolean_flag(on=True), Act("ada", "because"))
    said = quarterdeck("flags", "references", code, "--database", url).out
    assert "use_reranker: app.py:1, app.py:2" in said
    assert "dead: nowhere" in said
    assert "ghost: the code asks for it at app.py:3" in said
    told = json.loads(quarterdeck("flags", "references", code, "--database", url, "--json").out)
    assert {each["key"] for each in told["cleanup"]} == {"dead", "ghost", "top-k"}
