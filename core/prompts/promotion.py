"""Shell: puts a prompt version into production and takes it back: MLflow and the serving flag, in one operation.

MLflow has no transaction over several calls, so this is a saga: each step leaves its compensation. A promotion that
fails is undone, newest step first; what cannot be undone is reported and kept for the next reader (`find_unfinished`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from core.audit.actions import Action
from core.audit.acts import Act, Change, changing, clear, require
from core.audit.gate import WantedChange
from core.audit.permissions import check_may_change
from core.audit.settings import Family, SettingKey, get_setting, save_setting, setting_key
from core.audit.trail import AuditEntry, AuditFilter, list_audit
from core.errors import Conflict, HalfDone, InvalidInput, NotFound, QuarterdeckError
from core.flags.definition import FlagDefinition, set_metadata
from core.flags.layer_store import get_holdout
from core.flags.layers import hold_out
from core.flags.operations import save_definition
from core.flags.store import Flag, list_flags
from core.metrics.daily import list_metrics
from core.prompts.audited import ProductionState, ServingFlag
from core.rollouts.audited import ExperimentAudit
from core.rollouts.experiment_design import Design
from core.rollouts.experiment_records import find_running
from core.rollouts.experiments import begin_experiment, check_free_name, prepare_start
from core.rollouts.ramps import PlannedExperiment
from core.tracking.conventions import clean_version, read_evaluation
from core.tracking.gateway import Tracking
from core.tracking.runs import PRODUCTION, PromptVersion, Run
from quarterdeck.clock import from_ms, now_ms
from quarterdeck.definitions import boolean_flag, set_rollout, switch_flag
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from quarterdeck.validation import validate_definition

_LONGEST_MS = 120_000  # after this time, an unfinished promotion counts as failed
_MOST_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Serving:
    """The flag that serves the promoted version, and the percentage of users who get it.

    Below 100%, the version that is in production stays there.
    """

    key: str
    rollout_pct: float

    @property
    def is_partial(self) -> bool:
        """Whether only a part of the users gets the version."""
        return self.rollout_pct < 100


@dataclass(frozen=True, slots=True)
class Promotion:
    """A recorded promotion: its audit entry, what was in production before, and what it put there."""

    entry: AuditEntry
    former: ProductionState
    promoted: ProductionState


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A promotion or rollback that neither finished nor was undone; `left` says what is known of its state."""

    what: str
    actor: str
    began_ms: int
    left: str

    def __str__(self) -> str:
        """Describe it in one sentence."""
        return (
            f"{self.what} by {self.actor} on {from_ms(self.began_ms):%d %b %Y, %H:%M} UTC did not finish: {self.left}."
        )


def get_promoted(tracking: Tracking, run_id: str) -> tuple[Run, PromptVersion]:
    """Return a run with the registered prompt that it is linked to or names. Raises NotFound, or InvalidInput."""
    run = tracking.get_run(run_id)
    if run.linked_prompts:
        return run, tracking.get_prompt(*run.linked_prompts[0])
    said = read_evaluation(run)
    named = tracking.list_prompts(said.prompt) if said.prompt and said.version else ()
    for prompt in named:
        if clean_version(prompt.label) == said.version:
            return run, prompt
    raise InvalidInput(
        "run", f"{run.name or run_id} is linked to no registered prompt; `quarterdeck eval` links the runs it makes"
    )


def suggest_flag(flags: Sequence[Flag], prompt: PromptVersion) -> str:
    """Return the key of the flag whose metadata names this version, or the key for a new one."""
    for flag in flags:
        if flag.view.prompt_version in prompt.spellings:
            return flag.key
    return f"new_prompt_{prompt.label}"


def promote(
    store: Store, tracking: Tracking, run_id: str, by: Act, *, serving: Serving | None, expected: int | None,
    then: PlannedExperiment | None = None,
) -> int:  # fmt: skip
    """Put the prompt of a run into production, or bring it to a part of the users; return the audit entry's id.

    Moves the alias `production`, adds the version to the model registry, writes the decision (`by.reason`) to the run's
    description, and sets the flag: an existing one to that percentage, else a new one. Below 100%, alias and registry
    stay as they are, and `then` may start an experiment on the flag in the same change. These steps form a saga: a
    failure undoes them. `expected` is the current production version; Conflict if it is another one, or an experiment
    runs on the flag. Raises InvalidInput for a version already in production or a flag that serves another version,
    Forbidden, SourceUnavailable, and HalfDone for a failure that could not be undone.
    """
    require(by, Action.PROMPT_PROMOTE)
    run, prompt = get_promoted(tracking, run_id)
    former = tracking.production_version(prompt.name, with_runs=False)
    _check_production(prompt.name, former.version if former else None, expected)
    if former and former.version == prompt.version:
        raise InvalidInput(
            "prompt", f"{prompt.name} {prompt.label} is already in production; change its share with its flag"
        )
    flag = _get_flag(store, by.environment, serving.key) if serving else None
    wanted = _serve(store, flag, prompt, serving) if flag and serving else None
    is_partial = serving is not None and serving.is_partial
    if then is not None and not is_partial:
        raise InvalidInput("experiment", "needs a flag that gives the version to a part of the users, like 50%")
    release = tracking.production_release(prompt.name)
    before, served = _state_of(former, release, _serving(flag)), _serving(flag, wanted)
    promised = replace(_state_of(former, release, served), partly=prompt.label) if is_partial else None
    start = _plan_start(store, flag, wanted, then) if flag and wanted and then else None
    wish = WantedChange(
        Action.PROMPT_PROMOTE, prompt.name, before.to_audit(), (promised or _state_of(prompt, None, served)).to_audit()
    )
    clear(store, by, *([start.wish] if start else []), wish)  # before MLflow is changed
    words = f"Brought to {serving.rollout_pct:g}% of users" if serving and is_partial else "Promoted to production"
    with _steps(store, prompt.name, by, f"The promotion of {prompt.name} {prompt.label}") as steps:
        _set_description(steps, tracking, run, _note(f"{words} by {by.actor}", by, served))
        after = promised
        if after is None:
            entered = _move_release(steps, tracking, prompt, run_id, former=release)
            _move_alias(steps, tracking, prompt.name, prompt.version, former=former.version if former else None)
            after = _state_of(prompt, entered, served)
        with changing(store, by) as change:
            _save(change, flag, wanted)
            if start:
                begin_experiment(change, start.flag, start.definition, start.design, drawn_since=from_ms(change.at_ms))
            steps.finish(change)
            change.record(Action.PROMPT_PROMOTE, prompt.name, before, replace(after, run_id=run_id))
    return change.entry_id


@dataclass(frozen=True, slots=True)
class _Start:
    """An experiment that begins with a promotion: its flag as the promotion leaves it, and as the experiment does."""

    flag: Flag
    definition: dict[str, Any]
    design: Design

    @property
    def wish(self) -> WantedChange:
        """The change that a second person would approve."""
        before, after = ExperimentAudit(self.flag.definition), ExperimentAudit(self.definition, design=self.design)
        return WantedChange(Action.EXPERIMENT_START, self.flag.key, before.to_audit(), after.to_audit())


def _plan_start(store: Store, flag: Flag, wanted: Mapping[str, Any], then: PlannedExperiment) -> _Start:
    """Return the experiment on the flag as the promotion leaves it. Raises InvalidInput and Conflict."""
    check_free_name(store, flag.environment, then.name)
    is_saved = wanted != flag.definition  # by the promotion, before the experiment
    left = replace(flag, definition=dict(wanted), version=flag.version + is_saved)
    design = then.design(flag.key, left.view, list_metrics(store, Scope(flag.environment, "")))
    return _Start(left, prepare_start(store, left, then.name, reported=then.reported), design)


def roll_back(store: Store, tracking: Tracking, name: str, by: Act) -> int:
    """Restore the version that the last promotion replaced, and its flag; return the audit entry's id.

    A flag created by the promotion is switched off. Calling it twice goes back two versions. Raises NotFound when
    nothing was promoted, Conflict when the alias was moved since, and what `promote` raises.
    """
    found = find_promotion(store, name)
    if found is None:
        raise NotFound(f"prompt: no promotion of {name!r} is recorded here, so there is nothing to roll back to")
    by = replace(by, environment=found.entry.environment)
    require(by, Action.PROMPT_ROLLBACK)
    check_may_change(by.roles, by.environment)  # before anything of MLflow is touched
    promoted, former = found.promoted, found.former
    live = tracking.production_version(name, with_runs=False)
    _check_production(name, live.version if live else None, promoted.version)
    flag = _get_flag(store, by.environment, promoted.flag.key) if promoted.flag else None
    wanted = _former_definition(flag, former.flag) if flag else None
    if flag:
        _check_no_experiment(store, flag)
    if flag and wanted:  # the former flag may be older than the holdout
        wanted = hold_out(get_holdout(store, flag.environment), flag.key, wanted)
    before = replace(promoted, flag=_serving(flag), run_id=None)
    after = replace(former, flag=_serving(flag, wanted), run_id=None)
    back_to = former.name
    _clear(store, by, Action.PROMPT_ROLLBACK, name, before, after)
    with _steps(store, name, by, f"The roll-back of {name} to {back_to}") as steps:
        if promoted.run_id:
            with suppress(NotFound):  # a run that was deleted since needs no note
                run = tracking.get_run(promoted.run_id)
                _set_description(steps, tracking, run, _note(f"Rolled back to {back_to} by {by.actor}", by, after.flag))
        if not promoted.partly:
            steps.do(
                "the entry in the model registry",
                lambda: tracking.set_production_release(name, former.release),
                lambda: tracking.set_production_release(name, promoted.release),
            )
            _move_alias(steps, tracking, name, former.version, former=promoted.version)
        with changing(store, by) as change:
            _save(change, flag, wanted)
            steps.finish(change)
            change.record(Action.PROMPT_ROLLBACK, name, before, after)
    return change.entry_id


def _clear(store: Store, by: Act, action: Action, name: str, before: ProductionState, after: ProductionState) -> None:
    """Ask for a second person before MLflow is changed."""
    clear(store, by, WantedChange(action, name, before.to_audit(), after.to_audit()))


def find_promotion(store: Store, name: str) -> Promotion | None:
    """Return the promotion that a rollback would undo: the last one not rolled back yet."""
    rolled_back = 0
    for entry in list_audit(store, AuditFilter(target=name), limit=_MOST_ENTRIES):
        if entry.action == Action.PROMPT_ROLLBACK:
            rolled_back += 1
        elif entry.action == Action.PROMPT_PROMOTE:
            if not rolled_back:
                return Promotion(entry, ProductionState.read(entry.before), ProductionState.read(entry.after))
            rolled_back -= 1
    return None


def find_unfinished(store: Store, name: str) -> Unfinished | None:
    """Return the last promotion of a prompt if it was cut off, or failed and could not be undone."""
    claim, _ = get_setting(store, setting_key(Family.PROMOTION, name))
    if not claim or (not claim["left"] and claim["began_ms"] + _LONGEST_MS > now_ms()):
        return None
    left = claim["left"] or "it was cut off; MLflow may be changed, and the flag is not"
    return Unfinished(claim["what"], claim["actor"], claim["began_ms"], left)


class _Steps:
    """A saga: the completed steps, each with its compensation, under a claim that locks out other promotions."""

    def __init__(self, setting: SettingKey, claim: Mapping[str, Any], version: int) -> None:
        self.setting = setting
        self.claim = claim
        self.version = version
        self._ways_back: list[tuple[str, Callable[[], object]]] = []

    def do(self, what: str, step: Callable[[], Any], back: Callable[[], object]) -> Any:
        """Take a step. Its compensation is stored first, because a step that seems to fail may still have happened."""
        self._ways_back.append((what, back))
        return step()

    def undo(self) -> str:
        """Run all compensations in reverse; return what could not be undone."""
        left = []
        for what, back in reversed(self._ways_back):
            try:
                back()
            except QuarterdeckError as error:
                left.append(f"{what} could not be undone ({error})")
        return "; ".join(left)

    def finish(self, change: Change) -> None:
        """Release the claim in the same transaction as the change."""
        save_setting(change.connection, self.setting, None, expected_version=self.version)


@contextmanager
def _steps(store: Store, name: str, by: Act, what: str) -> Iterator[_Steps]:
    """Claim a prompt, so that it has one promotion at a time, and undo the steps on failure."""
    steps = _claim(store, name, by, what)
    try:
        yield steps
    except BaseException as error:
        left = steps.undo()
        with suppress(QuarterdeckError), store.begin() as connection:
            kept = {**steps.claim, "left": left} if left else None
            save_setting(connection, steps.setting, kept, expected_version=steps.version)
        if left:
            raise HalfDone(f"{error} {what} is half done: {left}.") from error
        raise


def _claim(store: Store, name: str, by: Act, what: str) -> _Steps:
    setting = setting_key(Family.PROMOTION, name)
    former, version = get_setting(store, setting)
    now = now_ms()
    if former and not former["left"] and former["began_ms"] + _LONGEST_MS > now:
        raise Conflict(f"{former['what']} by {former['actor']} is running; try again in two minutes")
    claim = {"what": what, "actor": by.actor, "began_ms": now, "left": ""}
    with store.begin() as connection:
        save_setting(connection, setting, claim, expected_version=version)
    return _Steps(setting, claim, version + 1)


def _check_production(name: str, live: int | None, expected: int | None) -> None:
    if live != expected:
        now, then = (f"version {version}" if version else "none" for version in (live, expected))
        raise Conflict(
            f"{name!r} has {now} in production, not {then}: somebody moved the alias since; reload and check"
        )


def _get_flag(store: Store, environment: str, key: str) -> Flag:
    """Return a flag, or an empty one to be created."""
    known = {flag.key: flag for flag in list_flags(store, environment)}
    return known.get(key) or Flag(environment, key, {}, 0, from_ms(now_ms()), "")


def _check_no_experiment(store: Store, flag: Flag) -> None:
    if running := find_running(store, flag.environment, flag.key):
        raise Conflict(f"the experiment {running.design.name!r} runs on {flag.key}; decide or stop it first")


def _serve(store: Store, flag: Flag, prompt: PromptVersion, serving: Serving) -> dict[str, Any]:
    """Return the definition with which the flag serves this version to that share of users."""
    _check_no_experiment(store, flag)
    if not flag.definition:
        about = f"Answer with {prompt.name} {prompt.label}"
        definition = boolean_flag(
            on=True, rollout_pct=serving.rollout_pct, description=about, metadata={"prompt_version": prompt.label}
        )
        validate_definition(flag.key, definition)
        return definition
    served = flag.view.prompt_version
    if served is not None and served not in prompt.spellings:
        raise InvalidInput("flag", f"{flag.key} serves prompt version {served}, not {prompt.label}; name another flag")
    definition = switch_flag(set_rollout(flag.definition, serving.rollout_pct), on=True)
    definition = set_metadata(definition, {"prompt_version": served or prompt.label})
    return hold_out(get_holdout(store, flag.environment), flag.key, definition)


def _former_definition(flag: Flag, former: ServingFlag | None) -> dict[str, Any] | None:
    """Return the flag before the promotion; one that the promotion created is switched off, not deleted."""
    if former and former.definition:
        return former.definition
    return switch_flag(flag.definition, on=False) if flag.definition else None


def _save(change: Change, flag: Flag | None, wanted: Mapping[str, Any] | None) -> None:
    if flag and wanted and wanted != flag.definition:
        save_definition(change, flag, wanted)


def _state_of(prompt: PromptVersion | None, release: int | None, flag: ServingFlag | None) -> ProductionState:
    return ProductionState(prompt.version if prompt else None, prompt.label if prompt else None, release, flag)


def _serving(flag: Flag | None, definition: Mapping[str, Any] | None = None) -> ServingFlag | None:
    return ServingFlag(flag.key, dict(definition or flag.definition) or None) if flag else None


def _note(what: str, by: Act, flag: ServingFlag | None) -> str:
    """Return the note for the run's description."""
    at = by.at or from_ms(now_ms())
    served = ""
    if flag and flag.definition:
        share = FlagDefinition(flag.definition).share_pct
        served = f" Flag {flag.key} in {by.environment}: {'set' if share is None else f'{share:g}% of users'}."
    return f"{what} on {at:%d %b %Y, %H:%M} UTC.{served}\n\n{by.reason.strip()}"


def _set_description(steps: _Steps, tracking: Tracking, run: Run, note: str) -> None:
    text = f"{note}\n\n---\n\n{run.description}" if run.description else note
    steps.do(
        "the run's description",
        lambda: tracking.set_run_description(run.run_id, text),
        lambda: tracking.set_run_description(run.run_id, run.description),
    )


def _move_release(steps: _Steps, tracking: Tracking, prompt: PromptVersion, run_id: str, *, former: int | None) -> int:
    """Add the version to the model registry; its compensation is known only afterwards."""
    made = tracking.register_release(prompt, run_id)

    def back() -> None:
        tracking.set_production_release(prompt.name, former)
        tracking.delete_release(prompt.name, made)

    steps.do("the entry in the model registry", lambda: None, back)
    return made


def _move_alias(steps: _Steps, tracking: Tracking, name: str, version: int | None, *, former: int | None) -> None:
    def point_at(wanted: int | None) -> None:
        if wanted is None:
            tracking.delete_prompt_alias(name, PRODUCTION)
        else:
            tracking.set_prompt_alias(name, PRODUCTION, wanted)

    steps.do("the alias `production`", lambda: point_at(version), lambda: point_at(former))
