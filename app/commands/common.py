"""Shared by all commands: their three options, the configuration, and printing as text or JSON."""

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any

import click

from core.config import Config, load_config
from core.errors import SourceUnavailable
from core.jobs.jobs import format_step
from core.log.retrievals import list_scopes, today_in
from core.log.scopes import choose_scope
from core.safety.letters import show_text
from quarterdeck.clock import now_ms
from quarterdeck.scope import Scope
from quarterdeck.store import Store

Command = Callable[..., Any]
PROGRESS = "QUARTERDECK_PROGRESS"


def common(command: Command) -> Command:
    """Give a command --json, --database and --environment, and hand it the configuration."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
    @click.option(
        "--database", metavar="URL", help="The shared store (default: QUARTERDECK_DATABASE_URL, else the demo's)."
    )
    @click.option(
        "--environment", metavar="NAME", help="The environment to work in (default: QUARTERDECK_ENVIRONMENT)."
    )
    @functools.wraps(command)
    def wrapped(*, database: str | None, environment: str | None, **options: Any) -> Any:
        return command(load_config(os.environ, database_url=database, environment=environment), **options)

    return wrapped


def service_option(command: Command) -> Command:
    """Give a command --service; `find_scope` says which scope is meant."""
    said = "Which service's retrievals (default: the only one that reports)."
    decorated: Command = click.option("--service", metavar="NAME", help=said)(command)
    return decorated


def rollback_options(command: Command) -> Command:
    """Give a rollback --reason, and --preview, which needs none; `show_rehearsal` prints it."""
    said = "Only say which questions would get worse and which better. Nothing is changed."
    reason = click.option("--reason", default="", help="Why: it goes into the audit trail. Only a preview needs none.")
    decorated: Command = click.option("--preview", is_flag=True, help=said)(reason(command))
    return decorated


def show_rehearsal(as_json: bool, found: Any, nothing: str) -> None:
    """Print what a rollback would do, or that there is nothing to roll back."""
    from core.rehearsals.comparing import describe_rehearsal

    if found is None:
        show(as_json, None, [nothing])
        return
    lines = [describe_rehearsal(found)]
    lines += [f"{each.now:6.3f} -> {each.back:.3f}  {each.asked:>6}x  {each.text}" for each in found.named]
    show(as_json, found, lines)


def find_scope(config: Config, store: Store, service: str | None) -> Scope:
    """Return the scope that the command names, or the only one there is. Raises InvalidInput, listing them."""
    named = click.get_current_context().params.get("environment") or os.environ.get("QUARTERDECK_ENVIRONMENT")
    return choose_scope(
        list_scopes(store), environment=config.environment if named else None, service=service, own=config.environment
    )


def settle_days(store: Store, scope: Scope) -> date:
    """Map scores and close the days of a scope that are over, if the store can be written; return its date of today."""
    from core.log.closing import close_days
    from core.log.mapping import map_scores

    now = datetime.now(UTC)
    with suppress(SourceUnavailable):  # reading will tell; a store that can only be read is read by hours
        map_scores(store, now=now)
        close_days(store, now=now, scope=scope, most=None)
    return today_in(store, scope, now=now)


def show(as_json: bool, value: Any, lines: Iterable[str]) -> None:
    if as_json:
        click.echo(show_text(json.dumps(to_json(value), indent=2, ensure_ascii=False)))
    else:
        for line in lines:
            click.echo(show_text(line))


def to_json(value: Any) -> Any:
    """Return a value in JSON's types: our types as objects, times and days as ISO text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return to_json(value._asdict())
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def open_store(config: Config, *, create: bool = False) -> Store:
    """Return the store, which knows where the retrieval log is."""
    return Store(config.database_url, create=create, log_url=config.log_url)


def open_judged_store(config: Config) -> Store:
    """Return the store, with the scores that wait added to their rows, unless it cannot be written."""
    from core.log.scores import apply_scores

    store = open_store(config)
    with suppress(SourceUnavailable):
        apply_scores(store, now_ms=now_ms())
    return store


def make_embedder(config: Config, store: Store) -> Any:
    from core.embedding.embed import Embedder
    from core.embedding.vectors import VectorCache

    return Embedder(config.embedding_model, cache=VectorCache(store))


def open_corpus(config: Config) -> Any:
    from core.corpus.corpus import Corpus

    return Corpus(config.corpus_repo)


def redactor_of(config: Config) -> Callable[[str], str]:
    from quarterdeck.redaction import compose, redact

    return redact if config.redact else compose()


def show_progress(step: str, done: int, total: int) -> None:
    """Show a step's progress: in place on a terminal, else one line at a time for the page that started the command."""
    if os.environ.get(PROGRESS) == "lines":
        click.echo(format_step(step, done, total), err=True)
    elif sys.stderr.isatty():
        click.echo(f"\r{step}: {done:,} of {total:,} ", err=True, nl=done == total)
