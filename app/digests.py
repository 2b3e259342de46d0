"""Opens what a digest reads, for the command line and the server, and writes it as a file of each format."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import partial

from app.commands.common import make_embedder, open_corpus, to_json
from app.http.base_path import read_base_path
from app.text import plain
from core.arms.histories import share_histories
from core.causes.causes import Causes
from core.causes.changes import WhatChanged
from core.config import Config
from core.coverage.backlog import list_backlog, list_decision_times
from core.coverage.closing import measure_closings
from core.coverage.report import Coverage, hide_questions, name_hidden, report_coverage
from core.coverage.shelves import shelve_topics
from core.digest.delivery import Deliver, send_digests
from core.digest.mails import compose_mail
from core.digest.periods import Cadence, DigestPeriod
from core.digest.rendering import render_html, render_markdown, render_text
from core.digest.report import DigestSources, report_digest
from core.digest.sections import Digest, make_address
from core.digest.smtp import read_server, send_mail
from core.drift.report import report_drift
from core.log.retrievals import today_in
from core.overview import (
    GAP_DAYS,
    Area,
    describe_areas,
    describe_corpus,
    describe_coverage,
    describe_drift,
    describe_prompts,
    describe_rollouts,
)
from core.prompts.naming import list_naming
from core.rollouts.canaries import report_canaries
from core.rollouts.experiments import report_experiments
from core.todo.items import Todo, arrange_todos
from core.todo.snoozes import read_snoozes
from core.tracking.gateway import Tracking
from quarterdeck.scope import Scope
from quarterdeck.store import Store

FORMATS = ("text", "markdown", "html", "json", "eml")
MIMES = {"markdown": "text/markdown", "html": "text/html", "eml": "message/rfc822"}
_SENDER = "quarterdeck@localhost"


def read_digest(
    config: Config, store: Store, *, scope: Scope, period: DigestPeriod, now: datetime, readable: bool
) -> Digest:
    """Return the digest of a service over a period; without anything that users asked unless that is `readable`."""
    reading = _Opened(config, store, scope, now, readable=readable)
    sources = DigestSources(
        corpus=partial(open_corpus, config),
        tracking=partial(Tracking, config.tracking_uri),
        coverage=lambda: reading.cover(period.last, period.days),
        waiting=reading.list_waiting,
        model=config.embedding_model,
        readable=readable,
    )
    return report_digest(store, sources, scope=scope, period=period, now=now)


def public_address(config: Config) -> str:
    """Return where browsers find the deck; "" where that is not set."""
    return f"{config.access.public_url}{read_base_path()}" if config.access.public_url else ""


def write_digest(digest: Digest, file_format: str, config: Config, *, at: datetime, level: int = 1) -> str:
    """Return a digest as a file of one of `FORMATS`. Addresses begin with the deck's own, if that is set."""
    base = public_address(config)
    if file_format == "markdown":
        return render_markdown(digest, base=base, plain=plain, level=level)
    if file_format == "html":
        return render_html(digest, base=base)
    if file_format == "eml":
        sender = config.digest_from or _SENDER
        mail = compose_mail(digest, sender=sender, recipients=config.digest_to, at=at, base=base)
        return mail.as_bytes().decode("ascii")
    if file_format == "json":
        return json.dumps(describe_digest(digest, base=base), indent=2, ensure_ascii=False)
    return render_text(digest, base=base)


def describe_digest(digest: Digest, *, base: str) -> dict[str, object]:
    """Return a digest in JSON's types, each line with its address."""
    sections = [
        {
            "title": section.title,
            "lines": [{"text": line.text, "url": make_address(line, digest.scope, base)} for line in section.lines],
            "left_out": section.left_out,
        }
        for section in digest.sections
    ]
    return {
        "title": digest.title, **digest.scope._asdict(), "first": to_json(digest.period.first),
        "last": to_json(digest.period.last), "sections": sections, "problems": list(digest.problems),
    }  # fmt: skip


def mail_digests(config: Config, store: Store, *, now: datetime) -> tuple[str, ...]:
    """Mail the due digests of the server's environment; return what was done. Never raises.

    Whoever gets a mail may not be allowed to read questions, so mails name topics by their ids.
    """
    server = read_server(config.digest_smtp)

    def prepare(scope: Scope, period: DigestPeriod) -> Deliver | None:
        digest = read_digest(config, store, scope=scope, period=period, now=now, readable=False)
        if digest.is_quiet:
            return None
        sender = config.digest_from or _SENDER
        base = public_address(config)
        mail = compose_mail(digest, sender=sender, recipients=config.digest_to, at=now, base=base)
        return partial(send_mail, server, mail)

    return send_digests(store, config.environment, Cadence(config.digest_every), prepare, now=now)


class _Opened:
    """The topics and the to-do list of a scope, each read once."""

    def __init__(self, config: Config, store: Store, scope: Scope, now: datetime, *, readable: bool) -> None:
        self._config, self._store, self._scope, self._now, self._readable = config, store, scope, now, readable
        self._embedder = make_embedder(config, store)
        self._today = today_in(store, scope, now=now)
        self._covered: dict[tuple[date, int], Coverage] = {}

    def cover(self, until: date, days: int) -> Coverage:
        """Return the topics of so many days up to a day, by their ids unless questions may be read."""
        if (until, days) not in self._covered:
            found = report_coverage(
                self._store, self._embedder, scope=self._scope, today=until, window_days=days,
                low_score=self._config.low_score,
            )  # fmt: skip
            self._covered[until, days] = found if self._readable else hide_questions(found)
        return self._covered[until, days]

    def list_waiting(self) -> Sequence[Todo]:
        """Return what waits for a decision on the overview now, without what was put off."""
        areas = self._list_areas()
        todos = [todo for area in areas for todo in area.todos]
        snoozed, _ = read_snoozes(self._store, self._scope)
        return arrange_todos(todos, snoozed=snoozed, today=self._today).decide

    def _list_areas(self) -> tuple[Area, ...]:
        config, store, environment = self._config, self._store, self._scope.environment
        histories = share_histories(config.database_url, config.log_url)
        return describe_areas(
            (
                ("drift", self._describe_drift),
                ("coverage", self._describe_coverage),
                ("prompts", self._describe_prompts),
                ("corpus", lambda: describe_corpus(store, open_corpus(config))),
                (
                    "rollouts",
                    lambda: describe_rollouts(
                        store,
                        environment,
                        lambda: report_canaries(store, histories, environment, now=self._now),
                        lambda: report_experiments(store, histories, environment, now=self._now),
                    ),
                ),
            )
        )

    def _describe_drift(self) -> Area:
        found = report_drift(self._store, scope=self._scope, today=self._today)
        return describe_drift(found, lambda: WhatChanged((), (), Causes(()), (), found.report.reason))

    def _describe_prompts(self) -> Area:
        tracking = Tracking(self._config.tracking_uri)
        return describe_prompts(tracking, self._config.experiment, naming=list_naming(self._store))

    def _describe_coverage(self) -> Area:
        store, scope, today = self._store, self._scope, self._today
        coverage = self.cover(today, GAP_DAYS)
        backlog = list_backlog(store, self._config.embedding_model, scope)
        shelved = shelve_topics(
            backlog,
            coverage.topics.ranked(),
            closings=measure_closings(store, self._embedder, backlog, low=coverage.low, today=today),
            decided=list_decision_times(store, scope),
        )
        if not self._readable:
            shelved = tuple(replace(each, label=name_hidden(each.topic_id)) for each in shelved)
        return describe_coverage(coverage, shelved)
