"""The map between two embedding models on the corpus page, in words."""

from app.panels.corpus.model_map import say_threshold, say_what_goes_on
from core.drift.scales import ModelMap

KNOWN = ModelMap("small", "large", ((0.2, 0.5), (0.8, 0.8)), 0.004, 420)


def test_the_page_says_that_nothing_restarts_silently_with_a_map() -> None:
    said = say_what_goes_on("small", "large", KNOWN)
    assert "420 questions asked under both, misses the mean by 0.004" in said
    assert "nothing restarts silently" in said and "the way back" in said
    assert say_threshold(KNOWN, 0.4) == "A question scores low below 0.400 now, and below 0.600 after the swap."


def test_the_page_says_what_starts_anew_without_a_map() -> None:
    said = say_what_goes_on("small", "large", None)
    assert "Without a map, the drift reference starts anew with the swap" in said
