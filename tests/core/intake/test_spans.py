"""What one span says, in the words of each instrumentation: role, question, documents, the kind of their numbers."""

import json
from typing import Any

import pytest

from core.intake.documents import find_documents
from core.intake.names import CHAIN, EMBEDDING, MODEL, RERANKER, RETRIEVER, STORE
from core.intake.queries import find_question, is_vector, read_input
from core.intake.scales import find_kind
from core.intake.spans import Span, SpanChoices, find_role, read_span
from quarterdeck.redaction import compose, redact
from quarterdeck.scope import Scope

START_NS = 1_772_366_400_000_000_000
DOCUMENT = {"page_content": "mbufs hold packets", "metadata": {"source": "mbuf.md", "score": 0.4}}


def make(attributes: dict[str, Any], **fields: Any) -> Span:
    given = {"name": "span", "start_ns": START_NS, "end_ns": START_NS + 5_000_000, **fields}
    return Span("5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174", attributes=attributes, **given)


def read(attributes: dict[str, Any], **fields: Any):
    return read_span(
        make(attributes, **fields), redact=compose(), choices_of=lambda _scope: SpanChoices(keep_answers=True)
    )


@pytest.mark.parametrize(
    ("attributes", "name", "role"),
    [
        ({"openinference.span.kind": "RETRIEVER"}, "", RETRIEVER),
        ({"openinference.span.kind": "RERANKER"}, "", RERANKER),
        ({"openinference.span.kind": "LLM"}, "", MODEL),
        ({"gen_ai.operation.name": "retrieval"}, "", RETRIEVER),
        ({"gen_ai.operation.name": "vector_db_retrieve"}, "", RETRIEVER),
        ({"gen_ai.operation.name": "embeddings"}, "", EMBEDDING),
        ({"gen_ai.operation.name": "embeddings", "langsmith.span.kind": "retriever"}, "", RETRIEVER),
        ({"mlflow.spanType": '"RETRIEVER"'}, "", RETRIEVER),
        ({"langfuse.observation.type": "retriever"}, "", RETRIEVER),
        ({"langfuse.observation.type": "generation"}, "", MODEL),
        ({"traceloop.span.kind": "task"}, "VectorIndexRetriever.task", RETRIEVER),
        ({"traceloop.span.kind": "task", "traceloop.entity.output": "{}"}, "retrieve_profile.task", CHAIN),
        ({"traceloop.span.kind": "task"}, "RetrieverQueryEngine.task", CHAIN),
        ({"db.system": "chroma", "db.operation": "query"}, "chroma.query", STORE),
        ({"db.system": "Qdrant"}, "qdrant.search", STORE),
        ({"db.system": "Qdrant"}, "qdrant.upsert", ""),
        ({"db.system": "chroma"}, "chroma.add", ""),
        ({"gen_ai.operation.name": "vectordb", "db.operation.name": "search"}, "search docs", STORE),
        ({"db.system": "postgresql", "db.operation": "SELECT"}, "SELECT", ""),
        ({"http.route": "/search"}, "GET /search", ""),
    ],
)
def test_the_role_of_a_span(attributes, name, role):
    assert find_role(make(attributes, name=name)) == role


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ('{"query": "why"}', "why"),
        ('{"query_bundle": {"query_str": "why", "embedding": null}}', "why"),
        ('{"inputs": {"question": "why"}, "tags": ["a"]}', "why"),
        ('{"args": ["why"], "kwargs": {}}', "why"),
        ('{"data": {"pb": {"question": "why"}, "retriever": {"query": "why"}}}', "why"),
        ('{"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why"}]}', "why"),
        ('[{"role": "user", "parts": [{"type": "text", "content": "why"}]}]', "why"),
        ('{"messages": [{"lc": 1, "kwargs": {"type": "human", "content": "why"}}]}', "why"),
        ('{"text": "why", "top_k": 3}', "why"),
        ('"why"', "why"),
        ("why", "why"),
        ('{"query_embedding": "<64-dimensional vector>", "filters": null}', None),
        ('{"query_embedding": [0.1, 0.2], "top_k": 3}', None),
        ("[0.1, 0.2, 0.3]", None),
        ('{"first": "a", "second": "b"}', None),
        ("  ", None),
    ],
)
def test_the_question_in_an_input(given, found):
    assert read_input(given) == found


def test_a_question_that_looks_a_little_like_a_vector_is_one():
    assert not is_vector("[mbuf] how do I free it")
    assert find_question("<mbuf> how do I free it") == "<mbuf> how do I free it"


@pytest.mark.parametrize(
    ("output", "ids", "numbers"),
    [
        ({"documents": [DOCUMENT]}, ["mbuf.md"], [0.4]),
        ([DOCUMENT, {"id": 7, "score": "0.25"}], ["mbuf.md", "7"], [0.4, 0.25]),
        ([[DOCUMENT, 0.7]], ["mbuf.md"], [0.7]),
        ([{"node": {"id_": "n-1", "text": "x"}, "score": 0.3}], ["n-1"], [0.3]),
        ([{"lc": 1, "kwargs": {"id": "u-1", "page_content": "x", "metadata": {"score": 0.2}}}], ["u-1"], [0.2]),
        (["<NodeWithScore(node=TextNode(id_=n-1), score=0.31)>"], ["n-1"], [0.31]),
        (["Document(id=d-1, content: 'x', score: 3.46)"], ["d-1"], [3.46]),
        (["page_content='x' metadata={'source': 'd0.md'}"], ["d0.md"], [None]),
        ({"ids": [["a", "b"]], "distances": [[0.1, 0.4]], "documents": [["x", "y"]]}, ["a", "b"], [0.1, 0.4]),
        ([{"id": 3, "payload": {"source": "q.md"}, "score": 0.8}], ["3"], [0.8]),
        ([{"score": 0.8}], ["(unnamed)"], [0.8]),
        ([{"page_content": "x", "metadata": {"doc_uri": "m.md"}}], ["m.md"], [None]),
        ([{"content": "x", "_additional": {"id": "u-2", "distance": 0.2}}], ["u-2"], [0.2]),
        ([{"id": "a", "metadata": {"vector_score": "0.2"}}], ["a"], [0.2]),
        ([{"id": "a", "score": float("nan")}], ["a"], [None]),
        ({"documents": []}, [], []),
    ],
)
def test_documents_in_the_form_of_each_framework(output, ids, numbers):
    found = find_documents(output)
    assert ([each.id for each in found or ()], [each.number for each in found or ()]) == (ids, numbers)
    if not any(number != number for number in numbers if number):
        assert find_documents(json.dumps(output)) == found


@pytest.mark.parametrize("output", ["an answer", '{"answer": "x"}', "3", None, "[1, 2]"])
def test_what_is_no_list_of_documents(output):
    assert find_documents(output) is None


def test_passages_without_ids_are_named_by_their_text():
    first, second = find_documents(["mbufs hold packets", "rings hold mbufs"]) or ()
    assert first.id != second.id
    assert find_documents(["mbufs hold packets"]) == [first]


@pytest.mark.parametrize(
    ("numbers", "label", "names", "kind"),
    [
        ([0.8, 0.4], "", "VectorStoreRetriever", "cosine"),
        ([1.0000001, 0.4], "", "retrieve", "cosine"),
        ([0.2, -0.1], "", "retrieve", "cosine"),
        ([0.9, 0.4], "", "CohereRerank", "rerank"),
        ([0.9, 0.4], "", "cross-encoder", "rerank"),
        ([0.9, 0.4], "rerank", "retrieve", "rerank"),
        ([0.9, 0.4], "", "InMemoryBM25Retriever.run", "bm25"),
        ([0.033, 0.016], "", "QueryFusionRetriever._retrieve", "rrf"),
        ([12.5, 3.0], "", "retrieve", "dot"),
        ([0.2, 0.4, 0.9], "", "retrieve", "cosine_distance"),
        ([0.2, 0.2, 0.4, 0.4], "", "retrieve", "cosine_distance"),
        ([0.4, 0.9], "", "retrieve", "cosine"),
        ([0.4, 0.4, 0.4], "", "retrieve", "cosine"),
        ([1.2, 3.4, 9.0], "", "retrieve", "l2"),
        ([1.1, 1.2, 1.3], "", "retrieve", "l2"),
        ([-3.0, -2.0, -1.0], "", "retrieve", "dot"),
        ([0.2, 0.4], "distance", "retrieve", "cosine_distance"),
        ([0.2, 0.4], "distance", "chroma.query chroma", "squared_l2"),
        ([3.2, 7.4], "distance", "retrieve", "l2"),
        ([0.9, 0.4], "distance", "milvus.search", "dot"),
    ],
)
def test_a_number_of_another_scale_is_never_a_cosine(numbers, label, names, kind):
    assert find_kind(numbers, label, names=names) == kind


def test_a_store_s_metric_says_what_its_distance_is():
    assert find_kind([0.1, 0.3], "distance", names="chroma.query", metric="cosine") == "cosine_distance"
    assert find_kind([0.9, 0.3], "distance", names="milvus.search", metric="IP") == "dot"
    assert find_kind([0.1, 0.3], "distance", names="pgvector", metric="L2") == "l2"


def test_what_the_service_says_goes_before_everything_else():
    said = {"openinference.span.kind": "RETRIEVER", "input.value": "q", "quarterdeck.score_kind": "cosine_distance",
            "retrieval.documents.0.document.id": "a", "retrieval.documents.0.document.score": 0.2}  # fmt: skip
    assert read(said, name="BM25Retriever").kind == "cosine_distance"


def test_a_service_says_once_what_its_scores_are():
    said = {"openinference.span.kind": "RETRIEVER", "input.value": "q", "retrieval.documents.0.document.id": "a",
            "retrieval.documents.0.document.score": 0.2}  # fmt: skip
    found = read_span(make(said), redact=compose(), choices_of=lambda _scope: SpanChoices(score_kind="dot"))
    assert found.kind == "dot"


def test_a_vector_store_s_results_are_events():
    events = [
        ("db.query.embeddings", {"db.query.embeddings.vector": "[0.1, 0.2]"}),
        ("db.query.result", {"db.query.result.id": "a", "db.query.result.distance": 0.1}),
        ("db.query.result", {"db.query.result.id": "b", "db.query.result.distance": 0.4}),
    ]
    found = read({"db.system": "chroma", "db.operation": "query"}, name="chroma.query", events=events)
    assert (found.hits, found.kind, found.question) == ((("a", 0.1), ("b", 0.4)), "squared_l2", "")
    nothing = read({"db.system": "qdrant"}, name="qdrant.search")
    assert nothing.problem is not None
    assert nothing.problem[0] == "no_documents"


def test_a_search_that_failed_says_why():
    events = [("exception", {"exception.message": "index down\nTraceback …"})]
    found = read({"openinference.span.kind": "RETRIEVER", "input.value": "q"}, failed=True, events=events)
    assert (found.hits, found.error, found.problem) == (None, "index down", None)


def test_what_a_search_failed_with_is_redacted_like_the_question():
    events = [("exception", {"exception.message": "cannot embed 'mail bob@example.com'"})]
    span = make({"openinference.span.kind": "RETRIEVER", "input.value": "q"}, failed=True, events=events)
    assert read_span(span, redact=redact).error == "cannot embed 'mail [e-mail]'"


def test_azure_s_numbers_are_no_cosines():
    hits = [{"id": "a", "metadata": {"@search.score": 0.033, "@search.reranker_score": 2.5}}]
    found = read({"openinference.span.kind": "RETRIEVER", "input.value": "q", "output.value": json.dumps(hits)})
    assert (found.hits, found.kind, found.reranked) == ((("a", 0.033),), "dot", 2.5)


def test_a_reranker_s_number_stands_beside_the_retriever_s():
    document = {"id": "a", "metadata": {"score": 0.4, "relevance_score": 0.97}}
    found = read({"langfuse.observation.type": "retriever", "langfuse.observation.input": "q",
                  "langfuse.observation.output": json.dumps([document])})  # fmt: skip
    assert (found.hits, found.kind, found.reranked) == ((("a", 0.4),), "cosine", 0.97)


def test_who_asked_and_what_the_service_attached():
    attributes = {
        "gen_ai.operation.name": "vector_db_retrieve", "traceloop.entity.input": '{"query": "q"}',
        "traceloop.entity.output": '{"documents": []}', "traceloop.association.properties.session_id": "s-1",
        "traceloop.association.properties.user_id": "u-1", "traceloop.association.properties.tenant": "acme",
        "traceloop.association.properties.ls_provider": "x", "quarterdeck.arm": "green",
    }  # fmt: skip
    resource = {"service.name": "Answers", "deployment.environment": "Staging"}
    found = read(attributes, resource=resource)
    assert found.fields == {"session_id": "s-1", "user_id": "u-1", "arm": "green"}
    assert (found.attributes, found.scope, found.hits) == ({"tenant": "acme"}, Scope("staging", "answers"), ())


def test_tokens_cost_and_answer_of_a_model():
    openinference = read({"openinference.span.kind": "LLM", "llm.token_count.prompt": 100,
                          "llm.token_count.completion": 20, "output.value": "Use a pool."})  # fmt: skip
    assert (openinference.tokens, openinference.answer) == (120.0, "Use a pool.")
    langfuse = read({
        "langfuse.observation.type": "generation", "langfuse.observation.usage_details": '{"input": 3, "output": 4}',
        "langfuse.observation.cost_details": '{"input": 0.5, "total": 0.75}',
        "langfuse.observation.output": '{"content": "Use a pool.", "role": "assistant"}',
    })  # fmt: skip
    assert (langfuse.tokens, langfuse.cost_usd, langfuse.answer) == (7.0, 0.75, "Use a pool.")


def test_answers_are_not_kept_unless_the_service_says_so():
    span = make({"openinference.span.kind": "LLM", "output.value": "Use a pool."})
    assert read_span(span, redact=compose()).answer == ""
