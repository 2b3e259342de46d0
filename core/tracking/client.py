"""Gateway to MLflow over HTTP: MLflow's own client, set up for a dashboard, and what is read through it.

`sql.py` reads databases; MLflow's exceptions do not travel further than this module.
"""

import os
import re
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import wraps
from threading import Thread
from typing import Any, Concatenate, ParamSpec, TypeVar

from core.errors import InvalidInput, NotFound, SourceUnavailable
from core.tracking.addresses import describe, hide_secrets, read_credentials, without_credentials
from core.tracking.runs import LINKED_PROMPTS, PromptVersion, Run, RunFilter, RunPage, RunSort, SortKind
from core.tracking.sql import TrackingSqlReader, assemble_prompts, moment_of
from core.tracking.tables import AssessedTrace
from core.tracking.traces import read_by_client

PROBE_SECONDS = 2.0
ANSWER_SECONDS = 30.0
_PAGE = 1_000
_P = ParamSpec("_P")
_R = TypeVar("_R")
_MISSING = "RESOURCE_DOES_NOT_EXIST"
_NOT_LET_IN = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
_STATUS = re.compile(r"error code (401|403)\b|\b(401|403) Client Error")
_REFUSED = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"})
_USER, _PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
_READERS = 8  # requests at a time
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # MLflow's default waits over a minute for a dead server
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it would break JSON output
}


def open_client(tracking_uri: str) -> Any:
    """Return an MlflowClient. On a database this creates or migrates the schema, so use it only for writing."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with translated_errors(tracking_uri):
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def check_writable(store: TrackingSqlReader) -> None:
    """Raise SourceUnavailable if opening this database with the client would migrate it to a newer schema.

    The older MLflow that it belongs to would then refuse it, so its owner has to decide that.
    """
    revision = store.schema_revision()
    if revision is None:
        return
    from mlflow.store.db import utils

    latest: Any = utils._get_latest_schema_revision
    if revision != latest():
        raise SourceUnavailable(
            f"MLflow store {describe(store.uri)}: its schema ({revision}) is not that of the MLflow installed here, "
            "so it can be read but not written. `mlflow db upgrade` upgrades it; make a copy first."
        )


@contextmanager
def translated_errors(tracking_uri: str) -> Iterator[None]:
    """Convert MLflow's exceptions to NotFound, InvalidInput, or SourceUnavailable, without any password."""
    from google.protobuf.json_format import ParseError
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield
    except ParseError as error:
        problem = hide_secrets(" ".join(str(error).split())[:200], tracking_uri)
        raise SourceUnavailable(f"MLflow at {describe(tracking_uri)} answered what is no answer: {problem}") from None
    except RequestException as error:  # of a download: MLflow passes it on
        problem = hide_secrets((str(error).splitlines() or ["unknown error"])[0], tracking_uri)
        if _STATUS.search(problem):
            raise _not_let_in(tracking_uri) from None
        raise SourceUnavailable(f"MLflow at {describe(tracking_uri)}: {problem}") from None
    except MlflowException as error:
        problem = (str(error.message).splitlines() or ["unknown error"])[0].removeprefix(f"{error.error_code}: ")
        problem = hide_secrets(problem, tracking_uri)
        if error.error_code in _NOT_LET_IN or _STATUS.search(problem):
            raise _not_let_in(tracking_uri) from None  # its text holds the address with the password
        if error.error_code == _MISSING:
            raise NotFound(f"MLflow: {problem}") from None
        if error.error_code in _REFUSED:
            raise InvalidInput("MLflow", problem) from None
        raise SourceUnavailable(f"MLflow at {describe(tracking_uri)}: {problem}") from None


def _not_let_in(tracking_uri: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"MLflow at {describe(tracking_uri)} refused the user or the password; check MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or those in MLFLOW_TRACKING_URI"
    )


def answer_in_time(tracking_uri: str, ask: Callable[[], _R]) -> _R:
    """Return what `ask` returns. Raises SourceUnavailable after ANSWER_SECONDS.

    MLflow's own timeout restarts with every byte that arrives, so a very slow server would never time out. The waiting
    thread is left behind until its request ends.
    """
    answer: Future[_R] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is awaited
            answer.set_exception(error)

    Thread(target=work, name="mlflow-read", daemon=True).start()
    try:
        return answer.result(ANSWER_SECONDS)
    except TimeoutError as error:
        where = describe(tracking_uri)
        raise SourceUnavailable(
            f"MLflow at {where} did not finish its answer within {ANSWER_SECONDS:.0f} s; is it overloaded?"
        ) from error


def _in_time(
    method: "Callable[Concatenate[TrackingHttpReader, _P], _R]",
) -> "Callable[Concatenate[TrackingHttpReader, _P], _R]":
    @wraps(method)
    def run(reader: "TrackingHttpReader", /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return answer_in_time(reader.uri, lambda: method(reader, *args, **kwargs))

    return run


class TrackingHttpReader:
    """The runs and prompts behind a tracking server.

    A server that does not answer is reported within 5 s, one that answers byte by byte within ANSWER_SECONDS.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.uri = tracking_uri

    @_in_time
    def list_experiments(self) -> tuple[str, ...]:
        """Return the names of the active experiments, sorted."""
        with self._connect() as client:
            return tuple(sorted(self._experiments(client).values()))

    @_in_time
    def list_runs(self, where: RunFilter, sort: RunSort, *, limit: int, offset: int) -> tuple[Run, ...]:
        """Return the runs that match the filter, in this order. Also reads the runs before `offset`."""
        with self._connect() as client:
            return tuple(self._search(client, where, sort, stop=offset + limit)[offset:])

    @_in_time
    def count_runs(self, where: RunFilter) -> int:
        """Return how many runs match the filter, by reading them all."""
        with self._connect() as client:
            return len(self._search(client, where, RunSort(), stop=None))

    @_in_time
    def page_runs(self, where: RunFilter, sort: RunSort, *, limit: int, offset: int) -> RunPage:
        """Return one page of the matching runs. A server cannot count them, so one more is requested."""
        with self._connect() as client:
            found = self._search(client, where, sort, stop=offset + limit + 1)
        return RunPage(tuple(found[offset : offset + limit]), len(found), is_counted=len(found) <= offset + limit)

    @_in_time
    def get_runs(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
        """Return the existing ones of these runs, in the given order."""
        found = []
        with self._connect() as client:
            experiments = self._experiments(client)
            for run_id in run_ids:
                with suppress(NotFound), translated_errors(self.uri):
                    found.append(_run(client.get_run(run_id), experiments))
        return tuple(found)

    @_in_time
    def get_alias(self, name: str, alias: str) -> int | None:
        """Return the version of a registered model behind the alias, or None."""
        with self._connect() as client:
            try:
                with translated_errors(self.uri):
                    return int(client.get_model_version_by_alias(name, alias).version)
            except (NotFound, InvalidInput):  # no such model, or no such alias
                return None

    @_in_time
    def list_prompts(self, name: str | None = None, *, with_runs: bool = True) -> tuple[PromptVersion, ...]:
        """Return every version of every prompt (or of the named one), by name, newest version first."""
        with self._connect() as client:
            names = [prompt.name for prompt in _all_pages(client.search_prompts) if name in (None, prompt.name)]
            # A search leaves out aliases, so each version is requested separately.
            found = [
                client.get_prompt_version(each, str(version.version))
                for each in names
                for version in _all_pages(lambda each=each, **page: client.search_prompt_versions(each, **page))
            ]
            runs = self._search_linked(client) if with_runs else ()
        return assemble_prompts(
            [(p.name, p.version, p.commit_message, p.creation_timestamp, _text(p.template)) for p in found],
            [(p.name, p.version, alias) for p in found for alias in p.aliases],
            [(p.name, p.version, key, value) for p in found for key, value in p.tags.items()],
            [(run.info.run_id, run.data.tags[LINKED_PROMPTS]) for run in runs],
        )

    @_in_time
    def list_assessed(self, runs: Sequence[Run]) -> Mapping[str, tuple[AssessedTrace, ...]]:
        """Return the assessed traces of these runs, by run id; runs without any are left out."""
        with self._connect() as client:
            ids = {name: key for key, name in self._experiments(client).items()}
            known = [run for run in runs if run.experiment in ids]

            def read(run: Run) -> tuple[AssessedTrace, ...]:
                return read_by_client(client, ids[run.experiment], run.run_id)

            with ThreadPoolExecutor(_READERS, thread_name_prefix="mlflow-traces") as pool:
                found = dict(zip([run.run_id for run in known], pool.map(read, known), strict=True))
        return {run_id: traces for run_id, traces in found.items() if traces}

    def _search_linked(self, client: Any) -> list[Any]:
        linked = f"tags.`{LINKED_PROMPTS}` LIKE '%version%'"
        ids = list(self._experiments(client))
        return _all_pages(lambda **page: client.search_runs(ids, filter_string=linked, **page))

    def _search(self, client: Any, where: RunFilter, sort: RunSort, *, stop: int | None) -> Sequence[Run]:
        experiments = self._experiments(client)
        ids = [key for key, name in experiments.items() if where.experiment in (None, name)]
        if not ids:
            return []
        found = _all_pages(
            lambda **page: client.search_runs(
                ids, filter_string=_filter_string(where), order_by=_order_by(sort), **page
            ),
            stop=stop,
        )
        return [_run(run, experiments) for run in found]

    def _experiments(self, client: Any) -> dict[str, str]:
        return {each.experiment_id: each.name for each in _all_pages(client.search_experiments)}

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        _probe(self.uri)
        client = open_client(self.uri)
        with translated_errors(self.uri):
            yield client


def _probe(uri: str) -> None:
    """Raise SourceUnavailable if nothing answers; importing MLflow to find out would take seconds."""
    try:
        request = urllib.request.Request(f"{without_credentials(uri).rstrip('/')}/health")  # noqa: S310
        user, password = read_credentials(uri)
        user, password = user or os.environ.get(_USER, ""), password or os.environ.get(_PASSWORD, "")
        if user or password:
            request.add_header("Authorization", f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}")
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS):  # noqa: S310
            return
    except urllib.error.HTTPError:
        return  # something answers; the client finds out whether it is MLflow, and who is let in
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", error)
        reason = getattr(cause, "strerror", None) or cause
        raise SourceUnavailable(f"MLflow at {describe(uri)} does not answer: {reason}; check the address") from error


def _all_pages(search: Any, *, stop: int | None = None) -> list[Any]:
    found: list[Any] = []
    token = None
    while stop is None or len(found) < stop:
        size = _PAGE if stop is None else min(_PAGE, stop - len(found))
        page = search(max_results=size, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            break
    return found


def _filter_string(where: RunFilter) -> str:
    parts = [f"params.`{key}` = {_quoted(value)}" for key, value in where.params.items()]
    if where.status is not None:
        parts.append(f"attributes.status = {_quoted(where.status)}")
    if where.since is not None:
        parts.append(f"attributes.start_time >= {round(where.since.timestamp() * 1000)}")
    if where.until is not None:
        parts.append(f"attributes.start_time < {round(where.until.timestamp() * 1000)}")
    if where.tag is not None:
        parts.append(f"tags.`{where.tag[0].replace('`', '')}` = {_quoted(where.tag[1])}")
    return " AND ".join(parts)


def _order_by(sort: RunSort) -> list[str]:
    way = "DESC" if sort.descending else "ASC"
    if sort.kind is SortKind.STARTED:
        return [f"attributes.start_time {way}"]
    table = {SortKind.METRIC: "metrics", SortKind.PARAM: "params"}[sort.kind]
    return [f"{table}.`{sort.key.replace('`', '')}` {way}", "attributes.start_time DESC"]


def _quoted(value: str) -> str:
    if "'" in value and '"' in value:
        raise InvalidInput("filter", f"MLflow cannot search for text that has both kinds of quotes: {value!r}")
    return f'"{value}"' if "'" in value else f"'{value}'"


def _run(run: Any, experiments: dict[str, str]) -> Run:
    return Run(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        experiment=experiments.get(run.info.experiment_id, ""),
        status=run.info.status,
        started=moment_of(run.info.start_time),
        metrics=dict(run.data.metrics),
        params=dict(run.data.params),
        tags=dict(run.data.tags),
        artifact_uri=run.info.artifact_uri,
    )


def _text(template: object) -> str:
    import json

    return template if isinstance(template, str) else json.dumps(template)
