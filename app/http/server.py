"""The ASGI server: the pages, the HTTP API and the scheduler of periodic jobs in one process."""

import ctypes
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from app.alerting import open_sources
from app.digests import mail_digests
from app.http import backends, otlp_grpc, tools_api
from app.http.api import ApiAhead, list_observed
from app.http.base_path import BelowPath, WholePath, read_base_path, tell_streamlit
from app.http.cors import CrossOrigin
from app.http.guard import Guard
from app.http.limits import ImpatientProtocol, Limits
from app.http.logs import take_over_logs, write_logs
from app.http.observing import Observing
from app.http.opening import Opening
from app.http.sign_out import SigningOut
from app.http.streams import end_streams
from core.access.identity import SignIn, is_loopback
from core.alerts.checking import check_all_alerts
from core.alerts.delivery import deliver_all_alerts
from core.alerts.heads import export_head
from core.approved import apply_due_requests
from core.arms.histories import share_histories
from core.config import Config, load_config
from core.corpus.clones import clone_of
from core.corpus.corpus import Corpus
from core.corpus.locations import parse_location
from core.coverage.judging import judge_all_questions
from core.coverage.newcomers import list_due, look_aside
from core.deployments.deployments import tend_services
from core.deployments.services import load_services
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.intake.open_traces import tend_traces
from core.jobs.aside import run_aside
from core.jobs.scheduler import LEASE, PeriodicJob, Scheduler
from core.ledger.operations import settle_all
from core.log.closing import close_days
from core.log.dimensions import declare_dimensions
from core.log.documents import pack_documents
from core.log.mapping import map_scores
from core.log.scores import apply_scores
from core.log.search_index import fill_search_index, pack_slices_of
from core.reviews.daily import judge_production
from core.rollouts.canaries import run_all_canaries
from core.rollouts.schedules import run_schedules
from core.store.backfill import backfill, backfill_log
from core.tracking.gateway import Tracking
from quarterdeck.clock import now_ms, to_ms
from quarterdeck.store import Store

SCRIPT = Path(__file__).parents[1] / "main.py"
STOP_WITHIN_S = 5
MOST_CONNECTIONS, IDLE_S = 4_000, 5  # of all clients together; how long a connection may wait for its next request
HEADS_EVERY_S = 3_600.0  # how often the head of the audit trail is signed and exported
SWITCH_EVERY_S = 0.0002  # with two busy threads, each row that sqlite3 reads waits this long; Python's default is 5 ms
FETCH_EVERY_S = 120.0  # how old the local copy of a remote corpus repository may be
ARENAS, KEPT_FREE_BYTES = 2, 256 * 1024  # heaps for all threads; larger free memory is returned to the system
ANSWERS_EVERY_S = 600.0  # how long a question may wait until it is judged
EMERGING_EVERY_S = 900  # a look does nothing until a day is over
JUDGE_EVERY_S = 600.0  # how often a part of the sample of production answers is judged
SCORES_EVERY_S = 60.0  # how long a later score may wait until the rollups have it
DIGESTS_EVERY_S = 900.0  # how soon a digest that could not be sent is tried again
ALERTS_EVERY_S = 60.0  # how soon an alert follows its metric
MESSAGES_EVERY_S = 2.0  # how soon a message of an alert is sent or tried again
CANARIES_EVERY_S = 10.0  # a breach is noticed at most this long after it was logged


def serve(host: str, port: int) -> None:
    """Serve until stopped."""
    os.environ.setdefault("STREAMLIT_SERVER_ADDRESS", host)
    os.environ.setdefault("STREAMLIT_SERVER_PORT", str(port))
    os.environ["STREAMLIT_SERVER_MAX_UPLOAD_SIZE"] = "1"  # MB: no page takes a file, and the guard lets none through
    config = load_config(os.environ)
    access = config.access
    settings = _sign_in_settings(access)
    if not is_loopback(host) or not access.is_local:
        os.environ.setdefault("QUARTERDECK_REQUIRE_TOKENS", "on")  # other machines can reach the API
    import uvicorn
    from starlette.middleware import Middleware
    from streamlit.starlette import App

    sys.setswitchinterval(SWITCH_EVERY_S)
    _give_memory_back()
    _keep_to_itself()
    load_services(config.deployments)
    write_logs(config, sys.stderr)
    base = read_base_path()
    app = App(
        SCRIPT,
        middleware=[
            Middleware(BelowPath, base=base),
            Middleware(Observing, routes=list_observed()),
            Middleware(CrossOrigin, origins=config.page_origins),
            Middleware(
                Limits, per_minute=config.address_per_minute, at_once=config.address_at_once, proxy=access.proxy
            ),
            Middleware(Guard, access=access, host=host, origins=config.page_origins),
            Middleware(SigningOut, login=access.login),
            Middleware(ApiAhead),
            Middleware(Opening),
            Middleware(WholePath, base=base),
        ],  # the first is the outermost
        secrets=settings,
        lifespan=partial(_scheduling, host=host),
    )
    tell_streamlit(base)
    take_over_logs()  # Streamlit has read its settings
    options = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=STOP_WITHIN_S,
        proxy_headers=False,  # the guard checks the real peer address, not a header
        server_header=False,
        http=ImpatientProtocol, limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=IDLE_S,
    )  # fmt: skip
    _run(options)


def list_jobs(config: Config, store: Store) -> tuple[PeriodicJob, ...]:
    """Return the periodic jobs of the shared store, which one of its servers runs."""
    histories, environment = share_histories(config.database_url, config.log_url), config.environment
    mails = [PeriodicJob("digests", DIGESTS_EVERY_S, partial(_mail_digests, config, store))] if config.digest_to else []
    return (
        *mails,
        PeriodicJob("schedules", 1, lambda: run_schedules(store, now=datetime.now(UTC))),
        PeriodicJob("approved requests", 5, lambda: apply_due_requests(store, now=datetime.now(UTC))),
        PeriodicJob("scores", SCORES_EVERY_S, lambda: apply_scores(store, now_ms=to_ms(datetime.now(UTC)))),
        PeriodicJob("backfill", 60, lambda: (backfill(store), backfill_log(store))),
        PeriodicJob("dimensions", 60, lambda: declare_dimensions(store)),
        PeriodicJob("score maps", 60, lambda: map_scores(store, now=datetime.now(UTC))),
        PeriodicJob("days", 300, lambda: close_days(store, now=datetime.now(UTC))),
        PeriodicJob("documents", 300, lambda: pack_documents(store, now=datetime.now(UTC))),
        PeriodicJob("answerability", ANSWERS_EVERY_S, partial(_judge_log, config, store)),
        PeriodicJob("emerging topics", EMERGING_EVERY_S, partial(_look_for_emerging, config, store)),
        PeriodicJob("search index", 60, lambda: fill_search_index(store, now=datetime.now(UTC), pack=pack_aside)),
        PeriodicJob("ledger", 3_600, partial(_settle_ledger, config, store)),
        PeriodicJob("judged answers", JUDGE_EVERY_S, partial(_judge_answers, config, store)),
        PeriodicJob("alerts", ALERTS_EVERY_S, partial(_check_alerts, config, store)),
        PeriodicJob("alert messages", MESSAGES_EVERY_S, partial(_deliver_alerts, config, store)),
        PeriodicJob("open traces", 1, lambda: tend_traces(store, now_ms=now_ms())),
        PeriodicJob(
            "canaries", CANARIES_EVERY_S, lambda: run_all_canaries(store, histories, environment, now=datetime.now(UTC))
        ),
    )


def list_local_jobs(config: Config, store: Store) -> tuple[PeriodicJob, ...]:
    """Return the periodic jobs of this machine: its deployments, its copy of the corpus, signed heads."""
    jobs = []
    if config.deployments.exists():
        tend = partial(tend_services, store, config.deployments, config.home, config.environment)
        jobs.append(PeriodicJob("deployments", 15, tend))
    if key := config.audit_key:
        sign = partial(export_head, store, key, config.audit_heads, config.audit_webhook)
        jobs.append(PeriodicJob("audit heads", HEADS_EVERY_S, lambda: sign(now=datetime.now(UTC))))
    corpus = parse_location(config.corpus_repo)
    if corpus.is_url:
        jobs.append(PeriodicJob("corpus copy", FETCH_EVERY_S, partial(clone_of, corpus.repository)))
    return tuple(jobs)


def _run(options: Any) -> None:
    """Run uvicorn, as `uvicorn.run` does. Event streams end when it is told to stop: it would wait for them."""
    import uvicorn
    from uvicorn.config import STARTUP_FAILURE

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            end_streams()
            await super().shutdown(sockets)

    server = Server(options)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def pack_aside(log: Store, numbers: Sequence[int], now_ms: int) -> int:
    """Pack slices of the search index in another process: in busy hours it would hold up the pages."""
    return int(run_aside(pack_slices_of, log.url.render_as_string(hide_password=False), tuple(numbers), now_ms))


def _judge_log(config: Config, store: Store) -> int:
    embedder = Embedder(config.embedding_model, cache=VectorCache(store))
    return judge_all_questions(store, embedder, now=datetime.now(UTC), low_score=config.low_score)


def _look_for_emerging(config: Config, store: Store) -> int:
    """Look in another process: the first look embeds weeks of questions, and each one reads weeks of the log."""
    now, model = datetime.now(UTC), config.embedding_model
    if not list_due(store, model, now=now):
        return 0
    return int(run_aside(look_aside, config.database_url, config.log_url, model, now))


def _settle_ledger(config: Config, store: Store) -> int:
    corpus, tracking = partial(Corpus, config.corpus_repo), partial(Tracking, config.tracking_uri)
    return settle_all(store, corpus, tracking, now=datetime.now(UTC), low_score=config.low_score)


def _mail_digests(config: Config, store: Store) -> tuple[str, ...]:
    return mail_digests(config, store, now=datetime.now(UTC))


def _check_alerts(config: Config, store: Store) -> tuple[str, ...]:
    return check_all_alerts(store, config.environment, open_sources(config, store), now=datetime.now(UTC))


def _deliver_alerts(config: Config, store: Store) -> tuple[str, ...]:
    return deliver_all_alerts(store, config.environment, now=datetime.now(UTC), base=config.access.public_url)


def _judge_answers(config: Config, store: Store) -> int:
    return judge_production(config, store, now=datetime.now(UTC))


def _give_memory_back() -> None:
    """Keep glibc from fragmenting one heap per thread. Other C libraries have no such settings."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # as malloc.h numbers them
        mallopt(arena_max, ARENAS)
        mallopt(mmap_threshold, KEPT_FREE_BYTES)
        mallopt(trim_threshold, KEPT_FREE_BYTES)


def _keep_to_itself() -> None:
    """Keep other processes of the same user, such as a pipeline's, out of this one's memory and environment (Linux)."""
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):
        set_dumpable = 4
        prctl(set_dumpable, 0, 0, 0, 0)


def _sign_in_settings(access: SignIn) -> dict[str, Any]:
    """The settings of Streamlit's own sign-in, empty without a login."""
    if access.public_url:
        os.environ.setdefault("STREAMLIT_BROWSER_SERVER_ADDRESS", access.public_url.partition("://")[2].split(":")[0])
    if access.login is None:
        return {}
    os.environ["STREAMLIT_SERVER_COOKIE_SECRET"] = access.login.cookie_secret
    return {
        "auth": {
            "redirect_uri": f"{access.public_url}{read_base_path()}/oauth2callback",
            "cookie_secret": access.login.cookie_secret,
            "client_id": access.login.client_id,
            "client_secret": access.login.client_secret,
            "server_metadata_url": access.login.metadata_url,
        }
    }


@asynccontextmanager
async def _scheduling(_app: Any, *, host: str) -> AsyncIterator[None]:
    """Run the schedulers, and OTLP over gRPC, while the server runs."""
    take_over_logs()
    stop, config = threading.Event(), load_config(os.environ)
    store = Store(config.database_url, log_url=config.log_url)
    schedulers = [Scheduler(store, list_jobs(config, store))]
    if local := list_local_jobs(config, store):
        schedulers.append(Scheduler(store, local, lease=f"{LEASE}:{socket.gethostname()}"))
    threads = [
        threading.Thread(target=scheduler.run, args=(stop,), name="quarterdeck-scheduler", daemon=True)
        for scheduler in schedulers
    ]
    for thread in threads:
        thread.start()
    over_grpc = await otlp_grpc.start(host, config.otlp_grpc_port)
    async with tools_api.endpoint.running():
        yield
    stop.set()
    if over_grpc is not None:
        await over_grpc.stop(STOP_WITHIN_S)
    backends.close()
    for thread in threads:
        thread.join(STOP_WITHIN_S)
