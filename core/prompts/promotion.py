"""Shell that puts a prompt version into production and takes it back: MLflow and the serving flag, in one operation.

MLflow has no transaction over several calls. So each step leaves its way back, and a promotion that fails is undone,
newest step first; what cannot be undone is said and kept for the next reader (`find_unfinished`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from core.audit.actions import Action
from core.audit.acts import Act, Change, changing, require
from core.audit.settings import Family, SettingKey, get_setting, save_setting, setting_key
from core.audit.trail import AuditEntry, AuditFilter, list_audit
from core.errors import Conflict, HalfDone, InvalidInput, NotFound, QuarterdeckError
from core.flags.store import Flag, list_flags, save_flag
from core.prompts.audited import ProductionState, ServingFlag
from core.tracking.gateway import Tracking
from core.tracking.runs import PRODUCTION, PromptVersion, Run
from quarterdeck.clock import from_ms, now_ms
from quarterdeck.definitions import boolean_flag, rollout_pct, set_rollout, switch_flag, validate_definition
from quarterdeck.store import Store

_LONGEST_MS = 120_000  # after this long, a promotion that has not ended never will
_MOST_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Serving:
    """The flag that brings the promoted version to users, and the percentage of users who get it."""

    key: str
    rollout_pct: float


@dataclass(frozen=True, slots=True)
class Promotion:
    """A recorded promotion: its audit entry, what was in production before, and what it put there."""

    entry: AuditEntry
    former: ProductionState
    promoted: ProductionState


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A promotion or roll-back that began and neither ended nor could be undone; `left` says what is known of it."""

    what: str
    actor: str
    began_ms: int
    left: str

    def __str__(self) -> str:
        """Say it in one sentence."""
        return (
            f"{self.what} by {self.actor} on {from_ms(self.began_ms):%d %b %Y, %H:%M} UTC did not finish: {self.left}."
        )


def get_promoted(tracking: Tracking, run_id: str) -> tuple[Run, PromptVersion]:
    """Return a run with the registered prompt that it was made with. Raises NotFound, or InvalidInput without one."""
    run = tracking.get_run(run_id)
    if not run.linked_prompts:
        raise InvalidInput(
            "run", f"{run.name or run_id} is linked to no registered prompt; `quarterdeck eval` links the runs it makes"
        )
    return run, tracking.get_prompt(*run.linked_prompts[0])


def suggest_flag(flags: Sequence[Flag], prompt: PromptVersion) -> str:
    """Return the key of the flag that serves this version by its metadata, or what a new one would be called."""
    for flag in flags:
        if (flag.definition.get("metadata") or {}).get("prompt_version") in prompt.spellings:
            return flag.key
    return f"new_prompt_{prompt.label}"


def promote(
    store: Store, tracking: Tracking, run_id: str, by: Act, *, serving: Serving | None, expected: int | None
) -> int:
    """Put the prompt of a run into production; return the audit entry's id.

    Moves the alias `production`, enters the version into the model registry, writes the decision (`by.reason`) into
    the run's description, and sets the flag: an existing one to that percentage, else a new one. `expected` is the
    version that is in production now; Conflict if it is not. Raises InvalidInput for a version that is there already or
    a flag that serves another one, Forbidden, SourceUnavailable, and HalfDone for a failure that could not be undone.
    """
    require(by, Action.PROMPT_PROMOTE)
    run, prompt = get_promoted(tracking, run_id)
    former = tracking.production_version(prompt.name, with_runs=False)
    _check_production(prompt.name, former.version if former else None, expected)
    if former and former.version == prompt.version:
        raise InvalidInput(
            "prompt", f"{prompt.name} {prompt.label} is in production already; its flag changes its share"
        )
    flag = _get_flag(store, by.environment, serving.key) if serving else None
    wanted = _serve(flag, prompt, serving) if flag and serving else None
    release = tracking.production_release(prompt.name)
    before, served = _state_of(former, release, _serving(flag)), _serving(flag, wanted)
    note = _note(f"Promoted to production by {by.actor}", by, served)
    with _steps(store, prompt.name, by, f"The promotion of {prompt.name} {prompt.label}") as steps:
        _set_description(steps, tracking, run, note)
        entered = _move_release(steps, tracking, prompt, run_id, former=release)
        _move_alias(steps, tracking, prompt.name, prompt.version, former=former.version if former else None)
        with changing(store, by) as change:
            _save(change, flag, wanted)
            steps.finish(change)
            after = replace(_state_of(prompt, entered, served), run_id=run_id)
            change.record(Action.PROMPT_PROMOTE, prompt.name, before, after)
    return change.entry_id


def roll_back(store: Store, tracking: Tracking, name: str, by: Act) -> int:
    """Put the version back that the last promotion replaced, with its flag as it was; return the audit entry's id.

    A flag that the promotion made is switched off. Twice in a row goes back two. Raises NotFound when nothing was
    promoted, Conflict when the alias was moved since, and what `promote` raises.
    """
    found = find_promotion(store, name)
    if found is None:
        raise NotFound(f"prompt: no promotion of {name!r} is recorded here; there is nothing to go back to")
    by = replace(by, environment=found.entry.environment)
    require(by, Action.PROMPT_ROLLBACK)
    promoted, former = found.promoted, found.former
    live = tracking.production_version(name, with_runs=False)
    _check_production(name, live.version if live else None, promoted.version)
    flag = _get_flag(store, by.environment, promoted.flag.key) if promoted.flag else None
    wanted = _former_definition(flag, former.flag) if flag else None
    before = replace(promoted, flag=_serving(flag), run_id=None)
    after = replace(former, flag=_serving(flag, wanted), run_id=None)
    back_to = former.name
    with _steps(store, name, by, f"The roll-back of {name} to {back_to}") as steps:
        if promoted.run_id:
            with suppress(NotFound):  # a run that was deleted since needs no note
                run = tracking.get_run(promoted.run_id)
                _set_description(steps, tracking, run, _note(f"Rolled back to {back_to} by {by.actor}", by, after.flag))
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


def find_promotion(store: Store, name: str) -> Promotion | None:
    """Return the promotion that a roll-back would take back: the last one that was not rolled back already."""
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
    """Return the last promotion of a prompt when it was cut off, or failed and could not be undone."""
    claim, _ = get_setting(store, setting_key(Family.PROMOTION, name))
    if not claim or (not claim["left"] and claim["began_ms"] + _LONGEST_MS > now_ms()):
        return None
    left = claim["left"] or "it was cut off; MLflow may be changed, and the flag is not"
    return Unfinished(claim["what"], claim["actor"], claim["began_ms"], left)


class _Steps:
    """The steps done so far, each with its way back, under a claim that keeps others out."""

    def __init__(self, setting: SettingKey, claim: Mapping[str, Any], version: int) -> None:
        self.setting = setting
        self.claim = claim
        self.version = version
        self._ways_back: list[tuple[str, Callable[[], object]]] = []

    def do(self, what: str, step: Callable[[], Any], back: Callable[[], object]) -> Any:
        """Take a step. Its way back is kept first: one that seems to fail may have been done all the same."""
        self._ways_back.append((what, back))
        return step()

    def undo(self) -> str:
        """Go all the way back; return what could not be undone."""
        left = []
        for what, back in reversed(self._ways_back):
            try:
                back()
            except QuarterdeckError as error:
                left.append(f"{what} could not be put back ({error})")
        return "; ".join(left)

    def finish(self, change: Change) -> None:
        """Give the claim up, together with the change."""
        save_setting(change.connection, self.setting, None, expected_version=self.version)


@contextmanager
def _steps(store: Store, name: str, by: Act, what: str) -> Iterator[_Steps]:
    """Claim a prompt for one promotion at a time, and undo its steps when it fails."""
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
        raise Conflict(f"{former['what']} by {former['actor']} is under way; look again in two minutes")
    claim = {"what": what, "actor": by.actor, "began_ms": now, "left": ""}
    with store.begin() as connection:
        save_setting(connection, setting, claim, expected_version=version)
    return _Steps(setting, claim, version + 1)


def _check_production(name: str, live: int | None, expected: int | None) -> None:
    if live != expected:
        now, then = (f"version {version}" if version else "none" for version in (live, expected))
        raise Conflict(
            f"in production of {name!r} is {now}, not {then}: somebody moved the alias since; look at it again"
        )


def _get_flag(store: Store, environment: str, key: str) -> Flag:
    """Return a flag, or the empty place where it will be."""
    known = {flag.key: flag for flag in list_flags(store, environment)}
    return known.get(key) or Flag(environment, key, {}, 0, from_ms(now_ms()), "")


def _serve(flag: Flag, prompt: PromptVersion, serving: Serving) -> dict[str, Any]:
    """Return the definition with which the flag brings this version to that many users."""
    if not flag.definition:
        about = f"Answer with {prompt.name} {prompt.label}"
        definition = boolean_flag(
            on=True, rollout_pct=serving.rollout_pct, description=about, metadata={"prompt_version": prompt.label}
        )
        validate_definition(flag.key, definition)
        return definition
    served = (flag.definition.get("metadata") or {}).get("prompt_version")
    if served is not None and served not in prompt.spellings:
        raise InvalidInput("flag", f"{flag.key} serves prompt version {served}, not {prompt.label}; name another flag")
    definition = switch_flag(set_rollout(flag.definition, serving.rollout_pct), on=True)
    return {**definition, "metadata": {**definition.get("metadata", {}), "prompt_version": served or prompt.label}}


def _former_definition(flag: Flag, former: ServingFlag | None) -> dict[str, Any] | None:
    """Return what the flag was before the promotion; one that the promotion made is switched off, not forgotten."""
    if former and former.definition:
        return former.definition
    return switch_flag(flag.definition, on=False) if flag.definition else None


def _save(change: Change, flag: Flag | None, wanted: Mapping[str, Any] | None) -> None:
    if flag and wanted and wanted != flag.definition:
        changed = replace(flag, definition=dict(wanted), updated_by=change.act.actor)
        save_flag(change.connection, changed, updated_ms=change.at_ms)


def _state_of(prompt: PromptVersion | None, release: int | None, flag: ServingFlag | None) -> ProductionState:
    return ProductionState(prompt.version if prompt else None, prompt.label if prompt else None, release, flag)


def _serving(flag: Flag | None, definition: Mapping[str, Any] | None = None) -> ServingFlag | None:
    return ServingFlag(flag.key, dict(definition or flag.definition) or None) if flag else None


def _note(what: str, by: Act, flag: ServingFlag | None) -> str:
    """Return what the run's description is to say, newest first."""
    at = by.at or from_ms(now_ms())
    served = ""
    if flag and flag.definition:
        share = rollout_pct(flag.definition) if flag.definition.get("state") == "ENABLED" else 0.0
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
    """Enter the version into the model registry; the way back is only known once it is in."""
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
