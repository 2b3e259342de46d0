"""Which of many runs are judged together: literal versions and cases."""

from core.prompts.groups import Group, choose_group, choose_same

A = frozenset(f"a{n}" for n in range(20))
B = frozenset(f"b{n}" for n in range(13))


def test_a_run_over_other_cases_and_a_version_without_cases_spoil_nothing() -> None:
    versions = [["trial"], ["bare"], ["three"], ["two"], ["one"]]
    found = choose_group(versions, {"trial": B, "three": A, "two": A, "one": A, "bare": frozenset()})
    assert found == Group(("three", "two", "one"), tuple(sorted(A)))


def test_a_version_takes_part_with_its_newest_run_that_fits() -> None:
    versions = [["2 trial", "2 new", "2 old"], ["1"]]
    assert choose_group(versions, {"2 trial": B, "2 new": A, "2 old": A, "1": A}).run_ids == ("2 new", "1")


def test_versions_whose_newest_runs_all_differ_meet_in_their_older_ones() -> None:
    versions = [["2 own", "2"], ["1 own", "1"]]
    cases = {"2 own": B, "1 own": frozenset("xyz"), "2": A, "1": A}
    assert choose_group(versions, cases).run_ids == ("2", "1")


def test_of_equal_groups_the_one_with_production_counts_and_then_the_newest() -> None:
    versions = [["4"], ["3"], ["2"], ["1"]]
    cases = {"4": B, "3": B, "2": A, "1": A}
    assert choose_group(versions, cases).run_ids == ("4", "3")
    assert choose_group(versions, cases, production=3).run_ids == ("2", "1")


def test_a_few_missing_cases_are_left_out_of_all() -> None:
    found = choose_group([["2"], ["1"]], {"2": A - {"a3"}, "1": A})
    assert found == Group(("2", "1"), tuple(sorted(A - {"a3"})))


def test_runs_that_share_half_of_their_cases_are_judged_only_when_no_two_are_alike() -> None:
    half = frozenset(sorted(A)[:10]) | B
    assert choose_group([["half"], ["2"]], {"half": half, "2": A}).shared == tuple(sorted(A & half))
    assert choose_group([["half"], ["2"], ["1"]], {"half": half, "2": A, "1": A}).run_ids == ("2", "1")
    assert len(choose_group([["2"], ["1"]], {"2": A, "1": B}).run_ids) == 1
    assert choose_group([["2"]], {}) == Group((), ())


def test_of_chosen_runs_one_over_other_cases_and_a_second_run_of_a_version_change_nothing() -> None:
    few, many = frozenset("abcdef"), frozenset("abcdefgh")
    cases = {"v1": few, "v1 again": few, "v2": few, "v3": many}
    versions = {"v1": 1, "v1 again": 1, "v2": 2, "v3": 3}
    assert choose_same(["v3", "v2", "v1 again", "v1"], cases, versions) == ("v2", "v1 again")
    assert choose_same(["v2", "v1"], cases, versions) == ("v2", "v1")


def test_of_chosen_runs_all_are_kept_where_no_two_versions_have_the_same_cases() -> None:
    few, many = frozenset("abcdef"), frozenset("abcdefgh")
    assert choose_same(["v2", "v1"], {"v1": few, "v2": many}, {"v1": 1, "v2": 2}) == ("v2", "v1")
    assert choose_same(["b", "a"], {"a": few, "b": few}, {"a": 1, "b": 1}) == ("b", "a")
    assert choose_same([], {}, {}) == ()


def test_of_equally_many_chosen_versions_those_with_production_count() -> None:
    few, many = frozenset("abcdef"), frozenset("abcdefgh")
    cases = {"v4": many, "v3": many, "v2": few, "v1": few}
    versions = {"v4": 4, "v3": 3, "v2": 2, "v1": 1}
    assert choose_same(["v4", "v3", "v2", "v1"], cases, versions) == ("v4", "v3")
    assert choose_same(["v4", "v3", "v2", "v1"], cases, versions, production=1) == ("v2", "v1")
