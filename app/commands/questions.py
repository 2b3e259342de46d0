"""The command `questions`: the questions of the log, one by one."""

import math
import sys
from dataclasses import replace
from heapq import merge
from itertools import islice
from operator import attrgetter

import click

from app.commands.common import common, find_scope, make_embedder, open_store, settle_days, show
from core.config import Config
from core.errors import InvalidInput
from core.log.filters import LoggedQuestion, Order, QuestionFilter
from core.log.retrievals import list_scopes
from quarterdeck.scope import Scope, make_scope
from quarterdeck.store import Store

_LOW = "auto"


@click.command()
@click.option("--service", metavar="NAME", help="Only the questions of this service.")
@click.option(
    "--low", is_flag=False, flag_value=_LOW, metavar="[BELOW]",
    help="Only those that score low: below the threshold of the coverage page, or below the given similarity.",
)  # fmt: skip
@click.option("--topic", metavar="TOPIC", help="Only those of a topic of the last seven days: its number, id or label.")
@click.option("--search", default="", metavar="TEXT", help="Only those with these words, or words that begin so.")
@click.option(
    "--sort", type=click.Choice([str(each) for each in Order]), default=str(Order.NEWEST), show_default=True,
    help="Which come first; lowest sorts the newest 10,000 that have a score.",
)  # fmt: skip
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1_000_000), help="At most this many.")
@common
def questions(
    config: Config,
    *,
    service: str | None,
    low: str | None,
    topic: str | None,
    search: str,
    sort: str,
    limit: int,
    as_json: bool,
) -> None:
    """List questions, newest first by default.

    They are of every environment and service unless --environment or --service narrows it.

    What --json prints can be imported again with quarterdeck import.

    Example: quarterdeck questions --service answers --low --limit 20 --json
    """
    from core.log.questions import list_matching
    from core.log.services import get_service
    from core.questions.files import to_record

    store = open_store(config)
    given = click.get_current_context().params.get("environment")
    scope = Scope(make_scope(given).environment if given else "", make_scope(None, service).service if service else "")
    wanted = _narrow(config, store, QuestionFilter(scope=scope, search=search), low=low, topic=topic)
    order = Order(sort)
    listed = (list_matching(store, each, limit=limit, order=order) for each in wanted)
    by = attrgetter("similarity" if order is Order.LOWEST else "ts")
    found = list(islice(merge(*listed, key=by, reverse=order is Order.NEWEST), limit))
    if not found:
        click.echo("no question in the log is one of these", err=True)
    services = {name: get_service(store, name) for name in {question.service for question in found}}
    records = [to_record(question, services[question.service]) for question in found]
    show(as_json, records, [_describe(question) for question in found])


def _narrow(
    config: Config, store: Store, wanted: QuestionFilter, *, low: str | None, topic: str | None
) -> list[QuestionFilter]:
    """Return the filters of the wanted questions: each service has its own topics and its own threshold."""
    from core.coverage.asked import narrow_to_low, narrow_to_topic
    from core.coverage.report import report_coverage

    if topic is not None:
        scope = find_scope(config, store, wanted.scope.service or None)
        today, embedder = settle_days(store, scope), make_embedder(config, store)
        coverage = report_coverage(store, embedder, scope=scope, today=today, low_score=config.low_score)
        wanted = narrow_to_topic(store, replace(wanted, scope=scope), coverage, topic)
    if low is None:
        return [wanted]
    if low == _LOW:
        return [
            narrow_to_low(store, wanted, scope=scope, today=settle_days(store, scope), low_score=config.low_score)
            for scope in list_scopes(store)
            if wanted.scope.environment in ("", scope.environment) and wanted.scope.service in ("", scope.service)
        ]
    try:
        below = float(low)
    except ValueError:
        below = math.nan
    if not 0 <= below <= 1:
        raise InvalidInput("low", f"must be a similarity between 0 and 1, not {low!r}")
    return [replace(wanted, below=below)]


def _describe(question: LoggedQuestion) -> str:
    number = question.state if question.similarity is None else f"{question.similarity:.2f}"
    width = 120 if sys.stdout.isatty() else 1_000
    return f"{question.ts:%Y-%m-%d %H:%M:%S}  {number:>8}  {question.service}  {question.query[:width]}"
