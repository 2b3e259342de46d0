"""Topics: literal vectors for the rules, BANKING77 for the quality bars."""

import csv

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.data import locate
from benchmarks.topic_sets import zipf_counts
from core.coverage import clusters
from core.coverage.granularity import adjusted_rand
from core.coverage.maps import map_queries
from core.coverage.topics import (
    KnownTopic,
    Topics,
    TopicStatus,
    Trend,
    find_topics,
    gain_of,
    low_score_threshold,
    trend_of,
)
from core.errors import InvalidInput
from core.log.values import AskedQuery

BANKING77 = locate("data", "banking77", "test.csv")
Vectors = NDArray[np.float32]
SUBJECTS = ("VPP plugin", "hugepage size", "mempool cache")


def blobs(sizes: tuple[int, ...], *, spread: float = 0.15, seed: int = 0) -> Vectors:
    """Unit vectors around the axes of a space of 16 dimensions, one group an axis."""
    rng = np.random.default_rng(seed)
    rows = [np.eye(16)[axis] + spread * rng.standard_normal(16) for axis, size in enumerate(sizes) for _ in range(size)]
    return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32).reshape(-1, 16)


def asked(sizes: tuple[int, ...], *, count: int = 1, score: float = 0.3) -> list[AskedQuery]:
    return [
        AskedQuery(f"question {number} on the {SUBJECTS[group]}", count, score)
        for group, size in enumerate(sizes)
        for number in range(size)
    ]


def found(sizes: tuple[int, ...], clusters: int | None = None) -> Topics:
    return find_topics(asked(sizes), blobs(sizes), clusters=clusters)


def test_groups_are_found_named_and_ordered_by_how_often_they_were_asked() -> None:
    topics = found((8, 14, 10), clusters=3).topics
    assert [topic.count for topic in topics] == [14, 10, 8]
    assert [topic.cluster_id for topic in topics] == [0, 1, 2]
    assert [topic.keywords for topic in topics] == [("hugepage size",), ("mempool cache",), ("VPP plugin",)]
    assert all(topic.label == topic.sample_queries[0] for topic in topics)
    assert topics[0].members == tuple(range(8, 22))
    assert sum(topic.share for topic in topics) == pytest.approx(1.0)


@pytest.mark.parametrize("sizes", [(12, 10), (8, 14, 10), (20, 16, 14)])
def test_the_number_of_well_separated_groups_is_found(sizes: tuple[int, ...]) -> None:
    assert found(sizes).chosen_clusters == len(sizes)


def test_few_questions_with_nothing_in_common_get_the_usual_number() -> None:
    rows = np.random.default_rng(5).standard_normal((150, 64)).astype(np.float32)
    vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    chosen = clusters.cluster_vectors(vectors, np.ones(150))
    assert chosen.clusters == round(0.65 * np.sqrt(150))
    assert chosen.chosen_by.endswith("diffuse, 0.65 sqrt(n)")


def test_the_number_of_few_questions_hardly_changes_with_the_window() -> None:
    rng = np.random.default_rng(0)
    rows = np.eye(64)[np.arange(240) % 12] + 0.18 * rng.standard_normal((240, 64))
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    numbers = [clusters.cluster_vectors(vectors[start : start + 160], np.ones(160)).clusters for start in (0, 40, 80)]
    assert 6 <= min(numbers) <= max(numbers) <= 24
    assert max(numbers) <= 1.5 * min(numbers)


def test_asking_more_often_makes_a_topic_larger_than_having_more_wordings() -> None:
    queries = [*asked((10,), count=1), *(AskedQuery(f"hugepage {n}", 9, 0.3) for n in range(4))]
    largest = find_topics(queries, blobs((10, 4)), clusters=2).topics[0]
    assert (largest.count, largest.distinct) == (36, 4)


def test_fewer_than_ten_queries_are_too_little_to_cluster_and_say_so() -> None:
    answer = find_topics(asked((9,)), blobs((9,)), clusters=3)
    assert answer.status is TopicStatus.TOO_LITTLE
    assert answer.reason == "too few questions to group: 9 scored low, at least 10 are needed"
    assert find_topics([], np.empty((0, 16), dtype=np.float32)).status is TopicStatus.TOO_LITTLE


def test_ten_queries_are_enough_also_when_one_text_was_asked_ten_times() -> None:
    answer = find_topics([AskedQuery("install VPP", 10, 0.3)], blobs((1,)))
    assert [(topic.count, topic.label) for topic in answer.topics] == [(10, "install VPP")]


@pytest.mark.parametrize("clusters", [0, -1, 11])
def test_a_number_of_clusters_outside_the_distinct_queries_is_refused_by_name(clusters: int) -> None:
    with pytest.raises(InvalidInput, match="clusters"):
        found((10,), clusters=clusters)


def test_as_many_clusters_as_distinct_queries_gives_each_its_own() -> None:
    assert [topic.distinct for topic in found((6, 6), clusters=12).topics] == [1] * 12


@pytest.mark.parametrize("clusters", [None, 2, 5, 12])
def test_identical_vectors_do_not_break_anything(clusters: int | None) -> None:
    vectors = np.repeat(blobs((1,)), 12, axis=0)
    answer = find_topics(asked((12,)), vectors, clusters=clusters)
    assert answer.chosen_clusters == (clusters or 1)
    assert sum(topic.count for topic in answer.topics) + len(answer.outliers) == 12


def test_the_same_text_twice_is_one_query_asked_twice() -> None:
    queries = [AskedQuery("Load a plugin", 6, 0.2), AskedQuery("load  a PLUGIN", 6, 0.4)]
    topic = find_topics(queries, blobs((2,))).topics[0]
    assert (topic.count, topic.distinct, topic.members) == (12, 1, (0, 1))
    assert topic.mean_score == pytest.approx(0.3)


def test_the_order_of_rows_changes_nothing() -> None:
    queries, vectors = asked((8, 14, 10)), blobs((8, 14, 10))
    order = np.random.default_rng(1).permutation(32)
    straight, mixed = find_topics(queries, vectors), find_topics([queries[at] for at in order], vectors[order])
    assert [topic.topic_id for topic in straight.topics] == [topic.topic_id for topic in mixed.topics]
    assert [straight.assignments[at] for at in order] == list(mixed.assignments)


def test_a_query_unlike_all_others_is_named_an_outlier_and_still_assigned() -> None:
    stray = np.full((1, 16), -0.25, dtype=np.float32)
    answer = find_topics(
        [*asked((20, 20)), AskedQuery("sing me a song", 1, 0.1)], np.vstack([blobs((20, 20)), stray]), clusters=2
    )
    assert answer.outliers == (40,)
    assert answer.assignments[40] in (0, 1)
    assert [topic.count for topic in answer.topics] == [20, 20]


def test_a_query_unlike_all_others_but_asked_often_is_a_topic() -> None:
    stray = np.full((1, 16), -0.25, dtype=np.float32)
    answer = find_topics(
        [*asked((20, 20)), AskedQuery("price list", 30, 0.1)], np.vstack([blobs((20, 20)), stray]), clusters=3
    )
    assert answer.outliers == ()
    assert answer.topics[0].sample_queries == ("price list",)


def test_a_topic_keeps_its_id_in_the_next_run_and_a_new_one_gets_a_new_id() -> None:
    first = found((8, 14), clusters=2)
    known = [KnownTopic(topic.topic_id, topic.centroid) for topic in first.topics]
    later = find_topics(asked((12, 9, 20)), blobs((12, 9, 20), seed=5), clusters=3, previous=known)
    ids = {topic.keywords[0]: topic.topic_id for topic in later.topics}
    before = {topic.keywords[0]: topic.topic_id for topic in first.topics}
    assert ids["VPP plugin"] == before["VPP plugin"]
    assert ids["hugepage size"] == before["hugepage size"]
    assert ids["mempool cache"] not in before.values()


def test_a_known_topic_of_another_embedding_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="previous"):
        find_topics(asked((10,)), blobs((10,)), previous=[KnownTopic("t-1", (1.0, 0.0))])


def test_a_known_topic_keeps_its_first_label_and_no_other_topic_takes_it() -> None:
    first = found((8, 14), clusters=2)
    plugin = next(topic for topic in first.topics if topic.keywords == ("VPP plugin",))
    taken = "question 3 on the hugepage size"
    known = [KnownTopic(plugin.topic_id, plugin.centroid, taken)]
    later = find_topics(asked((12, 9)), blobs((12, 9), seed=5), clusters=2, previous=known)
    labels = {topic.keywords[0]: topic.label for topic in later.topics}
    assert labels["VPP plugin"] == taken
    assert labels["hugepage size"] not in ("", taken)


def test_heavy_queries_count_in_the_figures_and_hardly_in_the_shape() -> None:
    even, uneven = asked((20, 16, 14)), asked((20, 16, 14))
    uneven[0] = AskedQuery(uneven[0].text, 5_000, 0.3)
    vectors = blobs((20, 16, 14))
    assert find_topics(uneven, vectors).assignments == find_topics(even, vectors).assignments
    assert find_topics(uneven, vectors).topics[0].count == 5_019


def test_questions_beyond_the_sample_join_the_nearest_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "SAMPLE_LIMIT", 60)
    sizes = (100, 80, 60)
    answer = find_topics(asked(sizes), blobs(sizes), clusters=3)
    assert (answer.distinct, answer.sampled) == (240, 60)
    assert "a sample of 60 shaped the topics, the other 180 joined the nearest one" in answer.reason
    assert [topic.count for topic in answer.topics] == [100, 80, 60]


def test_questions_in_an_unknown_language_are_named_as_such_and_not_grouped() -> None:
    thai = [AskedQuery(text, 3, 0.1) for text in ("ยกเลิกสัญญาอย่างไร", "อยากยกเลิกสัญญา", "เปลี่ยนที่อยู่")]
    queries, vectors = [*asked((20, 16)), *thai], np.vstack([blobs((20, 16)), blobs((1, 1, 1))])
    answer = find_topics(queries, vectors, languages={"en"})
    own = next(topic for topic in answer.topics if topic.language)
    assert (own.label, own.count, own.gain, own.members) == ("Questions in Thai", 9, 0.0, (36, 37, 38))
    assert answer.chosen_clusters == 2
    assert "their language: 9 questions in Thai" in answer.reason
    assert not any(topic.language for topic in find_topics(queries, vectors).topics)


def test_gain_is_the_lacking_score_of_what_belongs_together() -> None:
    assert gain_of(10, 0.4, 0.5, baseline_median=0.8) == pytest.approx(10 * 0.4 * 0.0625)
    assert gain_of(10, 0.9, 1.0, baseline_median=0.8) == 0.0


def test_a_tight_gap_ranks_above_a_larger_loose_one() -> None:
    sizes = (10, 30)
    vectors = np.vstack([blobs((10,), spread=0.05), np.roll(blobs((30,), spread=0.5), 1, axis=1)])
    answer = find_topics(asked(sizes), vectors, clusters=2, baseline_median=0.8)
    assert answer.topics[0].keywords == ("hugepage size",)
    assert answer.ranked()[0].keywords == ("VPP plugin",)


@pytest.mark.parametrize(
    ("counts", "trend"),
    [
        ((0, 0, 0, 5), Trend.NEW),
        ((2, 4, 9, 20), Trend.GROWING),
        ((20, 9, 4, 2), Trend.FADING),
        ((9, 11, 10, 10), Trend.STEADY),
        ((5,), Trend.UNKNOWN),
        ((), Trend.UNKNOWN),
    ],
)
def test_trend_follows_the_weekly_counts(counts: tuple[int, ...], trend: Trend) -> None:
    assert trend_of(counts) is trend


def test_weekly_counts_of_a_topic_are_added_up_at_the_latest_week() -> None:
    queries = [AskedQuery(f"VPP {n}", 9, 0.3, (9,) if n else (0, 0, 9)) for n in range(4)]
    assert find_topics(queries, blobs((4,))).topics[0].trend is Trend.NEW


def test_markup_digits_and_other_scripts_stay_text() -> None:
    words = [
        "<b>VPP</b> 23.10",
        "<script>alert(1)</script>",
        "如何重置密码",
        "как сменить пароль",
        "???",
        "42",
        "🙂",
        " ",
    ]
    queries = [AskedQuery(f"{word} " * (n + 1), 2, 0.3) for n, word in enumerate(words)]
    answer = find_topics(queries, blobs((4, 4)), clusters=2)
    assert sum(topic.count for topic in answer.topics) == 16
    assert all("<" not in topic.label for topic in answer.topics)


def test_low_scores_start_at_a_tenth_of_the_reference() -> None:
    assert low_score_threshold([10, 90], [0.0, 0.5, 1.0]) == pytest.approx(0.5)
    assert low_score_threshold([0, 100], [0.0, 0.5, 1.0]) == pytest.approx(0.55)
    with pytest.raises(InvalidInput, match="counts"):
        low_score_threshold([0, 0], [0.0, 0.5, 1.0])


def test_vectors_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInput, match="vectors"):
        find_topics(asked((10,)), blobs((9,)))
    broken = blobs((10,))
    broken[0, 0] = np.nan
    with pytest.raises(InvalidInput, match="vectors"):
        find_topics(asked((10,)), broken)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_map_of_hardly_any_queries_has_a_finite_point_each(count: int) -> None:
    points = map_queries(blobs((count,)))
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


def test_a_map_keeps_groups_together_and_is_the_same_each_time() -> None:
    vectors = blobs((15, 15))
    points = map_queries(vectors)
    np.testing.assert_array_equal(points, map_queries(vectors))
    centers = points[:15].mean(axis=0), points[15:].mean(axis=0)
    nearer = np.linalg.norm(points - centers[0], axis=1) < np.linalg.norm(points - centers[1], axis=1)
    assert nearer.tolist() == [True] * 15 + [False] * 15
    with pytest.raises(InvalidInput, match="2000"):
        map_queries(np.zeros((2001, 16), dtype=np.float32))


@pytest.fixture(scope="module")
def banking() -> tuple[list[AskedQuery], list[str], Vectors]:
    if not BANKING77.exists():
        pytest.skip(f"BANKING77 is not at {BANKING77}")
    from core.embedding.embed import Embedder

    with BANKING77.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    texts = [row["text"] for row in rows]
    return [AskedQuery(text, 1, 0.5) for text in texts], [row["category"] for row in rows], Embedder().embed(texts)


@pytest.mark.slow
@pytest.mark.deep
def test_real_queries_at_the_true_number_agree_with_their_labels(
    banking: tuple[list[AskedQuery], list[str], Vectors],
) -> None:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    queries, classes, vectors = banking
    answer = find_topics(queries, vectors, clusters=77)
    assert len(set(answer.assignments)) == 77
    assert normalized_mutual_info_score(classes, answer.assignments) >= 0.80
    assert adjusted_rand_score(classes, answer.assignments) >= 0.52


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("exponent", [1.0, 1.3])
def test_counts_as_uneven_as_real_ones_do_not_blur_the_topics(
    banking: tuple[list[AskedQuery], list[str], Vectors], exponent: float
) -> None:
    queries, classes, vectors = banking
    counts = zipf_counts(len(queries), exponent=exponent, seed=0)
    weighted = [AskedQuery(query.text, count, 0.5) for query, count in zip(queries, counts, strict=True)]
    answer = find_topics(weighted, vectors)
    assert 50 <= answer.chosen_clusters <= 120
    names, found_of = sorted(set(classes)), np.array(answer.assignments)
    assert adjusted_rand(np.array([names.index(name) for name in classes]), found_of) >= 0.54


@pytest.mark.slow
@pytest.mark.deep
def test_real_queries_choose_a_sensible_number_themselves(
    banking: tuple[list[AskedQuery], list[str], Vectors],
) -> None:
    queries, _, vectors = banking
    assert 50 <= find_topics(queries, vectors).chosen_clusters <= 120
