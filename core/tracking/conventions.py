"""Rule: reads runs of any convention: which prompt and version a run evaluated, how faithful it was, at what cost.

The deck's own names come first, then those of common tutorials and of MLflow's own evaluations. A team whose names
differ says so once (`RunNames`). `tables.py` reads the cases behind the means.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

from core.errors import InvalidInput
from core.tracking.runs import Run

PROMPTS = (
    "prompt", "prompt_name", "prompt.name", "prompt_id", "prompt_key", "prompt_template_name", "prompt_uri",
    "promptName", "Prompt",
)  # fmt: skip
VERSIONS = (
    "version", "prompt_version", "prompt.version", "prompt_template_version", "promptVersion", "prompt_variant",
    "variant",
)  # fmt: skip
SCORES = (
    "faithfulness", "groundedness", "retrieval_groundedness", "groundedness_score", "faithfulness_score", "faithful",
    "grounded",
)  # fmt: skip
FAITHFULNESS = (
    "faithfulness_mean", "faithfulness/mean", "faithfulness/v1/mean", "mean_faithfulness", "avg_faithfulness",
    "faithfulness_avg", "faithfulness_score", "faithfulness", "faithfulness_score/mean",
    "retrieval_groundedness/mean", "groundedness_mean", "groundedness/mean", "groundedness/v1/mean", "groundedness",
)  # fmt: skip
COSTS = (
    "cost_usd_mean", "cost_per_query_usd", "cost_usd_per_query", "mean_cost_usd", "avg_cost_usd", "cost_usd/mean",
    "cost_per_query", "avg_cost_per_query", "mean_cost", "avg_cost", "cost_mean", "cost/mean", "cost_usd", "cost",
)  # fmt: skip
TOTALS = ("cost_usd_total", "total_cost_usd", "total_cost")
COUNTS = (
    "cases", "n_test_cases", "n_cases", "num_cases", "num_test_cases", "test_cases", "n_questions", "num_questions",
    "n_samples", "num_samples", "dataset_size", "eval_size",
)  # fmt: skip
REFUSALS = ("refusal_accuracy", "refusal_correct/mean", "refusal_accuracy/mean")
ABANDONED = frozenset({"FAILED", "KILLED"})
UNFINISHED = frozenset({"RUNNING", "SCHEDULED"})
_HIGHEST = 100.0  # of a mean faithfulness
_LARGEST = 1e300  # MLflow keeps infinity as the largest number of 64 bits
# Words that say how a figure was made, and not what it is of.
_ABOUT_SCORES = frozenset((
    "is", "mean", "avg", "average", "score", "overall", "metric", "metrics", "v1", "v2", "v3", "eval", "evaluation",
    "test", "val", "offline", "judge", "llm", "answer", "response", "ragas", "deepeval", "trulens", "mlflow", "phoenix",
    "langsmith",
))  # fmt: skip
_ABOUT_COSTS = frozenset((
    "cost", "costs", "price", "usd", "dollar", "dollars", "mean", "avg", "average", "per", "in", "query", "question",
    "request", "call", "answer", "response", "case", "llm",
))  # fmt: skip
_LONGEST_NAME = 200
_URI = re.compile(r"prompts:/+([^/@]+)/(\d+)")
_NUMBERED = re.compile(r"(?:(?P<name>.{0,120}?)[-_ ./:@]{1,8})?v(?:ersion)?[-_ .]?(?P<version>\d[\w.]*)", re.IGNORECASE)
_INVENTED = re.compile(r"[a-z]+-[a-z]+-\d{1,4}")  # what MLflow calls a run that nobody named


@dataclass(frozen=True, slots=True)
class RunNames:
    """Under which names the runs of one experiment keep what a comparison needs; "" looks for the usual ones.

    `prompt`, `version` and `cases` are parameters or tags; `faithfulness` and `cost` are metrics, USD a query.
    """

    prompt: str = ""
    version: str = ""
    faithfulness: str = ""
    cost: str = ""
    cases: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) or len(value) > 250 or any(not letter.isprintable() for letter in value):
                raise InvalidInput(field.name, f"must be the name of a parameter or metric, not {str(value)[:80]!r}")

    @property
    def scores(self) -> tuple[str, ...]:
        """The names that a case's faithfulness may have, in a table or as an assessment."""
        return (score_of(self.faithfulness),) if self.faithfulness else SCORES

    def to_audit(self) -> dict[str, Any]:
        """Return the names as JSON knows them."""
        return asdict(self)

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "RunNames":
        """Return the names that `to_audit` wrote."""
        known = told or {}
        return cls(**{field.name: str(known.get(field.name, "")) for field in fields(cls)})


USUAL = RunNames()


@dataclass(frozen=True, slots=True)
class EvaluatedRun:
    """What a run says of the prompt that it evaluated. None where it says nothing.

    `prompt` and `version` are "" for a run that names none; `version` has no leading v. `faithfulness` is the logged
    mean, on the scale of the run; `cost_usd` is the mean cost of a query.
    """

    run: Run
    prompt: str
    version: str
    faithfulness: float | None
    cost_usd: float | None
    cases: int | None
    refusal_accuracy: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells versions apart: runs with the same key evaluated the same version."""
        return self.prompt, self.version or self.run.name or self.run.run_id

    @property
    def label(self) -> str:
        """The name of the run, or `qa-v2` if MLflow made the name up."""
        version = f"v{self.version}" if self.version[:1].isdigit() else self.version
        own = "-".join(part for part in (self.prompt, version) if part)
        name = self.run.name
        return own if self.version and (not name or _INVENTED.fullmatch(name)) else name or self.run.run_id[:8]


def read_evaluation(
    run: Run,
    names: RunNames = USUAL,
    *,
    versions: Mapping[tuple[str, int], str] | None = None,
    varied: Sequence[str] = (),
) -> EvaluatedRun:
    """Return what a run says of its evaluation, under the given names.

    For runs that are only linked to prompts: `versions` are the labels of registered versions, and `varied` says which
    prompt to take of several (`order_by_variety`).
    """
    prompt, version = _find_prompt(run, names, versions or {}, varied)
    cases = _find_count(run, names)
    faithfulness = _first(run.metrics, _faithfulness_names(run, names), highest=_HIGHEST)
    return EvaluatedRun(
        run, prompt, version, faithfulness, find_cost(run, names, cases), cases, _first(run.metrics, REFUSALS)
    )


def find_cost(run: Run, names: RunNames, cases: int | None) -> float | None:
    """Return the mean cost of a query in USD that a run logged, or its total cost divided by its number of cases."""
    if names.cost:
        return _first(run.metrics, (names.cost,))
    alike = sorted((name for name in run.metrics if matches_cost(name)), key=len)
    totals = sorted((name for name in run.metrics if matches_cost(name, is_total=True)), key=len)
    cost, total = _first(run.metrics, (*COSTS, *alike)), _first(run.metrics, (*TOTALS, *totals))
    return total / cases if cost is None and total is not None and cases else cost


def order_by_variety(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the names of all linked prompts, those with the most versions first: they are what the runs compare."""
    links = {link for run in runs for link in run.linked_prompts}
    often = Counter(name for name, _ in links)
    return tuple(sorted(often, key=lambda name: (-often[name], name)))


def clean_version(version: str) -> str:
    """Return a version without its leading v.

    >>> clean_version("v2"), clean_version("2"), clean_version("vivid")
    ('2', '2', 'vivid')
    """
    version = version.strip()
    return version[1:] if version[:1] in "vV" and version[1:2].isdigit() else version


def score_of(metric: str) -> str:
    """Return the name of the score behind a mean.

    >>> score_of("faithfulness/v1/mean"), score_of("faithfulness_mean"), score_of("mean_grounded")
    ('faithfulness', 'faithfulness', 'grounded')
    """
    name = re.sub(r"(/v\d+)?/(mean|average|avg|score)$", "", metric)
    return re.sub(r"^(mean|avg)_|_(mean|avg)$", "", name)


def matches_score(name: str, score: str) -> bool:
    """Return whether a metric or column holds this score, under the name that some program gave it.

    >>> matches_score("ragas/Faithfulness", "faithfulness"), matches_score("is_grounded/mean", "grounded")
    (True, True)
    >>> matches_score("faithfulness_min", "faithfulness"), matches_score("faithfulness/justification", "faithfulness")
    (False, False)
    """
    wanted = _without(score, _ABOUT_SCORES)
    return bool(wanted) and _without(name, _ABOUT_SCORES) == wanted


def matches_cost(name: str, *, is_total: bool = False) -> bool:
    """Return whether a metric or column holds the cost of a query in USD, or with `is_total` that of a whole run.

    >>> matches_cost("avg_cost_per_query_usd"), matches_cost("CostUSD"), matches_cost("input_cost_usd")
    (True, True, False)
    >>> matches_cost("costUsdTotal"), matches_cost("costUsdTotal", is_total=True)
    (False, True)
    """
    words = _words(name)
    totals = {"total", "sum"} & set(words) if "per" not in words else set()
    is_money = bool({"cost", "costs", "price"} & set(words)) or {"usd", "per"} <= set(words)
    rest = set(words) - _ABOUT_COSTS - {"total", "sum"}
    return is_money and not rest and bool(totals) is is_total


def has_odd_mean(run: Run, names: RunNames = USUAL) -> bool:
    """Return whether the run logged a mean faithfulness that is no number from 0 to 100."""
    return any(name in run.metrics for name in _faithfulness_names(run, names))


def describe_search(runs: Sequence[Run], names: RunNames = USUAL) -> str:
    """Say which figures were looked for in runs that have none of them, and what they have instead."""
    wanted = names.faithfulness or ", ".join(FAITHFULNESS[:3])
    looked = f"a mean faithfulness (metrics {wanted}, …)" if not names.faithfulness else f"the metric {wanted}"
    tables = "a table of cases (cases.json, eval_results_table.json or another JSON file), or assessments in traces"
    if not runs:
        return f"Looked for {looked}, {tables}. Found no run."
    metrics = _most_common(name for run in runs for name in run.metrics)
    params = _most_common(name for run in runs for name in run.params)
    count = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    return f"Looked for {looked}, {tables}. Found {count} with the metrics {metrics} and the parameters {params}."


def _find_prompt(
    run: Run, names: RunNames, versions: Mapping[tuple[str, int], str], varied: Sequence[str]
) -> tuple[str, str]:
    """The prompt's name and version: by parameters, tags, links, and last by the name of the run."""
    prompt = _word(run, (names.prompt,) if names.prompt else PROMPTS)
    version = _word(run, (names.version,) if names.version else VERSIONS)
    if match := _URI.fullmatch(prompt):
        return match[1], clean_version(version or versions.get((match[1], int(match[2])), match[2]))
    links = sorted(run.linked_prompts, key=lambda link: varied.index(link[0]) if link[0] in varied else len(varied))
    if version and not prompt:
        prompt = links[0][0] if links else ""
    if prompt and not version and (linked := [link for link in links if link[0] == prompt]):
        version = versions.get(linked[0], str(linked[0][1]))
    if not prompt and not version and links:
        return links[0][0], clean_version(versions.get(links[0], str(links[0][1])))
    if not version and (match := _NUMBERED.fullmatch(prompt or run.name)):
        return match["name"] or "", match["version"]
    if not version and (match := _NUMBERED.fullmatch(run.name)) and match["name"] in (None, prompt):
        version = match["version"]
    return prompt, clean_version(version)


def _word(run: Run, names: Iterable[str]) -> str:
    """The first of these parameters or tags that holds a name, and not a text such as the prompt itself."""
    for name in names:
        for kept in (run.params, run.tags):
            value = str(_get_alike(kept, name, "")).strip()
            if value and len(value) <= _LONGEST_NAME and "\n" not in value and "{" not in value:
                return value
    return ""


def _find_count(run: Run, names: RunNames) -> int | None:
    for name in (names.cases,) if names.cases else COUNTS:
        for kept in (run.params, run.metrics, run.tags):
            try:
                count = float(_get_alike(kept, name, math.nan))
            except ValueError:
                continue
            if count >= 1 and count.is_integer():
                return int(count)
    return None


def _faithfulness_names(run: Run, names: RunNames) -> tuple[str, ...]:
    """The metrics that may hold the mean: the usual names first, then those that mean the same."""
    if names.faithfulness:
        return (names.faithfulness,)
    alike = sorted(run.metrics, key=len)
    return (*FAITHFULNESS, *(name for score in SCORES for name in alike if matches_score(name, score)))


def _first(metrics: Mapping[str, float], names: Iterable[str], *, highest: float = _LARGEST) -> float | None:
    found = (metrics[name] for name in names if name in metrics)
    return next((value for value in found if 0 <= value <= highest), None)


def _get_alike(kept: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """What is kept under a name, however it is spelled: `PROMPT_NAME` and `promptName` are `prompt_name`."""
    if name in kept:
        return kept[name]
    words = _words(name)
    return next((kept[each] for each in kept if _words(each) == words), otherwise)


@lru_cache(maxsize=10_000)
def _words(name: str) -> tuple[str, ...]:
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return tuple(word for word in re.split(r"[\W_]+", apart.lower()) if word)


def _without(name: str, about: frozenset[str]) -> tuple[str, ...]:
    return tuple(word for word in _words(name) if word not in about)


def _most_common(names: Iterable[str]) -> str:
    often = [name for name, _ in Counter(names).most_common(8)]
    return ", ".join(often) or "(none)"
