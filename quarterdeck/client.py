"""The client that a service holds: reports retrievals, reads flags, and names the route and the live index.

Flags are answered from a snapshot in memory. A thread looks for a newer snapshot every `poll_s` seconds, and at once
when PostgreSQL announces one. While the store is down, the last good snapshot answers; after a restart it is read from
disk. Reading a flag never raises and never waits for the store.
"""

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from quarterdeck.clock import now_ms
from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck.exposures import ExposureLog
from quarterdeck.flags import Evaluation, FlagSet
from quarterdeck.ids import new_id
from quarterdeck.index_canaries import CANDIDATE, canary_key
from quarterdeck.intake import IntakeCounter
from quarterdeck.news import News
from quarterdeck.recorder import Recorder
from quarterdeck.redaction import Redactor, redact
from quarterdeck.retrieval import COLUMNS, make_row, ts_to_ms
from quarterdeck.sampling import make_sampler
from quarterdeck.scope import DEFAULT_ENVIRONMENT, DEFAULT_SCOPE, make_scope, service_of_process
from quarterdeck.scores import check_score
from quarterdeck.snapshot import (
    EMPTY,
    Snapshot,
    default_snapshot_path,
    load_definitions,
    load_snapshot,
    read_snapshot,
    save_snapshot,
)
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")

Listener = Callable[[frozenset[str]], None]

_PATIENCE_S = 5.0
_ID = COLUMNS.index("retrieval_id")


class Quarterdeck:
    """A service's connection to the shared store. Make one per process, and close it at exit.

    >>> with Quarterdeck("sqlite:///deck.db") as deck:
    ...     retrieval_id = deck.log_retrieval("what is an mbuf", 0.78, session_id="s-17", prompt_version="v2")
    ...     deck.is_enabled("use_reranker", "user-42")
    ...     deck.route("answer-service", "user-42")
    False
    'blue'

    - `url`: the store, `sqlite:///path` or `postgresql://user:password@host/database`. A SQLite file that does not
      exist is created.
    - `log_url`: where retrievals go instead of the store: another such database, or ClickHouse
      (`clickhouse://user:password@host:8123/database`).
    - `redact`: removes personal data and secrets from each query before it is queued. Pass your own function to
      replace it, or None to store queries as they are.
    - `environment`: whose flags are read, and where the rows belong; "production" by default. An alias, such as
      "prod", stands for its environment; see QUARTERDECK_ENVIRONMENT_ALIASES.
    - `service`: the name under which this service reports; by default the one that OpenTelemetry's variables name
      (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES), else "default".
    - `sample`: the share of retrievals to store, above 0 and at most 1. Each stored one then counts for several.
    - `keep_answers`: whether `log_retrieval` stores answers.
    - `strict`: whether `log_retrieval` and `score` raise InvalidInput and SourceUnavailable instead of counting what
      they refuse. For tests and scripts.
    - `poll_s`: seconds between two looks for newer flags, 1 by default.
    - `report_s`: seconds between two reports of flag evaluations and of the users of A/B tests, 10 by default.
    - `snapshot_path`: the file that keeps the last good flags between starts; a file in the user's cache folder by
      default.

    Raises InvalidInput for a URL that is not supported. A store that cannot be reached raises nothing: flags come
    from the last good snapshot and retrievals wait in the queue.
    """

    _score_kind: str | None  # of rows that name none

    def __init__(
        self,
        url: str,
        log_url: str | None = None,
        *,
        redact: Redactor | None = redact,
        environment: str = DEFAULT_ENVIRONMENT,
        service: str | None = None,
        sample: float = 1.0,
        keep_answers: bool = False,
        strict: bool = False,
        poll_s: float = 1.0,
        report_s: float = 10.0,
        snapshot_path: Path | None = None,
    ) -> None:
        self._scope = make_scope(environment, service or service_of_process())
        self._sample = make_sampler(sample)
        self._keep_answers = keep_answers
        self._strict = strict
        self._store: Store | None = Store(url, create=True, tolerant=True, log_url=log_url)
        self._intake = IntakeCounter(self._scope)
        self._recorder: Recorder | None = Recorder(self._store, redact=redact, intake=self._intake)
        self._exposures: ExposureLog | None = ExposureLog(
            self._store, environment, scope=self._scope, report_s=report_s, intake=self._intake
        )
        self._environment = environment
        self._poll_s = poll_s
        self._snapshot_path = snapshot_path or default_snapshot_path(self._store, environment)
        self._snapshot, self._score_kind = EMPTY, None
        self._listen_to_nobody()
        self._start_afresh()
        self.refresh()
        if self._snapshot is EMPTY and self._snapshot_path:
            self._snapshot = load_snapshot(self._snapshot_path) or EMPTY
            self._score_kind = self._snapshot.score_kinds.get(self._scope.service)
            self._exposures.follow(self._snapshot.definitions, self._snapshot.environment or environment)
        self._start_watching()
        _clients.add(self)

    @classmethod
    def from_definitions(cls, definitions: Mapping[str, Any] | str | Path) -> "Quarterdeck":
        """Return a client without a store: its flags come from a flagd document, or the path of its JSON file.

        Raises InvalidInput if the file cannot be read or is not a flagd document.

        >>> flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
        >>> deck = Quarterdeck.from_definitions({"flags": {"use_reranker": flag}})
        >>> deck.is_enabled("use_reranker", "user-42")
        True
        """
        client = cls.__new__(cls)
        client._store = client._recorder = client._exposures = None
        client._environment = DEFAULT_ENVIRONMENT
        client._scope, client._sample, client._keep_answers, client._strict = DEFAULT_SCOPE, None, False, False
        client._intake, client._score_kind = IntakeCounter(DEFAULT_SCOPE), None
        flags = FlagSet.from_definitions(load_definitions(definitions))
        client._snapshot = Snapshot(0, flags.definitions()["flags"], flags, {})
        client._listen_to_nobody()
        client._start_afresh()
        return client

    def log_retrieval(
        self,
        query: str,
        score: float | None = None,
        *,
        documents: Sequence[Any] | None = None,
        score_kind: str | None = None,
        error: object = None,
        session_id: str | None = None,
        user_id: str | None = None,
        arm: str | None = None,
        prompt_version: str | None = None,
        index_version: str | None = None,
        model: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        latency_ms: float | None = None,
        cost_usd: float | None = None,
        tokens: float | None = None,
        faithfulness: float | None = None,
        feedback: float | None = None,
        answer: str | None = None,
        trace_id: str | None = None,
        span_id: str | None = None,
        retrieval_id: str | None = None,
        ts: datetime | None = None,
    ) -> str | None:
        """Queue one retrieval for the store; return its id, or None if it was refused or dropped.

        A background thread writes batches, so this returns in microseconds. While the queue is full (100,000 rows) it
        waits for up to 5 seconds, then drops the row. It never raises, unless the client is `strict`: a row that cannot
        be stored is counted with its reason, which `quarterdeck intake` and the pages show, and logged once per reason.

        - `query`: what the user asked, 1 to 8,192 characters.
        - `score`: the retriever's number for its best hit. `score_kind` says what it is: `cosine`, `probability`,
          `cosine_distance`, `l2`, `squared_l2`, `dot`, `bm25`, `rrf` or `rerank`; by default what
          `quarterdeck services set` says, else a cosine.
        - `documents`: the hits in order, each an id, an (id, score), or an object with `id` and `score`, such as a
          document of LangChain or LlamaIndex; the first 20 are kept. An empty list means that the search found nothing,
          and so does no list and no score.
        - `error`: what made the search fail, for example the exception.
        - `session_id`, `user_id`: who asked. `user_id` is the targeting key of the flags: experiments and canaries
          compare arms user by user, or session by session without it.
        - `arm`, `prompt_version`, `index_version`, `model`: what served the request; charts can be split by each.
        - `attributes`: up to 32 further names and values, such as the tenant.
        - `latency_ms`: milliseconds. `cost_usd`: US dollars. `tokens`: a count. All are 0 or more.
        - `faithfulness`: 0 to 1. `feedback`: -1 to 1. Scores that come later: see `score`.
        - `answer`: kept only by a client made with `keep_answers=True`, and redacted like the query.
        - `trace_id`, `span_id`: the trace of this request, for a link to it.
        - `retrieval_id`: an id of your own; a second row with it is ignored. `ts`: the time, with a time zone.

        >>> with Quarterdeck("sqlite:///deck.db") as deck:
        ...     hits = [("docs/mbuf.md", 0.78), ("docs/ring.md", 0.41)]
        ...     retrieval_id = deck.log_retrieval("what is an mbuf", documents=hits, user_id="user-42")
        ...     nothing_found = deck.log_retrieval("how do I resize a ring", documents=[])
        >>> len(retrieval_id)
        36
        """
        weight = None
        if self._sample is not None:
            weight = self._sample()
            if not weight:
                return new_id()
        try:
            recorder = self._recorder or self._log()
            row = make_row(
                now_ms() if ts is None else ts_to_ms(ts), query, score, session_id, arm, prompt_version, index_version,
                latency_ms, cost_usd, faithfulness, feedback, retrieval_id, user_id, model,
                self._score_kind if score_kind is None else score_kind, documents, attributes, error,
                trace_id, span_id, answer if self._keep_answers else None, tokens, weight, self._scope,
            )  # fmt: skip
            if recorder.record_row(row):
                return str(row[_ID])
            self._refuse(InvalidInput("queue", "stayed full; the row was dropped"), query)
        except QuarterdeckError as refusal:
            self._refuse(refusal, query)
        except Exception as error:  # noqa: BLE001 - whatever a service passes, its request goes on
            self._refuse(InvalidInput("retrieval", _describe(error)), query)
        return None

    def is_enabled(
        self, key: str, user_id: str = "", context: Mapping[str, Any] | None = None, *, default: bool = False
    ) -> bool:
        """Return whether a boolean flag is on for this user. Never raises.

        `default` is the answer if the flag does not exist, is switched off or cannot be evaluated. `context` holds
        further attributes that targeting rules may ask for.

        >>> rule = {"if": [{"==": [{"var": "country"}, "DE"]}, "on"]}
        >>> flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
        >>> deck = Quarterdeck.from_definitions({"flags": {"use_reranker": {**flag, "targeting": rule}}})
        >>> deck.is_enabled("use_reranker", "user-42", {"country": "DE"})
        True
        >>> deck.is_enabled("no_such_flag", "user-42", default=True)
        True
        """
        found = self._snapshot.flags.decide(key, user_id, context, default)
        if self._exposures is not None and found.error_code is None:
            self._exposures.count(key, found.variant, user_id)
        value: bool = found.value
        return value

    def variant(
        self, key: str, user_id: str = "", context: Mapping[str, Any] | None = None, *, default: str = ""
    ) -> str:
        """Return the name of the variant that this user gets. Never raises.

        `default` is the answer if the flag does not exist, is switched off or cannot be evaluated.

        >>> flag = {"state": "ENABLED", "variants": {"short": "s", "long": "l"}, "defaultVariant": "long"}
        >>> deck = Quarterdeck.from_definitions({"flags": {"answer_style": flag}})
        >>> deck.variant("answer_style", "user-42")
        'long'
        >>> deck.variant("no_such_flag", "user-42", default="short")
        'short'
        """
        try:
            whole = {**(context or {}), "targetingKey": user_id}
        except TypeError:  # the context is no mapping: the code's default, never a failed request
            return default
        return self.evaluate(key, None, whole).variant or default

    def route(self, key: str, user_id: str = "", context: Mapping[str, Any] | None = None) -> str:
        """Return "green" for users in the canary `key`, "blue" for everyone else and if in doubt. Never raises.

        >>> split = {"fractional": [["green", 20], ["blue", 80]]}
        >>> flag = {"state": "ENABLED", "variants": {"blue": "blue", "green": "green"}, "defaultVariant": "blue"}
        >>> deck = Quarterdeck.from_definitions({"flags": {"answer-service": {**flag, "targeting": split}}})
        >>> deck.route("answer-service", "user-42"), deck.route("answer-service", "user-7")
        ('green', 'blue')
        """
        return "green" if self.variant(key, user_id, context) == "green" else "blue"

    def evaluate(self, key: str, default: Any, context: Mapping[str, Any] | None = None) -> Evaluation:
        """Return value, variant, reason and error code of a flag, of any type. Never raises.

        `targetingKey` in the context names the user. The type of `default` is the type that is expected; None accepts
        every type. If the flag cannot be evaluated, the value is `default` and the error code says why.

        >>> flag = {"state": "ENABLED", "variants": {"few": 3, "many": 10}, "defaultVariant": "many"}
        >>> deck = Quarterdeck.from_definitions({"flags": {"top_k": flag}})
        >>> found = deck.evaluate("top_k", 5, {"targetingKey": "user-42"})
        >>> found.value, found.variant, found.reason
        (10, 'many', 'STATIC')
        >>> deck.evaluate("top_k", "five").error_code
        'TYPE_MISMATCH'
        """
        found = self._snapshot.flags.evaluate(key, default, context)
        if self._exposures is not None and found.error_code is None:
            self._exposures.count(key, found.variant, _user_of(context))
        return found

    def expose(
        self, key: str, user_id: str, context: Mapping[str, Any] | None = None, *, variant: str | None = None
    ) -> bool:
        """Record that a user saw what the flag gave them; return whether an experiment counts it. Never raises.

        Only flags with `exposure: reported` in their metadata need it: they are evaluated before users see anything.
        `variant` is what the user saw, if another SDK evaluated the flag; else it is evaluated here.

        >>> split = {"fractional": [["long", 50], ["short", 50]]}
        >>> style = {"state": "ENABLED", "variants": {"long": "long", "short": "short"}, "defaultVariant": "short"}
        >>> told = {"experiment": "longer answers", "exposure": "reported"}
        >>> deck = Quarterdeck.from_definitions({"flags": {"style": {**style, "targeting": split, "metadata": told}}})
        >>> deck.expose("style", "user-42")
        False
        """
        try:
            if self._exposures is None:
                return False
            if variant is None:
                whole = {**(context or {}), "targetingKey": user_id}
                variant = self._snapshot.flags.resolve(key, whole).variant
            return self._exposures.expose(key, variant, user_id)
        except TypeError:  # the context is no mapping, or the variant no name: nobody saw anything
            return False

    def track(
        self,
        event: str,
        user_id: str = "",
        *,
        value: float | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> bool:
        """Queue an event of a user, such as a rating, for the store; return False if the queue is full.

        `event` is its name, 1 to 256 characters; `value` any finite number; `attributes` at most 10,000 characters as
        JSON. Raises InvalidInput, naming the field, and for a client without a store.

        >>> with Quarterdeck("sqlite:///deck.db") as deck:
        ...     deck.track("answer-rated", "user-42", value=0.5, attributes={"page": "chat"})
        True
        """
        if self._exposures is None:
            raise InvalidInput("database URL", "this client has no store; make it with Quarterdeck(url) to track")
        return self._exposures.track(event, user_id, value, attributes or {})

    def score(self, retrieval_id: str, name: str, value: float, *, comment: str = "", source: str = "user") -> bool:
        """Queue a judgment of a retrieval, such as feedback that came later; return False if it was refused.

        - `retrieval_id`: what `log_retrieval` returned. The score may arrive before the row, up to 7 days.
        - `name`: what was judged, for example `feedback` (-1 to 1), `faithfulness` (0 to 1) or a name of your own.
        - `value`: a finite number. `source`: who judged: `user`, `reviewer`, `judge`, `code`, or the judge's name.

        A second score of the same name and source replaces the first. Never raises, unless the client is `strict`.

        >>> with Quarterdeck("sqlite:///deck.db") as deck:
        ...     retrieval_id = deck.log_retrieval("what is an mbuf", 0.78)
        ...     deck.score(retrieval_id, "feedback", 1, comment="spot on")
        True
        """
        try:
            if self._exposures is None:
                raise InvalidInput("database URL", "this client has no store; make it with Quarterdeck(url) to score")
            if self._exposures.add_score(check_score(retrieval_id, name, value, comment=comment, source=source)):
                return True
            refusal: QuarterdeckError = InvalidInput("queue", "is full; the score was dropped")
        except Exception as error:  # noqa: BLE001 - whatever a service passes, its request goes on
            refusal = error if isinstance(error, QuarterdeckError) else InvalidInput("score", _describe(error))
        self._refuse(refusal, (retrieval_id, name), what="score")
        return False

    def active_index(self, alias: str = "default", *, user_id: str | None = None) -> str | None:
        """Return the name of the vector index to search now, or None if `alias` points to none. Never raises.

        It is the one that `alias` points to. While an index canary runs, a share of users gets its candidate instead,
        always the same users; without `user_id`, nobody does. Ask once per request, and log the answer as
        `index_version`, by which the two indexes are compared.

        >>> with Quarterdeck("sqlite:///deck.db") as deck:
        ...     deck.active_index() or "no index is live yet"
        'no index is live yet'
        """
        snapshot = self._snapshot
        try:
            live, candidate = snapshot.aliases.get(alias), snapshot.candidates.get(alias)
        except TypeError:  # a name that is no text: there is no such alias
            return None
        if candidate is None or user_id is None:
            return live
        key = canary_key(alias)
        found = snapshot.flags.evaluate(key, None, {"targetingKey": user_id})
        if self._exposures is not None and found.error_code is None:
            self._exposures.count(key, found.variant, user_id)
        return candidate if found.variant == CANDIDATE else live

    def refresh(self) -> bool:
        """Read the newest flags and aliases now instead of at the next poll; return False if the store cannot be read.

        Then the flags stay as they are. Listeners are called before this returns. Never raises.

        >>> with Quarterdeck("sqlite:///deck.db") as deck:
        ...     deck.refresh()
        True
        """
        if self._store is None:
            return True
        with self._refreshing:  # or an older read could replace a newer one
            try:
                fresh = read_snapshot(self._store, self._environment, current=self._snapshot)
            except QuarterdeckError as error:
                return self._say_stale(str(error))
            except Exception as error:  # noqa: BLE001 - a thread that dies of it would freeze the flags for good
                return self._say_stale(f"{type(error).__name__}: {error}")
            if fresh is not self._snapshot:
                self._take(fresh)
            return self._say_stale("")

    def on_change(self, listener: Listener) -> None:
        """Call `listener(keys)` with the keys of the flags that changed, each time newer flags were read.

        It is called in the thread that read them: the client's own, or the one that called `refresh`. An exception in
        it is logged.

        >>> with Quarterdeck("sqlite:///deck.db") as deck:
        ...     deck.on_change(lambda keys: print("changed:", *sorted(keys)))
        """
        self._listeners.append(listener)

    def on_stale(self, listener: Callable[[str], None]) -> None:
        """Call `listener(problem)` when the store can no longer be read, and with "" when it can again.

        >>> with Quarterdeck("sqlite:///deck.db") as deck:
        ...     deck.on_stale(lambda problem: print(problem or "flags are current"))
        """
        self._stale_listeners.append(listener)

    @property
    def snapshot(self) -> Snapshot:
        """The flags and aliases that answer now. Its `version` is -1 until flags could be read for the first time.

        `definitions` holds the flags as flagd JSON by key, `aliases` the live index by alias.

        >>> flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
        >>> deck = Quarterdeck.from_definitions({"flags": {"use_reranker": flag}})
        >>> deck.snapshot.version, list(deck.snapshot.definitions)
        (0, ['use_reranker'])
        """
        return self._snapshot

    @property
    def dropped(self) -> int:
        """How many retrievals were dropped since the start because the queue stayed full.

        >>> with Quarterdeck("sqlite:///deck.db") as deck:
        ...     deck.dropped
        0
        """
        return self._recorder.dropped if self._recorder else 0

    def flush(self, timeout_s: float = 10.0) -> None:
        """Return once everything reported so far is stored: retrievals, evaluations, users of A/B tests, events.

        Raises SourceUnavailable if retrievals are still waiting after `timeout_s` seconds (they stay queued), or if
        the store refuses the rest; InvalidInput for a client without a store.

        >>> with Quarterdeck("sqlite:///deck.db") as deck:
        ...     accepted = deck.log_retrieval("what is an mbuf", 0.78)
        ...     deck.flush()
        """
        self._log().flush(timeout_s)
        if self._exposures:
            self._exposures.flush()

    def close(self) -> None:
        """Store what is queued and stop the threads. Safe to call twice; `with` calls it at its end.

        Raises SourceUnavailable if the queue cannot be stored within 10 seconds.

        >>> deck = Quarterdeck("sqlite:///deck.db")
        >>> deck.close()
        """
        self._stop.set()
        if self._watcher and self._watcher is not threading.current_thread():
            self._watcher.join(_PATIENCE_S)  # or the connection that it reads with outlives the client
        try:
            if self._recorder:
                self._recorder.close()
        finally:
            if self._exposures:
                self._exposures.close()  # after the recorder, whose last rows it counts
            if self._recorder:
                self._recorder.log.close()
            if self._store:
                self._store.close()

    def __enter__(self) -> "Quarterdeck":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refuse(self, refusal: QuarterdeckError, text: object, *, what: str = "retrieval") -> None:
        """Count what was refused, or raise it in a strict client."""
        if self._strict:
            raise refusal
        self._intake.refuse(refusal, text, what=what)

    def _log(self) -> Recorder:
        if self._recorder is None:
            raise InvalidInput("database URL", "this client has no store; make it with Quarterdeck(url) to log")
        return self._recorder

    def _listen_to_nobody(self) -> None:
        self._listeners: list[Listener] = []
        self._stale_listeners: list[Callable[[str], None]] = []
        self._problem = ""

    def _start_afresh(self) -> None:
        self._stop = threading.Event()
        self._refreshing = threading.RLock()  # a listener may refresh
        self._watcher: threading.Thread | None = None

    def _start_watching(self) -> None:
        if self._store is not None:
            what = (weakref.ref(self), News(self._store), self._stop, self._poll_s)
            self._watcher = threading.Thread(target=_watch, args=what, name="quarterdeck-flags", daemon=True)
            self._watcher.start()

    def _take(self, fresh: Snapshot) -> None:
        """Answer from a newer snapshot from now on, save it to disk, and call the listeners."""
        former, self._snapshot = self._snapshot, fresh
        self._score_kind = fresh.score_kinds.get(self._scope.service)
        if self._exposures:
            self._exposures.follow(fresh.definitions, fresh.environment)
        try:
            if self._snapshot_path:
                save_snapshot(fresh, self._snapshot_path)
        except OSError as error:
            logger.warning("the flags could not be saved to %s: %s", self._snapshot_path, error)
        changed = former.changed_flags(fresh)
        for listener in tuple(self._listeners) if changed else ():
            _tell(listener, changed)

    def _say_stale(self, problem: str) -> bool:
        """Log and tell listeners, once, that the store can no longer be read, or that it can again."""
        was, self._problem = self._problem, problem
        if bool(problem) == bool(was):
            return not problem
        if problem:
            logger.warning("flags stay as they were: %s", problem)
        else:
            logger.warning("flags are read from the store again")
        for listener in tuple(self._stale_listeners):
            _tell(listener, problem)
        return not problem


def _watch(reference: "weakref.ref[Quarterdeck]", news: News, stop: threading.Event, poll_s: float) -> None:
    with closing(news):
        while not stop.is_set():
            news.wait(stop, poll_s)
            client = reference()
            if client is None or stop.is_set():
                return
            client.refresh()
            del client


def _describe(error: Exception) -> str:
    """Return an error's type and text; its type alone if the text cannot be made."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - whatever a service raises, its request goes on
        return type(error).__name__


def _user_of(context: Any) -> Any:
    try:
        return context["targetingKey"] if context else None
    except (KeyError, TypeError):
        return None


def _tell(listener: Callable[[Any], None], news: Any) -> None:
    try:
        listener(news)
    except Exception:
        logger.exception("a listener to the flags failed")


_clients: "weakref.WeakSet[Quarterdeck]" = weakref.WeakSet()


def _after_fork() -> None:
    """Give a forked child its own watching thread and connections: threads do not survive a fork, sockets must not."""
    for client in list(_clients):
        if client._stop.is_set():
            continue  # closed before the fork
        if client._store:
            client._store.forget_connections()
        client._start_afresh()
        client._start_watching()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
