"""Shell: runs prompts over a test set and keeps each as an MLflow run: settings, scores, cases, prompt, test set.

Answerers and judges are passed in (`answerers.py`, `judges.py`). Finished cases are kept in a journal at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice

from core.embedding.embed import Embedder
from core.errors import InvalidInput
from core.prompts import answers
from core.prompts.answerers import (
    Pipeline,
    Search,
    SentenceVectors,
    list_sentences,
    passages_wanted,
)
from core.prompts.answers import Answer
from core.prompts.bench import Bench
from core.prompts.journal import Journal
from core.prompts.judges import Judge
from core.prompts.models import ModelFailure
from core.prompts.prices import Price
from core.prompts.prompts import Prompt
from core.prompts.spending import CeilingReached
from core.tracking.cases import Case, CaseResult, dataset_digest, render_case_results
from core.tracking.gateway import CASES_ARTIFACT, PROMPT_ARTIFACT, Dataset, Tracking

EXPERIMENT = "rag-prompt-iterations"


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """One prompt evaluated over all cases. `run_id` is its MLflow run; "" until it is saved.

    `not_run` are the ids of the cases left out because of the spending ceiling; `stopped` says what had been spent.
    """

    name: str
    version: str
    cases: tuple[CaseResult, ...]
    dataset_digest: str
    run_id: str = ""
    not_run: tuple[str, ...] = ()
    stopped: str = ""

    @property
    def failed(self) -> tuple[CaseResult, ...]:
        """The cases without an answer or a verdict; their `error` says why."""
        return tuple(case for case in self.cases if case.error)

    @property
    def is_complete(self) -> bool:
        """Whether every case was answered and judged."""
        return not self.failed and not self.not_run

    @property
    def metrics(self) -> Mapping[str, float]:
        """The run's figures under their MLflow metric names. Money in USD, scores 0 to 1.

        Failed cases are left out; empty without any judged case.
        """
        cases = [case for case in self.cases if not case.error]
        if not cases:
            return {}
        faithfulness = [case.faithfulness for case in cases]
        relevancy = [case.relevancy for case in cases]
        cost = [case.cost_usd for case in cases]
        latency = [case.latency_ms for case in cases if case.latency_ms is not None]
        hits = [case.retrieval_hit for case in cases if case.retrieval_hit is not None]
        figures = {
            "faithfulness_mean": _mean(faithfulness),
            "faithfulness_min": min(faithfulness),
            "relevancy_mean": _mean(relevancy),
            "relevancy_min": min(relevancy),
            "refusal_accuracy": _mean([case.refusal_correct for case in cases]),
            "cost_usd_mean": _mean(cost),
            "cost_usd_total": sum(cost),
        }
        optional: Mapping[str, Sequence[float]] = {"retrieval_hit_rate": hits, "latency_ms_mean": latency}
        return figures | {name: _mean(values) for name, values in optional.items() if values}


def evaluate_prompt_variant(
    name: str,
    version: str,
    cases: Sequence[Case],
    pipeline: Pipeline,
    judge: Judge,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    journal: Journal | None = None,
    concurrency: int = 1,
    digest: str = "",
) -> EvaluationResult:
    """Answer each case with `pipeline` and judge it with `judge`. Calls `on_progress(done, total)` after each case.

    Results in the `journal` are reused, except failed cases. A ModelFailure is kept as the `error` of its case. When
    the spending ceiling is reached, running cases are finished and the rest is `not_run`. `digest` is the
    `dataset_digest` of the cases, if it was computed already.
    """
    if not cases:
        raise InvalidInput("cases", "there are none to evaluate on")
    results = {c.id: r for c in cases if journal and (r := journal.results.get(c.id)) and not r.error}
    if results and on_progress:
        on_progress(len(results), len(cases))
    waiting = [case for case in cases if case.id not in results]
    stopped = ""
    for outcome in _run_all(waiting, lambda case: _run_case(case, pipeline, judge, journal), concurrency):
        if isinstance(outcome, CeilingReached):
            stopped = str(outcome)
            continue
        results[outcome.case_id] = outcome
        if on_progress:
            on_progress(len(results), len(cases))
    done = tuple(results[case.id] for case in cases if case.id in results)
    not_run = tuple(case.id for case in cases if case.id not in results)
    return EvaluationResult(name, version, done, digest or dataset_digest(cases), not_run=not_run, stopped=stopped)


def evaluate_prompts(
    prompts: Sequence[Prompt],
    cases: Sequence[Case],
    *,
    search: Search,
    embedder: Embedder,
    tracking: Tracking,
    prices: Mapping[str, Price],
    dataset_name: str = "qa",
    dataset_source: str = "",
    index_version: str = "",
    corpus_version: str = "",
    git_revision: str = "",
    experiment: str = EXPERIMENT,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> tuple[EvaluationResult, ...]:
    """Evaluate each prompt offline and save it as an MLflow run, linked to its version in the prompt registry.

    `search(question, top_k)` retrieves. `on_progress(prompt label, done, total)` is called after each case. The text
    of a prompt becomes a new registry version only if it differs from the newest one.
    Raises InvalidInput for an unpriced model or an empty test set, SourceUnavailable when MLflow cannot be written.
    """
    bench = Bench(search, SentenceVectors(embedder), prices)
    versions = {"index_version": index_version, "corpus_version": corpus_version, "git_revision": git_revision}
    dataset = Dataset(dataset_name, dataset_source or dataset_name, dataset_digest(cases))
    return tuple(
        keep_evaluation(result, prompt, bench, tracking, versions=versions, dataset=dataset, experiment=experiment)
        for prompt, result in zip(
            prompts,
            evaluate_offline(prompts, cases, bench, on_progress=on_progress, digest=dataset.digest),
            strict=True,
        )
    )


def evaluate_offline(
    prompts: Sequence[Prompt],
    cases: Sequence[Case],
    bench: Bench,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
    digest: str = "",
) -> Iterator[EvaluationResult]:
    """Evaluate each prompt with the extractive answerer, with as few embedding calls as possible."""
    if not cases:
        raise InvalidInput("cases", "there are none to evaluate on")
    bench.vectors.learn([case.question for case in cases])
    bench = replace(bench, search=_search_once(bench.search, cases, _most_passages(prompts)))
    _learn_ahead(prompts, cases, bench)
    digest = digest or dataset_digest(cases)
    for prompt in prompts:
        report = (lambda done, total, label=prompt.label: on_progress(label, done, total)) if on_progress else None
        pipeline, judge = bench.pipeline(prompt), bench.judge()
        yield evaluate_prompt_variant(
            prompt.name, prompt.version, cases, pipeline, judge, on_progress=report, digest=digest
        )


def keep_evaluation(
    result: EvaluationResult,
    prompt: Prompt,
    bench: Bench,
    tracking: Tracking,
    *,
    versions: Mapping[str, str],
    dataset: Dataset,
    experiment: str = EXPERIMENT,
) -> EvaluationResult:
    """Save a complete evaluation as an MLflow run, and return it with the run's id.

    Raises InvalidInput for an incomplete one, so that runs over different cases are never compared by accident.
    """
    if not result.is_complete:
        raise InvalidInput("evaluation", f"{prompt.label} is not complete; only complete evaluations are saved as runs")
    registered = tracking.register_prompt(
        prompt.name,
        prompt.text,
        message=prompt.description,
        tags={"version": prompt.version},
        experiment=experiment,
    )
    run_id = tracking.log_evaluation(
        experiment,
        prompt.label,
        params={**_settings(prompt, result, bench), **versions, "registry_version": registered.version},
        metrics=result.metrics,
        artifacts={CASES_ARTIFACT: render_case_results(result.cases), PROMPT_ARTIFACT: prompt.text},
        dataset=dataset,
        prompt=registered,
    )
    return replace(result, run_id=run_id)


def _run_all(
    cases: Sequence[Case], run: Callable[[Case], CaseResult], concurrency: int
) -> Iterator[CaseResult | CeilingReached]:
    """Yield each case's outcome as it finishes, up to `concurrency` at a time; CeilingReached stops new ones."""
    pending: set[Future[CaseResult]] = set()
    waiting = iter(cases)
    with ThreadPoolExecutor(max_workers=concurrency) as workers:
        pending |= {workers.submit(run, case) for case in islice(waiting, concurrency)}
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                try:
                    yield future.result()
                except CeilingReached as reached:
                    waiting = iter(())
                    yield reached
                if (case := next(waiting, None)) is not None:
                    pending.add(workers.submit(run, case))


def _run_case(case: Case, pipeline: Pipeline, judge: Judge, journal: Journal | None) -> CaseResult:
    answer = journal.answers.get(case.id) if journal else None
    try:
        if answer is None:
            answer = pipeline(case)
            if journal:
                journal.record_answer(case.id, answer)
        result = _case_result(case, answer, judge(case, answer))
    except ModelFailure as failure:
        result = _failed_case(case, answer, str(failure))
    if journal:
        journal.record_result(result)
    return result


def _learn_ahead(prompts: Sequence[Prompt], cases: Sequence[Case], bench: Bench) -> None:
    """Embed all texts that the prompts will need in two large batches; short texts one by one cost many times more."""
    most = _most_passages(prompts)
    bench.vectors.learn(list_sentences([passage for case in cases for passage in bench.search(case.question, most)]))
    pipelines = [bench.pipeline(prompt) for prompt in prompts]
    bench.vectors.learn([answer(case).text for answer in pipelines for case in cases])


def _most_passages(prompts: Sequence[Prompt]) -> int:
    return max(map(passages_wanted, prompts), default=1)


def _search_once(search: Search, cases: Sequence[Case], top_k: int) -> Search:
    """Return a search that retrieves the `top_k` passages of each case now, and later returns the first few of them."""
    found = {case.question: tuple(search(case.question, top_k)) for case in cases}
    return lambda question, wanted: found[question][:wanted]


def _settings(prompt: Prompt, result: EvaluationResult, bench: Bench) -> Mapping[str, object]:
    return {
        "prompt": prompt.name,
        "version": prompt.version,
        "top_k": prompt.top_k,
        "max_sentences": prompt.max_sentences,
        "refuse_below": "never" if prompt.refuse_below is None else prompt.refuse_below,
        "grounded": prompt.is_grounded,
        "answerer": bench.protocol,
        "model": bench.model,
        "judge": bench.judge_name,
        "embedding_model": bench.vectors.model,
        "dataset_digest": result.dataset_digest,
        "cases": len(result.cases),
    }


def _case_result(case: Case, answer: Answer, judgment: answers.Judgment) -> CaseResult:
    return CaseResult(
        case_id=case.id,
        question=case.question,
        answerable=case.answerable,
        answer=answer.text,
        refused=answer.refused,
        faithfulness=judgment.faithfulness,
        relevancy=judgment.relevancy,
        refusal_correct=judgment.refusal_correct,
        retrieval_hit=_is_hit(case.expected_documents, answer.documents),
        documents=answer.documents,
        sentences=answer.sentences,
        supported=judgment.supported,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        cost_usd=answer.cost_usd,
        latency_ms=answer.latency_ms,
    )


def _failed_case(case: Case, answer: Answer | None, error: str) -> CaseResult:
    """Return a case without an answer, or whose answer got no verdict."""
    answer = answer or Answer((), False, (), (), 0, 0, 0.0, said=" ")
    nothing = answers.Judgment(0.0, 0.0, (), False)
    return replace(_case_result(case, answer, nothing), answer=answer.text.strip(), error=error)


def _is_hit(expected: Sequence[str], retrieved: Sequence[str]) -> bool | None:
    return any(document in retrieved for document in expected) if expected else None


def _mean(values: Sequence[float]) -> float:
    return float(sum(values)) / len(values)
