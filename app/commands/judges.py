"""The command `judges`: how far each judge of `eval` agrees with what people have labeled."""

import sys
from pathlib import Path
from typing import Any

import click

from app.commands.common import common, show, show_progress
from core.config import Config
from core.prompts.agreement import Agreement, describe_agreement, say_verdicts

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--cases", type=_PATH, metavar="FOLDER", help="Holds judge_faithfulness.jsonl, _relevancy and _refusal.")
@click.option("--judge-model", default="", metavar="NAME", help="Also check this model, named as in the price table.")
@click.option(
    "--judge-answerer",
    default="",
    type=click.Choice(["", "openai", "anthropic"]),
    show_default=False,
    help="The judging model's protocol.",
)
@click.option("--base-url", metavar="URL", help="Another server that speaks the model's protocol.")
@click.option("--prices", type=_PATH, metavar="FILE", help="The price table (default: data/prices.yaml).")
@click.option(
    "--concurrency",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    metavar="N",
    help="How many model calls run concurrently.",
)
@click.option("--max-cost-usd", type=float, metavar="X", help="Stop before this run costs more.")
@click.option(
    "--at-least", default=85.0, show_default=True, type=click.FloatRange(0, 100), metavar="P",
    help="Exit with 1 when a judge agrees with less than P percent.",
)  # fmt: skip
@common
def judges(
    config: Config,
    *,
    cases: Path | None,
    prices: Path | None,
    judge_model: str,
    judge_answerer: str,
    at_least: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Print how far each judge agrees with its labeled cases, and the cases where it does not.

    The offline judges are always checked, a model when one is named.

    Example: quarterdeck judges --judge-answerer openai --judge-model gpt-4o-mini --max-cost-usd 0.10
    """
    from core.prompts.calibration import Examination, examine_judges

    given: dict[str, Any] = {name: path for name, path in (("folder", cases), ("prices", prices)) if path}
    asked = Examination(protocol=judge_answerer, model=judge_model, **given, **options)
    grades = examine_judges(config, asked, on_progress=show_progress)
    lines = [line for each in grades.agreements for line in (describe_agreement(each), *_wrong(each))]
    spent = [f"spent: ${grades.spent_usd:.4f}"] if grades.spent_usd else []
    show(as_json, [_row(each) for each in grades.agreements], [*lines, *spent])
    if any(100 * each.share < at_least for each in grades.agreements):
        sys.exit(1)


def _wrong(each: Agreement) -> list[str]:
    return [f"  {line}" for line in say_verdicts(each.wrong)]


def _row(each: Agreement) -> dict[str, Any]:
    return {
        "judge": each.judge,
        "skill": each.skill,
        "cases": len(each.verdicts),
        "agreement": each.share,
        "too_kind": each.too_kind,
        "too_strict": each.too_strict,
        "no_verdict": each.unjudged,
        "differs": say_verdicts(each.wrong),
    }
