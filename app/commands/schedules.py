"""The commands `flags schedule …`: scheduled changes and stepwise rollouts of a flag; a running server makes them."""

from datetime import UTC, datetime

import click

from app.commands.common import common, open_store, show
from core.audit.acts import Act
from core.config import Config
from core.errors import InvalidInput


@click.group()
def schedule() -> None:
    """Change a flag later, or roll it out in steps; a running server makes the steps."""


@schedule.command("add")
@click.argument("key")
@click.option("--steps", metavar="P,P,…", help="The rollout percentages, like 5,25,50,100.")
@click.option("--hold", default="24h", show_default=True, help="How long each step is held: 30m, 24h, 2d.")
@click.option("--on/--off", "on", default=None, help="Switch the flag; with --steps, at the first step.")
@click.option("--at", "starts", metavar="TIME", help="When to begin, in ISO 8601; UTC without a zone (default: now).")
@click.option("--then-experiment", "name", metavar="NAME", help="Start an experiment of this name with the last step.")
@click.option("--metric", help="The metric that decides it.")
@click.option("--effect", type=float, help="Its smallest effect worth having.")
@click.option("--control", default="", help="The variant that the others are compared with.")
@click.option("--guardrail", "guardrails", multiple=True, help="How much worse a metric may be, like latency=0.15.")
@click.option("--reason", required=True, help="Why: it goes into the audit trail with every step.")
@common
def schedule_add(
    config: Config, *, key: str, steps: str | None, hold: str, on: bool | None, starts: str | None, name: str | None,
    metric: str | None, effect: float | None, control: str, guardrails: tuple[str, ...], reason: str, as_json: bool,
) -> None:  # fmt: skip
    """Plan changes of a flag: one switch, or a rollout in steps, which may end in an experiment.

    Example: quarterdeck flags schedule add new_prompt_v3 --steps 5,25,50,100 --hold 24h --reason "no complaints"
    """
    from core.flags.schedule import ScheduleStep, parse_duration, parse_shares, plan_steps, say_next, say_steps
    from core.flags.store import get_flag
    from core.flags.timetable import list_schedules
    from core.rollouts.ramps import PlannedExperiment
    from core.rollouts.schedules import create_schedule

    if steps is None and on is None:
        raise InvalidInput("flags schedule add", "give --steps P,P,…, --on or --off")
    if steps is not None and on is False:
        raise InvalidInput("flags schedule add", "--off has no steps: give one or the other")
    planned = (
        plan_steps(parse_shares(steps), hold_s=parse_duration(hold), switch_on=bool(on))
        if steps
        else (ScheduleStep(on=on),)
    )
    then = None
    if name is not None:
        if metric is None or effect is None:
            raise InvalidInput("flags schedule add", "--then-experiment needs --metric and --effect")
        then = PlannedExperiment(name, metric, effect, control, guardrails)
    store, now = open_store(config), datetime.now(UTC)
    create_schedule(
        store, get_flag(store, config.environment, key), planned, Act(config.operator, reason, config.environment),
        starts=_read_time(starts) if starts else now, now=now, then=then,
    )  # fmt: skip
    made = list_schedules(store, environment=config.environment, flag=key, limit=1)[0]
    show(as_json, made, [f"schedule {made.schedule_id} of {key}: {say_steps(made)}; {say_next(made, now=now)}"])


@schedule.command("list")
@click.option("--all", "every", is_flag=True, help="Include those that are over.")
@common
def schedule_list(config: Config, *, every: bool, as_json: bool) -> None:
    """List what is planned.

    Example: quarterdeck flags schedule list
    """
    from core.flags.schedule import OPEN, ScheduleState, say_next, say_steps
    from core.flags.timetable import list_schedules

    now = datetime.now(UTC)
    states = tuple(ScheduleState) if every else OPEN
    found = list_schedules(open_store(config), environment=config.environment, states=states)
    lines = [f"{s.schedule_id:>4}  {s.flag:<28} {say_steps(s)}; {say_next(s, now=now)}" for s in found]
    show(as_json, found, lines or ["nothing is planned"])


def _add_change(name: str, word: str, done: str) -> None:
    @schedule.command(name, help=f'{word}\n\nExample: quarterdeck flags schedule {name} 3 --reason "look first"')
    @click.argument("schedule_id", type=int)
    @click.option("--reason", required=True, help="Why: it goes into the audit trail.")
    @common
    def change(config: Config, *, schedule_id: int, reason: str, as_json: bool) -> None:
        from core.flags.timetable import get_schedule
        from core.rollouts import schedules

        store, now = open_store(config), datetime.now(UTC)
        found = get_schedule(store, schedule_id)
        act = Act(config.operator, reason, found.environment)
        entry = {
            "pause": lambda: schedules.pause_schedule(store, found, act, now=now),
            "resume": lambda: schedules.resume_schedule(store, found, act, now=now),
            "cancel": lambda: schedules.cancel_schedule(store, found, act),
        }[name]()
        show(as_json, {"entry": entry}, [f"schedule {schedule_id} of {found.flag} is {done} (audit entry {entry})"])


_add_change("pause", "Stop a schedule until it is resumed.", "paused")
_add_change("resume", "Resume a paused schedule from the flag's current state.", "resumed")
_add_change("cancel", "End a schedule; the flag stays as it is.", "canceled")


def _read_time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput("at", f"give a time like 2026-03-01T09:00, not {text!r}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
