"""`quarterdeck questions`: what is in the log, newest first."""

from datetime import UTC, datetime, timedelta

import pytest

from core.audit.acts import Act
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.app.commands.running import Run, only_line

NOW = datetime.now(UTC)
KEYS = (
    "retrieval_id", "ts", "query", "score", "score_kind", "similarity", "answerability", "state", "session_id",
    "service", "environment", "arm", "prompt_version", "index_version", "documents", "attributes", "scores",
    "finding",
)  # fmt: skip


@pytest.fixture
def two_scopes(store: Store) -> Store:
    rows = [
        Retrieval(NOW - timedelta(minutes=3), "what is an mbuf", 0.8, documents=[("a.md", 0.8)], retrieval_id="q-1"),
        Retrieval(NOW - timedelta(minutes=2), "what is a ring", 0.3, scope=Scope("staging", "answers")),
        Retrieval(NOW - timedelta(minutes=1), "nothing", scope=Scope("production", "answers")),
    ]
    append_retrievals(store, rows)
    return store


def test_every_scope_is_listed_newest_first(two_scopes: Store, url: str, quarterdeck: Run) -> None:
    found = quarterdeck("questions", "--database", url, "--json").json
    assert [(row["query"], row["environment"], row["service"]) for row in found] == [
        ("nothing", "production", "answers"), ("what is a ring", "staging", "answers"),
        ("what is an mbuf", "production", "default"),
    ]  # fmt: skip
    assert set(KEYS) <= found[2].keys()
    assert (found[2]["retrieval_id"], found[2]["documents"]) == ("q-1", [{"id": "a.md", "score": 0.8, "rank": 1}])
    lines = quarterdeck("questions", "--database", url).out.splitlines()
    assert [line.split("  ")[-1] for line in lines] == ["nothing", "what is a ring", "what is an mbuf"]


def test_a_trace_is_linked_where_its_service_says_how(store: Store, url: str, quarterdeck: Run) -> None:
    link = "https://traces.example/t/{trace_id}?view=1"
    save_service(store, ServiceSettings("answers", trace_link=link), Act("ada", "where traces are"))
    rows = [
        Retrieval(NOW, "linked", 0.5, trace_id='a/b"<x>', scope=Scope("production", "answers")),
        Retrieval(NOW, "no trace", 0.5, scope=Scope("production", "answers")),
        Retrieval(NOW, "no link", 0.5, trace_id="abc"),
    ]
    append_retrievals(store, rows)
    found = quarterdeck("questions", "--database", url, "--json").json
    assert {row["query"]: row["trace_link"] for row in found} == {
        "linked": "https://traces.example/t/a%2Fb%22%3Cx%3E?view=1", "no trace": None, "no link": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--service", "Answers"), ["nothing", "what is a ring"]),
        (("--environment", "production"), ["nothing", "what is an mbuf"]),
        (("--environment", "staging", "--service", "answers"), ["what is a ring"]),
        (("--search", "WHAT IS"), ["what is a ring", "what is an mbuf"]),
        (("--limit", "1"), ["nothing"]),
        (("--low", "0.5"), ["what is a ring"]),
        (("--sort", "oldest"), ["what is an mbuf", "what is a ring", "nothing"]),
        (("--sort", "lowest"), ["what is a ring", "what is an mbuf"]),
        (("--sort", "lowest", "--limit", "1"), ["what is a ring"]),
        (("--service", "none"), []),
    ],
)
def test_options_narrow_the_list(
    two_scopes: Store, url: str, quarterdeck: Run, options: tuple[str, ...], expected: list[str]
) -> None:
    found = quarterdeck("questions", "--database", url, "--json", *options).json
    assert [row["query"] for row in found] == expected


def test_low_is_what_the_coverage_page_calls_low(lab: Store, url: str, quarterdeck: Run) -> None:
    found = quarterdeck("questions", "--database", url, "--low", "--json", "--limit", "200").json
    assert len(found) >= 50
    assert all(row["similarity"] < 0.8 for row in found)
    assert {row["query"].rstrip("0123456789") for row in found[:50]} == {"what is a vpp node "}


def test_low_is_of_each_service_by_itself_and_the_newest_come_first(store: Store, url: str, quarterdeck: Run) -> None:
    for service, level in (("high", 0.9), ("modest", 0.4)):
        scope = Scope("production", service)
        usual = [Retrieval(NOW - timedelta(days=day, minutes=at), "usual", level, scope=scope)
                 for day in range(10, 30) for at in range(10)]  # fmt: skip
        unusual = [Retrieval(NOW - timedelta(minutes=at), f"{service} {at}", level - 0.3, scope=scope)
                   for at in range(10, 13)]  # fmt: skip
        append_retrievals(store, [*usual, *unusual])
    found = quarterdeck("questions", "--database", url, "--low", "--limit", "4", "--json").json
    assert sorted(row["query"] for row in found) == ["high 10", "high 11", "modest 10", "modest 11"]
    assert [row["ts"] for row in found] == sorted((row["ts"] for row in found), reverse=True)
    only = quarterdeck("questions", "--database", url, "--service", "modest", "--low", "--json").json
    assert [row["query"] for row in only[:3]] == ["modest 10", "modest 11", "modest 12"]
    assert {row["service"] for row in only} == {"modest"}


@pytest.mark.deep
@pytest.mark.slow
def test_a_topic_is_known_by_number_and_label(lab: Store, url: str, quarterdeck: Run) -> None:
    topics = quarterdeck("topics", "--database", url, "--json").json
    by_number = quarterdeck("questions", "--database", url, "--topic", "0", "--json", "--limit", "200").json
    by_label = quarterdeck("questions", "--database", url, "--topic", topics[0]["label"], "--json").json
    assert topics[0]["cluster_id"] == 0
    assert {row["query"] for row in by_number} == {row["query"] for row in by_label}
    assert len(by_number) == topics[0]["count"]
    assert "there is no topic 'xyz'" in only_line(quarterdeck("questions", "--database", url, "--topic", "xyz"), 2)


@pytest.mark.parametrize("low", ["x", "nan", "7"])
def test_low_that_is_no_similarity_is_refused(low: str, two_scopes: Store, url: str, quarterdeck: Run) -> None:
    assert "low: must be a similarity" in only_line(quarterdeck("questions", "--database", url, f"--low={low}"), 2)
