"""AnswerEvidence, probability and finding, on vectors and words whose answer is known."""

import numpy as np
import pytest

from core.coverage.answerability import (
    ANSWER_MODEL,
    LEAST_PASSAGES,
    AnswerEvidence,
    AnswerSearch,
    CoverageFinding,
    QuestionView,
    decide_finding,
    fit_answer_model,
)
from core.coverage.wording import WordIndex, question_words
from core.errors import InvalidInput


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def search() -> AnswerSearch:
    texts = [f"passage about subject{number} and its setting" for number in range(100)]
    return AnswerSearch(texts, unit(np.random.default_rng(0).normal(size=(100, 32))))


def test_a_passage_that_is_near_and_has_the_words_is_full_evidence(search: AnswerSearch) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(100, 32)))
    found = search.weigh([QuestionView("how do I set subject7", vectors[7])])
    assert found.lead > 0.99
    assert found.agreement == 1.0
    assert found.wording > 0.4
    assert ANSWER_MODEL.estimate([found])[0] > 0.95


def test_a_question_about_something_else_has_little_evidence(search: AnswerSearch) -> None:
    far = unit(np.random.default_rng(1).normal(size=32))
    found = search.weigh([QuestionView("penguins in winter", far)])
    assert (found.agreement, found.wording) == (0.0, 0.0)
    assert ANSWER_MODEL.estimate([found])[0] < 0.5


def test_the_evidence_of_several_views_is_their_mean(search: AnswerSearch) -> None:
    rng = np.random.default_rng(2)
    views = [QuestionView("subject3", unit(rng.normal(size=32))), QuestionView("penguins", unit(rng.normal(size=32)))]
    both, first, second = search.weigh(views), search.weigh(views[:1]), search.weigh(views[1:])
    assert both.lead == pytest.approx((first.lead + second.lead) / 2)
    assert both.wording == pytest.approx((first.wording + second.wording) / 2)


def test_the_lead_does_not_depend_on_the_scale_of_the_similarities() -> None:
    """Another embedding model may give every pair a cosine of 0.7 and more."""
    rng = np.random.default_rng(3)
    vectors, question = unit(rng.normal(size=(200, 16))), unit(rng.normal(size=16))
    common = np.sqrt(0.7)

    def lift(rows: np.ndarray) -> np.ndarray:
        constant = np.full((*rows.shape[:-1], 1), common, dtype=np.float32)
        return np.concatenate([rows * np.float32(np.sqrt(0.3)), constant], axis=-1)

    texts = ["text"] * 200
    plain = AnswerSearch(texts, vectors).weigh([QuestionView("q", question)])
    lifted = AnswerSearch(texts, lift(vectors)).weigh([QuestionView("q", lift(question))])
    assert lifted.lead == pytest.approx(plain.lead, abs=1e-4)


def test_too_few_passages_are_refused() -> None:
    with pytest.raises(InvalidInput, match=f"at least {LEAST_PASSAGES}"):
        AnswerSearch(["a"] * 10, np.zeros((10, 3), dtype=np.float32))


def draw(count: int, share: float, seed: int) -> tuple[list[AnswerEvidence], np.ndarray]:
    """AnswerEvidence as the shipped model understands it: both kinds normal, with the log odds as their difference."""
    rng = np.random.default_rng(seed)
    answered = rng.random(count) < share
    half = np.array(ANSWER_MODEL.weights) / 2
    odds = ANSWER_MODEL.bias - np.log(ANSWER_MODEL.prior / (1 - ANSWER_MODEL.prior))
    middle = -odds * half * 2 / (4 * half @ half)
    scaled = middle + np.where(answered[:, None], half, -half) + rng.normal(size=(count, 3))
    rows = scaled * np.array(ANSWER_MODEL.spread) + np.array(ANSWER_MODEL.center)
    return [AnswerEvidence(*row) for row in rows.tolist()], answered


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_probabilities_fit_a_service_whose_users_ask_other_things(share: float) -> None:
    evidence, answered = draw(2_000, share, seed=4)
    found = ANSWER_MODEL.estimate(evidence)
    assert found.mean() == pytest.approx(answered.mean(), abs=0.05)
    sure = found > 0.8
    assert answered[sure].mean() > 0.75


def test_few_questions_are_judged_at_the_prior_of_the_model() -> None:
    evidence, _ = draw(40, 0.1, seed=5)
    alone = [float(ANSWER_MODEL.estimate([each])[0]) for each in evidence]
    assert ANSWER_MODEL.estimate(evidence).tolist() == pytest.approx(alone)


def test_a_fit_finds_the_weights_and_never_one_below_zero() -> None:
    evidence, answered = draw(5_000, 0.7, seed=6)
    fitted = fit_answer_model(evidence, answered.tolist())
    plain = np.array(ANSWER_MODEL.weights) / np.array(ANSWER_MODEL.spread)
    assert np.array(fitted.weights) / np.array(fitted.spread) == pytest.approx(plain, rel=0.15)
    reverse = [AnswerEvidence(each.lead, -each.agreement, each.wording) for each in evidence]
    assert fit_answer_model(reverse, answered.tolist()).weights[1] == 0.0
    with pytest.raises(InvalidInput, match="both kinds"):
        fit_answer_model(evidence[:60], [True] * 60)


@pytest.mark.parametrize(
    ("searched", "others", "expected"),
    [
        (0.7, [], CoverageFinding.NOT_FOUND), (0.7, [0.9], CoverageFinding.NOT_FOUND),
        (0.3, [0.2, 0.6], CoverageFinding.OUTDATED),
        (0.3, [0.4], CoverageFinding.NOT_INDEXED), (0.3, [], CoverageFinding.NOT_INDEXED),
    ],
)  # fmt: skip
def test_the_finding_follows_from_what_the_indexes_answer(
    searched: float, others: list[float], expected: CoverageFinding
) -> None:
    assert decide_finding(searched, others) is expected


def test_bm25_ranks_rare_words_first_and_coverage_is_a_share() -> None:
    words = WordIndex(["the ring buffer", "the ring of gold and the ring of iron", "a buffer pool", "the the the"])
    assert int(words.score(question_words("buffer pool")).argmax()) == 2
    assert words.cover(question_words("buffer pool")).tolist()[3] == 0.0
    assert words.cover(question_words("buffer pool"))[2] == pytest.approx(1.0)
    assert words.cover(frozenset()).tolist() == [0.0] * 4
    assert WordIndex([]).score(frozenset({"a"})).tolist() == []
