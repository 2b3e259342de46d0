"""Shell: compares evaluated runs of any convention, and asks which one wins.

`entrants.py` finds the runs with their cases and prompts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from core.errors import InvalidInput
from core.prompts.decisions import Candidate, Decision, WinnerRule, decide_winner
from core.prompts.entrants import LOOKED_AT, Entrant, find_entrants, read_entrants
from core.prompts.groups import Group, choose_group, choose_same
from core.prompts.guards import admit_candidates
from core.prompts.means import decide_by_means
from core.prompts.pairs import identify_cases
from core.tracking.cases import CaseResult
from core.tracking.conventions import USUAL, EvaluatedRun, RunNames, describe_search, read_evaluation
from core.tracking.gateway import Tracking
from core.tracking.runs import MOST_COMPARED, PromptVersion, Run, label_texts
from core.wording.counts import count_of

__all__ = ["LOOKED_AT", "Contender", "PromptComparison", "Verdict", "find_experiment", "report_prompts"]
Naming = Mapping[str, RunNames]
_LOOKED_AT_ONCE = 100
_MOST_NAMED = 3


class Verdict(StrEnum):
    """What a comparison can say."""

    WINNER = "winner"
    NO_WINNER = "no_winner"
    MEANS_ONLY = "means_only"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Contender:
    """One run with its cases, and its prompt if registered. `problem` says why it cannot be judged case by case.

    `faithfulness` is its mean on a scale of 0 to 1, over the judged cases where there are some; `cost_usd` is the mean
    cost of a query. None where the run says nothing.
    """

    evaluation: EvaluatedRun
    label: str
    cases: tuple[CaseResult, ...]
    prompt: PromptVersion | None
    problem: str = ""
    has_refusals: bool = False
    faithfulness: float | None = None
    cost_usd: float | None = None
    case_count: int | None = None
    is_judged: bool = False

    @property
    def run(self) -> Run:
        """The run."""
        return self.evaluation.run


@dataclass(frozen=True, slots=True)
class PromptComparison:
    """Several runs side by side, and the decision on those that can be judged; None without any.

    `is_chosen` says whether somebody chose the runs; `missing` are chosen runs that were not found. `shared` are the
    cases that all judged runs have in common; `production` is the live version of the prompt. `notes` name what was
    left out, and `searched` what was looked for and found where no run is evaluated.
    """

    contenders: tuple[Contender, ...]
    decision: Decision | None
    production: PromptVersion | None
    verdict: Verdict
    shared: tuple[str, ...] = ()
    is_chosen: bool = False
    missing: tuple[str, ...] = ()
    prompt: str = ""
    notes: tuple[str, ...] = ()
    searched: str = ""

    @property
    def judged(self) -> tuple[Contender, ...]:
        """The contenders that were judged case by case."""
        return tuple(each for each in self.contenders if each.is_judged)

    @property
    def winner(self) -> Contender | None:
        """The contender that won, or None."""
        return self._find(self.decision.winner if self.decision else None)

    @property
    def leader(self) -> Contender | None:
        """The contender that is ahead in this sample, or None."""
        return self._find(self.decision.leader if self.decision else None)

    @property
    def drawn(self) -> tuple[Contender, ...]:
        """At most eight contenders to draw: who leads, its closest rival, production, and the first others."""
        rival = self._find(self.decision.rival if self.decision else None)
        first = [self.leader, rival, *(each for each in self.contenders if self.is_live(each))]
        wanted = [each for each in first if each] + [*self.judged, *self.contenders]
        chosen: set[str] = set()
        for each in wanted:
            if len(chosen) < MOST_COMPARED:
                chosen.add(each.run.run_id)
        return tuple(each for each in self.contenders if each.run.run_id in chosen)

    @property
    def reason(self) -> str:
        """The verdict in words, with what was left out."""
        said = self.decision.reason if self.decision else self.searched or _say_unjudged(self.contenders)
        return " ".join((said, *self.notes))

    def is_live(self, contender: Contender) -> bool:
        """Whether the contender evaluated the version in production."""
        return contender.prompt is not None and contender.prompt == self.production

    def _find(self, candidate: Candidate | None) -> Contender | None:
        return next((each for each in self.contenders if candidate and each.run.run_id == candidate.run_id), None)


def find_experiment(tracking: Tracking, named: str = "", *, naming: Naming | None = None) -> str:
    """Return the experiment to look at: the one `named`, else that of the newest evaluated run; "" without any.

    Among very many runs the newest are looked through, `LOOKED_AT` of them. Raises SourceUnavailable.
    """
    if named:
        return named
    for offset in range(0, LOOKED_AT, _LOOKED_AT_ONCE):
        runs = tracking.list_runs(limit=_LOOKED_AT_ONCE, offset=offset)
        for run in runs:
            if read_evaluation(run, (naming or {}).get(run.experiment, USUAL)).faithfulness is not None:
                return run.experiment
        if len(runs) < _LOOKED_AT_ONCE:
            break
    return ""


def report_prompts(
    tracking: Tracking,
    *,
    experiment: str,
    rule: WinnerRule | None,
    ceiling_usd: float | None = None,
    run_ids: Sequence[str] = (),
    shared_only: bool = False,
    prompt: str = "",
    naming: Naming | None = None,
    floor: float | None = None,
) -> PromptComparison:
    """Compare the chosen runs; without any, every evaluated version of one prompt.

    Without a choice, the versions are judged over the cases that most of them share, each with its newest run over
    those cases; the others are named in `notes`. Where no two runs have a table of cases in common, the logged means
    are compared, and the verdict is `means_only`. Of chosen runs, those over exactly the same cases are judged, the
    newest of each version; if no two versions have the same cases there is no decision, unless `shared_only` asks for
    one over the cases that all share. `naming` says for each experiment under which names its runs
    keep their figures. Without a rule, it is faithfulness per cost where every run reports a cost.
    Raises SourceUnavailable.
    """
    run_ids = tuple(dict.fromkeys(run_ids))  # never compare a run with itself
    names = (naming or {}).get(experiment, USUAL)
    if run_ids:
        runs = tracking.get_runs(run_ids)
        entrants = read_entrants(tracking, runs, names)
        missing = tuple(run_id for run_id in run_ids if run_id not in {run.run_id for run in runs})
        return _compare_chosen(tracking, entrants, missing, rule, ceiling_usd, shared_only=shared_only, floor=floor)
    found = find_entrants(tracking, experiment, names, prompt=prompt)
    if not found.versions:
        searched = f"No evaluated run in {experiment}. {describe_search(found.looked_at, names)}"
        return PromptComparison((), None, None, Verdict.NOTHING, searched=searched)
    live = next((at for at, version in enumerate(found.versions) if _is_version(version[0], found.production)), None)
    keys = {each.run_id: frozenset(identify_cases(each.cases)) for version in found.versions for each in version}
    group = choose_group([[each.run_id for each in version] for version in found.versions], keys, production=live)
    chosen = [_represent(version, group) for version in found.versions]
    contenders = _enter(chosen, group, is_grouped=True)
    notes = (*found.notes, *_name_left_out(contenders, group))
    comparison = PromptComparison(
        contenders, None, found.production, Verdict.NO_WINNER, group.shared, prompt=found.prompt, notes=notes
    )
    if len(group.run_ids) > 1 or (len(contenders) == 1 and group.run_ids):
        return _decide_cases(comparison, rule, ceiling_usd, floor)
    tables = [each for each in contenders if not each.problem]
    if len(tables) > 1 and len(tables) == len(contenders):
        return _decide_apart(replace(comparison, notes=found.notes), rule, ceiling_usd)
    return _decide_means(replace(comparison, notes=found.notes), rule, ceiling_usd)


def _compare_chosen(
    tracking: Tracking,
    entrants: Sequence[Entrant],
    missing: tuple[str, ...],
    rule: WinnerRule | None,
    ceiling_usd: float | None,
    *,
    shared_only: bool,
    floor: float | None,
) -> PromptComparison:
    named = next((each.evaluation.prompt for each in entrants if each.evaluation.prompt), "")
    production = tracking.production_version(named, with_runs=False) if named else None
    able = [each for each in entrants if not each.problem]
    keys = {each.run_id: frozenset(identify_cases(each.cases)) for each in able}
    wanted = tuple(keys)
    if not shared_only:
        newest = sorted(able, key=lambda each: each.evaluation.run.started, reverse=True)
        live = next((each.evaluation.key for each in able if _is_version(each, production)), None)
        versions = {each.run_id: each.evaluation.key for each in able}
        wanted = choose_same([each.run_id for each in newest], keys, versions, production=live)
    judged = [each for each in able if each.run_id in wanted]
    shared = tuple(sorted(frozenset.intersection(*(keys[each.run_id] for each in judged)))) if judged else ()
    group = Group(tuple(each.run_id for each in judged), shared)
    contenders = _enter(entrants, group, is_grouped=shared_only)
    comparison = PromptComparison(
        contenders,
        None,
        production,
        Verdict.NO_WINNER,
        shared,
        True,
        missing,
        named,
        _name_unchosen(contenders, shared),
    )
    if not judged:
        if len(entrants) > 1 and sum(each.faithfulness is not None for each in comparison.contenders) > 1:
            return _decide_means(comparison, rule, ceiling_usd)
        return replace(comparison, verdict=Verdict.NO_WINNER if entrants else Verdict.NOTHING)
    return _decide_cases(comparison, rule, ceiling_usd, floor)


def _represent(version: Sequence[Entrant], group: Group) -> Entrant:
    """The run of the group that speaks for a version, else its newest one with cases, else its newest."""
    in_group = (each for each in version if each.run_id in group.run_ids)
    return next(in_group, None) or next((each for each in version if not each.problem), version[0])


def _enter(entrants: Sequence[Entrant], group: Group, *, is_grouped: bool) -> tuple[Contender, ...]:
    labels = label_texts([each.evaluation.label for each in entrants], [each.run_id for each in entrants])
    shared = set(group.shared)
    contenders = []
    for each, label in zip(entrants, labels, strict=True):
        judged = identify_cases(each.cases)
        is_judged = each.run_id in group.run_ids and not each.problem
        if is_grouped and is_judged:
            judged = {key: case for key, case in judged.items() if key in shared}
        scores = [case.faithfulness for case in judged.values()]
        contenders.append(
            Contender(
                evaluation=each.evaluation,
                label=label,
                cases=each.cases,
                prompt=each.prompt,
                problem=each.problem,
                has_refusals=each.has_refusals,
                faithfulness=sum(scores) / len(scores) if scores else each.faithfulness,
                cost_usd=_cost_of(each.evaluation, judged.values()),
                case_count=len(judged) if judged else each.evaluation.cases,
                is_judged=is_judged,
            )
        )
    return tuple(contenders)


def _cost_of(evaluation: EvaluatedRun, cases: Iterable[CaseResult]) -> float | None:
    if evaluation.cost_usd is not None:
        return evaluation.cost_usd
    costs = [case.cost_usd for case in cases]
    return sum(costs) / len(costs) if costs and all(map(math.isfinite, costs)) else None


def _decide_cases(
    found: PromptComparison, rule: WinnerRule | None, ceiling_usd: float | None, floor: float | None
) -> PromptComparison:
    """Judge the contenders with cases; their scores are already cut to the shared cases where that was asked for."""
    judged = found.judged
    rule, note, judged = _settle_rule(judged, rule, ceiling_usd)
    notes = found.notes + ((note,) if note else ())
    candidates = [_candidate(each, found) for each in judged]
    live = next((each.run.run_id for each in judged if found.is_live(each)), None)
    apart = next((each for each in found.contenders if found.is_live(each) and not each.is_judged and each.cases), None)
    elsewhere = _candidate(apart, found, is_whole=True) if apart and live is None else None
    try:
        decision = decide_winner(candidates, rule=rule, ceiling_usd=ceiling_usd)
        admission = (
            admit_candidates(candidates, rule=rule, production=live, floor=floor, elsewhere=elsewhere)
            if decision.comparable
            else None
        )
        if admission and admission.reasons and decision.winner not in admission.admitted:
            decision = _decide_among(admission.admitted, decision, ceiling_usd, is_refusing=bool(admission.refusing))
            notes += tuple(f"{reason}." for reason in admission.reasons)
    except InvalidInput as error:  # logged figures that the rule cannot use
        decision = Decision(rule, None, None, f"No verdict by {rule}: {error}.", False, 0)
    verdict = Verdict.WINNER if decision.winner else Verdict.NO_WINNER
    return replace(found, decision=decision, verdict=verdict, notes=notes)


def _decide_among(
    admitted: Sequence[Candidate], among_all: Decision, ceiling_usd: float | None, *, is_refusing: bool
) -> Decision:
    """Decide among those that may win, after others were left out."""
    rule = among_all.rule
    if not admitted:
        return replace(among_all, winner=None, reason=f"No winner by {rule}: no version may win.")
    if len(admitted) > 1:
        return decide_winner(admitted, rule=rule, ceiling_usd=ceiling_usd)
    alone = admitted[0]
    if is_refusing:  # the others are no better for users, and this one is not shown to be better either
        said = (
            f"No winner by {rule}: {alone.label} is the only version that may win, and nothing shows that it is better."
        )
        return Decision(rule, None, alone, said, True, among_all.cases)
    over = f"{alone.faithfulness:.2f} over {count_of(len(alone.per_case), 'case')}"
    said = f"{alone.label} wins by {rule}: it is the only version above the floor, {over}."
    return Decision(rule, alone, alone, said, True, among_all.cases)


def _settle_rule(
    contenders: tuple[Contender, ...], rule: WinnerRule | None, ceiling_usd: float | None
) -> tuple[WinnerRule, str, tuple[Contender, ...]]:
    """The rule that can be used, what to say about it, and the contenders that it can judge."""
    priced = tuple(each for each in contenders if each.cost_usd is not None)
    if rule is None:
        if not ceiling_usd and any(each.cost_usd == 0 for each in priced):
            return WinnerRule.FAITHFULNESS, "Not every run costs something, so faithfulness alone decides.", contenders
        rule = WinnerRule.FAITHFULNESS_UNDER_CEILING if ceiling_usd else WinnerRule.FAITHFULNESS_PER_COST
        if len(priced) < len(contenders) and not ceiling_usd:
            return WinnerRule.FAITHFULNESS, "Not every run reports a cost, so faithfulness alone decides.", contenders
    if rule is WinnerRule.FAITHFULNESS or len(priced) == len(contenders):
        return rule, "", contenders
    if rule is WinnerRule.FAITHFULNESS_PER_COST and not priced:
        return WinnerRule.FAITHFULNESS, "No run reports a cost, so faithfulness alone decides.", contenders
    without = _name([each.label for each in contenders if each.cost_usd is None])
    return rule, f"Left out, because they report no cost: {without}.", priced


def _candidate(each: Contender, found: PromptComparison, *, is_whole: bool = False) -> Candidate:
    judged = identify_cases(each.cases)
    is_cut = not is_whole and (not found.is_chosen or each.case_count != len(judged))
    if is_cut:
        judged = {key: judged[key] for key in found.shared}
    return Candidate(
        each.run.run_id,
        each.label,
        {key: case.faithfulness for key, case in judged.items()},
        each.cost_usd if each.cost_usd is not None else math.nan,
        "" if is_cut else each.run.params.get("dataset_digest", ""),
        {key: case.refusal_correct for key, case in judged.items()} if each.has_refusals else {},
    )


def _decide_apart(found: PromptComparison, rule: WinnerRule | None, ceiling_usd: float | None) -> PromptComparison:
    """Say that runs with tables share no cases."""
    rule, _, _ = _settle_rule(found.contenders, rule, ceiling_usd)
    counts = ", ".join(f"{each.label} {each.case_count}" for each in found.contenders[:_MOST_NAMED])
    reason = f"Not comparable: no two versions were run over the same cases ({counts}). Run them over the same cases."
    return replace(found, decision=Decision(rule, None, None, reason, False, 0))


def _decide_means(found: PromptComparison, rule: WinnerRule | None, ceiling_usd: float | None) -> PromptComparison:
    """Compare logged means, and say that they prove nothing."""
    known = tuple(each for each in found.contenders if each.faithfulness is not None)
    if len(known) < 2:
        return replace(found, verdict=Verdict.NO_WINNER)
    rule, note, known = _settle_rule(known, rule, ceiling_usd)
    if not known:
        return replace(found, verdict=Verdict.NO_WINNER, notes=(*found.notes, note))
    candidates = [
        Candidate(
            each.run.run_id,
            each.label,
            {"mean": each.faithfulness or 0.0},
            math.nan if each.cost_usd is None else each.cost_usd,
        )
        for each in known
    ]
    decision = decide_by_means(
        candidates, rule=rule, ceiling_usd=ceiling_usd, cases=min((each.case_count or 0 for each in known), default=0)
    )
    return replace(
        found, decision=decision, verdict=Verdict.MEANS_ONLY, notes=(*found.notes, *((note,) if note else ()))
    )


def _name_left_out(contenders: Sequence[Contender], group: Group) -> tuple[str, ...]:
    """Name the versions that are not judged, by their reason."""
    without = [each.label for each in contenders if each.problem and not each.is_judged]
    apart = [each.label for each in contenders if not each.problem and not each.is_judged]
    notes = []
    if without:
        notes.append(f"Left out, because they have no table of cases: {_name(without)}.")
    if apart:
        notes.append(f"Left out, because they were run over other cases: {_name(apart)}.")
    cut = [each.label for each in contenders if each.is_judged and len(identify_cases(each.cases)) > len(group.shared)]
    if cut:
        notes.append(f"Judged over the {count_of(len(group.shared), 'case')} that all share; {_name(cut)} had more.")
    return tuple(notes)


def _name_unchosen(contenders: Sequence[Contender], shared: tuple[str, ...]) -> tuple[str, ...]:
    """Name the chosen runs that are not judged although they have cases."""
    left = [each for each in contenders if not each.problem and not each.is_judged]
    again = [each.label for each in left if set(identify_cases(each.cases)) == set(shared)]
    apart = [each.label for each in left if set(identify_cases(each.cases)) != set(shared)]
    notes = [f"Left out, because a newer run of the same version is judged: {_name(again)}."] if again else []
    return (*notes, *([f"Left out, because they were run over other cases: {_name(apart)}."] if apart else []))


def _name(labels: Sequence[str]) -> str:
    more = len(labels) - _MOST_NAMED
    if more > 1:
        return f"{', '.join(labels[:_MOST_NAMED])} and {more} more"
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def _say_unjudged(contenders: Sequence[Contender]) -> str:
    count = len(contenders)
    none = f"None of the {count} runs can" if count > 1 else "The run cannot"
    return f"{none} be judged case by case."


def _is_version(entrant: Entrant, live: PromptVersion | None) -> bool:
    return (
        live is not None
        and entrant.prompt is not None
        and (entrant.prompt.name, entrant.prompt.version) == (live.name, live.version)
    )
