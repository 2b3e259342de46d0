"""Shell: reads what a rollback of a canary, a flag, an index, a color or a prompt would do, before it is made.

`comparing.py` says which questions would get worse and which better. Nothing here changes or stores anything.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from core.arms.histories import scopes_of_flag
from core.audit.trail import AuditEntry
from core.deployments.colors import Deployment
from core.drift.present import make_scale
from core.drift.report import list_model_maps
from core.flags.canary_plan import CANARY, STABLE
from core.flags.definition import FlagDefinition
from core.flags.store import Flag
from core.indexes.operations import find_rollback
from core.indexes.registry import list_aliases, list_indexes
from core.log.exposures import list_exposures
from core.log.filters import LoggedQuestion, QuestionFilter, read_question
from core.log.readers import open_reader
from core.log.retrievals import list_scopes_of
from core.prompts.promotion import find_promotion
from core.rehearsals.comparing import Rehearsal, Rehearsed, compare_sides, reverse_replay, sum_answers
from core.replay.comparison import ReplayResult
from core.replay.report import find_replay
from core.rollouts.history import list_flag_entries
from quarterdeck.clock import to_ms
from quarterdeck.index_canaries import read_arms
from quarterdeck.schema import DIMENSIONS
from quarterdeck.scope import Scope
from quarterdeck.store import Store

DAYS = 28
_MOST_ROWS = 20_000  # of each side, the newest
_INDEX, _PROMPT = "index_version", "prompt_version"
_TWO_SCALES = (
    "its scores and those of what answers now are of two embedding models, on different scales, and no map leads from "
    "one to the other (`quarterdeck index map`)"
)
_Rows = Sequence[LoggedQuestion]


@dataclass(frozen=True, slots=True)
class _Period:
    """Which rows of the log: those of these scopes from `start` to before `end`."""

    scopes: tuple[Scope, ...]
    start: datetime
    end: datetime


def rehearse_canary(store: Store, flag: Flag, *, now: datetime) -> Rehearsal:
    """Return what putting everybody back on blue would do, from what both arms answered since the canary began.

    A kept replay of an index canary's two indexes tells it of all questions. Raises SourceUnavailable.
    """
    services = flag.view.plan.services if flag.view.plan else ()
    if arms := read_arms(flag.key, flag.definition):
        known = list_scopes_of(store, flag.environment)
        judging = [scope for scope in known if not services or scope.service in services]
        if kept := _find_replay(store, arms.candidate, arms.live, judging):
            return reverse_replay(kept, arms.live)
    since = _began(list_flag_entries(store, flag.environment, flag.key), flag, now)
    period = _Period(scopes_of_flag(flag.environment, services), since, now)
    name, gone, back = (_INDEX, arms.candidate, arms.live) if arms else ("arm", CANARY, STABLE)
    if flag.view.experiment:
        sides = _read_users(store, flag, period, (CANARY,), (STABLE,))
    else:
        sides = _read_values(store, period, name, (gone,), (back,))
    return _compare_scores(store, sides, back, _say_same(period))


def rehearse_flag(store: Store, flag: Flag, *, now: datetime) -> Rehearsal:
    """Return what turning a flag off would do, from users on both sides of it. Raises SourceUnavailable.

    The log tells the sides apart where the flag's metadata names a dimension and its value (`"prompt_version": "v3"`),
    or where clients record its users (an experiment). Otherwise nothing can be told.
    """
    if flag.view.is_canary:
        return rehearse_canary(store, flag, now=now)
    back_to = "the code's default"
    since = _began(list_flag_entries(store, flag.environment, flag.key), flag, now)
    period = _Period(scopes_of_flag(flag.environment), since, now)
    named = [(name, str(flag.view.metadata[name])) for name in DIMENSIONS if name in flag.view.metadata]
    if named:
        name, value = named[0]
        sides = _read_others(store, period, name, value)
        if name == _PROMPT:
            return _compare_judged(sides, back_to, _say_same(period))
        return _compare_scores(store, sides, back_to, _say_same(period))
    off = [name for name, value in flag.view.variants.items() if value is False or name in ("off", STABLE)]
    if flag.view.experiment is not None and off:
        gone = [name for name in flag.view.variants if name not in off]
        return _compare_scores(store, _read_users(store, flag, period, gone, off), back_to, _say_same(period))
    why = (
        f"the log does not say which answers {flag.key} changed; name its part of the log in the metadata, such as "
        '"prompt_version": "v3", or set "experiment": true'
    )
    return Rehearsal(back_to, unknown=why)


def rehearse_index(store: Store, alias: str, scope: Scope, *, now: datetime) -> Rehearsal | None:
    """Return what rolling an alias back would do to the questions of a scope; None if there is nothing to go back to.

    A kept replay of the two indexes tells it of all questions; without one, the log of those that both answered.
    Raises SourceUnavailable.
    """
    live = next((each for each in list_aliases(store) if each.alias == alias), None)
    former = find_rollback(store, alias)
    if live is None or former is None:
        return None
    if kept := _find_replay(store, live.index_name, former, [scope]):
        return reverse_replay(kept, former)
    period = _Period((scope,), now - timedelta(days=DAYS), now)
    sides = _read_values(store, period, _INDEX, (live.index_name,), (former,))
    return _compare_scores(store, sides, former, _say_same(period))


def rehearse_color(store: Store, found: Deployment, *, now: datetime) -> Rehearsal:
    """Return what switching a service's traffic back would do, from its questions before and since the last switch.

    The log does not name colors, so other changes of these days count too. Raises SourceUnavailable.
    """
    back_to = str(found.idle)
    if found.since is None:
        return Rehearsal(back_to, unknown="it was never switched")
    scope = scopes_of_flag(found.environment, (found.service,))
    days = timedelta(days=DAYS)
    since = _Period(scope, max(found.since, now - days), now)
    before = _Period(scope, found.since - days, found.since)
    told = f"the same questions since the switch and in the {DAYS} days before it, whatever else changed then"
    rehearsed = _compare_scores(store, (_read(store, since), _read(store, before)), back_to, told)
    if not rehearsed.asked:
        return replace(rehearsed, unknown=f"no question of a service {found.service} is in the log since the switch")
    return rehearsed


def rehearse_prompt(store: Store, name: str, *, now: datetime) -> Rehearsal | None:
    """Return what undoing the last promotion of a prompt would do; None if there is none to undo.

    Searches do not depend on the prompt, so answers are compared by their faithfulness, else by users' feedback.
    Raises SourceUnavailable.
    """
    promotion = find_promotion(store, name)
    if promotion is None:
        return None
    former, promoted = promotion.former, promotion.promoted
    if former.version is None or promoted.version is None:
        return Rehearsal(former.name, unknown="nothing was in production before it")
    environment = promotion.entry.environment
    period = _Period(scopes_of_flag(environment), now - timedelta(days=DAYS), now)
    gone, back = (_names_of(version) for version in (promoted.version, former.version))
    return _compare_judged(_read_values(store, period, _PROMPT, gone, back), former.name, _say_same(period))


def _began(entries: Sequence[AuditEntry], flag: Flag, now: datetime) -> datetime:
    """Return since when a flag has served users what it serves now to some, whatever its share was; 28 days at most."""
    began = flag.updated
    for entry in entries:
        began = entry.ts
        before = FlagDefinition(entry.before or {})
        if before.variants != flag.view.variants or before.share_pct == 0:
            break
    return max(began, now - timedelta(days=DAYS))


def _names_of(version: int) -> tuple[str, ...]:
    """How services log a prompt version."""
    return (f"v{version}", str(version))


def _find_replay(store: Store, one: str, other: str, scopes: Iterable[Scope]) -> ReplayResult | None:
    """Return the kept replay of one of these indexes against the other, if there is one."""
    for scope in scopes:
        for candidate, live in ((one, other), (other, one)):
            kept = find_replay(store, candidate, scope)
            if kept and kept.about.live == live:
                return kept
    return None


def _read_values(
    store: Store, period: _Period, name: str, gone: Sequence[str], back: Sequence[str]
) -> tuple[_Rows, _Rows]:
    """Return the rows of some values of a dimension, and those of others."""
    first, second = ([row for value in side for row in _read(store, period, (name, value))] for side in (gone, back))
    return first, second


def _read_others(store: Store, period: _Period, name: str, value: str) -> tuple[_Rows, _Rows]:
    """Return the rows of one value of a dimension, and those of all its other values."""
    rows = _read(store, period)
    named = [(getattr(row, name), row) for row in rows]
    return [row for own, row in named if own == value], [row for own, row in named if own not in (value, None)]


def _read_users(
    store: Store, flag: Flag, period: _Period, gone: Iterable[str], back: Iterable[str]
) -> tuple[_Rows, _Rows]:
    """Return the rows of users whom clients noted on one side alone, and those of users on the other alone."""
    asked = [(row.user_id or row.session_id or "", row) for row in _read(store, period)]
    users = {user for user, _ in asked if user}
    seen: dict[str, set[str]] = {}
    for each in list_exposures(store, flag.environment, flag.key, since=period.start, users=users):
        seen.setdefault(each.targeting_key, set()).add(each.variant)
    rows = [(seen.get(user), row) for user, row in asked]
    first, second = ([row for got, row in rows if got and got <= set(side)] for side in (gone, back))
    return first, second


def _compare_scores(store: Store, sides: tuple[_Rows, _Rows], back_to: str, basis: str) -> Rehearsal:
    """Compare scores, those of other embedding models on the scale of the one that answers most of what would go.

    Where each side has a model of its own, the map between them makes the means equal, so the mean is not told. Models
    are those of registered indexes; without a map, nothing is compared.
    """
    of_index = {index.name: index.model for index in list_indexes(store)}
    embedding = set(of_index.values())

    def model_of(row: LoggedQuestion) -> str:
        named = row.model or of_index.get(row.index_version or "", "")
        return named if named in embedding else ""

    gone, back = (Counter(filter(None, map(model_of, side))) for side in sides)
    if len(gone.keys() | back.keys()) < 2:
        return _compare(sides, back_to, basis)
    model = max(gone or back, key=lambda name: ((gone or back)[name], name))
    scopes = {Scope(row.environment, row.service) for side in sides for row in side}
    scales = {scope: make_scale(list_model_maps(store, scope), model) for scope in scopes}
    others = (gone.keys() | back.keys()) - {model}
    if any(not others <= scale.list_bounds(None).keys() for scale in scales.values()):
        return Rehearsal(back_to, asked=len(sum_answers(sides[0], Rehearsed.SCORE)), unknown=_TWO_SCALES)

    def carry(row: LoggedQuestion) -> LoggedQuestion:
        scale, score = scales[Scope(row.environment, row.service)], row.similarity
        return row if score is None else replace(row, similarity=scale.carry(model_of(row), score))

    told = f"{basis}, scores of {', '.join(sorted(others))} on the scale of {model} by their map"
    first, second = ([carry(row) for row in side] for side in sides)
    found = _compare((first, second), back_to, told)
    return found if gone.keys() & back.keys() else replace(found, mean=None)


def _compare(sides: tuple[_Rows, _Rows], back_to: str, basis: str, *, metric: Rehearsed = Rehearsed.SCORE) -> Rehearsal:
    now, then = (sum_answers(side, metric) for side in sides)
    counted = sum(each.asked for each in now.values()), sum(each.asked for each in then.values())
    told = f"{basis}: {counted[0]:,} answers of what would go, {counted[1]:,} of what would come back"
    return compare_sides(now, then, metric=metric, back_to=back_to, basis=told)


def _compare_judged(sides: tuple[_Rows, _Rows], back_to: str, basis: str) -> Rehearsal:
    """Compare how answers were judged: by the first metric that both sides have for some question."""
    found = [_compare(sides, back_to, basis, metric=each) for each in (Rehearsed.FAITHFULNESS, Rehearsed.FEEDBACK)]
    known = next((each for each in found if each.known), None)
    return known or replace(found[0], unknown=f"no question has judged answers of both it and {back_to}")


def _read(store: Store, period: _Period, label: tuple[str, str] | None = None) -> _Rows:
    """Return the newest rows of a period, of one value of a dimension or of all."""
    reader, labels = open_reader(store), (label,) if label else ()
    start_ms, end_ms = to_ms(period.start), to_ms(period.end)
    return [
        read_question(row)
        for scope in period.scopes
        for row in reader.list_rows(
            QuestionFilter(scope=scope, start_ms=start_ms, end_ms=end_ms, labels=labels), _MOST_ROWS, None
        )
    ]


def _say_same(period: _Period) -> str:
    return f"the questions that both answered since {period.start:%d %b %Y, %H:%M} UTC"
