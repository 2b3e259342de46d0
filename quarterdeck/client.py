"""The client that a service holds: report retrievals, read flags, ask for the route and the live index.

Flags are answered from a snapshot in memory; a thread looks for a newer one every `poll_s`, and as soon as PostgreSQL
announces one. While the store is down, the last good snapshot answers, from disk after a restart. Reading a flag never
raises and never waits for the store.
"""

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from quarterdeck.clock import now_ms
from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck.exposures import ExposureLog
from quarterdeck.flags import Evaluation, FlagSet
from quarterdeck.news import News
from quarterdeck.recorder import Recorder
from quarterdeck.redaction import Redactor, redact
from quarterdeck.retrieval import check_row, ts_to_ms
from quarterdeck.snapshot import (
    EMPTY,
    Snapshot,
    default_snapshot_path,
    load_definitions,
    load_snapshot,
    read_snapshot,
    save_snapshot,
)
from quarterdeck.store import DEFAULT_ENVIRONMENT, Store

logger = logging.getLogger("quarterdeck")

Listener = Callable[[frozenset[str]], None]

_PATIENCE_S = 5.0


class Quarterdeck:
    """A service's connection to the shared store.

        deck = Quarterdeck("sqlite:///data/var/quarterdeck.db")
        deck.log_retrieval("what is an mbuf", 0.78, session_id="s-17", prompt_version="v2")
        if deck.is_enabled("use_reranker", user_id): ...
        arm = deck.route("answer-service", user_id)

    A SQLite store that does not exist yet is made. `environment` chooses whose flags are read. Retrievals go to
    `log_url`, if it is given: another database, or ClickHouse. `redact` takes personal data and secrets out of each
    query before it is queued; another function replaces it, None turns it off. How often each flag is evaluated, and
    which users are in an A/B test, is reported every `report_s`.
    """

    def __init__(
        self,
        url: str,
        log_url: str | None = None,
        *,
        redact: Redactor | None = redact,
        environment: str = DEFAULT_ENVIRONMENT,
        poll_s: float = 1.0,
        report_s: float = 10.0,
        snapshot_path: Path | None = None,
    ) -> None:
        self._store: Store | None = Store(url, create=True, tolerant=True, log_url=log_url)
        self._recorder: Recorder | None = Recorder(self._store, redact=redact)
        self._exposures: ExposureLog | None = ExposureLog(self._store, environment, report_s=report_s)
        self._environment = environment
        self._poll_s = poll_s
        self._snapshot_path = snapshot_path or default_snapshot_path(self._store, environment)
        self._snapshot = EMPTY
        self._listen_to_nobody()
        self._start_afresh()
        self._refresh()
        if self._snapshot is EMPTY and self._snapshot_path:
            self._snapshot = load_snapshot(self._snapshot_path) or EMPTY
            self._exposures.follow(self._snapshot.definitions)
        self._start_watching()
        _clients.add(self)

    @classmethod
    def from_definitions(cls, definitions: Mapping[str, Any] | str | Path) -> "Quarterdeck":
        """Return a client without a store, for flags given as flagd JSON: a document, or the path of its file."""
        client = cls.__new__(cls)
        client._store = client._recorder = client._exposures = None
        client._environment = DEFAULT_ENVIRONMENT
        document = load_definitions(definitions)
        client._snapshot = Snapshot(0, dict(document), FlagSet.from_definitions(document), {})
        client._listen_to_nobody()
        client._start_afresh()
        return client

    def log_retrieval(
        self,
        query: str,
        score: float | None,
        *,
        session_id: str | None = None,
        arm: str | None = None,
        prompt_version: str | None = None,
        index_version: str | None = None,
        latency_ms: float | None = None,
        cost_usd: float | None = None,
        faithfulness: float | None = None,
        feedback: float | None = None,
        ts: datetime | None = None,
    ) -> bool:
        """Queue one retrieval for the store: `score` is the top-1 similarity, None when nothing was found.

        Returns False when the queue stayed full and the row was dropped (see `dropped`). Raises InvalidInput.
        """
        recorder = self._recorder or self._log()
        ts_ms = now_ms() if ts is None else ts_to_ms(ts)
        return recorder.record_row(
            check_row(
                (
                    ts_ms, query, score, session_id, arm, prompt_version, index_version,
                    latency_ms, cost_usd, faithfulness, feedback,
                )
            )
        )  # fmt: skip

    def is_enabled(
        self, key: str, user_id: str = "", context: Mapping[str, Any] | None = None, *, default: bool = False
    ) -> bool:
        """Tell whether a boolean flag is on for this user; `default` when it is unknown, off or not to be evaluated."""
        found = self._snapshot.flags.decide(key, user_id, context, default)
        if self._exposures is not None and found.error_code is None:
            self._exposures.count(key, found.variant, user_id)
        value: bool = found.value
        return value

    def variant(
        self, key: str, user_id: str = "", context: Mapping[str, Any] | None = None, *, default: str = ""
    ) -> str:
        """Return the name of the variant that this user gets; `default` when the flag is unknown or switched off."""
        try:
            whole = {**(context or {}), "targetingKey": user_id}
        except TypeError:  # the context is no mapping: the code's default, never a failed request
            return default
        return self.evaluate(key, None, whole).variant or default

    def route(self, key: str, user_id: str = "", context: Mapping[str, Any] | None = None) -> str:
        """Return "green" for the users in the canary `key`, "blue" for everybody else and when in doubt."""
        return "green" if self.variant(key, user_id, context) == "green" else "blue"

    def evaluate(self, key: str, default: Any, context: Mapping[str, Any] | None = None) -> Evaluation:
        """Return value, variant, reason and error code of a flag; `targetingKey` in the context names the user.

        The type of `default` is the type asked for. Never raises: an error code says what was wrong.
        """
        found = self._snapshot.flags.evaluate(key, default, context)
        if self._exposures is not None and found.error_code is None:
            self._exposures.count(key, found.variant, _user_of(context))
        return found

    def track(
        self,
        event: str,
        user_id: str = "",
        *,
        value: float | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> bool:
        """Queue an event of a user, such as a rating, for the store; False when the queue is full.

        Raises InvalidInput, naming the field.
        """
        if self._exposures is None:
            raise InvalidInput("database URL", "this client has no store; make it with Quarterdeck(url) to track")
        return self._exposures.track(event, user_id, value, attributes or {})

    def active_index(self, alias: str = "default") -> str | None:
        """Return the name of the vector index that `alias` stands for now, or None when there is none."""
        return self._snapshot.aliases.get(alias)

    def on_change(self, listener: Listener) -> None:
        """Call `listener(changed_flag_keys)` from the watching thread after each newer snapshot."""
        self._listeners.append(listener)

    def on_stale(self, listener: Callable[[str], None]) -> None:
        """Call `listener(problem)` when the store cannot be read any more, and with "" when it can again."""
        self._stale_listeners.append(listener)

    @property
    def snapshot(self) -> Snapshot:
        """The flags and aliases that answer now; its `version` is -1 while none could be read yet."""
        return self._snapshot

    @property
    def dropped(self) -> int:
        """How many retrievals found no place in the queue since the start."""
        return self._recorder.dropped if self._recorder else 0

    def flush(self, timeout_s: float = 10.0) -> None:
        """Return when every retrieval and evaluation so far is stored. Raises SourceUnavailable when that fails."""
        self._log().flush(timeout_s)
        if self._exposures:
            self._exposures.flush()

    def close(self) -> None:
        """Store what is queued and stop the threads. Safe to call twice."""
        self._stop.set()
        if self._watcher and self._watcher is not threading.current_thread():
            self._watcher.join(_PATIENCE_S)  # or the connection that it reads with outlives the client
        if self._exposures:
            self._exposures.close()
        if self._recorder:
            self._recorder.close()
            self._recorder.log.close()
        if self._store:
            self._store.close()

    def __enter__(self) -> "Quarterdeck":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        self._watcher: threading.Thread | None = None

    def _start_watching(self) -> None:
        if self._store is not None:
            what = (weakref.ref(self), News(self._store), self._stop, self._poll_s)
            self._watcher = threading.Thread(target=_watch, args=what, name="quarterdeck-flags", daemon=True)
            self._watcher.start()

    def _refresh(self) -> None:
        if self._store is None:
            return
        try:
            fresh = read_snapshot(self._store, self._environment, current=self._snapshot)
        except QuarterdeckError as error:
            self._say_stale(str(error))
            return
        except Exception as error:  # noqa: BLE001 - a thread that dies of it would freeze the flags for good
            self._say_stale(f"{type(error).__name__}: {error}")
            return
        if fresh is not self._snapshot:
            self._take(fresh)
        self._say_stale("")

    def _take(self, fresh: Snapshot) -> None:
        """Answer from a newer snapshot from now on, keep it on disk, and tell who wants to know."""
        former, self._snapshot = self._snapshot, fresh
        if self._exposures:
            self._exposures.follow(fresh.definitions)
        try:
            if self._snapshot_path:
                save_snapshot(fresh, self._snapshot_path)
        except OSError as error:
            logger.warning("the flags could not be kept at %s: %s", self._snapshot_path, error)
        changed = former.changed_flags(fresh)
        for listener in tuple(self._listeners) if changed else ():
            _tell(listener, changed)

    def _say_stale(self, problem: str) -> None:
        """Log and tell, once, that the store cannot be read any more, or that it can again."""
        was, self._problem = self._problem, problem
        if bool(problem) == bool(was):
            return
        if problem:
            logger.warning("flags stay as they were: %s", problem)
        else:
            logger.warning("flags are read from the store again")
        for listener in tuple(self._stale_listeners):
            _tell(listener, problem)


def _watch(reference: "weakref.ref[Quarterdeck]", news: News, stop: threading.Event, poll_s: float) -> None:
    with closing(news):
        while not stop.is_set():
            news.wait(stop, poll_s)
            client = reference()
            if client is None or stop.is_set():
                return
            client._refresh()
            del client


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
    """Threads do not survive a fork, and connections must not: a child watches the flags with its own of both."""
    for client in list(_clients):
        if client._stop.is_set():
            continue  # closed before the fork
        if client._store:
            client._store.forget_connections()
        client._start_afresh()
        client._start_watching()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
