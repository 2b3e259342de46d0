"""The commands `eval` and `gate` of the command line: options in, reports out as text, JSON, JUnit XML and Markdown."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from app.commands.common import PROGRESS, common, show, show_progress
from core.config import Config
from core.errors import InvalidInput
from core.prompts.gates import GateReport

_PATH = click.Path(path_type=Path)


def _reporting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a gate its arguments: what to check, what with, and where to write the reports."""
    for option in (
        click.argument("prompts", nargs=-1, type=_PATH, metavar="[PROMPT]..."),
        click.option(
            "--base",
            metavar="REF",
            help="Check the prompts that changed since the merge base with this ref (default: origin/main, else main).",
        ),
        click.option("--cases", type=_PATH, metavar="FILE", help="The test questions (default: the demo's)."),
        click.option("--set", "case_set", default="", metavar="NAME", help="A case set of the store: qa, or qa@3."),
        click.option("--corpus", multiple=True, type=_PATH, metavar="FOLDER", help="The documents (default: v1)."),
        click.option("--prices", type=_PATH, metavar="FILE", help="The price table (default: data/prices.yaml)."),
        click.option("--thresholds", type=_PATH, metavar="FILE", help="The thresholds (default: data/gates.yaml)."),
        click.option("--junit", type=_PATH, metavar="FILE", help="Write a JUnit XML report."),
        click.option("--summary", type=_PATH, metavar="FILE", help="Write a Markdown summary."),
    ):
        command = option(command)
    return command


@click.command("eval")
@click.argument("prompts", nargs=-1, required=True, type=_PATH, metavar="PROMPT...")
@click.option("--cases", type=_PATH, metavar="FILE", help="The test questions as JSON Lines (default: the demo's).")
@click.option("--set", "case_set", default="", metavar="NAME", help="A case set of the store: qa, or qa@3.")
@click.option(
    "--answerer",
    default="extractive",
    type=click.Choice(["extractive", "openai", "anthropic"]),
    help="What answers: the offline answerer, or a model.",
)
@click.option("--model", default="", metavar="NAME", help="The answering model, as in the price table.")
@click.option("--base-url", metavar="URL", help="Another server that speaks the answerer's protocol.")
@click.option(
    "--judge",
    default="offline",
    show_default=True,
    type=click.Choice(["offline", "llm"]),
    help="What judges: the offline judge, or a model.",
)
@click.option("--judge-model", default="", metavar="NAME", help="The judging model (default: the answering one).")
@click.option(
    "--judge-answerer",
    default="",
    type=click.Choice(["", "openai", "anthropic"]),
    show_default=False,
    help="The judging model's protocol.",
)
@click.option("--index", default="", metavar="NAME", help="The index to search (default: the live one).")
@click.option("--corpus", multiple=True, type=_PATH, metavar="FOLDER", help="Index these documents for this run.")
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
@common
def evaluate(
    config: Config,
    *,
    prompts: tuple[Path, ...],
    cases: Path | None,
    corpus: tuple[Path, ...],
    prices: Path | None,
    judge_answerer: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Evaluate prompts over test cases; complete evaluations become MLflow runs. A killed run can be resumed.

    PROMPT is a file, or a version in the prompt registry such as prompts:/qa/3.

    Example: quarterdeck eval data/demo/prompts/qa/v3.md --cases data/demo/cases/qa.jsonl
    """
    from core.prompts.trials import Trial, run_trial

    _check_cases(cases, options["case_set"])
    given: dict[str, Any] = {name: path for name, path in (("cases", cases), ("prices", prices)) if path}
    trial = Trial(prompts, corpora=corpus, judge_protocol=judge_answerer, **given, **options)
    outcome = run_trial(config, trial, on_progress=_show_progress)
    show(as_json, [_row(result) for result in outcome.results], _lines(outcome))
    if not outcome.is_complete:
        sys.exit(1)


@click.group()
def gate() -> None:
    """Guard prompts and indexes: exit code 0 passed, 1 failed, 2 wrong input."""


@gate.command("prompt-eval")
@_reporting
@click.option("--baseline", type=_PATH, metavar="FILE", help="Compare with this prompt file.")
@common
def prompt_eval(config: Config, *, baseline: Path | None, as_json: bool, **options: Any) -> None:
    """Evaluate changed prompts offline: do they reach the thresholds, without a regression?

    Example: quarterdeck gate prompt-eval data/demo/prompts/qa/v3.md --summary gate.md
    """
    from core.prompts.gatekeeper import run_prompt_gate

    files, outputs = _split(options)
    prompts, base = options["prompts"], options["base"]
    reports = run_prompt_gate(
        config, prompts, files=files, baseline=baseline.absolute() if baseline else None, base=base
    )
    finish(reports, as_json, **outputs)


@gate.command("cost-check")
@_reporting
@click.option("--model", metavar="NAME", help="Price the tokens as this model's.")
@click.option("--max-usd", type=click.FloatRange(min=0), metavar="X", help="The most that the average query may cost.")
@common
def cost_check(config: Config, *, model: str | None, max_usd: float | None, as_json: bool, **options: Any) -> None:
    """Check what the average query of changed prompts costs.

    Example: quarterdeck gate cost-check --model gpt-4o --max-usd 0.01
    """
    from core.prompts.gatekeeper import run_cost_gate

    files, outputs = _split(options)
    prompts, base = options["prompts"], options["base"]
    reports = run_cost_gate(config, prompts, files=files, base=base, model=model, ceiling_usd=max_usd)
    finish(reports, as_json, **outputs)


def _split(options: dict[str, Any]) -> tuple[Any, dict[str, Path | None]]:
    """Return the files that the gate reads and writes. Options that are not given keep their defaults."""
    from core.prompts.gatekeeper import Files

    _check_cases(options["cases"], options["case_set"])
    given = {name: options[name].absolute() for name in ("cases", "prices", "thresholds") if options[name]}
    given["case_set"] = options["case_set"]
    if options["corpus"]:
        given["corpora"] = tuple(folder.absolute() for folder in options["corpus"])
    options["prompts"] = tuple(path.absolute() for path in options["prompts"])
    return Files(**given), {"junit": options["junit"], "summary": options["summary"]}


def _check_cases(file: Path | None, case_set: str) -> None:
    if file and case_set:
        raise InvalidInput("cases", "give either --cases or --set")


def finish(
    reports: Sequence[GateReport],
    as_json: bool,
    *,
    junit: Path | None,
    summary: Path | None,
) -> None:
    """Print the reports, write them where they were asked for, and exit with 1 when one has failed."""
    from core.prompts.verdicts import render_junit, render_markdown, render_text

    markdown = render_markdown(reports)
    if junit:
        _write(junit, render_junit(reports))
    if summary:
        _write(summary, markdown)
    if step := os.environ.get("GITHUB_STEP_SUMMARY"):
        _write(Path(step), markdown, append=True)
    show(as_json, [_report_row(report) for report in reports], [render_text(reports)])
    if not all(report.passed for report in reports):
        sys.exit(1)


def _write(path: Path, text: str, *, append: bool = False) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InvalidInput(str(path), f"cannot be written: {error.strerror}") from error


def _report_row(report: GateReport) -> dict[str, Any]:
    return {
        "gate": report.gate,
        "subject": report.subject,
        "passed": report.passed,
        "checks": report.checks,
        "notes": report.notes,
    }


def _row(result: Any) -> dict[str, Any]:
    return {
        "prompt": result.name,
        "version": result.version,
        "run_id": result.run_id,
        "metrics": dict(result.metrics),
        "failed": {case.case_id: case.error for case in result.failed},
        "not_run": result.not_run,
    }


def _lines(outcome: Any) -> list[str]:
    lines = []
    for result in outcome.results:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in result.metrics.items()) or "nothing was judged"
        lines.append(f"{result.name} {result.version}: {figures}")
        lines += [f"  failed {case.case_id}: {case.error}" for case in result.failed]
        if result.not_run:
            lines.append(f"  not run: {', '.join(result.not_run)}. {result.stopped}")
        if result.run_id:
            lines.append(f"  logged as MLflow run {result.run_id}")
        else:
            lines.append("  saved in the journal; the same command resumes there")
    return [*lines, f"spent: ${outcome.spent_usd:.4f}"] if outcome.spent_usd else lines


def _show_progress(label: str, done: int, total: int) -> None:
    """Count in place on a terminal; in a log, print a line for each quarter, and each one for a page that waits."""
    if os.environ.get(PROGRESS) == "lines":
        show_progress(re.sub(r"\W", "_", label)[:60] or "cases", done, total)
    elif sys.stderr.isatty():
        click.echo(f"\r{label}: {done} of {total} cases", err=True, nl=done == total)
    elif done == total or done % max(1, total // 4) == 0:
        click.echo(f"{label}: {done} of {total} cases", err=True)
