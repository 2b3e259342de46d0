"""The offline answerer and judges, on literal sentences and similarities."""

import pytest

from core.errors import InvalidInput
from core.prompts.answers import Judgment, choose_sentences, is_supported, judge_answer, split_sentences


def test_markdown_is_split_into_sentences_without_headings_and_code():
    text = """Rings > Size
# Rings
A ring is a FIFO (first in, first out). Its size, e.g. 512, is fixed!
- `rte_ring_create` makes one. 3 flags exist.
1. No locks are taken.

```c
rte_ring_free(r). Not a sentence.
```
| a | table. |
Is it fast? Yes."""
    assert split_sentences(text) == (
        "A ring is a FIFO (first in, first out).",
        "Its size, e.g. 512, is fixed!",
        "`rte_ring_create` makes one.",
        "3 flags exist.",
        "No locks are taken.",
        "Is it fast?",
        "Yes.",
    )
    assert split_sentences("") == ()


def test_the_nearest_sentences_are_chosen_best_first():
    assert choose_sentences([0.2, 0.9, 0.5], max_sentences=2, refuse_below=None) == (1, 2)
    assert choose_sentences([0.5, 0.5], max_sentences=1, refuse_below=None) == (0,)


@pytest.mark.parametrize(("threshold", "chosen"), [(0.9, (1,)), (0.91, ()), (None, (1,))])
def test_a_best_sentence_below_the_threshold_is_refused(threshold, chosen):
    assert choose_sentences([0.2, 0.9], max_sentences=1, refuse_below=threshold) == chosen


def test_nothing_to_choose_from_is_refused():
    assert choose_sentences([], max_sentences=3, refuse_below=None) == ()
    with pytest.raises(InvalidInput, match="max_sentences"):
        choose_sentences([0.5], max_sentences=0, refuse_below=None)


CONTEXT = "The mempool cache holds up to 512 objects for each lcore."


@pytest.mark.parametrize(
    ("sentence", "similarity", "supported"),
    [
        (CONTEXT, 0.0, True),
        ("Each lcore has a cache in the mempool that holds up to 512 objects.", 0.8, True),
        ("Each lcore has a cache in the mempool that holds up to 512 objects.", 0.5, False),
        ("The mempool cache holds up to 256 objects for each lcore.", 0.97, False),
        ("The mempool cache never holds up to 512 objects for each lcore.", 0.95, False),
        ("The DMA cache holds up to 512 objects for each lcore.", 0.9, False),
        ("The mempool drops frames whenever its watchdog fires.", 0.7, False),
    ],
)
def test_a_sentence_is_supported_when_wording_numbers_names_and_negation_agree(sentence, similarity, supported):
    assert is_supported(sentence, [CONTEXT], [similarity]) is supported


def test_an_opposite_is_not_supported():
    context = "Rules with a lower number are matched first."
    assert is_supported("The rules with a lower number are matched first.", [context], [0.99])
    assert not is_supported("Rules with a higher number are matched first.", [context], [0.97])


def test_one_supporting_sentence_is_enough_and_no_context_supports_nothing():
    assert is_supported(CONTEXT, ["Something else.", CONTEXT], [0.1, 1.0])
    assert not is_supported(CONTEXT, [], [])
    with pytest.raises(InvalidInput, match="similarities"):
        is_supported(CONTEXT, ["a", "b"], [0.5])


def test_faithfulness_is_the_share_of_supported_sentences():
    judged = judge_answer(refused=False, answerable=True, supported=[True, False, True], question_similarity=0.7)
    assert judged == Judgment(2 / 3, 0.7, (True, False, True), True)
    assert judge_answer(refused=False, answerable=True, supported=[True], question_similarity=-0.2).relevancy == 0.0


@pytest.mark.parametrize(("answerable", "score", "correct"), [(False, 1.0, True), (True, 0.0, False)])
def test_a_refusal_is_right_only_when_the_documents_do_not_tell(answerable, score, correct):
    judged = judge_answer(refused=True, answerable=answerable, supported=[], question_similarity=0.1)
    assert judged == Judgment(score, score, (), correct)


def test_an_answer_to_a_case_that_cannot_be_answered_is_flagged():
    assert not judge_answer(refused=False, answerable=False, supported=[True], question_similarity=0.4).refusal_correct
    with pytest.raises(InvalidInput, match="supported"):
        judge_answer(refused=False, answerable=True, supported=[], question_similarity=0.4)
