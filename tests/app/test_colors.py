"""A thing keeps its color: whoever joins, an arm and a version are drawn as before."""

import itertools

from app.colors import ARM_COLORS, CATEGORIES, SYMBOLS, VERSION_COLORS, color_arms, place_versions

OKABE_ITO = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}


def test_the_hues_of_charts_are_those_that_color_blind_people_tell_apart() -> None:
    assert set(CATEGORIES) | set(ARM_COLORS.values()) <= OKABE_ITO
    assert len(set(CATEGORIES)) == len(CATEGORIES)


def test_eight_versions_differ_in_color_and_in_symbol() -> None:
    assert len(set(VERSION_COLORS)) == len(set(SYMBOLS)) == len(VERSION_COLORS) == len(SYMBOLS) == 8


def test_a_version_keeps_its_place_whoever_else_is_compared() -> None:
    names = ["qa-v1", "v2", "3", "v7"]
    for count in range(1, 5):
        for some in itertools.permutations(names, count):
            placed = place_versions([(name, name) for name in some])
            assert placed == {name: {"qa-v1": 0, "v2": 1, "3": 2, "v7": 6}[name] for name in some}


def test_things_of_one_version_and_without_a_number_take_the_places_that_are_left() -> None:
    placed = place_versions([("first", "v2"), ("again", "v2"), ("odd", "draft")])
    assert placed == {"first": 1, "again": 0, "odd": 2}
    many = place_versions([(at, f"v{at}") for at in range(1, 31)])
    assert set(many.values()) == set(range(8))


def test_blue_and_green_have_their_own_colors_in_every_experiment() -> None:
    assert color_arms(["short", "green", "blue"]) | ARM_COLORS == color_arms(["short", "green", "blue"])
    assert len(set(color_arms(["blue", "green", "a", "b", "c", "d"]).values())) == 6
