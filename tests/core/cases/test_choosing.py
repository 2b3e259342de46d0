"""Rules: duplicates by meaning, and typical questions of a topic."""

import numpy as np
from numpy.typing import NDArray

from core.cases.choosing import SAME_MEANING, choose_typical, find_duplicates


def unit(*angles: float) -> NDArray[np.float32]:
    """Vectors of length 1 at these angles, in degrees."""
    turned = np.radians(angles)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def test_a_question_is_a_duplicate_of_the_nearest_known_one_from_the_threshold_on() -> None:
    texts = ["known", "near", "nearer", "far"]
    vectors = dict(zip(texts, unit(0, 20, 10, 40), strict=True))
    found = find_duplicates(["near", "nearer", "far"], ["known"], vectors)
    assert {question: each.of for question, each in found.items()} == {"near": "known", "nearer": "known"}
    assert found["near"].similarity >= SAME_MEANING > float(vectors["far"] @ vectors["known"])


def test_an_earlier_question_of_the_same_choice_counts_too() -> None:
    vectors = dict(zip(["a", "b"], unit(0, 5), strict=True))
    assert find_duplicates(["a", "b"], [], vectors)["b"].of == "a"


def test_texts_that_differ_in_case_and_spaces_are_the_same_without_any_vector() -> None:
    found = find_duplicates(["How  do I load IT?", "Other"], ["how do i load it?"], {})
    assert [(each.of, each.similarity) for each in found.values()] == [("how do i load it?", 1.0)]


def test_the_first_typical_question_is_the_weighted_medoid() -> None:
    angles = [0, 30, 31, 32, 62]
    assert choose_typical([*"abcde"], [1, 1, 1, 1, 1], unit(*angles), most=1) == (2,)
    assert choose_typical([*"abcde"], [1, 1, 1, 1, 50], unit(*angles), most=1) == (4,)


def test_the_next_ones_speak_for_the_rest_and_repeat_nothing() -> None:
    chosen = choose_typical([*"abcde"], [1, 1, 1, 1, 1], unit(0, 30, 31, 32, 62))
    assert set(chosen) == {2, 0, 4}  # 30 and 32 degrees say the same as 31
    assert chosen[0] == 2


def test_what_is_known_is_not_chosen_again() -> None:
    assert set(choose_typical([*"abcde"], [1] * 5, unit(0, 30, 31, 32, 62), known=unit(31))) == {0, 4}
    assert choose_typical([], [], np.empty((0, 2), np.float32)) == ()


def test_ten_of_many_are_spread_over_all_groups() -> None:
    generator = np.random.default_rng(20_261)
    centers = generator.normal(size=(10, 32))
    rows = np.concatenate([center + 0.2 * generator.normal(size=(40, 32)) for center in centers])
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    chosen = choose_typical([str(n) for n in range(400)], [1] * 400, vectors)
    assert sorted(place // 40 for place in chosen) == list(range(10))
