"""Shell: finds the evaluated versions of a prompt in an experiment: their runs, cases and registered prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.tracking.cases import CaseResult
from core.tracking.conventions import (
    ABANDONED,
    UNFINISHED,
    USUAL,
    EvaluatedRun,
    RunNames,
    clean_version,
    find_cost,
    has_odd_mean,
    order_by_variety,
    read_evaluation,
)
from core.tracking.gateway import Tracking
from core.tracking.runs import EVALUATED, LOGGED_ARTIFACTS, PromptVersion, Run, RunFilter
from core.tracking.tables import CaseTable, find_scale, rescale, rescale_mean

LOOKED_AT = 1_000  # the newest runs from which the contenders are chosen
_RUNS_OF_VERSION = 4  # the newest ones whose cases are read
_UNSCORED = 60  # runs without a mean faithfulness whose tables and traces are looked into


@dataclass(frozen=True, slots=True)
class Entrant:
    """One run that evaluated a version, with its cases; `problem` says why there are none. Scores are 0 to 1."""

    evaluation: EvaluatedRun
    faithfulness: float | None
    cases: tuple[CaseResult, ...] = ()
    prompt: PromptVersion | None = None
    problem: str = ""
    has_refusals: bool = False

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.evaluation.run.run_id


@dataclass(frozen=True, slots=True)
class Entrants:
    """The evaluated versions of one prompt, each with its newest runs, the newest version first.

    `looked_at` are the runs that were looked through; `notes` name other prompts, and what was cut.
    """

    versions: tuple[tuple[Entrant, ...], ...]
    prompt: str = ""
    production: PromptVersion | None = None
    looked_at: tuple[Run, ...] = ()
    notes: tuple[str, ...] = ()


def find_entrants(tracking: Tracking, experiment: str, names: RunNames = USUAL, *, prompt: str = "") -> Entrants:
    """Return every evaluated version of one prompt, with its newest runs.

    It is the prompt named, else that of the newest evaluated run among the prompts with two versions or more. The
    version in production takes part, however old its run is.
    """
    runs = tracking.list_runs(RunFilter(experiment), limit=LOOKED_AT)
    registered = _list_registered(tracking, runs)
    read = _read_all(tracking, runs, names, registered)
    evaluations = read.able
    chosen = prompt or _choose_prompt(evaluations)
    of_prompt, left_out = _leave_unfinished([each for each in evaluations if each.prompt == chosen])
    left_out += _name_odd([each for each in read.others if each.prompt == chosen], names)
    left_out += _name_failed([each for each in read.failed if each.prompt == chosen], of_prompt)
    production = tracking.production_version(chosen, with_runs=False) if chosen else None
    if production and not any(_names(each, production) for each in of_prompt):
        of_prompt += _read_production(tracking, experiment, names, production)
    versions: dict[tuple[str, str], list[EvaluatedRun]] = {}
    for each in of_prompt:
        versions.setdefault(each.key, []).append(each)
    wanted = [_spread(same) for same in versions.values()]
    entered = {
        each.run_id: each
        for each in _enter(tracking, [one for version in wanted for one in version], names, registered)
    }
    prompts = sorted({each.prompt or each.run.name for each in evaluations} - {chosen}) if chosen else []
    notes = [*left_out, *([f"Other prompts in {experiment}: {', '.join(prompts[:3])}."] if prompts else [])]
    if len(runs) == LOOKED_AT:
        notes.append(f"Only the newest {LOOKED_AT:,} runs were looked at.")
    return Entrants(
        tuple(tuple(entered[each.run.run_id] for each in version) for version in wanted),
        chosen, production, tuple(runs), tuple(notes) if of_prompt else (),
    )  # fmt: skip


def read_entrants(tracking: Tracking, runs: Sequence[Run], names: RunNames = USUAL) -> tuple[Entrant, ...]:
    """Return chosen runs with their cases, in the given order."""
    registered = _list_registered(tracking, runs)
    read = [_read(run, names, registered, ()) for run in runs]
    return _enter(tracking, read, names, registered)


@dataclass(frozen=True, slots=True)
class _Evaluations:
    """What the runs of an experiment say: those with a mean or with cases, all others, and those that failed."""

    able: tuple[EvaluatedRun, ...]
    others: tuple[EvaluatedRun, ...]
    failed: tuple[EvaluatedRun, ...]


def _read_all(
    tracking: Tracking, runs: Sequence[Run], names: RunNames, registered: Mapping[tuple[str, int], PromptVersion]
) -> _Evaluations:
    varied = order_by_variety(runs)
    read = _inherit([_read(run, names, registered, varied) for run in runs])
    failed = tuple(each for each in read if each.run.status in ABANDONED)
    read = [each for each in read if each.run.status not in ABANDONED]
    unscored = [each for each in read if each.faithfulness is None and _may_have_cases(each)][:_UNSCORED]
    tables = tracking.list_case_tables([each.run for each in unscored], [names] * len(unscored)) if unscored else ()
    with_cases = {each.run.run_id for each, table in zip(unscored, tables, strict=True) if isinstance(table, CaseTable)}
    able = [each for each in read if each.faithfulness is not None or each.run.run_id in with_cases]
    others = [each for each in read if each not in able]
    return _Evaluations(_leave_nested(able), tuple(others), failed)


def _inherit(evaluations: Sequence[EvaluatedRun]) -> list[EvaluatedRun]:
    """The evaluations; a nested run that names a version and no prompt evaluated the prompt of its parent."""
    prompts = {each.run.run_id: each.prompt for each in evaluations}
    return [
        replace(each, prompt=prompts.get(each.run.parent, "")) if each.version and not each.prompt else each
        for each in evaluations
    ]


def _leave_nested(evaluations: Sequence[EvaluatedRun]) -> tuple[EvaluatedRun, ...]:
    """The evaluations that stand for themselves: without parts of others, such as a case, and without summaries."""
    by_id = {each.run.run_id: each for each in evaluations}
    dropped = set()
    for each in evaluations:
        parent = by_id.get(each.run.parent)
        if parent and not _is_apart(each, parent):
            dropped.add(each.run.run_id)
        elif parent and not parent.version:
            dropped.add(parent.run.run_id)
    return tuple(each for each in evaluations if each.run.run_id not in dropped)


def _is_apart(each: EvaluatedRun, parent: EvaluatedRun) -> bool:
    """Whether a nested run evaluated a version of its own: it names another one, or neither of the two names any."""
    return each.key != parent.key and bool(each.version or not (parent.version or parent.prompt))


def _leave_unfinished(evaluations: Sequence[EvaluatedRun]) -> tuple[list[EvaluatedRun], list[str]]:
    """The runs that have ended, and a note on the others; all of them if nobody ends runs here."""
    ended = [each for each in evaluations if each.run.status not in UNFINISHED]
    going = list(dict.fromkeys(each.label for each in evaluations if each.run.status in UNFINISHED))
    if not ended or not going:
        return list(evaluations), []
    return ended, [f"Left out, because they have not ended: {', '.join(going[:3])}."]


def _name_odd(others: Sequence[EvaluatedRun], names: RunNames) -> list[str]:
    odd = list(dict.fromkeys(each.label for each in others if has_odd_mean(each.run, names)))
    return (
        [f"Left out, because their mean faithfulness is no number from 0 to 100: {', '.join(odd[:3])}."] if odd else []
    )


def _name_failed(failed: Sequence[EvaluatedRun], evaluations: Sequence[EvaluatedRun]) -> list[str]:
    """A note on the versions whose every run failed."""
    known = {each.key for each in evaluations}
    lost = list(dict.fromkeys(each.label for each in failed if each.version and each.key not in known))
    return [f"Left out, because they failed: {', '.join(lost[:3])}."] if lost else []


def _may_have_cases(each: EvaluatedRun) -> bool:
    return bool(each.version or each.run.linked_prompts or LOGGED_ARTIFACTS in each.run.tags)


def _choose_prompt(evaluations: Sequence[EvaluatedRun]) -> str:
    versions: dict[str, set[str]] = {}
    for each in evaluations:
        versions.setdefault(each.prompt, set()).add(each.key[1])
    several = (name for name, found in versions.items() if len(found) > 1)
    return next(several, evaluations[0].prompt if evaluations else "")


def _spread(same: Sequence[EvaluatedRun]) -> list[EvaluatedRun]:
    """The newest runs of one version; of runs over a known test set only the newest."""
    found: list[EvaluatedRun] = []
    seen: set[str] = set()
    for each in same:
        digest = each.run.params.get("dataset_digest", "")
        if digest and digest in seen:
            continue
        seen.add(digest)
        found.append(each)
    return found[:_RUNS_OF_VERSION]


def _read_production(tracking: Tracking, experiment: str, names: RunNames, live: PromptVersion) -> list[EvaluatedRun]:
    version = live.tags.get("version", str(live.version))
    former = tracking.list_runs(RunFilter(experiment, live.name, version), limit=10)
    labels = {(live.name, live.version): live}
    return [each for run in former if (each := _read(run, names, labels, ())).faithfulness is not None]


def _enter(
    tracking: Tracking,
    evaluations: Sequence[EvaluatedRun],
    names: RunNames,
    registered: Mapping[tuple[str, int], PromptVersion],
) -> tuple[Entrant, ...]:
    tables = tracking.list_case_tables([each.run for each in evaluations], [names] * len(evaluations))
    rescaled, scale = rescale([table for table in tables if isinstance(table, CaseTable)])
    scale = max(scale, find_scale(max((each.faithfulness or 0.0 for each in evaluations), default=0.0)))
    in_order = iter(rescaled)
    return tuple(
        _entrant(
            _price(each, table, names), next(in_order) if isinstance(table, CaseTable) else table, scale, registered
        )
        for each, table in zip(evaluations, tables, strict=True)
    )


def _price(each: EvaluatedRun, table: CaseTable | str, names: RunNames) -> EvaluatedRun:
    """A run that logged its total cost alone, with the cost of a query: its table says how many there were."""
    if each.cost_usd is not None or isinstance(table, str):
        return each
    return replace(each, cost_usd=find_cost(each.run, names, len(table.cases)))


def _entrant(
    each: EvaluatedRun, table: CaseTable | str, scale: float, registered: Mapping[tuple[str, int], PromptVersion]
) -> Entrant:
    mean = rescale_mean(each.faithfulness, scale) if each.faithfulness is not None and scale > 1 else each.faithfulness
    prompt = _find_registered(each, registered)
    if isinstance(table, str):
        problem = f"has no readable table of cases: {table}"
        if mean is None:
            problem = f"has no {' and '.join(name for name in EVALUATED if name not in each.run.metrics)}"
        return Entrant(each, mean, (), prompt, problem)
    if all(case.error for case in table.cases):
        return Entrant(each, mean, table.cases, prompt, "has no judged cases")
    return Entrant(each, mean, table.cases, prompt, "", table.has_refusals)


def _read(
    run: Run, names: RunNames, registered: Mapping[tuple[str, int], PromptVersion], varied: Sequence[str]
) -> EvaluatedRun:
    links = [link for link in run.linked_prompts if link in registered]
    labels = {link: registered[link].tags.get("version", "") or str(link[1]) for link in links}
    return read_evaluation(run, names, versions=labels, varied=varied)


def _list_registered(tracking: Tracking, runs: Sequence[Run]) -> Mapping[tuple[str, int], PromptVersion]:
    """The registered versions of all prompts that the runs name or are linked to."""
    evaluated = [each.prompt for run in runs if (each := read_evaluation(run)).faithfulness is not None]
    names = {name for run in runs for name, _ in run.linked_prompts} | set(evaluated)
    names.discard("")
    few = (
        [each for name in sorted(names) for each in tracking.list_prompts(name, with_runs=False)]
        if len(names) < 4
        else None
    )
    found = tracking.list_prompts(with_runs=False) if few is None else few
    return {(prompt.name, prompt.version): prompt for prompt in found}


def _find_registered(each: EvaluatedRun, registered: Mapping[tuple[str, int], PromptVersion]) -> PromptVersion | None:
    """The registered version that a run is linked to, else the one that it names."""
    linked = [registered[link] for link in each.run.linked_prompts if link in registered]
    for prompt in linked:
        if prompt.name == each.prompt:
            return prompt
    return next(iter(linked), None) or next((p for p in registered.values() if _names(each, p)), None)


def _names(each: EvaluatedRun, prompt: PromptVersion) -> bool:
    """Whether a run evaluated this registered version, by its link or by the names that it keeps."""
    if any(name == prompt.name for name, _ in each.run.linked_prompts):
        return (prompt.name, prompt.version) in each.run.linked_prompts
    return each.prompt == prompt.name and clean_version(prompt.label) == each.version
