"""The rule that reads and compares DVC's manifests, on literal bytes."""

import json
import random

import pytest

from core.corpus.manifests import (
    FileChange,
    FileChangeKind,
    Manifest,
    compare_entries,
    count_changes,
    diff_manifests,
)
from core.errors import SourceUnavailable


def md5_of(number: int) -> str:
    return f"{number:032x}"


def manifest(entries: dict[str, str]) -> Manifest:
    """Write a manifest as DVC does."""
    rows = [{"md5": md5, "relpath": path} for path, md5 in sorted(entries.items())]
    return Manifest(json.dumps(rows, sort_keys=True).encode(), "test.dir")


def test_entries_are_read_from_what_dvc_writes() -> None:
    assert manifest({"a.md": md5_of(1), "sub/é.md": md5_of(2)}).entries("docs") == {
        "docs/a.md": md5_of(1), "docs/sub/é.md": md5_of(2),
    }  # fmt: skip


@pytest.mark.parametrize(
    "raw",
    [b"", b"[{", b"{}x", b'{"a": 1}', b'[{"md5": "ab"}]', b'[{"md5": 3, "relpath": "a"}]', b"[1, 2]", b"null"],
)
def test_a_damaged_manifest_is_refused_by_its_hash(raw: bytes) -> None:
    with pytest.raises(SourceUnavailable, match=r"manifest 12ab\.dir is damaged"):
        Manifest(raw, "12ab.dir").entries("docs")


@pytest.mark.parametrize("path", ["../outside.md", "a/../../b", ".."])
def test_a_manifest_cannot_name_files_outside_of_its_folder(path: str) -> None:
    with pytest.raises(SourceUnavailable, match="damaged"):
        manifest({path: md5_of(1)}).entries("docs")


def test_two_dots_within_a_name_are_no_way_out() -> None:
    assert manifest({"a..b.md": md5_of(1)}).entries("docs") == {"docs/a..b.md": md5_of(1)}


def test_a_hash_that_is_a_path_is_refused() -> None:
    with pytest.raises(SourceUnavailable, match="damaged"):
        manifest({"a.md": "../../etc/passwd"}).entries("docs")


@pytest.mark.parametrize("seed", range(20))
def test_the_fast_difference_finds_what_comparing_everything_finds(seed: int) -> None:
    rng = random.Random(seed)
    names = [f'{rng.choice("ab")}/"}}, {{\\é{number}.md' for number in range(300)]
    old = {name: f"{rng.getrandbits(128):032x}" for name in rng.sample(names, rng.randrange(200))}
    new = {name: md5 for name, md5 in old.items() if rng.random() > 0.1}
    new |= {name: f"{rng.getrandbits(128):032x}" for name in rng.sample(names, rng.randrange(30))}
    found = diff_manifests(manifest(old), manifest(new), "d")
    old, new = ({f"d/{name}": md5 for name, md5 in side.items()} for side in (old, new))
    assert compare_entries(*found) == compare_entries(old, new)
    assert dict(found[0].items() - found[1].items()) == dict(old.items() - new.items())


def test_the_fast_difference_looks_at_little_more_than_what_changed() -> None:
    old = {f"{number:05d}.md": f"{random.Random(number).getrandbits(128):032x}" for number in range(5_000)}
    new = old | {"00077.md": md5_of(5)}
    found = diff_manifests(manifest(old), manifest(new), "d")
    assert found == ({"d/00077.md": old["00077.md"]}, {"d/00077.md": md5_of(5)})


def test_manifests_of_another_layout_are_compared_too() -> None:
    loose = Manifest(json.dumps([{"relpath": "a.md", "size": 3, "md5": md5_of(1)}], indent=1).encode(), "loose.dir")
    assert compare_entries(*diff_manifests(loose, manifest({"a.md": md5_of(1)}), "d")) == ()


def test_each_kind_of_change_is_told_apart() -> None:
    old = {"kept.md": md5_of(1), "edited.md": md5_of(2), "gone.md": md5_of(3), "from.md": md5_of(4)}
    new = {"kept.md": md5_of(1), "edited.md": md5_of(5), "come.md": md5_of(6), "to/there.md": md5_of(4)}
    sizes = {md5_of(2): 20, md5_of(4): 40, md5_of(5): 50, md5_of(6): 60}
    assert compare_entries(old, new, sizes=sizes) == (
        FileChange(FileChangeKind.ADDED, "come.md", None, md5_of(6), None, 60, None),
        FileChange(FileChangeKind.MODIFIED, "edited.md", None, md5_of(5), md5_of(2), 50, 20),
        FileChange(FileChangeKind.REMOVED, "gone.md", None, None, md5_of(3), None, None),
        FileChange(FileChangeKind.RENAMED, "to/there.md", "from.md", md5_of(4), md5_of(4), 40, 40),
    )


def test_a_copy_is_added_and_not_renamed() -> None:
    changes = compare_entries({"a.md": md5_of(1)}, {"a.md": md5_of(1), "b.md": md5_of(1)})
    assert [(change.kind, change.path) for change in changes] == [("added", "b.md")]


def test_equal_contents_are_paired_once_each_in_the_order_of_paths() -> None:
    old = {"x/1.md": md5_of(1), "x/2.md": md5_of(1), "x/3.md": md5_of(1)}
    new = {"y/1.md": md5_of(1), "y/2.md": md5_of(1)}
    changes = compare_entries(old, new)
    assert [(change.kind, change.old_path, change.path) for change in changes] == [
        ("removed", None, "x/3.md"),
        ("moved", "x/1.md", "y/1.md"),
        ("moved", "x/2.md", "y/2.md"),
    ]
    assert count_changes(old, new) == {"added": 0, "removed": 1, "modified": 0, "renamed": 2}
