"""Shell: assembles a bench for `quarterdeck eval`, evaluates prompts on it, and keeps complete runs in MLflow.

A run that was killed, or stopped by its spending ceiling, resumes from its journal when it is started again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from core.config import PROJECT, Config
from core.embedding.chunks import digest_chunks
from core.embedding.embed import Embedder
from core.errors import InvalidInput, SourceUnavailable
from core.indexes.backends import open_indexes
from core.indexes.registry import list_aliases
from core.prompts.answerers import ContextPassage, SentenceVectors
from core.prompts.answers import EXTRACTIVE
from core.prompts.bench import (
    Bench,
    build_bench,
    head_revision,
    open_embedder,
    read_corpora,
    read_stored_cases,
    read_text,
)
from core.prompts.evaluate import (
    EXPERIMENT,
    EvaluationResult,
    evaluate_offline,
    evaluate_prompt_variant,
    keep_evaluation,
)
from core.prompts.models import LanguageModel, Protocols, open_model
from core.prompts.prices import Price, parse_prices
from core.prompts.prompts import Prompt, parse_prompt
from core.prompts.registered import is_registered_uri, read_registered_prompt
from core.prompts.spending import Budget
from core.tracking.cases import Case, dataset_digest, parse_cases
from core.tracking.gateway import Dataset, Tracking
from quarterdeck.store import Store

ALIAS = "default"
DEMO_CASES = PROJECT / "data" / "demo" / "cases" / "qa.jsonl"
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """What to evaluate, and with which models. `judge` is `offline` or `llm`; only models cost money.

    `prompts` are files, or registered versions such as prompts:/qa/3. A `case_set` of the store (`qa`, or `qa@3`)
    replaces the file of cases.
    """

    prompts: tuple[Path, ...]
    cases: Path = DEMO_CASES
    case_set: str = ""
    answerer: str = EXTRACTIVE
    model: str = ""
    base_url: str | None = None
    judge: str = "offline"
    judge_model: str = ""
    judge_protocol: str = ""
    index: str = ""
    corpora: tuple[Path, ...] = ()
    prices: Path = PROJECT / "data" / "prices.yaml"
    concurrency: int = 1
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a trial: one per prompt, and the actual cost, including judges."""

    results: tuple[EvaluationResult, ...]
    spent_usd: float

    @property
    def is_complete(self) -> bool:
        """Whether every case of every prompt was answered and judged."""
        return all(result.is_complete for result in self.results)


def run_trial(config: Config, trial: Trial, *, on_progress: OnProgress | None = None) -> Outcome:
    """Evaluate every prompt of the trial; each complete one becomes an MLflow run, linked to its prompt version.

    Raises InvalidInput before any question is asked for a wrong or missing prompt, case, price, model or key.
    """
    tracking = Tracking(config.tracking_uri)
    prompts = [read_prompt(tracking, path) for path in trial.prompts]
    cases, dataset = _read_cases(config, trial)
    prices = parse_prices(read_text(trial.prices), source=str(trial.prices))
    budget = Budget(trial.max_cost_usd)
    answerer, judge = open_models(trial, prices, budget)
    if trial.max_cost_usd is not None and not (answerer or judge):
        raise InvalidInput("max-cost-usd", "the offline answerer and judge spend nothing; leave it out")
    with open_embedder(config) as embedder, _open_bench(config, trial, embedder, prices) as (offline, versions):
        bench = replace(
            offline,
            answerer=answerer,
            protocol=trial.answerer,
            judge_model=judge,
            journals=config.home / "evals",
            concurrency=trial.concurrency,
        )
        versions = {**versions, "git_revision": head_revision()}
        results = []
        for prompt in prompts:
            result = _evaluate(prompt, cases, bench, dataset.digest, on_progress)
            if result.is_complete:
                result = keep_evaluation(
                    result,
                    prompt,
                    bench,
                    tracking,
                    versions=versions,
                    dataset=dataset,
                    experiment=config.experiment or EXPERIMENT,
                )
                if journal := bench.journal(prompt, dataset.digest):
                    journal.remove()
            results.append(result)
    return Outcome(tuple(results), budget.spent_usd)


def read_prompt(tracking: Tracking, path: Path) -> Prompt:
    """Return the prompt of a file, or a registered version. Raises InvalidInput and NotFound."""
    if is_registered_uri(str(path)):
        return read_registered_prompt(tracking, str(path))
    return parse_prompt(read_text(path), source=str(path))


def _read_cases(config: Config, trial: Trial) -> tuple[tuple[Case, ...], Dataset]:
    """The cases, and the data set that the run names: a file, or a version of a set in the store."""
    if trial.case_set:
        found = read_stored_cases(config, trial.case_set)
        source = f"quarterdeck:cases/{found.name}@{found.version}"
        return found.plain, Dataset(found.name, source, dataset_digest(found.plain))
    cases = parse_cases(read_text(trial.cases), source=str(trial.cases))
    return cases, Dataset(trial.cases.stem, str(trial.cases), dataset_digest(cases))


def _evaluate(
    prompt: Prompt, cases: Sequence[Case], bench: Bench, digest: str, on_progress: OnProgress | None
) -> EvaluationResult:
    if not bench.answerer and not bench.judge_model:
        return next(evaluate_offline([prompt], cases, bench, on_progress=on_progress, digest=digest))
    report = (lambda done, total: on_progress(prompt.label, done, total)) if on_progress else None
    bench.vectors.learn([case.question for case in cases])
    return evaluate_prompt_variant(
        prompt.name,
        prompt.version,
        cases,
        bench.pipeline(prompt),
        bench.judge(),
        on_progress=report,
        journal=bench.journal(prompt, digest),
        concurrency=bench.concurrency,
        digest=digest,
    )


def open_models(
    trial: Trial, prices: Mapping[str, Price], budget: Budget
) -> tuple[LanguageModel | None, LanguageModel | None]:
    """Return the answering and the judging model; None for offline ones. The judge defaults to the answerer's model."""

    def opened(protocol: str, name: str, option: str) -> LanguageModel:
        if not name:
            raise InvalidInput(option, f"name the model for {protocol!r}, as in the price table")
        return open_model(Protocols(protocol), name, prices=prices, budget=budget, base_url=trial.base_url)

    answerer = None if trial.answerer == EXTRACTIVE else opened(trial.answerer, trial.model, "model")
    if trial.judge == "offline":
        return answerer, None
    protocol = trial.judge_protocol or ("" if trial.answerer == EXTRACTIVE else trial.answerer)
    if not protocol:
        raise InvalidInput("judge-answerer", "name the judging model's protocol: openai or anthropic")
    return answerer, opened(protocol, trial.judge_model or trial.model, "judge-model")


@contextmanager
def _open_bench(
    config: Config, trial: Trial, embedder: Embedder, prices: Mapping[str, Price]
) -> Iterator[tuple[Bench, dict[str, str]]]:
    """Yield an offline bench with its index and corpus version for the run: a temporary index, or one of the deck's."""
    if trial.corpora:
        with build_bench(read_corpora(trial.corpora), embedder, prices) as bench:
            yield bench, {"index_version": "temporary", "corpus_version": ", ".join(map(str, trial.corpora))}
        return
    name = trial.index or _live_index(config)
    indexes = open_indexes(config.index_uri)
    digest = digest_chunks(indexes.list_chunks(name), model=embedder.model)
    vectors = SentenceVectors(embedder)

    def search(question: str, top_k: int) -> Sequence[ContextPassage]:
        return indexes.search(name, vectors.get(question)[None], top_k=top_k)[0]

    yield Bench(search, vectors, prices, index_digest=digest), {"index_version": name}


def _live_index(config: Config) -> str:
    store = Store(config.database_url)
    try:
        names = {alias.alias: alias.index_name for alias in list_aliases(store)}
    except SourceUnavailable as error:
        raise SourceUnavailable(f"{error} Or name an index with --index, or a folder with --corpus.") from error
    finally:
        store.close()
    if ALIAS not in names:
        raise InvalidInput("index", f"no index serves the alias {ALIAS!r}; use --index NAME or --corpus FOLDER")
    return names[ALIAS]
