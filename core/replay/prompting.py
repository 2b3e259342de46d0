"""Shell: answers drawn questions with the live and the candidate prompt, and has the answers judged.

Outcomes are remembered. Offline by copying sentences, or by a language model under a budget. `answering.py` compares.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.embedding.embed import Embedder
from core.errors import InvalidInput, SourceUnavailable
from core.indexes.backends import Passage
from core.indexes.ingest import OnProgress
from core.prompts.answerers import SentenceVectors, extractive_pipeline, list_sentences, model_pipeline, passages_wanted
from core.prompts.answers import EXTRACTIVE
from core.prompts.evaluate import EvaluationResult, evaluate_prompt_variant
from core.prompts.judges import OFFLINE, OFFLINE_VERSION, RUBRIC_VERSION, Judge, llm_judge, offline_judge
from core.prompts.models import LanguageModel
from core.prompts.prices import Price
from core.prompts.prompts import Prompt, render_prompt
from core.prompts.spending import Budget
from core.replay.answering import AnswerComparison, AnswerOutcome, AnswerRun, compare_answers
from core.replay.remembered import OutcomeJournal, hash_parts
from core.replay.sampling import DrawnQuestion
from core.tracking.cases import Case, CaseResult

ANSWERS = 200  # questions that are answered, of those drawn
_SLICE = 25  # answered on both sides before the next: what a canceled or stopped run can compare


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """How questions are answered and judged: offline without models. Outcomes are remembered in `folder`.

    `live` is the prompt in production; `size` questions are answered, `concurrency` at a time.
    """

    live: Prompt
    prices: Mapping[str, Price]
    folder: Path
    size: int = ANSWERS
    answerer: LanguageModel | None = None
    judge: LanguageModel | None = None
    budget: Budget = field(default_factory=Budget)
    concurrency: int = 4

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InvalidInput("answers", f"{self.size} is below 1")

    @property
    def answerer_name(self) -> str:
        """Who answers."""
        return self.answerer.name if self.answerer else EXTRACTIVE

    @property
    def judge_name(self) -> str:
        """Who judges, with the version of what it is told."""
        if self.judge:
            return f"{self.judge.name} rubric v{RUBRIC_VERSION}"
        return f"{OFFLINE} v{OFFLINE_VERSION}"


@dataclass(frozen=True, slots=True)
class AnsweredSide:
    """One side of the answers: its prompt, and the hits of each asked question by its place."""

    prompt: Prompt
    hits: Mapping[int, Sequence[Passage]]


def answer_both(
    plan: AnswerPlan,
    embedder: Embedder,
    asked: Mapping[int, DrawnQuestion],
    sides: tuple[AnsweredSide, AnsweredSide],
    *,
    labels: Mapping[str, str],
    on_progress: OnProgress | None = None,
) -> AnswerComparison:
    """Return how the answers of the two sides compare.

    An answer to the same text of prompt, passages and question, by the same model and judge, is never bought twice.
    Both sides advance together, so at the budget what was paid for is compared. Raises SourceUnavailable where no
    question has an answer on both, with the first reason, AccessRefused for a key that is refused, and what the journal
    and the embedder raise.
    """
    before = plan.budget.spent_usd
    desk = _Desk(plan, embedder)
    cases = tuple({at: _make_case(each.text, side, at, plan) for at, each in asked.items()} for side in sides)
    remembered = sum(desk.knows(case) for side in cases for case in side.values())
    found, stopped = _answer_slices(desk, sides, cases, on_progress)
    failed = {at for side in found for at, each in side.items() if each.error}
    run = AnswerRun(
        sides[0].prompt.label, sides[1].prompt.label, plan.answerer_name, plan.judge_name, remembered=remembered,
        failed=len(failed), not_run=len(asked) - len(found[0].keys() & found[1].keys()), stopped=stopped,
        spent_usd=plan.budget.spent_usd - before,
    )  # fmt: skip
    live, candidate = ([_read_outcome(at, each) for at, each in side.items() if not each.error] for side in found)
    compared = compare_answers(run, asked, live, candidate, labels=labels)
    if compared is None:
        errors = (each.error for side in found for each in side.values() if each.error)
        why = stopped or next(errors, "there are none")
        raise SourceUnavailable(f"answers: no question was answered and judged on both sides: {why}")
    return compared


def count_passages(plan: AnswerPlan, prompts: Sequence[Prompt]) -> int:
    """Return how many hits of a question the answerer needs."""
    wanted: Callable[[Prompt], int] = (lambda prompt: prompt.top_k) if plan.answerer else passages_wanted
    return max(map(wanted, prompts))


def _make_case(question: str, side: AnsweredSide, at: int, plan: AnswerPlan) -> Case:
    """Return the question under a name that holds everything that its outcome depends on."""
    hits, prompt = side.hits[at], side.prompt
    read = render_prompt(prompt, context="\n\n".join(hit.text for hit in hits[: prompt.top_k]), question=question)
    if plan.answerer:
        return Case(hash_parts(read, question), question, (), "", answerable=True)
    settings = str((prompt.max_sentences, prompt.refuse_below))
    beyond = (hit.text for hit in hits[prompt.top_k : _most(plan, prompt)])
    return Case(hash_parts(read, question, settings, *beyond), question, (), "", answerable=True)


def _most(plan: AnswerPlan, prompt: Prompt) -> int:
    return prompt.top_k if plan.answerer else passages_wanted(prompt)


def _answer_slices(
    desk: "_Desk",
    sides: Sequence[AnsweredSide],
    cases: Sequence[Mapping[int, Case]],
    on_progress: OnProgress | None,
) -> tuple[list[dict[int, CaseResult]], str]:
    """Return the results of each side by place, slice by slice on both, and what the budget said if it stopped them."""
    found: list[dict[int, CaseResult]] = [{} for _ in sides]
    places, stopped = list(cases[0]), ""
    for start in range(0, len(places), _SLICE):
        part = places[start : start + _SLICE]
        for side, of_side, kept in zip(sides, cases, found, strict=True):
            result = desk.answer(side, {at: of_side[at] for at in part})
            by_id = {each.case_id: each for each in result.cases}
            kept.update({at: by_id[of_side[at].id] for at in part if of_side[at].id in by_id})
            stopped = stopped or result.stopped
        if on_progress:
            on_progress("answers", min(start + _SLICE, len(places)), len(places))
        if stopped:
            break
    return found, stopped


class _Desk:
    """Answers and judges, and remembers the outcomes."""

    def __init__(self, plan: AnswerPlan, embedder: Embedder) -> None:
        name = hash_parts(plan.answerer_name, plan.judge_name)[:16]
        self._plan = plan
        self._journal = OutcomeJournal(plan.folder / f"answers-{name}.jsonl")
        self._vectors = SentenceVectors(embedder)
        # What a model wrote may repeat the question, so its sentences are cached nowhere.
        own = SentenceVectors(Embedder(embedder.model)) if plan.answerer else self._vectors
        self._judge: Judge = llm_judge(plan.judge) if plan.judge else offline_judge(own)

    def knows(self, case: Case) -> bool:
        """Whether a case was answered and judged already."""
        found = self._journal.results.get(case.id)
        return found is not None and not found.error

    def answer(self, side: AnsweredSide, cases: Mapping[int, Case]) -> EvaluationResult:
        """Return the results of these cases, remembered ones included."""
        found = {case.question: side.hits[at] for at, case in cases.items()}

        def search(question: str, top_k: int) -> Sequence[Passage]:
            return found[question][:top_k]

        plan, prompt = self._plan, side.prompt
        if plan.answerer:
            pipeline = model_pipeline(prompt, search=search, model=plan.answerer)
        else:
            pipeline = extractive_pipeline(prompt, search=search, vectors=self._vectors, prices=plan.prices)
            waiting = [case for case in cases.values() if not self.knows(case)]
            hits = [hit for case in waiting for hit in found[case.question][: _most(plan, prompt)]]
            self._vectors.learn([*(case.question for case in waiting), *list_sentences(hits)])
            self._vectors.learn([pipeline(case).text for case in waiting])
        return evaluate_prompt_variant(
            prompt.name, prompt.version, list(cases.values()), pipeline, self._judge, journal=self._journal,
            concurrency=plan.concurrency if plan.answerer or plan.judge else 1, digest="replay",
        )  # fmt: skip


def _read_outcome(at: int, each: CaseResult) -> AnswerOutcome:
    return AnswerOutcome(at, each.refused, each.faithfulness, each.relevancy, each.cost_usd, each.latency_ms)
