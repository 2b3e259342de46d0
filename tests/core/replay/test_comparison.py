"""The rules of a replay: which questions are drawn, what shifts are estimated, who wins and loses."""

import json
from datetime import date

import numpy as np
import pytest

from core.drift.scales import ModelMap
from core.errors import InvalidInput
from core.log.values import AskedQuery
from core.replay.answering import AnswerOutcome, AnswerRun, compare_answers
from core.replay.comparison import FoundPassage, HitLists, HitState, ReplayOf, compare_hits
from core.replay.kept import parse_replay, write_replay
from core.replay.sampling import DrawnQuestion, draw_questions
from core.replay.shifts import estimate_shift, map_scores

DAY = date(2026, 11, 29)


def about(**given) -> ReplayOf:
    values = {
        "live": "docs-v1", "candidate": "docs-v2", "live_model": "m", "candidate_model": "m",
        "environment": "production", "service": "chat", "first": DAY, "last": DAY, "distinct": 0, "asked": 0,
        "threshold": 0.5, "top_k": 2, "seed": 0,
    }  # fmt: skip
    return ReplayOf(**(values | given))


def draw(*scores: float, topic: str = "", weight: float = 1.0) -> list[DrawnQuestion]:
    return [DrawnQuestion(f"question {at}", topic, 1, weight, weight, score) for at, score in enumerate(scores)]


def hit(live: float | None, candidate: float | None, overlap: float = 1.0) -> HitLists:
    before, after = (() if score is None else (FoundPassage("a.md", "", score),) for score in (live, candidate))
    return HitLists(before, after, overlap, overlap)


def compare(drawn, hits, *, labels=None, segments=None, **given):
    return compare_hits(about(**given), drawn, hits, labels=labels or {}, segments=segments or {})


def test_all_questions_are_replayed_where_there_are_few():
    drawn = draw_questions([AskedQuery("a", 3, 0.5), AskedQuery("b", 1, 0.2)], {"b": "t-1"}, size=2, seed=1)
    assert [(each.text, each.weight, each.topic_id) for each in drawn] == [("a", 3.0, ""), ("b", 1.0, "t-1")]


def test_a_sample_follows_traffic_and_gives_each_topic_its_share_and_is_the_same_for_a_seed():
    rng = np.random.default_rng(3)
    asked = [AskedQuery(f"q{at}", int(count), 0.5) for at, count in enumerate(rng.zipf(1.7, 3_000).clip(max=400))]
    topic_of = {query.text: f"t-{at % 4}" for at, query in enumerate(asked)}
    total = sum(query.count for query in asked)
    first = draw_questions(asked, topic_of, size=500, seed=7)
    assert first == draw_questions(asked, topic_of, size=500, seed=7)
    assert first != draw_questions(asked, topic_of, size=500, seed=8)
    assert sum(each.weight for each in first) == pytest.approx(total)
    for topic in set(topic_of.values()):
        share = sum(query.count for query in asked if topic_of[query.text] == topic)
        assert abs(sum(each.weight for each in first if each.topic_id == topic) - share) <= 2 * total / 500
    often = [each for each in first if each.asked > total / 500]
    assert len(often) == sum(query.count > total / 500 for query in asked)  # no popular question is missed


def test_the_mean_of_samples_is_the_mean_of_the_log():
    rng = np.random.default_rng(10)
    asked = [AskedQuery(f"q{at}", int(count), float(score)) for at, (count, score) in enumerate(
        zip(rng.integers(1, 30, 800), rng.random(800), strict=True))]  # fmt: skip
    whole = sum(query.count * query.mean_score for query in asked) / sum(query.count for query in asked)
    means = []
    for seed in range(200):
        drawn = draw_questions(asked, {}, size=100, seed=seed)
        means.append(sum(e.weight * e.logged_score for e in drawn) / sum(e.weight for e in drawn))
    assert np.mean(means) == pytest.approx(whole, abs=0.006)


def test_a_text_weighs_at_most_one_percent_in_the_watched_mean():
    drawn = draw_questions([AskedQuery("bot", 900, 0.9), *(AskedQuery(f"q{at}", 1, 0.5) for at in range(100))], {},
                           size=200, seed=0)  # fmt: skip
    bot = next(each for each in drawn if each.text == "bot")
    assert (bot.weight, bot.capped_weight) == (900, pytest.approx(10))


def test_a_sample_of_nothing_is_refused():
    with pytest.raises(InvalidInput, match="sample: 0 is below 1"):
        draw_questions([], {}, size=0, seed=0)


def test_the_interval_of_a_shift_covers_the_truth_in_95_of_100():
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(1_000):
        weights, changes = rng.integers(1, 10, 60), rng.normal(0.03, 0.1, 60)
        shift = estimate_shift(weights, changes)
        covered += shift.low <= 0.03 <= shift.high
    assert 930 <= covered <= 970


def test_one_question_says_nothing_about_others():
    assert (estimate_shift([3], [0.2]).low, estimate_shift([3], [0.2]).high) == (-1, 1)
    assert estimate_shift([], []).value == 0


def test_scores_states_and_topics_that_win_and_lose():
    drawn = [*draw(*[0.3] * 20, topic="t-1"), *draw(*[0.8] * 20, topic="t-2")]
    rng = np.random.default_rng(1)
    hits = [hit(0.3, 0.7 + rng.normal(0, 0.01), 0.0) for _ in range(20)]
    hits += [hit(0.8, 0.4 + rng.normal(0, 0.01)) for _ in range(20)]
    found = compare(drawn, hits, labels={"t-1": "vpp", "t-2": "dpdk"})
    assert [(each.label, each.verdict) for each in found.topics] == [("dpdk", "loses"), ("vpp", "wins")]
    assert found.score.value == pytest.approx(0, abs=0.01)
    assert not found.score.is_fall
    assert (found.better, found.worse, found.overlap) == (0.5, 0.5, 0.5)
    assert {each.state: (each.live, each.candidate) for each in found.states} == {
        HitState.WELL: (0.5, 0.5), HitState.LOW: (0.5, 0.5), HitState.EMPTY: (0, 0)
    }  # fmt: skip
    assert len(found.changed) == 20
    assert found.predicted.high - found.score.high == pytest.approx(0.01)


def test_searches_without_hits_count_as_zero_and_as_a_state_of_their_own():
    found = compare(draw(0.6, 0.6, 0.6), [hit(0.6, None, 0.0), hit(0.6, 0.6), hit(0.6, 0.6)])
    assert found.score.value == pytest.approx(-0.2)
    assert next(each.candidate for each in found.states if each.state is HitState.EMPTY) == pytest.approx(1 / 3)


def test_an_index_that_finds_the_same_changes_nothing():
    found = compare(draw(*[0.4] * 30, topic="t-1"), [hit(0.6, 0.6)] * 30)
    assert (found.score.value, found.overlap, found.worse) == (0, 1, 0)
    assert [each.verdict for each in found.topics] == ["no difference shown"]
    assert found.logged_score == pytest.approx(0.4)


def test_a_segment_is_compared_by_its_own_questions():
    hits = [hit(0.5, 0.9)] * 10 + [hit(0.5, 0.5)] * 10
    segments = {
        ("tenant", "acme"): dict.fromkeys(range(10), 1.0),
        ("tenant", "cobalt"): dict.fromkeys(range(10, 20), 2.0),
    }
    found = compare(draw(*[0.5] * 20), hits, segments=segments)
    assert {each.name: round(each.score.value, 3) for each in found.segments} == {"acme": 0.4, "cobalt": 0.0}


def test_with_a_map_the_predicted_mean_and_low_scores_are_on_the_live_scale():
    hits = [hit(0.5, 0.85)] * 20 + [hit(0.4, 0.6)] * 20
    bridge = ModelMap("other", "m", ((0.6, 0.4), (0.8, 0.5)), 0.004, 400)
    told = about(candidate_model="other", threshold=0.45)
    found = compare_hits(told, draw(*[0.45] * 40), hits, labels={}, segments={}, bridge=bridge)
    assert found.score.value == pytest.approx(0.275)
    assert found.carried
    assert found.carried.value == found.predicted.value == pytest.approx(0.0125)
    assert (found.low_share.live, found.low_share.candidate) == (0.5, 0.5)
    assert parse_replay(json.loads(json.dumps(write_replay(found)))) == found
    unmapped = compare(draw(*[0.45] * 40), hits, candidate_model="other", threshold=0.45)
    assert (unmapped.carried, unmapped.predicted.value, unmapped.low_share.candidate) == (None, found.score.value, 0)


def test_scores_of_another_model_are_compared_by_rank():
    live = np.linspace(0.4, 0.8, 50)
    drawn, weights = draw(*live), np.ones(50)
    hits = [hit(float(score), float(0.2 + score / 2)) for score in live]
    found = compare(drawn, hits, candidate_model="other")
    assert found.better == found.worse == 0  # the order is the same
    assert found.score.value == pytest.approx(np.mean(0.2 - live / 2))
    assert map_scores(live / 3, live, weights) == pytest.approx(live)
    swapped = [hit(0.4, 0.6), hit(0.8, 0.4)] + [hit(0.6, 0.5)] * 8
    moved = {
        round(each.live_score, 1): each.change
        for each in compare(draw(*[0.6] * 10), swapped, candidate_model="o").changed
    }
    assert moved[0.4] > 0.15
    assert moved[0.8] < -0.15


def test_a_replay_without_questions_is_refused():
    with pytest.raises(InvalidInput, match="questions: there are none with a score from 2026-11-29"):
        compare([], [])


def test_scores_are_carried_to_the_scale_of_a_log_that_maps_other_kinds():
    cosines = np.linspace(0.3, 0.7, 40)
    logged = 0.05 + 0.9 * (cosines - 0.3) / 0.4  # as a learned map of BM25 gives: quantiles
    drawn = draw(*logged)
    same = compare(drawn, [hit(float(score), float(score)) for score in cosines], kinds=("bm25",), threshold=0.275)
    assert same.live_score == pytest.approx(same.logged_score)
    assert same.low_share.live == pytest.approx(0.25)  # of the log's own scale, on which the threshold is
    assert same.score.value == 0
    better = compare(drawn, [hit(float(s), float(s) + 0.04) for s in cosines], kinds=("bm25",), threshold=0.275)
    assert better.score.value == pytest.approx(0.09 - 0.09 * 0.055, abs=0.01)  # what is beyond the ends stays there
    gone = compare(drawn, [hit(float(score), None) for score in cosines], kinds=("bm25",), threshold=0.275)
    assert (gone.candidate_score, next(s.candidate for s in gone.states if s.state is HitState.EMPTY)) == (0, 1)


def test_the_questions_of_a_prompt_that_change_most_are_those_whose_answers_do():
    drawn = draw(*[0.5] * 30)
    sides = [
        [AnswerOutcome(at, False, value if at == 7 else 1.0, 0.5, 0.0) for at in range(30)] for value in (1.0, 0.0)
    ]
    answers = compare_answers(AnswerRun("a", "b", "c", "d"), dict(enumerate(drawn)), *sides, labels={})
    found = compare_hits(about(), drawn, [hit(0.5, 0.5)] * 30, labels={}, segments={}, answers=answers)
    first = found.changed[0]
    assert (first.text, first.live_faithfulness, first.candidate_faithfulness) == ("question 7", 1.0, 0.0)
    assert first.loses
    assert not found.changed[1].loses
