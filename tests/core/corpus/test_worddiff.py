"""The rule that compares two texts word by word."""

import random

import pytest

from core.corpus.worddiff import SegmentKind, TextSegment, compare_words


def rebuilt(segments: tuple[TextSegment, ...], without: SegmentKind) -> str:
    return "".join(segment.text for segment in segments if segment.kind != without)


def test_only_the_word_that_changed_is_marked() -> None:
    segments = compare_words("The mbuf pool is fast.\nSecond line.\n", "The mbuf pool is huge.\nSecond line.\n")
    assert [(segment.kind, segment.text) for segment in segments] == [
        ("same", "The mbuf pool is "),
        ("removed", "fast"),
        ("added", "huge"),
        ("same", ".\nSecond line.\n"),
    ]


def test_equal_texts_are_one_segment_and_empty_ones_none() -> None:
    assert compare_words("a b\n", "a b\n") == (TextSegment(SegmentKind.SAME, "a b\n"),)
    assert compare_words("", "") == ()


def test_a_new_text_is_added_whole() -> None:
    assert compare_words("", "a b\nc") == (TextSegment(SegmentKind.ADDED, "a b\nc"),)


@pytest.mark.parametrize("seed", range(10))
def test_both_texts_can_be_put_together_again(seed: int) -> None:
    rng = random.Random(seed)
    old, new = ("".join(rng.choices(["vpp ", "node\n", "é, ", "\r\n", "  "], k=60)) for _ in range(2))
    segments = compare_words(old, new)
    assert rebuilt(segments, SegmentKind.ADDED) == old
    assert rebuilt(segments, SegmentKind.REMOVED) == new


def test_a_rewritten_book_is_shown_as_such() -> None:
    old, new = ("".join(f"{word}{number} " for number in range(3_000)) for word in ("old", "new"))
    assert [segment.kind for segment in compare_words(old, new)] == ["removed", "added"]
