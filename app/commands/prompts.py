"""The commands `prompts …`: compare evaluated versions, list registered ones, promote one, and roll it back."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from app.commands.common import common, open_store, rollback_options, show, show_rehearsal
from core.audit.acts import Act
from core.config import Config
from core.errors import InvalidInput, NotFound
from core.tracking.runs import PromptVersion
from core.wording.counts import count_of

if TYPE_CHECKING:
    from core.prompts.contests import Contender, PromptComparison

_RULES = {
    "faithfulness-per-cost": "faithfulness per cost",
    "faithfulness-under-ceiling": "faithfulness under a cost ceiling",
    "faithfulness": "faithfulness",
}


@click.group()
def prompts() -> None:
    """Compare evaluated versions, list and promote registered ones, roll a promotion back."""


@prompts.command("list")
@common
def prompts_list(config: Config, *, as_json: bool) -> None:
    """List the registered prompt versions, and which is in production.

    Example: quarterdeck prompts list
    """
    found = _open_tracking(config).list_prompts()
    lines = [
        f"{each.name:<20} {each.label:<8} version {each.version:<4} {count_of(len(each.run_ids), 'run')}  "
        f"{', '.join(each.aliases) or '-':<12} {each.commit_message}"
        for each in found
    ]
    show(as_json, found, lines or ["no prompt is registered yet; `quarterdeck eval` registers what it evaluates"])


@prompts.command("compare")
@click.option(
    "--experiment", metavar="NAME", help="The MLflow experiment (default: QUARTERDECK_EXPERIMENT, else the newest)."
)
@click.option("--rule", type=click.Choice(list(_RULES)), help="What decides (default: per cost, if every run has one).")
@click.option(
    "--ceiling", type=click.FloatRange(0, min_open=True), metavar="USD", help="The most that a query may cost."
)
@click.option(
    "--floor", type=click.FloatRange(0, 1), metavar="F", help="The lowest faithfulness that can win per cost."
)
@click.option("--prompt", metavar="NAME", help="The prompt (default: that of the newest run with several versions).")
@common
def prompts_compare(
    config: Config,
    *,
    experiment: str | None,
    rule: str | None,
    ceiling: float | None,
    floor: float | None,
    prompt: str | None,
    as_json: bool,
) -> None:
    """Compare the evaluated versions of a prompt, and name the winner or say why there is none.

    Reads runs of `quarterdeck eval`, of MLflow's own evaluations, and of other programs.

    Example: quarterdeck prompts compare --experiment answers --rule faithfulness-per-cost --json
    """
    from core.prompts.contests import find_experiment, report_prompts
    from core.prompts.decisions import WinnerRule
    from core.prompts.naming import read_naming

    chosen = WinnerRule(_RULES[rule]) if rule else None
    if (ceiling is None) == (chosen is WinnerRule.FAITHFULNESS_UNDER_CEILING) and (rule or ceiling is None):
        raise InvalidInput("prompts compare", "give --ceiling with the rule faithfulness-under-ceiling, and only then")
    tracking = _open_tracking(config)
    naming = read_naming(config.database_url)
    named = find_experiment(tracking, experiment or config.experiment, naming=naming)
    if named not in tracking.list_experiments():
        known = ", ".join(tracking.list_experiments()[:12]) or "none"
        raise NotFound(
            f"experiment: {'no run is evaluated' if not named else f'there is no {named!r}'}; there are: {known}"
        )
    found = report_prompts(
        tracking, experiment=named, rule=chosen, ceiling_usd=ceiling, prompt=prompt or "", naming=naming, floor=floor
    )
    answer = describe_comparison(found)
    lines = [f"{answer['verdict']}: {answer['reason']}", *map(_say_candidate, answer["candidates"])]
    show(as_json, answer, lines)


@prompts.command("promote")
@click.argument("name")
@click.argument("version")
@click.option(
    "--run", "run_id", metavar="ID", help="The run that supports the decision (default: the version's newest)."
)
@click.option("--flag", metavar="KEY", help="The flag that serves it; created if it does not exist.")
@click.option("--rollout", type=click.FloatRange(0, 100), metavar="P", help="For P percent of users; needs --flag.")
@click.option("--experiment", "then", metavar="NAME", help="Start an experiment on the flag in the same step.")
@click.option(
    "--metric",
    default="faithfulness",
    show_default=True,
    help="The metric that decides it: per user, as judged or scored.",
)
@click.option("--effect", type=float, default=0.02, show_default=True, help="Its smallest effect worth having.")
@click.option("--guardrail", "guardrails", multiple=True, help="How much worse a metric may be, like latency=0.15.")
@click.option("--reason", required=True, help="The decision: it is stored with the run and in the audit trail.")
@common
def prompts_promote(
    config: Config,
    *,
    name: str,
    version: str,
    run_id: str | None,
    flag: str | None,
    rollout: float | None,
    then: str | None,
    metric: str,
    effect: float,
    guardrails: tuple[str, ...],
    reason: str,
    as_json: bool,
) -> None:
    """Put VERSION (v3, or its number in the registry) of prompt NAME into production, and set its flag.

    With a flag below 100%, the version that is in production stays there until the new one is promoted at 100%.

    Example: quarterdeck prompts promote qa v3 --flag new_prompt_v3 --rollout 20 --reason "as good, a third cheaper"
    """
    from core.prompts.promotion import Serving, promote
    from core.rollouts.ramps import PlannedExperiment

    if (flag is None) != (rollout is None):
        raise InvalidInput("prompts promote", "give --flag and --rollout together, or neither")
    tracking = _open_tracking(config)
    prompt = _find(tracking.list_prompts(name), name, version)
    live = tracking.production_version(name, with_runs=False)
    entry_id = promote(
        open_store(config),
        tracking,
        run_id or _newest_run(tracking, prompt),
        Act(config.operator, reason, config.environment),
        serving=Serving(flag, rollout) if flag is not None and rollout is not None else None,
        expected=live.version if live else None,
        then=PlannedExperiment(then, metric, effect, guardrails=guardrails) if then else None,
    )
    was = live.label if live else "none"
    said = f"{name} {prompt.label} is in production (audit entry {entry_id}); was {was}"
    if rollout is not None and rollout < 100:
        said = f"{rollout:g}% of users get {name} {prompt.label} (audit entry {entry_id}); in production: {was}"
    show(as_json, {"prompt": name, "version": prompt.version, "audit_entry": entry_id}, [said])


@prompts.command("rollback")
@click.argument("name")
@rollback_options
@common
def prompts_rollback(config: Config, *, name: str, preview: bool, reason: str, as_json: bool) -> None:
    """Undo the last promotion of prompt NAME: restore the previous version and its flag.

    Example: quarterdeck prompts rollback qa --reason "complaints about short answers"
    """
    from core.prompts.promotion import roll_back
    from core.rehearsals.report import rehearse_prompt

    if preview:
        found = rehearse_prompt(open_store(config), name, now=datetime.now(UTC))
        show_rehearsal(as_json, found, f"no promotion of {name} is recorded here")
        return
    tracking = _open_tracking(config)
    act = Act(config.operator, reason, config.environment)
    entry_id = roll_back(open_store(config), tracking, name, act)
    live = tracking.production_version(name, with_runs=False)
    said = f"in production of {name}: {live.label if live else 'none'} (audit entry {entry_id})"
    show(as_json, {"prompt": name, "version": live.version if live else None, "audit_entry": entry_id}, [said])


def describe_comparison(found: "PromptComparison") -> dict[str, Any]:
    """Return a comparison as JSON knows it: the candidates are the runs that the verdict is about."""
    judged = found.judged if found.verdict in ("winner", "no_winner") and found.judged else found.contenders
    winner = found.winner
    return {
        "winner": winner.label if winner else None,
        "verdict": str(found.verdict),
        "reason": found.reason,
        "candidates": [_describe_candidate(each) for each in judged],
        "left_out": [_describe_candidate(each) for each in found.contenders if each not in judged],
    }


def _describe_candidate(each: "Contender") -> dict[str, Any]:
    return {
        "name": each.label,
        "prompt": each.evaluation.prompt or None,
        "version": each.evaluation.version or None,
        "run_id": each.run.run_id,
        "faithfulness": each.faithfulness,
        "cost_usd": each.cost_usd,
        "cases": each.case_count,
    }


def _say_candidate(each: dict[str, Any]) -> str:
    figures = [
        f"faithfulness {each['faithfulness']:.3f}" if each["faithfulness"] is not None else "no faithfulness",
        f"${each['cost_usd']:.6f} a query" if each["cost_usd"] is not None else "no cost",
        count_of(each["cases"], "case") if each["cases"] else "no number of cases",
    ]
    return f"  {each['name']:<24} {', '.join(figures)}"


def _open_tracking(config: Config) -> Any:
    from core.tracking.gateway import Tracking

    return Tracking(config.tracking_uri)


def _find(known: tuple[PromptVersion, ...], name: str, version: str) -> PromptVersion:
    """The version with that label, else the one with that number in the registry."""
    for prompt in known:
        if version in prompt.spellings:
            return prompt
    for prompt in known:
        if version == str(prompt.version):
            return prompt
    labels = ", ".join(prompt.label for prompt in known) or "none"
    raise InvalidInput("version", f"{name!r} has no version {version!r}; there are: {labels}")


def _newest_run(tracking: Any, prompt: PromptVersion) -> str:
    runs = tracking.get_runs(prompt.run_ids)
    if not runs:
        raise InvalidInput("run", f"no run used {prompt.name} {prompt.label}; `quarterdeck eval` makes one")
    return str(max(runs, key=lambda run: run.started).run_id)
