"""The evaluation shell: a small library of three documents, vectors by counting words, and a real MLflow store."""

import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from core.config import PROJECT
from core.errors import InvalidInput
from core.prompts.answerers import SentenceVectors, extractive_pipeline
from core.prompts.answers import REFUSAL, Answer
from core.prompts.bench import Bench
from core.prompts.evaluate import evaluate_offline, evaluate_prompt_variant, evaluate_prompts, keep_evaluation
from core.prompts.judges import offline_judge
from core.prompts.prices import Price
from core.prompts.prompts import Prompt
from core.tracking.cases import Case, dataset_digest
from core.tracking.gateway import Dataset, Tracking
from tests.model_server import ModelServer, Reply, serve_models

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

VOCABULARY = [
    "ring",
    "queue",
    "locks",
    "fifo",
    "size",
    "power",
    "two",
    "mempool",
    "cache",
    "objects",
    "socket",
    "memory",
]
DOCUMENTS = {
    "ring.md": "A ring is a fifo queue. A ring has a size, a power of two.",
    "mempool.md": "A mempool has a cache of objects. Its ring may be a queue with locks and objects.",
    "numa.md": "A socket has its own memory.",
}
PRICES = {"extractive-offline": Price("extractive-offline", 1.0, 10.0)}
GROUNDED = Prompt("qa", "2", "Grounded", "Use only the context.\n{context}\n{question}\n", 1, 2, 0.5)
LOOSE = replace(GROUNDED, version="1", description="Loose", text="Be kind.\n{context}\n{question}\n", refuse_below=None)
RING = Case("ring", "Is a ring a fifo queue with locks?", ("ring.md",), "A fifo queue.", True)
CACHE = Case("cache", "Which cache of objects has a mempool?", ("mempool.md",), "One for objects.", True)
WEATHER = Case("weather", "Will it rain on Sunday?", (), "Not in the documents.", False)
CASES = (RING, CACHE, WEATHER)


@dataclass(frozen=True)
class Passage:
    document: str
    text: str
    score: float


class WordCounts:
    """An embedding that can be worked out by hand: one dimension a word of the vocabulary, and one for no word."""

    model = "word-counts"

    def __init__(self):
        self.embedded = []
        self.calls = 0

    def embed(self, texts, **options):
        self.calls += 1
        self.embedded.extend(texts)
        return np.stack([self._vector(text) for text in texts]) if len(texts) else np.empty((0, len(VOCABULARY) + 1))

    def _vector(self, text):
        words = re.findall(r"\w+", text.lower())
        counts = np.array([words.count(word) for word in VOCABULARY] + [0.0], dtype=np.float32)
        counts[-1] = 0.0 if counts.any() else 1.0
        return counts / np.linalg.norm(counts)


def search(question, top_k):
    vectors = WordCounts().embed([question, *DOCUMENTS.values()])
    scores = vectors[1:] @ vectors[0]
    hits = [Passage(name, text, float(s)) for (name, text), s in zip(DOCUMENTS.items(), scores, strict=True)]
    return sorted(hits, key=lambda hit: -hit.score)[:top_k]


def answer(prompt, case):
    return extractive_pipeline(prompt, search=search, vectors=SentenceVectors(WordCounts()), prices=PRICES)(case)


def evaluate(prompt, cases=CASES):
    vectors = SentenceVectors(WordCounts())
    pipeline = extractive_pipeline(prompt, search=search, vectors=vectors, prices=PRICES)
    return evaluate_prompt_variant(prompt.name, prompt.version, cases, pipeline, offline_judge(vectors))


def test_a_grounded_prompt_answers_from_its_own_passages_only():
    given = answer(GROUNDED, RING)
    assert given.documents == ("ring.md",)
    assert given.sentences == ("A ring is a fifo queue.", "A ring has a size, a power of two.")
    assert not given.refused


def test_a_prompt_without_grounding_also_draws_on_what_it_was_not_shown():
    given = answer(LOOSE, RING)
    assert given.documents == ("ring.md",)
    assert "Its ring may be a queue with locks and objects." in given.sentences
    assert "Its ring may be a queue with locks and objects." not in given.context


def test_taking_the_grounding_instruction_away_makes_a_named_case_unfaithful():
    grounded = {case.case_id: case for case in evaluate(GROUNDED).cases}
    loose = {case.case_id: case for case in evaluate(LOOSE).cases}
    assert grounded["ring"].faithfulness == 1.0
    assert loose["ring"].faithfulness == 0.5
    assert loose["ring"].supported == (True, False)
    assert grounded["weather"].refusal_correct
    assert not loose["weather"].refusal_correct


def test_only_a_grounded_prompt_refuses():
    assert answer(GROUNDED, WEATHER).text == REFUSAL
    assert not answer(LOOSE, WEATHER).refused
    assert not answer(replace(LOOSE, refuse_below=0.5), WEATHER).refused
    assert not answer(replace(GROUNDED, refuse_below=None), WEATHER).refused


def test_the_cost_follows_the_tokens_and_the_price_table():
    given = answer(GROUNDED, WEATHER)
    assert given.cost_usd == pytest.approx((given.input_tokens * 1.0 + given.output_tokens * 10.0) / 1e6)
    assert answer(replace(GROUNDED, top_k=3), RING).input_tokens > answer(GROUNDED, RING).input_tokens
    with pytest.raises(InvalidInput, match="'extractive-offline' is not in the price table"):
        extractive_pipeline(GROUNDED, search=search, vectors=SentenceVectors(WordCounts()), prices={})(RING)


def test_the_metrics_are_means_and_minima_over_the_cases():
    result = evaluate(LOOSE)
    metrics = result.metrics
    scores = [case.faithfulness for case in result.cases]
    assert metrics["faithfulness_mean"] == pytest.approx(sum(scores) / 3)
    assert metrics["faithfulness_min"] == min(scores)
    assert metrics["refusal_accuracy"] == pytest.approx(2 / 3)
    assert metrics["retrieval_hit_rate"] == 1.0
    assert metrics["cost_usd_total"] == pytest.approx(3 * metrics["cost_usd_mean"])
    assert "latency_ms_mean" not in metrics
    assert result.dataset_digest == dataset_digest(CASES)


def test_any_pipeline_and_judge_can_be_put_in():
    def pipeline(case):
        return Answer(("Yes.",), False, ("ring.md",), ("Yes.",), 10, 1, 0.5, latency_ms=20.0)

    seen = []
    result = evaluate_prompt_variant(
        "qa",
        "9",
        (RING, CACHE),
        pipeline,
        offline_judge(SentenceVectors(WordCounts())),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert (result.metrics["latency_ms_mean"], result.metrics["cost_usd_total"]) == (20.0, 1.0)
    assert [case.retrieval_hit for case in result.cases] == [True, False]
    assert seen == [(1, 2), (2, 2)]


def test_no_cases_are_refused():
    with pytest.raises(InvalidInput, match="cases"):
        evaluate(GROUNDED, ())


def test_a_sentence_is_embedded_once():
    embedder = WordCounts()
    vectors = SentenceVectors(embedder)
    assert vectors.similarities("ring", ["ring", "queue"]) == [1.0, 0.0]
    assert vectors.similarities("ring", ["queue", "ring"]) == [0.0, 1.0]
    assert vectors.similarities("ring", []) == []
    assert embedder.embedded == ["ring", "queue"]


def test_all_prompts_together_take_three_calls_of_the_embedding_model_and_score_as_one_by_one():
    embedder = WordCounts()
    results = tuple(evaluate_offline([LOOSE, GROUNDED], CASES, Bench(search, SentenceVectors(embedder), PRICES)))
    assert embedder.calls == 3  # the questions, the sentences of the passages, the answers
    assert [result.cases for result in results] == [evaluate(LOOSE).cases, evaluate(GROUNDED).cases]


def test_an_evaluation_that_is_not_complete_is_not_kept_as_a_run(tmp_path):
    store = Tracking(f"sqlite:///{tmp_path}/mlflow.db")
    bench = Bench(search, SentenceVectors(WordCounts()), PRICES)
    whole = evaluate(GROUNDED)
    failed = replace(whole, cases=(replace(whole.cases[0], error="no answer"), *whole.cases[1:]))
    stopped = replace(whole, cases=whole.cases[:2], not_run=("weather",))
    for result in (failed, stopped):
        with pytest.raises(InvalidInput, match="not complete"):
            keep_evaluation(result, GROUNDED, bench, store, versions={}, dataset=Dataset("qa", "qa", "d"))
    assert not (tmp_path / "mlflow.db").exists()


def test_a_failed_case_is_left_out_of_the_figures():
    whole = evaluate(GROUNDED)
    failed = replace(whole.cases[0], error="no answer", faithfulness=0.0, cost_usd=0.0)
    result = replace(whole, cases=(failed, *whole.cases[1:]))
    assert result.failed == (failed,)
    assert result.metrics["faithfulness_mean"] == 1.0
    assert result.metrics["cost_usd_total"] == pytest.approx(sum(case.cost_usd for case in whole.cases[1:]))


def test_a_journal_belongs_to_one_prompt_one_test_set_one_answerer_and_one_index(tmp_path):
    bench = Bench(search, SentenceVectors(WordCounts()), PRICES, index_digest="a", journals=tmp_path)
    digest = dataset_digest(CASES)
    paths = {
        bench.journal(GROUNDED, digest).path,
        bench.journal(replace(GROUNDED, text=GROUNDED.text + "Be brief.\n"), digest).path,
        bench.journal(replace(GROUNDED, top_k=2), digest).path,
        bench.journal(GROUNDED, dataset_digest(CASES[:2])).path,
        replace(bench, protocol="openai").journal(GROUNDED, digest).path,
        replace(bench, index_digest="b").journal(GROUNDED, digest).path,
    }
    assert len(paths) == 6
    assert bench.journal(GROUNDED, dataset_digest(CASES[::-1])).path in paths
    assert replace(bench, journals=None).journal(GROUNDED, digest) is None


@pytest.fixture
def questions(tmp_path):
    """Four cases, a folder with one document, and what runs `quarterdeck eval` on them."""
    rows = [
        {"id": f"q{i}", "question": f"How large is headroom {i}?", "expected_documents": ["mbuf.md"],
         "reference_answer": "128 bytes", "answerable": True}
        for i in range(4)
    ]  # fmt: skip
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "mbuf.md").write_text("# Mbuf\n\nThe headroom of an mbuf is 128 bytes.\n")
    return tmp_path


def start_eval(folder: Path, server: ModelServer, *options: str) -> subprocess.Popen:
    command = [
        sys.executable, "-m", "quarterdeck", "eval", "data/demo/prompts/qa/v3.md", "--cases", folder / "cases.jsonl",
        "--corpus", folder / "docs", "--answerer", "openai", "--model", "gpt-4o-mini",
        "--base-url", server.base_url("openai"), "--judge", "llm", "--json", *options,
    ]  # fmt: skip
    environ = {**os.environ, "QUARTERDECK_HOME": str(folder / "home"), "QUARTERDECK_EXPERIMENT": "support bot"}
    return subprocess.Popen(
        command, cwd=PROJECT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def judge_or_answer(text: str) -> Reply:
    verdict = {"sentences": [{"number": 1, "supported": True}], "relevancy": 1.0}
    return Reply(json.dumps(verdict) if "You judge" in text else "It is 128 bytes.")


@pytest.mark.slow
@pytest.mark.deep
def test_a_killed_evaluation_goes_on_and_lands_in_mlflow_when_it_is_whole(questions):
    reached = threading.Event()

    def hang_at_the_third(text: str) -> Reply:
        if "headroom 2?" in text:
            reached.set()
            threading.Event().wait(5)
        return judge_or_answer(text)

    with serve_models() as server:
        server.answer = hang_at_the_third
        first = start_eval(questions, server)
        assert reached.wait(240), first.communicate(timeout=240)
        first.kill()
        first.communicate(timeout=240)
        before = len(server.requests)
        server.answer = judge_or_answer
        stopped = start_eval(questions, server, "--max-cost-usd", "0.0000001")
        out, _ = stopped.communicate(timeout=240)
        assert stopped.returncode == 1
        assert json.loads(out)[0]["not_run"] == ["q2", "q3"]
        assert len(server.requests) == before
        again = start_eval(questions, server, "--concurrency", "2")
        out, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert [case for case in ("0", "1") if f"headroom {case}?" in str(server.requests[before:])] == []
    found = json.loads(out)[0]
    assert (found["failed"], found["not_run"], found["metrics"]["faithfulness_mean"]) == ({}, [], 1.0)
    run = Tracking(f"sqlite:///{questions}/home/mlflow/mlflow.db").get_run(found["run_id"])
    assert (run.experiment, run.params["answerer"], run.params["model"]) == ("support bot", "openai", "gpt-4o-mini")
    assert run.params["judge"] == "model: gpt-4o-mini"
    assert list((questions / "home" / "evals").iterdir()) == []


@pytest.mark.deep
@pytest.mark.slow
def test_each_prompt_becomes_a_run_linked_to_its_registry_version(tmp_path):
    store = Tracking(f"sqlite:///{tmp_path}/mlflow.db")
    seen = []

    def run_all():
        return evaluate_prompts(
            [LOOSE, GROUNDED],
            CASES,
            search=search,
            embedder=WordCounts(),
            tracking=store,
            prices=PRICES,
            corpus_version="v1",
            on_progress=lambda *step: seen.append(step),
        )

    loose, grounded = run_all()
    assert seen[-1] == ("qa-v2", 3, 3)
    run = store.get_run(grounded.run_id)
    assert (run.name, run.experiment) == ("qa-v2", "rag-prompt-iterations")
    assert run.metrics == dict(grounded.metrics)
    assert run.params["answerer"] == "extractive"
    assert (run.params["top_k"], run.params["refuse_below"], run.params["corpus_version"]) == ("1", "0.5", "v1")
    assert store.list_case_results(loose.run_id) == loose.cases
    assert store.read_artifact_text(loose.run_id, "prompt.md") == LOOSE.text
    assert store.get_prompt("qa", 2).run_ids == (grounded.run_id,)
    assert store.get_prompt("qa", 2).text == GROUNDED.text

    again = run_all()
    assert [prompt.version for prompt in store.list_prompts()] == [2, 1]
    assert store.get_prompt("qa", 2).run_ids == tuple(sorted([grounded.run_id, again[1].run_id]))


def test_importing_the_shell_does_not_load_heavy_libraries():
    script = (
        "import sys, core.prompts.evaluate; "
        "print(sorted({'mlflow', 'sentence_transformers', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
