"""The commands `services …`: what reports to the deck, its settings, and what continues under another name."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from app.commands.common import common, find_scope, open_store, service_option, show, to_json
from core.audit.acts import Act
from core.config import Config
from quarterdeck.clock import to_ms
from quarterdeck.log import SqlLog, as_log
from quarterdeck.scope import make_scope

_reason_option = click.option("--reason", required=True, help="Why: it goes into the audit trail.")
_yes_option = click.option("--yes", is_flag=True, help="Do it; without this it is only previewed.")


@click.group()
def services() -> None:
    """List services, set their dimensions and time zone, rename and merge them."""


@services.command("list")
@common
def services_list(config: Config, *, as_json: bool) -> None:
    """List the services of all environments with their settings.

    Example: quarterdeck services list
    """
    from core.log.retrievals import list_scopes
    from core.log.services import get_service
    from core.log.successions import find_successions

    store = open_store(config)
    found = [(scope, get_service(store, scope.service)) for scope in list_scopes(store)]
    rows: list[dict[str, Any]] = [
        {
            "environment": scope.environment, "service": scope.service, "zone": service.zone,
            "dimensions": list(service.dimensions), "trace_link": service.trace_link, "score_kind": service.score_kind,
            "keep_answers": service.keep_answers, "budget_usd": service.budget_usd,
        }
        for scope, service in found
    ]  # fmt: skip
    lines = [f"{r['environment']:<16} {r['service']:<28} {r['zone']:<20} {', '.join(r['dimensions'])}" for r in rows]
    if isinstance(as_log(store), SqlLog):
        for succession in find_successions(store, since_ms=to_ms(datetime.now(UTC) - timedelta(days=30))):
            click.echo(succession.offer, err=True)
    show(as_json, rows, lines or ["no service reported yet"])


@services.command("set")
@click.argument("name")
@click.option("--dimension", "dimensions", multiple=True, metavar="NAME", help="An attribute that gets rollups.")
@click.option("--no-dimensions", is_flag=True, help="Declare no attribute any more.")
@click.option("--zone", metavar="ZONE", help="The time zone of its days, for example Europe/Berlin.")
@click.option("--trace-link", metavar="URL", help="The address of a trace, with {trace_id} in it.")
@click.option("--score-kind", metavar="KIND", help="The kind of its scores, for rows that do not name one.")
@click.option("--keep-answers/--no-answers", default=None, help="Store the redacted answers in its traces, or none.")
@click.option("--budget", type=float, metavar="USD", help="What its answers may cost a day: a line on the quality tab.")
@_reason_option
@common
def services_set(
    config: Config,
    *,
    name: str,
    dimensions: tuple[str, ...],
    no_dimensions: bool,
    zone: str | None,
    trace_link: str | None,
    score_kind: str | None,
    keep_answers: bool | None,
    budget: float | None,
    reason: str,
    as_json: bool,
) -> None:
    """Change settings of a service, in all environments; what is not given stays.

    Example: quarterdeck services set answers --zone Europe/Berlin --dimension tenant --reason "their office hours"
    """
    from dataclasses import replace

    from core.log.service_operations import save_service
    from core.log.services import get_service

    store = open_store(config, create=True)
    given: dict[str, Any] = {
        "zone": zone, "trace_link": trace_link, "score_kind": score_kind, "budget_usd": budget,
    }  # fmt: skip
    if dimensions or no_dimensions:
        given |= {"dimensions": dimensions}
    if keep_answers is not None:
        given |= {"keep_answers": keep_answers}
    changed = {field: value for field, value in given.items() if value is not None}
    service = replace(get_service(store, make_scope(None, name).service), **changed)
    entry = save_service(store, service, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry, **to_json(service)}, [f"{service.name} is saved (audit entry {entry})"])


@services.command("rename")
@click.argument("former")
@click.argument("new")
@_reason_option
@_yes_option
@common
def services_rename(config: Config, *, former: str, new: str, reason: str, yes: bool, as_json: bool) -> None:
    """Give a service another name in one environment; its verdicts, gaps and decisions continue.

    Example: quarterdeck services rename default answers --reason "it has a name now" --yes
    """
    from core.log.service_operations import preview_succession, rename_service

    store = open_store(config)
    scopes = make_scope(config.environment, former), make_scope(config.environment, new)
    held = preview_succession(store, *scopes)
    entry = rename_service(store, *scopes, Act(config.operator, reason, config.environment)) if yes else None
    _show(held, entry, f"{former} to {new} in {config.environment}", verb="renamed", as_json=as_json)


@services.command("merge")
@click.argument("former")
@click.argument("into")
@_reason_option
@_yes_option
@common
def services_merge(config: Config, *, former: str, into: str, reason: str, yes: bool, as_json: bool) -> None:
    """Add what FORMER recorded to INTO, in one environment; verdicts, gaps and decisions continue there.

    Example: quarterdeck services merge default answers --reason "the same service" --yes
    """
    from app.commands.common import show_progress
    from core.log.service_operations import merge_services, preview_succession

    store = open_store(config)
    scopes = make_scope(config.environment, former), make_scope(config.environment, into)
    held, entry = preview_succession(store, *scopes), None
    if yes:
        act = Act(config.operator, reason, config.environment)
        entry = merge_services(store, *scopes, act, on_progress=lambda n, total: show_progress("rows", n, total))
    _show(held, entry, f"{former} into {into} in {config.environment}", verb="merged", as_json=as_json)


@services.command("relearn-scores")
@service_option
@_reason_option
@common
def services_relearn(config: Config, *, service: str | None, reason: str, as_json: bool) -> None:
    """Learn anew how scores without bounds (bm25, dot, rrf, rerank) become similarities, from the newest rows.

    Example: quarterdeck services relearn-scores --service answers --reason "another analyzer"
    """
    from core.log.mapping import relearn_scores

    store = open_store(config)
    scope = find_scope(config, store, service)
    entry = relearn_scores(store, scope, Act(config.operator, reason, scope.environment))
    show(as_json, {"entry": entry}, [f"the score maps of {scope.service} are learned anew (audit entry {entry})"])


def _show(held: object, entry: int | None, what: str, *, verb: str, as_json: bool) -> None:
    told = to_json(held)
    counted = (
        f"{told['questions']:,} questions of {told['days']:,} days, {told['rows']:,} of them stored, and "
        f"{told['topics']:,} topics ({told['decided']:,} decided)"
    )
    done = f"{verb} {what} (audit entry {entry})" if entry else f"would be {verb} {what}; repeat it with --yes"
    show(as_json, {"entry": entry, **told}, [f"{counted}: {done}"])
