"""Rule: reads runs of any convention: which prompt and version a run evaluated, how faithful it was, at what cost.

The deck's own names come first, then those of common tutorials and of MLflow's own evaluations. A team whose names
differ says so once (`RunNames`). `tables.py` reads the cases behind the means.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
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
SCORES = ("faithfulness", "groundedness", "retrieval_groundedness", "groundedness_score", "faithfulness_score")
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
    faithfulness = _first(run.metrics, (names.faithfulness,) if names.faithfulness else FAITHFULNESS)
    return EvaluatedRun(
        run, prompt, version, faithfulness, _find_cost(run, names, cases), cases, _first(run.metrics, REFUSALS)
    )


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


def describe_search(runs: Sequence[Run], names: RunNames = USUAL) -> str:
    """Say which figures were looked for in runs that have none of them, and what they have instead."""
    wanted = names.faithfulness or ", ".join(FAITHFULNESS[:3])
    looked = f"a mean faithfulness (metrics {wanted}, …)" if not names.faithfulness else f"the metric {wanted}"
    tables = "a table of cases (cases.json, eval_results_table.json), or assessments in traces"
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
            value = kept.get(name, "").strip()
            if value and len(value) <= _LONGEST_NAME and "\n" not in value and "{" not in value:
                return value
    return ""


def _find_count(run: Run, names: RunNames) -> int | None:
    for name in (names.cases,) if names.cases else COUNTS:
        for kept in (run.params, run.metrics, run.tags):
            try:
                count = float(kept.get(name, math.nan))
            except ValueError:
                continue
            if count >= 1 and count.is_integer():
                return int(count)
    return None


def _find_cost(run: Run, names: RunNames, cases: int | None) -> float | None:
    if names.cost:
        return _first(run.metrics, (names.cost,))
    cost, total = _first(run.metrics, COSTS), _first(run.metrics, TOTALS)
    return total / cases if cost is None and total is not None and cases else cost


def _first(metrics: Mapping[str, float], names: Iterable[str]) -> float | None:
    found = (metrics[name] for name in names if name in metrics)
    return next((value for value in found if math.isfinite(value)), None)


def _most_common(names: Iterable[str]) -> str:
    often = [name for name, _ in Counter(names).most_common(8)]
    return ", ".join(often) or "(none)"
