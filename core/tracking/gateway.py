"""Gateway to MLflow: runs with their artifacts, prompts with their versions, and what evaluations and promotions write.

Reading never writes to a store nor migrates it (`readers.py`).
"""

import json
import posixpath
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from core.errors import InvalidInput, NotFound, QuarterdeckError, SourceUnavailable
from core.safety.boundary import Boundary
from core.tracking.addresses import check_address, describe, is_server
from core.tracking.cases import CaseResult, parse_case_results
from core.tracking.client import answer_in_time, check_writable, open_client, translated_errors
from core.tracking.conventions import RunNames
from core.tracking.readers import open_reader
from core.tracking.runs import (
    DESCRIPTION,
    LINKED_PROMPTS,
    LOGGED_ARTIFACTS,
    PRODUCTION,
    PromptVersion,
    Run,
    RunFilter,
    RunPage,
    RunSort,
    choose_json,
    parse_tables,
)
from core.tracking.sql import TrackingSqlReader
from core.tracking.tables import AssessedTrace, CaseTable, parse_table, read_traces

CASES_ARTIFACT = "cases.json"
PROMPT_ARTIFACT = "prompt.md"
EVAL_TABLE = "eval_results_table.json"
PROMPT_TEXTS = (PROMPT_ARTIFACT, "prompt.txt", "prompt_template.txt", "prompt.jinja", "prompt.j2")
_READERS = 8
_STAGE = "stage"
_EXPERIMENTS_OF_PROMPT = "_mlflow_experiment_ids"


@dataclass(frozen=True, slots=True)
class Dataset:
    """The data that a run was evaluated on: a name, its source, and a digest of its content."""

    name: str
    source: str
    digest: str


class Tracking:
    """The experiments, runs and prompts of one MLflow tracking URI: http(s), sqlite or postgresql.

    Every method raises SourceUnavailable, in one line, for a store that is missing, corrupt, unreachable or of an
    unknown schema. `artifact_root` is where new experiments store files; by default next to the database.
    `connect` opens the MLflow client that writes, from the address.
    """

    def __init__(
        self, tracking_uri: str, *, artifact_root: Path | None = None, connect: Callable[[str], Any] = open_client
    ) -> None:
        self.tracking_uri = tracking_uri
        self._artifact_root = artifact_root or _default_artifact_root(tracking_uri)
        self._reader = open_reader(tracking_uri)
        self._connect = connect
        self._client: Any = None
        self._lock = threading.Lock()

    # Reading

    def list_experiments(self) -> tuple[str, ...]:
        """Return the names of the active experiments, sorted."""
        return self._reader.list_experiments()

    def list_runs(self, where: RunFilter | None = None, *, limit: int = 10_000, offset: int = 0) -> tuple[Run, ...]:
        """Return up to `limit` of the active runs that pass the filter, newest first."""
        if limit < 1 or offset < 0:
            raise InvalidInput("limit", f"must be 1 or more with an offset of 0 or more, not {limit} and {offset}")
        return self._reader.list_runs(where or RunFilter(), RunSort(), limit=limit, offset=offset)

    def page_runs(
        self, where: RunFilter | None = None, sort: RunSort | None = None, *, limit: int, offset: int = 0
    ) -> RunPage:
        """Return one page of the runs that match the filter, sorted by the store itself."""
        return self._reader.page_runs(where or RunFilter(), sort or RunSort(), limit=limit, offset=offset)

    def count_runs(self, where: RunFilter | None = None) -> int:
        """Return how many active runs match the filter, for paging."""
        return self._reader.count_runs(where or RunFilter())

    def get_run(self, run_id: str) -> Run:
        """Return one run. Raises NotFound."""
        for run in self._reader.get_runs((run_id,)):
            return run
        raise NotFound(f"run: no run {run_id!r} in {describe(self.tracking_uri)}")

    def get_runs(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
        """Return the existing ones of these runs, in the given order."""
        return self._reader.get_runs(run_ids)

    def read_artifact_text(self, run_id: str, path: str) -> str:
        """Return a text file of a run. Raises NotFound when the run or the file does not exist."""
        if ".." in path.split("/") or path.startswith("/"):
            raise InvalidInput("artifact", f"{path!r} is outside of the run's folder")
        return self._read_text(self.get_run(run_id), path)

    def _read_text(self, run: Run, path: str) -> str:
        uri = run.artifact_uri
        missing = NotFound(f"artifact: run {run.run_id} has no {path!r} at {uri}")
        folder = _local_folder(uri)
        if folder is not None:
            if not (folder / path).is_file():
                raise missing
            return _read_text(folder, folder / path)
        return answer_in_time(self.tracking_uri, lambda: self._download_text(uri, path, missing))

    def list_case_results(self, run_id: str) -> tuple[CaseResult, ...]:
        """Return the case results of an evaluation run. Raises NotFound for a run without such a table."""
        source = f"{CASES_ARTIFACT} of run {run_id}"
        return parse_case_results(self.read_artifact_text(run_id, CASES_ARTIFACT), source=source)

    def list_case_tables(self, runs: Sequence[Run], names: Sequence[RunNames]) -> tuple[CaseTable | str, ...]:
        """Return the cases of each run, of any convention, or in one line why there are none.

        `names` says for each run under which names its figures are kept. Tables are looked for first, then traces.
        """
        with ThreadPoolExecutor(_READERS, thread_name_prefix="mlflow-tables") as pool:
            tables = list(pool.map(self._read_case_table, runs, names))
        without = [at for at, table in enumerate(tables) if isinstance(table, str)]
        assessed = self._reader.list_assessed([runs[at] for at in without]) if without else {}
        for at in without:
            if traces := assessed.get(runs[at].run_id):
                try:
                    tables[at] = read_traces(traces, names[at].scores, source=f"the traces of run {runs[at].run_id}")
                except InvalidInput as error:
                    tables[at] = str(error)
        return tuple(tables)

    def _read_case_table(self, run: Run, names: RunNames) -> CaseTable | str:
        try:
            known, guessed = self._list_tables(run)
            others = f"table in {', '.join(guessed)}" if guessed else "other table"
            problem = f"artifact: run {run.run_id} has no {CASES_ARTIFACT!r}, no {EVAL_TABLE!r} and no {others}"
            for path in (*known, *guessed):
                is_guess = path in guessed
                try:
                    text = self._read_text(run, path)
                    return parse_table(text, names.scores, source=f"{path} of run {run.run_id}", is_guess=is_guess)
                except (InvalidInput, UnicodeDecodeError) as error:
                    problem = problem if is_guess else str(error)
        except (NotFound, SourceUnavailable) as error:
            return str(error)
        return problem

    def _list_tables(self, run: Run) -> tuple[Sequence[str], Sequence[str]]:
        """The files of a run that are tables of cases by their name or by MLflow's tag, and others that may be."""
        logged = [path for path in parse_tables(run.tags.get(LOGGED_ARTIFACTS, "[]")) if ".." not in path.split("/")]
        wanted = list(dict.fromkeys((CASES_ARTIFACT, EVAL_TABLE, *logged)))
        folder = _local_folder(run.artifact_uri)
        if folder is not None:
            known = [path for path in wanted if (folder / path).is_file()]
            there = _list_folder(folder)
        else:
            there = answer_in_time(self.tracking_uri, lambda: self._list_files(run.artifact_uri))
            known = [path for path in wanted if path in there or "/" in path]
        return known, choose_json({path: size for path, size in there.items() if path not in wanted})

    def _list_files(self, uri: str) -> Mapping[str, int]:
        with translated_errors(self.tracking_uri):
            return {entry.path: entry.file_size or 0 for entry in self._open_artifacts(uri).list_artifacts(None)}

    def read_prompt_text(self, run: Run) -> str:
        """Return the wording that a run kept as a file, such as `prompt.txt`; "" without any."""
        for path in PROMPT_TEXTS:
            with suppress(NotFound):
                return self._read_text(run, path)
        return ""

    def list_assessed(self, runs: Sequence[Run]) -> Mapping[str, tuple[AssessedTrace, ...]]:
        """Return the assessed traces of these runs, by run id; runs without any are left out."""
        return self._reader.list_assessed(runs) if runs else {}

    def list_prompts(self, name: str | None = None, *, with_runs: bool = True) -> tuple[PromptVersion, ...]:
        """Return every version of every registered prompt, or of the named one: by name, newest version first.

        With `with_runs=False` versions are found quickly, however many runs there are.
        """
        return self._reader.list_prompts(name, with_runs=with_runs)

    def get_prompt(self, name: str, version: int | str) -> PromptVersion:
        """Return a prompt by version number or by alias. Raises NotFound."""
        found = self._reader.list_prompts(name)
        for prompt in found:
            if str(version) == str(prompt.version) or version in prompt.aliases:
                return prompt
        known = ", ".join(str(prompt.version) for prompt in reversed(found)) or "none"
        raise NotFound(f"prompt: {name!r} has no version or alias {str(version)!r}; versions: {known}")

    def production_version(self, name: str, *, with_runs: bool = True) -> PromptVersion | None:
        """Return the version behind the alias `production`, or None. The alias decides, not a tag."""
        found = self._reader.list_prompts(name, with_runs=with_runs)
        return next((prompt for prompt in found if PRODUCTION in prompt.aliases), None)

    def production_release(self, name: str) -> int | None:
        """Return the prompt's production version in the model registry, or None (see `register_release`)."""
        return self._reader.get_alias(_release_of(name), PRODUCTION)

    # Writing

    def register_prompt(
        self, name: str, text: str, *, message: str = "", tags: Mapping[str, str] | None = None, experiment: str = ""
    ) -> PromptVersion:
        """Return the prompt version with this text, creating it if there is none.

        With `experiment`, MLflow's UI lists the prompt among that experiment's prompts.
        """
        with self._writing() as client:
            for known in self._reader.list_prompts(name):
                if known.text == text:
                    return known
            listed = dict(tags or {})
            if experiment:
                listed[_EXPERIMENTS_OF_PROMPT] = f",{self._experiment_id(client, experiment)},"
            made = client.register_prompt(name, text, commit_message=message or None, tags=listed)
            _await_prompt_links()
        return self.get_prompt(name, made.version)

    def set_prompt_alias(self, name: str, alias: str, version: int) -> None:
        """Point the alias to a version of the prompt. Raises NotFound for a missing version."""
        self.get_prompt(name, version)
        with self._writing() as client:
            client.set_prompt_alias(name, alias, version)

    def delete_prompt_alias(self, name: str, alias: str) -> None:
        """Remove the alias from the prompt, to undo the first promotion."""
        with self._writing() as client:
            client.delete_prompt_alias(name, alias)

    def set_run_description(self, run_id: str, text: str) -> None:
        """Replace the text that MLflow shows as the run's description."""
        with self._writing() as client:
            client.set_tag(run_id, DESCRIPTION, text)

    def log_evaluation(
        self,
        experiment: str,
        name: str,
        *,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        artifacts: Mapping[str, str],
        dataset: Dataset | None = None,
        prompt: PromptVersion | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Save a finished evaluation as a run and return its id; creates a missing experiment.

        `artifacts` are texts by file name; `prompt` is the registered version to link. If logging fails midway, the run
        stays with the status FAILED.
        """
        with self._writing() as client:
            run_id = str(client.create_run(self._experiment_id(client, experiment), run_name=name).info.run_id)
            try:
                self._log_all(client, run_id, params, metrics, {**(tags or {}), **_links(prompt)})
                for path, text in artifacts.items():
                    client.log_text(run_id, text, path)
                if dataset is not None:
                    _log_dataset(client, run_id, dataset)
            except BaseException:
                client.set_terminated(run_id, "FAILED")
                raise
            client.set_terminated(run_id, "FINISHED")
        return run_id

    def register_release(self, prompt: PromptVersion, run_id: str, *, tags: Mapping[str, str] | None = None) -> int:
        """Add the prompt to the model registry as `NAME-release`, tagged and aliased `production`; return its version.

        MLflow keeps prompts and models in one namespace, hence the suffix. The entry points to the run's files.
        """
        name = _release_of(prompt.name)
        run = self.get_run(run_id)
        labels = {"prompt": prompt.name, "prompt_version": str(prompt.version), **(tags or {})}
        with self._writing() as client:
            if not client.search_registered_models(filter_string=f"name = '{name}'"):
                client.create_registered_model(name, description=f"Released versions of the prompt {prompt.name}.")
            source = f"{run.artifact_uri}/{PROMPT_ARTIFACT}"
            made = int(client.create_model_version(name, source=source, run_id=run_id, tags=labels).version)
        try:
            self.set_production_release(prompt.name, made)
        except QuarterdeckError:
            with suppress(QuarterdeckError):
                self.delete_release(prompt.name, made)
            raise
        return made

    def set_production_release(self, name: str, version: int | None) -> None:
        """Make another version in the model registry the production one, by alias and tag; None for none."""
        release, former = _release_of(name), self.production_release(name)
        with self._writing() as client:
            if version is not None:
                client.set_registered_model_alias(release, PRODUCTION, str(version))
                client.set_model_version_tag(release, str(version), _STAGE, PRODUCTION)
            elif former is not None:
                client.delete_registered_model_alias(release, PRODUCTION)
            if former is not None and former != version:
                client.set_model_version_tag(release, str(former), _STAGE, "former")

    def delete_release(self, name: str, version: int) -> None:
        """Remove a version from the model registry, to undo a promotion."""
        with self._writing() as client:
            client.delete_model_version(_release_of(name), str(version))

    def _log_all(
        self,
        client: Any,
        run_id: str,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = int(client.get_run(run_id).info.start_time)
        client.log_batch(
            run_id,
            metrics=[Metric(key, value, now, 0) for key, value in metrics.items()],
            params=[Param(key, str(value)) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )

    def _experiment_id(self, client: Any, name: str) -> str:
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = (self._artifact_root / name).as_uri() if self._artifact_root else None
        return str(client.create_experiment(name, artifact_location=location))

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        with self._lock:
            if self._client is None:
                check_address(self.tracking_uri)
                if not is_server(self.tracking_uri):
                    check_writable(TrackingSqlReader(self.tracking_uri))
                if self._artifact_root:
                    self._artifact_root.mkdir(parents=True, exist_ok=True)
                self._client = self._connect(self.tracking_uri)
        with translated_errors(self.tracking_uri):
            yield self._client

    def _download_text(self, uri: str, path: str, missing: NotFound) -> str:
        with tempfile.TemporaryDirectory() as folder, translated_errors(self.tracking_uri):
            repository = self._open_artifacts(uri)
            parent = posixpath.dirname(path) or None
            if path not in {entry.path for entry in repository.list_artifacts(parent)}:
                raise missing
            return _read_text(Path(folder), repository.download_artifacts(path, folder))

    def _open_artifacts(self, uri: str) -> Any:
        if uri.startswith("mlflow-artifacts:") and not is_server(self.tracking_uri):
            where = describe(self.tracking_uri)
            raise SourceUnavailable(f"artifact: {uri} is served by a tracking server; use its address, not {where}")
        if is_server(self.tracking_uri):
            open_client(self.tracking_uri)  # sets the timeouts, also for the download
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(uri, tracking_uri=self.tracking_uri)


def _release_of(name: str) -> str:
    return f"{name}-release"


def _links(prompt: PromptVersion | None) -> Mapping[str, str]:
    # Writes what MlflowClient.link_prompt_version_to_run writes. That function uses the process-wide tracking URI
    # instead of its client's, and creates a stray mlflow.db in the working directory.
    return {LINKED_PROMPTS: json.dumps([{"name": prompt.name, "version": str(prompt.version)}])} if prompt else {}


def _log_dataset(client: Any, run_id: str, dataset: Dataset) -> None:
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput, InputTag

    source = json.dumps({"uri": dataset.source})
    entry = MlflowDataset(name=dataset.name, digest=dataset.digest, source_type="local", source=source)
    client.log_inputs(run_id, [DatasetInput(entry, [InputTag("mlflow.data.context", "evaluation")])])


def _await_prompt_links() -> None:
    """Wait for the threads in which MLflow links a new prompt to an experiment, so that reads see the link."""
    for thread in threading.enumerate():
        if thread.name.startswith("link_prompt_to_experiment_thread"):
            thread.join(timeout=10.0)


def _default_artifact_root(uri: str) -> Path | None:
    database = uri.removeprefix("sqlite:///")
    return Path(database).absolute().parent / "artifacts" if database != uri else None


def _read_text(folder: Path, path: Path | str) -> str:
    return Boundary(folder).read(path).decode("utf-8").replace("\r\n", "\n")


def _list_folder(folder: Path) -> Mapping[str, int]:
    if not folder.is_dir():
        return {}
    return {each.name: each.stat().st_size for each in folder.iterdir() if each.is_file() and not each.is_symlink()}


def _local_folder(uri: str) -> Path | None:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(uri) if not parts.scheme else None
