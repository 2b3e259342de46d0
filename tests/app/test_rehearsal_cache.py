"""What a rollback would do is read once for each version of what would be rolled back."""

from collections.abc import Iterator
from datetime import datetime

import pytest

from app.resources import load_rehearsal
from core.rehearsals.comparing import Rehearsal, Rehearsed


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    load_rehearsal.clear()
    yield
    load_rehearsal.clear()


def test_a_rehearsal_is_read_once_until_what_would_be_rolled_back_changes() -> None:
    read: list[str] = []

    def rehearse(name: str) -> Rehearsal:
        read.append(name)
        return Rehearsal(name, Rehearsed.SCORE, 0, 0, 0, 0, None, "the log")

    def load(name: str, version: int) -> Rehearsal | None:
        def find(_: datetime) -> Rehearsal:
            return rehearse(f"{name} {version}")

        return load_rehearsal(("index", name, version), find)

    first, again, swapped, other = load("default", 1), load("default", 1), load("default", 2), load("next", 2)
    assert read == ["default 1", "default 2", "next 2"]
    assert [found.back_to for found in (first, again, swapped, other) if found] == [
        "default 1", "default 1", "default 2", "next 2",
    ]  # fmt: skip
