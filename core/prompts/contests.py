"""Shell: compares chosen runs: loads them with their cases and prompts, and asks which one wins."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.errors import InvalidInput, NotFound, SourceUnavailable
from core.prompts.decisions import Candidate, Decision, WinnerRule, decide_winner
from core.prompts.pairs import list_shared_cases
from core.tracking.cases import CaseResult
from core.tracking.gateway import Tracking
from core.tracking.runs import EVALUATED, MOST_COMPARED, PromptVersion, Run, RunFilter, choose_runs, label_runs

LOOKED_AT = 1_000  # the newest runs from which the contenders are chosen
_LOOKED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Contender:
    """One run with its cases, and its prompt if registered. `problem` says why it cannot be judged case by case."""

    run: Run
    label: str
    cases: tuple[CaseResult, ...]
    prompt: PromptVersion | None
    problem: str = ""

    @property
    def candidate(self) -> Candidate:
        """The candidate for the winner rule."""
        scores = {case.case_id: case.faithfulness for case in self.cases if not case.error}
        cost = self.run.metrics[EVALUATED[1]]
        return Candidate(self.run.run_id, self.label, scores, cost, self.run.params.get("dataset_digest", ""))


@dataclass(frozen=True, slots=True)
class PromptComparison:
    """Several runs side by side, and the decision on those that can be judged; None without any.

    `is_chosen` says whether somebody chose the runs; `missing` are chosen runs that were not found. `shared` are the
    cases that all judged runs have in common; `production` is the live version of their prompt.
    """

    contenders: tuple[Contender, ...]
    decision: Decision | None
    production: PromptVersion | None
    shared: tuple[str, ...] = ()
    is_chosen: bool = False
    missing: tuple[str, ...] = ()

    @property
    def judged(self) -> tuple[Contender, ...]:
        """The contenders with a table of cases."""
        return tuple(each for each in self.contenders if not each.problem)

    @property
    def winner(self) -> Contender | None:
        """The contender that won, or None."""
        won = self.decision.winner if self.decision else None
        return next((each for each in self.contenders if won and each.run.run_id == won.run_id), None)


def find_experiment(tracking: Tracking, named: str = "") -> str:
    """Return the experiment to look at: the one `named`, else that of the newest evaluated run; "" without any.

    Among very many runs the newest are looked through, `LOOKED_AT` of them. Raises SourceUnavailable.
    """
    if named:
        return named
    for offset in range(0, LOOKED_AT, _LOOKED_AT_ONCE):
        runs = tracking.list_runs(limit=_LOOKED_AT_ONCE, offset=offset)
        for run in runs:
            if run.is_evaluated:
                return run.experiment
        if len(runs) < _LOOKED_AT_ONCE:
            break
    return ""


def report_prompts(
    tracking: Tracking,
    *,
    experiment: str,
    rule: WinnerRule,
    ceiling_usd: float | None = None,
    run_ids: Sequence[str] = (),
    shared_only: bool = False,
) -> PromptComparison:
    """Compare the chosen runs; without any, the newest evaluated run of each version of one prompt.

    Runs over different cases get no decision, unless `shared_only` asks for one over their shared cases.
    Raises SourceUnavailable.
    """
    run_ids = tuple(dict.fromkeys(run_ids))  # never compare a run with itself
    runs = tracking.get_runs(run_ids[:MOST_COMPARED]) if run_ids else _choose(tracking, experiment)
    prompts = _list_linked(tracking, runs)
    contenders = tuple(_load(tracking, run, label, prompts) for run, label in zip(runs, label_runs(runs), strict=True))
    judged = [each for each in contenders if not each.problem]
    shared = list_shared_cases([each.cases for each in judged])
    name = next((run.prompt_key[0] for run in runs if "prompt" in run.params), "")
    candidates = [each.candidate for each in judged]
    if shared_only:
        candidates = [
            replace(each, per_case={case: each.per_case[case] for case in shared}, dataset_digest="")
            for each in candidates
        ]
    return PromptComparison(
        contenders=contenders,
        decision=_decide(candidates, rule, ceiling_usd) if candidates else None,
        production=tracking.production_version(name, with_runs=False) if name else None,
        shared=shared,
        is_chosen=bool(run_ids),
        missing=tuple(run_id for run_id in run_ids if run_id not in {run.run_id for run in runs}),
    )


def _choose(tracking: Tracking, experiment: str) -> tuple[Run, ...]:
    """The runs to decide between; always includes the production run, however old."""
    chosen = choose_runs(tracking.list_runs(RunFilter(experiment), limit=LOOKED_AT))
    if not chosen:
        return ()
    live = tracking.production_version(chosen[0].prompt_key[0], with_runs=False)
    if live is None or any((live.name, live.version) in run.linked_prompts for run in chosen):
        return chosen
    version = live.tags.get("version", str(live.version))
    former = choose_runs(tracking.list_runs(RunFilter(experiment, live.name, version), limit=10), at_most=1)
    return (*chosen[: MOST_COMPARED - len(former)], *former)


def _list_linked(tracking: Tracking, runs: Sequence[Run]) -> dict[tuple[str, int], PromptVersion]:
    names = sorted({name for run in runs for name, _ in run.linked_prompts})
    found = [prompt for name in names for prompt in tracking.list_prompts(name, with_runs=False)]
    return {(prompt.name, prompt.version): prompt for prompt in found}


def _load(tracking: Tracking, run: Run, label: str, prompts: dict[tuple[str, int], PromptVersion]) -> Contender:
    prompt = next((prompts[link] for link in run.linked_prompts if link in prompts), None)
    if not run.is_evaluated:
        return Contender(run, label, (), prompt, f"has no {' and '.join(n for n in EVALUATED if n not in run.metrics)}")
    try:
        cases = tracking.list_case_results(run.run_id)
    except (NotFound, InvalidInput, SourceUnavailable) as error:
        return Contender(run, label, (), prompt, f"has no readable table of cases: {error}")
    if all(case.error for case in cases):
        return Contender(run, label, cases, prompt, "has no judged cases")
    return Contender(run, label, cases, prompt)


def _decide(candidates: Sequence[Candidate], rule: WinnerRule, ceiling_usd: float | None) -> Decision:
    try:
        return decide_winner(candidates, rule=rule, ceiling_usd=ceiling_usd)
    except InvalidInput as error:  # logged figures that the rule cannot use
        return Decision(rule, None, None, f"No verdict by {rule}: {error}.", False, 0)
