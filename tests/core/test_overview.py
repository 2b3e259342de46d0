"""What the overview says of the corpus is looked up: whether the newest version is live, built, or only committed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from core.audit.acts import Act
from core.corpus.corpus import Version
from core.indexes.operations import register_index, swap_index
from core.indexes.registry import Index
from core.overview import Standing, describe_corpus
from quarterdeck.store import Store

BUILD = "Build an index of corpus v2"
BY = Act("ada", "test it")
NOW = datetime(2026, 11, 17, tzinfo=UTC)
NEW = Version("b" * 40, "bbbbbbb", ("v2",), "v2", NOW, "ada", "Add VPP", 55, 9, 17, 0, 2, 1, "d")
OLD = Version("a" * 40, "aaaaaaa", ("v1",), "v1", NOW - timedelta(days=9), "ada", "Start", 38, 9, 38, 0, 0, 0, "d")


@dataclass(frozen=True)
class Repository:
    """A corpus of two versions."""

    def list_versions(self) -> tuple[Version, ...]:
        return NEW, OLD

    def count_changes(self, old: str, new: str) -> tuple[int, int, int, int]:
        assert (old, new) == (OLD.revision, NEW.revision)
        return 17, 0, 0, 0


def build(store: Store, version: str) -> None:
    register_index(store, Index(f"docs-{version}", "somewhere", version, "m", 10, NOW, "ada"), BY)


@pytest.mark.parametrize(
    ("built", "live", "sentence", "decision"),
    [
        ((), None, "No index is live; the newest corpus version, v2, has no index yet.", BUILD),
        (("v2",), None, "No index is live; the newest corpus version, v2, is built and waits.", "Ship corpus v2"),
        (("v1",), "v1", "v1 is live; v2 (17 files more) is committed, without an index yet.", BUILD),
        (("v1", "v2"), "v1", "v1 is live; v2 (17 files more) is built and waits.", "Ship corpus v2"),
        (("v1", "b" * 40), "v1", "v1 is live; v2 (17 files more) is built and waits.", "Ship corpus v2"),
        (("v1", "v2"), "v2", "v2, the newest version, is live.", ""),
    ],
)  # fmt: skip
def test_a_newer_version_waits_only_once_its_index_is_built(
    built: tuple[str, ...], live: str | None, sentence: str, decision: str, store: Store
) -> None:
    for version in built:
        build(store, version)
    if live:
        swap_index(store, "default", f"docs-{live}", BY, expected=None)
    area = describe_corpus(store, Repository())  # type: ignore[arg-type]
    assert (area.sentence, area.decision) == (sentence, decision)
    assert area.standing is (Standing.DECIDE if decision else Standing.GOOD)
