"""The search finds things by the words of their names, and goes on where a source cannot be read."""

from collections.abc import Iterable

from core.errors import SourceUnavailable
from core.search.ranking import SearchItem, SearchKind, rank_items
from core.search.report import MOST_SHOWN, search_deck

FLAGS = [SearchItem(name, "rollouts") for name in ("hyde", "use_hyde", "unhyded", "use_reranker")]


def titles(words: str, items: Iterable[SearchItem] = FLAGS) -> list[str]:
    return [item.title for item in rank_items(words, items)]


def test_the_beginning_of_the_name_goes_first_then_of_a_word_then_any_place_then_the_detail() -> None:
    told = [*FLAGS, SearchItem("x", "rollouts", detail="Search with a HyDE document")]
    assert titles("hyde", told) == ["hyde", "use_hyde", "unhyded", "x"]


def test_every_word_has_to_be_there_in_any_case_and_order() -> None:
    assert titles("HYDE use") == ["use_hyde"]
    assert titles("hyde nothing") == []
    assert titles("  ") == []


def test_one_source_that_cannot_be_read_leaves_the_others_and_the_rest_is_counted() -> None:
    def break_down(_words: str) -> Iterable[SearchItem]:
        raise SourceUnavailable("MLflow does not answer")

    many = [SearchItem(f"doc {at}", "corpus") for at in range(60)]
    flags, prompts, documents = search_deck(
        "doc",
        {SearchKind.FLAG: lambda _words: [SearchItem("doc", "rollouts")], SearchKind.PROMPT: break_down,
         SearchKind.TOPIC: lambda _words: FLAGS, SearchKind.DOCUMENT: lambda _words: many},
    )  # fmt: skip
    assert [item.title for item in flags.items] == ["doc"]
    assert (prompts.items, prompts.problem) == ((), "MLflow does not answer")
    assert (len(documents.items), documents.more) == (MOST_SHOWN, 60 - MOST_SHOWN)
    assert search_deck(" ", {SearchKind.PROMPT: break_down}) == ()


def test_questions_are_found_by_their_own_index_and_not_ranked_again() -> None:
    (group,) = search_deck("mbufs", {SearchKind.QUESTION: lambda _words: [SearchItem("what is an mbuf", "questions")]})
    assert [item.title for item in group.items] == ["what is an mbuf"]
