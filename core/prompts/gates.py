"""Rule: the gates. Case results and thresholds in; a report out that passes, or says which case failed and why.

`gatekeeper.py` runs the evaluation, `verdicts.py` shows the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import yaml

from core.errors import InvalidInput
from core.prompts.decisions import MINIMUM_CASES, Interval, bootstrap_interval
from core.prompts.prices import Price, compute_cost_usd
from core.tracking.cases import Case, CaseResult
from core.wording.counts import count_of

_NOISE = 1e-9
_DEAREST = 3
_OTHERS = ("replay",)  # parts of the file that other gates read


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a prompt must reach: scores are 0 to 1, money is USD. Tokens are priced as for `model`."""

    faithfulness_mean: float
    faithfulness_min: float
    refusal_accuracy: float
    cost_usd_mean: float = 0.01
    model: str = "extractive-offline"
    baseline: str = ""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A prompt with its case results. `origin` says where a baseline comes from."""

    label: str
    results: tuple[CaseResult, ...]
    origin: str = ""


@dataclass(frozen=True, slots=True)
class CaseFailure:
    """A failing case: the question, the expected and the actual answer, and the reasons in words."""

    case_id: str
    question: str
    expected: str
    actual: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One condition: whether it holds, the figures, and the failing cases."""

    name: str
    passed: bool
    detail: str
    failures: tuple[CaseFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class GateReport:
    """A gate's report on one prompt. Notes do not affect the result."""

    gate: str
    subject: str
    checks: tuple[GateCheck, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)


def parse_thresholds(text: str, *, source: str = "gates.yaml") -> Thresholds:
    """Return the thresholds of a YAML text with the parts `prompt_eval` and `cost_check`.

    Raises InvalidInput, naming the source and the field, for one that is missing, unknown or out of range.
    """
    try:
        table = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(source, f"is not YAML: {str(error).splitlines()[0]}") from error
    parts = ("prompt_eval", "cost_check")
    if not isinstance(table, dict) or not all(isinstance(table.get(part), dict) for part in parts):
        raise InvalidInput(source, "must contain `prompt_eval:` and `cost_check:`, each with its thresholds")
    found = {**table["prompt_eval"], **table["cost_check"]}
    known = [field.name for field in fields(Thresholds)]
    if unknown := sorted({*found, *table} - {*known, *parts, *_OTHERS}, key=str):
        raise InvalidInput(f"{source}, {unknown[0]}", f"is unknown; the thresholds are: {', '.join(known)}")
    shares = ("faithfulness_mean", "faithfulness_min", "refusal_accuracy")
    return Thresholds(
        **{name: _number(found, name, source, most=1.0) for name in shares},
        cost_usd_mean=_number(found, "cost_usd_mean", source, most=1_000.0),
        model=str(found.get("model") or "extractive-offline"),
        baseline=str(found.get("baseline") or ""),
    )


def check_prompt(
    candidate: Evaluated,
    cases: Sequence[Case],
    thresholds: Thresholds,
    *,
    baseline: Evaluated | None = None,
    seed: int = 0,
) -> GateReport:
    """Return whether a prompt may be merged: every case was judged, thresholds hold, and it is no worse than before.

    Worse than the baseline means that the 95% interval of the mean paired difference in faithfulness over the same
    cases (`core.prompts.decisions.bootstrap_interval`) is below 0. A fall that is small or not significant gives a
    note only, as do fewer than 6 common cases.
    """
    references = {case.id: case for case in cases}
    judged = [result for result in candidate.results if not result.error]
    checks = [_check_complete(candidate.results, references)]
    if judged:
        checks += [
            _check_mean(judged, references, thresholds.faithfulness_mean),
            _check_minimum(judged, references, thresholds.faithfulness_min),
            _check_refusals(judged, references, thresholds.refusal_accuracy),
        ]
    notes: tuple[str, ...] = ("There is no baseline, so only the thresholds were checked.",)
    if baseline and judged:
        check, notes = _check_regression(candidate, baseline, references, seed)
        checks += [check] if check else []
    return GateReport("prompt-eval", candidate.label, tuple(checks), notes)


def check_cost(
    candidate: Evaluated, cases: Sequence[Case], thresholds: Thresholds, prices: Mapping[str, Price]
) -> GateReport:
    """Return whether the average query stays under the cost ceiling, with tokens at one model's price.

    Raises InvalidInput if the model is not in the price table.
    """
    references = {case.id: case for case in cases}
    judged = [result for result in candidate.results if not result.error]
    checks = [_check_complete(candidate.results, references)]
    if judged:
        costs = {
            r.case_id: compute_cost_usd(
                prices, thresholds.model, input_tokens=r.input_tokens, output_tokens=r.output_tokens
            )
            for r in judged
        }
        checks.append(_check_mean_cost(judged, costs, references, thresholds))
    return GateReport("cost-check", candidate.label, tuple(checks))


def _check_complete(results: Sequence[CaseResult], references: Mapping[str, Case]) -> GateCheck:
    missing = sorted(set(references) - {result.case_id for result in results})
    failed = [result for result in results if result.error]
    failures = [_failure(result, references, [result.error]) for result in failed]
    failures += [
        CaseFailure(name, references[name].question, _expected(references[name]), "", ("it was not run",))
        for name in missing
    ]
    done = len(references) - len(failures)
    return GateCheck("every case judged", not failures, f"{done} of {len(references)} cases", tuple(failures))


def _check_mean(judged: Sequence[CaseResult], references: Mapping[str, Case], threshold: float) -> GateCheck:
    mean = sum(result.faithfulness for result in judged) / len(judged)
    passed = mean >= threshold - _NOISE
    worst = [] if passed else sorted((r for r in judged if r.faithfulness < threshold), key=lambda r: r.faithfulness)
    detail = f"{mean:.3f}, needed {threshold:g}"
    return GateCheck("faithfulness, mean", passed, detail, tuple(_failure(r, references) for r in worst))


def _check_minimum(judged: Sequence[CaseResult], references: Mapping[str, Case], threshold: float) -> GateCheck:
    below = [result for result in judged if result.faithfulness < threshold - _NOISE]
    lowest = min(judged, key=lambda result: result.faithfulness)
    detail = f"{lowest.faithfulness:.3f} ({lowest.case_id}), needed {threshold:g}"
    return GateCheck("faithfulness, each case", not below, detail, tuple(_failure(r, references) for r in below))


def _check_refusals(judged: Sequence[CaseResult], references: Mapping[str, Case], threshold: float) -> GateCheck:
    wrong = [result for result in judged if not result.refusal_correct]
    accuracy = 1 - len(wrong) / len(judged)
    passed = accuracy >= threshold - _NOISE
    failures = () if passed else tuple(_failure(r, references) for r in wrong)
    return GateCheck("refusal accuracy", passed, f"{accuracy:.3f}, needed {threshold:g}", failures)


def _check_regression(
    candidate: Evaluated, baseline: Evaluated, references: Mapping[str, Case], seed: int
) -> tuple[GateCheck | None, tuple[str, ...]]:
    before = {result.case_id: result for result in baseline.results if not result.error}
    pairs = [(result, before[result.case_id]) for result in candidate.results if result.case_id in before]
    pairs = [(now, then) for now, then in pairs if not now.error]
    than = f"{baseline.label} ({baseline.origin})" if baseline.origin else baseline.label
    if len(pairs) < MINIMUM_CASES:
        return None, (f"{len(pairs)} common cases are too few to tell whether it is worse than {than}.",)
    differences = [now.faithfulness - then.faithfulness for now, then in pairs]
    interval = bootstrap_interval(differences, seed=seed)
    mean = sum(differences) / len(differences)
    worse = [(now, then) for now, then in pairs if now.faithfulness < then.faithfulness - _NOISE]
    passed = interval.high >= -_NOISE
    detail = f"{mean:+.3f} (95% interval {_plain(interval)}) than {than}, {count_of(len(worse), 'case')} worse"
    failures = () if passed else tuple(_failure(now, references, _fell(now, then)) for now, then in worse)
    notes = (f"Lower than {than} by {-mean:.3f}, which is within noise.",) if passed and mean < -_NOISE else ()
    return GateCheck("no regression", passed, detail, failures), notes


def _check_mean_cost(
    judged: Sequence[CaseResult],
    costs: Mapping[str, float],
    references: Mapping[str, Case],
    thresholds: Thresholds,
) -> GateCheck:
    mean = sum(costs.values()) / len(costs)
    passed = mean <= thresholds.cost_usd_mean + _NOISE
    dearest = [] if passed else sorted(judged, key=lambda r: -costs[r.case_id])[:_DEAREST]
    failures = tuple(
        _failure(r, references, [f"${costs[r.case_id]:.4f}: {r.input_tokens} tokens in, {r.output_tokens} out"])
        for r in dearest
    )
    detail = f"${mean:.5f} a query at the price of {thresholds.model}, allowed ${thresholds.cost_usd_mean:g}"
    return GateCheck("average cost", passed, detail, failures)


def _failure(result: CaseResult, references: Mapping[str, Case], reasons: Sequence[str] | None = None) -> CaseFailure:
    case = references.get(result.case_id)
    expected = _expected(case) if case else ""
    return CaseFailure(
        result.case_id,
        result.question,
        expected,
        result.answer,
        tuple(_reasons(result) if reasons is None else reasons),
    )


def _expected(case: Case) -> str:
    return case.reference_answer if case.answerable else f"a refusal: {case.reference_answer}"


def _reasons(result: CaseResult) -> list[str]:
    reasons = [
        f"not supported by the retrieved context: {sentence}"
        for sentence, supported in zip(result.sentences, result.supported, strict=False)
        if not supported
    ]
    if result.refused and result.answerable:
        reasons.append("it was refused, but the documents hold the answer")
    if not result.refused and not result.answerable:
        reasons.append("it was answered, but the documents do not hold the answer")
    return reasons


def _fell(now: CaseResult, then: CaseResult) -> list[str]:
    return [f"faithfulness fell from {then.faithfulness:.2f} to {now.faithfulness:.2f}", *_reasons(now)]


def _plain(interval: Interval) -> str:
    return f"{interval.low:+.3f} to {interval.high:+.3f}"


def _number(found: Mapping[str, object], name: str, source: str, *, most: float) -> float:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise InvalidInput(f"{source}, {name}", f"must be a number from 0 to {most:g}, not {value!r}")
    return float(value)
