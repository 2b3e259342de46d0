"""The commands `replay` and `gate replay`: recent questions through a candidate, against what is live."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.commands.common import (
    common,
    find_scope,
    open_store,
    service_option,
    settle_days,
    show,
    show_progress,
    to_json,
)
from app.commands.evaluations import finish, gate
from app.commands.replay_lines import describe_replay
from core.audit.acts import Act
from core.config import PROJECT, Config
from core.errors import InvalidInput
from quarterdeck.scope import Scope
from quarterdeck.store import Store

if TYPE_CHECKING:
    from core.replay.comparison import ReplayResult
    from core.replay.requests import ReplayRequest

_PATH = click.Path(path_type=Path)
_CANDIDATE = (
    click.argument("candidate", metavar="[INDEX]", required=False, default=""),
    click.option("--documents", default="", metavar="VERSION", help="Cut and embed this corpus version or folder."),
    click.option("--characters", type=int, metavar="N", help="Cut the documents into passages of up to N characters."),
    click.option("--embedding-model", default="", metavar="NAME", help="Embed passages and questions with this model."),
    click.option("--reranker", default="", metavar="NAME", help="Order hits anew: bm25, or a server's http address."),
    click.option(
        "--depth", default=30, show_default=True, type=click.IntRange(1, 200), help="How many hits are reranked."
    ),
    click.option("--prompt", default="", metavar="PROMPT", help="Answer with this file, or with prompts:/qa/3."),
    click.option("--live-reranker", default="", metavar="NAME", help="The reranker that is in use now."),
    click.option(
        "--live-prompt", default="", metavar="PROMPT", help="The prompt in use now (default: that in production)."
    ),
    click.option("--alias", default="default", show_default=True, help="The name that readers use."),
)
_QUESTIONS = (
    click.option(
        "--window-days", default=7, show_default=True, type=click.IntRange(1, 365),
        help="How many recent days of questions to use.",
    ),
    click.option(
        "--sample", default=5_000, show_default=True, type=click.IntRange(1, 100_000), metavar="N",
        help="How many questions to draw, by traffic.",
    ),
    click.option("--seed", default=0, show_default=True, type=int, help="Draws the same questions again."),
    click.option(
        "--top-k", default=5, show_default=True, type=click.IntRange(1, 100), help="How many hits to compare."
    ),
    click.option("--no-topics", is_flag=True, help="Do not group low-scoring questions into topics first."),
)  # fmt: skip
_ANSWERS = (
    click.option(
        "--answers", default=200, show_default=True, type=click.IntRange(1, 100_000), metavar="N",
        help="How many of the questions to answer.",
    ),
    click.option(
        "--answerer", default="extractive", show_default=True, type=click.Choice(["extractive", "openai", "anthropic"]),
        help="What answers: the offline answerer, or a model.",
    ),
    click.option("--model", default="", metavar="NAME", help="The answering model, as in the price table."),
    click.option("--base-url", metavar="URL", help="Another server that speaks the answerer's protocol."),
    click.option(
        "--judge", default="offline", show_default=True, type=click.Choice(["offline", "llm"]),
        help="What judges: the offline judge, or a model.",
    ),
    click.option("--judge-model", default="", metavar="NAME", help="The judging model (default: the answering one)."),
    click.option(
        "--judge-answerer", "judge_protocol", default="", type=click.Choice(["", "openai", "anthropic"]),
        show_default=False, help="The judging model's protocol (default: the answering one's).",
    ),
    click.option("--prices", type=_PATH, metavar="FILE", help="The price table (default: data/prices.yaml)."),
    click.option("--reranker-usd", default=0.0, type=click.FloatRange(0), help="What a search of the server costs."),
    click.option(
        "--concurrency", default=4, show_default=True, type=click.IntRange(1, 64), metavar="N",
        help="How many model calls run concurrently.",
    ),
    click.option("--max-cost-usd", type=float, metavar="X", help="Stop before this replay costs more."),
)  # fmt: skip


def _replaying(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what says which questions are replayed through what."""
    for option in (*_CANDIDATE, *_QUESTIONS, *_ANSWERS, service_option):
        command = option(command)
    return command


@click.command("replay")
@_replaying
@click.option("--record", is_flag=True, help="Predict this effect in the ledger, for when the candidate goes live.")
@click.option(
    "--about", default="", metavar="KIND:NAME", help="With --record: the change to come, where it is no index."
)
@click.option(
    "--keep", is_flag=True, help="Keep the result for the page Corpus, and print it without what users asked."
)
@click.option("--reason", default="", help="Why, with --record: it goes into the audit trail.")
@common
def replay(
    config: Config, *, service: str | None, record: bool, about: str, keep: bool, reason: str, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Replay recent questions through a candidate and what is live, and say what would change.

    The candidate is a registered INDEX, other documents or passages, an embedding model, a reranker, a prompt, or a
    chain of them. Prints the shift of the mean score and of low scores with 95% intervals, the overlap of hits, the
    topics and segments that win and lose, the questions that change most, costs and times, and the verdict to come.
    With a prompt, a part of the questions is answered and judged. Nothing is embedded or bought twice.

    Example: quarterdeck replay docs-v2 --record --reason "covers VPP"
    """
    from core.ledger.operations import predict_effect
    from core.replay.operations import save_replay

    if record and not reason.strip():
        raise InvalidInput("reason", "say why with --reason, for the audit trail")
    store, request = open_store(config), _read_request(options)
    scope = find_scope(config, store, service)
    claim = _name_claim(config, request, about, scope, record=record, keep=keep)
    act = Act(config.operator, reason or "replayed against what is live", scope.environment)
    found = _replay(config, store, scope, request)
    entry = None
    if keep:
        save_replay(store, found, act if reason else replace(act, reason=f"replayed against {found.about.live}"))
    if record:
        entry = predict_effect(store, claim, found.predicted, act, metric="score", service=scope.service)
    told = _to_json(found) | {"entry": entry}
    if keep:  # everybody who may look reads what a job prints
        told = {name: value for name, value in told.items() if name not in ("changed", "topics", "answers")}
    recorded = [f"recorded in the ledger (audit entry {entry})"] if entry else []
    show(as_json, told, [*describe_replay(found, with_questions=not keep), *recorded])


@gate.command("replay")
@_replaying
@click.option("--thresholds", type=_PATH, metavar="FILE", help="The thresholds (default: data/gates.yaml).")
@click.option("--questions", is_flag=True, help="Show what users asked in the reports; without it, it is left out.")
@click.option("--junit", type=_PATH, metavar="FILE", help="Write a JUnit XML report.")
@click.option("--summary", type=_PATH, metavar="FILE", help="Write a Markdown summary.")
@common
def gate_replay(
    config: Config, *, service: str | None, thresholds: Path | None, questions: bool, junit: Path | None,
    summary: Path | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Replay recent questions through a candidate: does a mean, a topic or an answer get worse?

    Takes the same candidates as `quarterdeck replay`.

    Example: quarterdeck gate replay docs-v2 --summary gate.md
    """
    from core.prompts.bench import read_text
    from core.replay.gate import check_replay, parse_replay_thresholds

    path = thresholds.absolute() if thresholds else Path("data/gates.yaml")
    wanted = parse_replay_thresholds(read_text(path, below=PROJECT), source=str(path))
    store = open_store(config)
    found = _replay(config, store, find_scope(config, store, service), _read_request(options))
    report = check_replay(found, wanted, with_questions=questions)
    finish((report,), as_json, junit=junit, summary=summary)


def _read_request(options: dict[str, Any]) -> "ReplayRequest":
    from core.prompts.trials import Trial
    from core.replay.requests import ReplayRequest

    given = dict(options)
    asks = {
        name: given.pop(name)
        for name in (
            "answerer",
            "model",
            "base_url",
            "judge",
            "judge_model",
            "judge_protocol",
            "concurrency",
            "max_cost_usd",
        )
    }
    prices = given.pop("prices")
    answering = Trial((), **asks, **({"prices": prices} if prices else {}))
    return ReplayRequest(
        index=given.pop("candidate"), has_topics=not given.pop("no_topics"), answering=answering, **given
    )


def _replay(config: Config, store: Store, scope: Scope, request: "ReplayRequest") -> "ReplayResult":
    from core.replay.requests import run_replay

    today = settle_days(store, scope)
    return run_replay(config, store, scope, request, today=today, on_progress=show_progress)


def _name_claim(config: Config, request: "ReplayRequest", about: str, scope: Scope, *, record: bool, keep: bool) -> str:
    """Return the change that is predicted. What cannot be kept or recorded is refused before anything is searched."""
    from core.ledger.claims import check_thing
    from core.replay.report import replay_key
    from core.replay.requests import read_candidate

    candidate = read_candidate(config, request)
    if keep:
        replay_key(candidate.name, scope)
    return check_thing(about or candidate.name_claim(request.alias)) if record else ""


def _to_json(found: "ReplayResult") -> dict[str, Any]:
    answers = replace(found.answers, by_place={}) if found.answers else None
    return {**to_json(replace(found, answers=answers)), "predicted": to_json(found.predicted)}
