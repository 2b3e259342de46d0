"""Shell: runs each judge on labeled rows for `quarterdeck judges`, to measure how far it can be trusted.

The judges are the very functions that `quarterdeck eval` uses (`judges.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core.config import PROJECT, Config
from core.errors import InvalidInput
from core.prompts import answers
from core.prompts.agreement import Agreement, JudgeVerdict, Labeled, Skill, parse_labeled
from core.prompts.answerers import SentenceVectors
from core.prompts.answers import Answer
from core.prompts.bench import open_embedder, read_text
from core.prompts.judges import OFFLINE, Judge, llm_judge, offline_judge
from core.prompts.models import LanguageModel, ModelFailure, Protocols, open_model
from core.prompts.prices import parse_prices
from core.prompts.spending import Budget, CeilingReached
from core.tracking.cases import Case

LABELED = PROJECT / "data" / "demo" / "cases"
BY_WORDING = "by wording (for every judge)"
# From this relevancy on, an answer counts as on topic: a cosine offline, "answers a part of it" by the rubric.
RELEVANT_OFFLINE, RELEVANT_BY_RUBRIC = 0.35, 0.5
_ABOUT = "What does the documentation say?"
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Examination:
    """Which judges to test, on the labeled rows of which folder. Without a model, only the offline judges."""

    folder: Path = LABELED
    protocol: str = ""
    model: str = ""
    base_url: str | None = None
    prices: Path = PROJECT / "data" / "prices.yaml"
    concurrency: int = 1
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Grades:
    """Each judge's agreement on each labeled set, and the cost of asking the model."""

    agreements: tuple[Agreement, ...]
    spent_usd: float


def examine_judges(config: Config, asked: Examination, *, on_progress: OnProgress | None = None) -> Grades:
    """Return the agreement of each judge with each labeled set: `judge_SKILL.jsonl` in the folder.

    A missing verdict counts as disagreement, including rows left out because of the spending ceiling.
    Raises InvalidInput for a wrong or missing set, price, model or key.
    """
    rows = {skill: _read_rows(asked.folder, skill) for skill in Skill}
    budget = Budget(asked.max_cost_usd)
    model = _open(asked, budget)
    refusals = tuple(JudgeVerdict(row, answers.is_refusal(row.text)) for row in rows[Skill.REFUSAL])
    with open_embedder(config) as embedder:
        vectors = SentenceVectors(embedder)
        vectors.learn([text for found in rows.values() for row in found for text in _texts_of(row)])
        found = _examine(offline_judge(vectors), OFFLINE, RELEVANT_OFFLINE, rows)
    found.append(Agreement(BY_WORDING, Skill.REFUSAL, refusals))
    if model:
        judge, name = llm_judge(model), f"model: {model.name}"
        found += _examine(judge, name, RELEVANT_BY_RUBRIC, rows, asked.concurrency, on_progress)
    return Grades(tuple(found), budget.spent_usd)


def _examine(
    judge: Judge,
    name: str,
    relevant_from: float,
    rows: Mapping[Skill, Sequence[Labeled]],
    concurrency: int = 1,
    on_progress: OnProgress | None = None,
) -> list[Agreement]:
    def is_supported(row: Labeled) -> bool:
        context = answers.split_sentences(row.context)
        return judge(_case(row), _answer((row.text,), context, row.context)).supported[0]

    def is_relevant(row: Labeled) -> bool:
        said = answers.split_sentences(row.text) or (row.text,)
        return judge(_case(row), _answer(said, (), "")).relevancy >= relevant_from

    found = []
    for skill, ask in ((Skill.FAITHFULNESS, is_supported), (Skill.RELEVANCY, is_relevant)):
        verdicts = []
        with ThreadPoolExecutor(max_workers=concurrency) as workers:
            for verdict in workers.map(lambda row, ask=ask: _judge_row(row, ask), rows[skill]):
                verdicts.append(verdict)
                if on_progress:
                    on_progress(f"{skill}, {name}", len(verdicts), len(rows[skill]))
        found.append(Agreement(name, skill, tuple(verdicts)))
    return found


def _judge_row(row: Labeled, ask: Callable[[Labeled], bool]) -> JudgeVerdict:
    try:
        return JudgeVerdict(row, ask(row))
    except (ModelFailure, CeilingReached) as failure:
        return JudgeVerdict(row, problem=f"no verdict ({failure})")


def _case(row: Labeled) -> Case:
    return Case(row.row_id, row.question or _ABOUT, (), "", answerable=True)


def _answer(sentences: tuple[str, ...], context: tuple[str, ...], passage: str) -> Answer:
    return Answer(sentences, False, (), context, 0, 0, 0.0, passages=(passage,) if passage else ())


def _texts_of(row: Labeled) -> tuple[str, ...]:
    """Every text that the offline judge embeds for a row, to embed them in one batch."""
    said = " ".join(answers.split_sentences(row.text) or (row.text,))
    return (row.text, said, row.question or _ABOUT, *answers.split_sentences(row.context))


def _open(asked: Examination, budget: Budget) -> LanguageModel | None:
    if not asked.model and not asked.protocol:
        if asked.max_cost_usd is not None:
            raise InvalidInput("max-cost-usd", "the offline judges spend nothing; leave it out")
        return None
    if not asked.model or not asked.protocol:
        raise InvalidInput("judges", "use --judge-model and --judge-answerer together, or neither")
    prices = parse_prices(read_text(asked.prices), source=str(asked.prices))
    return open_model(Protocols(asked.protocol), asked.model, prices=prices, budget=budget, base_url=asked.base_url)


def _read_rows(folder: Path, skill: Skill) -> tuple[Labeled, ...]:
    path = folder / f"judge_{skill}.jsonl"
    return parse_labeled(read_text(path), skill, source=path.name)
