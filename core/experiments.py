"""Gateway to MLflow: runs with their artifacts, prompts with their versions, and what evaluations and promotions write.

Reading never writes to a store nor migrates it (databases: `core.mlflow_sql`, servers: `core.mlflow_client`).
"""

import json
import posixpath
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from core.boundary import Boundary
from core.cases import CaseResult, parse_case_results
from core.errors import InvalidInput, NotFound, QuarterdeckError, SourceUnavailable
from core.mlflow_client import HttpReader, answer_in_time, check_writable, open_client, translated_errors
from core.mlflow_sql import SqlReader, describe
from core.runs import (
    DESCRIPTION,
    LINKED_PROMPTS,
    PRODUCTION,
    PromptVersion,
    Run,
    RunFilter,
    RunPage,
    RunSort,
)

__all__ = ["PRODUCTION", "CaseResult", "Dataset", "Experiments", "PromptVersion", "Run", "RunFilter"]

CASES_ARTIFACT = "cases.json"
PROMPT_ARTIFACT = "prompt.md"
_STAGE = "stage"
_EXPERIMENTS_OF_PROMPT = "_mlflow_experiment_ids"


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a run was evaluated on: a name, where it came from, and a digest that changes with its content."""

    name: str
    source: str
    digest: str


class Experiments:
    """The experiments, runs and prompts of one MLflow tracking URI: http(s), sqlite or postgresql.

    Every method raises SourceUnavailable, in one line, for a store that is missing, corrupt, unreachable or of an
    unknown schema. `artifact_root` is where new experiments keep their files; next to the database by default.
    """

    def __init__(self, tracking_uri: str, *, artifact_root: Path | None = None) -> None:
        self.tracking_uri = tracking_uri
        self._artifact_root = artifact_root or _default_artifact_root(tracking_uri)
        is_server = tracking_uri.startswith(("http://", "https://"))
        self._reader: HttpReader | SqlReader = HttpReader(tracking_uri) if is_server else SqlReader(tracking_uri)
        self._client: Any = None
        self._lock = threading.Lock()

    # Reading

    def list_experiments(self) -> tuple[str, ...]:
        """Return the names of the active experiments, sorted."""
        return self._reader.list_experiments()

    def list_runs(
        self,
        experiment: str | None = None,
        *,
        limit: int = 10_000,
        offset: int = 0,
        prompt: str | None = None,
        version: str | None = None,
        model: str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        tag: tuple[str, str] | None = None,
    ) -> tuple[Run, ...]:
        """Return up to `limit` active runs, newest first. `prompt`, `version` and `model` are parameters of a run."""
        if limit < 1 or offset < 0:
            raise InvalidInput("limit", f"must be 1 or more with an offset of 0 or more, not {limit} and {offset}")
        where = RunFilter(experiment, prompt, version, model, status, since, until, tag)
        return self._reader.list_runs(where, RunSort(), limit=limit, offset=offset)

    def page_runs(
        self, where: RunFilter | None = None, sort: RunSort | None = None, *, limit: int, offset: int = 0
    ) -> RunPage:
        """Return one page of the runs that pass the filter, sorted by the store itself."""
        return self._reader.page_runs(where or RunFilter(), sort or RunSort(), limit=limit, offset=offset)

    def count_runs(self, where: RunFilter | None = None) -> int:
        """Return how many active runs pass the filter: for paging."""
        return self._reader.count_runs(where or RunFilter())

    def get_run(self, run_id: str) -> Run:
        """Return one run. Raises NotFound."""
        for run in self._reader.get_runs((run_id,)):
            return run
        raise NotFound(f"run: no run {run_id!r} in {describe(self.tracking_uri)}")

    def get_runs(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
        """Return those of the runs that there are, in the order given."""
        return self._reader.get_runs(run_ids)

    def read_artifact_text(self, run_id: str, path: str) -> str:
        """Return a text file that a run keeps. Raises NotFound when the run or the file is not there."""
        if ".." in path.split("/") or path.startswith("/"):
            raise InvalidInput("artifact", f"{path!r} leads out of the run's folder")
        uri = self.get_run(run_id).artifact_uri
        missing = NotFound(f"artifact: run {run_id} keeps no {path!r} at {uri}")
        folder = _local_folder(uri)
        if folder is not None:
            if not (folder / path).is_file():
                raise missing
            return _read_text(folder, folder / path)
        return answer_in_time(self.tracking_uri, lambda: self._download_text(uri, path, missing))

    def list_case_results(self, run_id: str) -> tuple[CaseResult, ...]:
        """Return what became of each case in an evaluation run. Raises NotFound for a run without such a table."""
        source = f"{CASES_ARTIFACT} of run {run_id}"
        return parse_case_results(self.read_artifact_text(run_id, CASES_ARTIFACT), source=source)

    def list_prompts(self, name: str | None = None, *, with_runs: bool = True) -> tuple[PromptVersion, ...]:
        """Return every version of every registered prompt, or of the one named: by name, newest version first.

        Without their runs (`with_runs`), versions are found quickly however many runs there are.
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
        """Return the version that the alias `production` points at, or None. The alias is the authority, not a tag."""
        found = self._reader.list_prompts(name, with_runs=with_runs)
        return next((prompt for prompt in found if PRODUCTION in prompt.aliases), None)

    def production_release(self, name: str) -> int | None:
        """Return which entry of the model registry is the prompt's production one, or None (`register_release`)."""
        return self._reader.get_alias(_release_of(name), PRODUCTION)

    # Writing

    def register_prompt(
        self, name: str, text: str, *, message: str = "", tags: Mapping[str, str] | None = None, experiment: str = ""
    ) -> PromptVersion:
        """Return the version of the prompt that has this text; a new one is made when there is none yet.

        With `experiment`, the prompt is listed among that experiment's prompts in MLflow's own screens.
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
        """Point the alias at a version of the prompt. Raises NotFound for a version that is not there."""
        self.get_prompt(name, version)
        with self._writing() as client:
            client.set_prompt_alias(name, alias, version)

    def delete_prompt_alias(self, name: str, alias: str) -> None:
        """Take the alias off the prompt: for undoing the first promotion."""
        with self._writing() as client:
            client.delete_prompt_alias(name, alias)

    def set_run_description(self, run_id: str, text: str) -> None:
        """Write the text that MLflow shows as the run's description, in place of the former one."""
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
        """Keep one finished evaluation as a run and return its id; the experiment is made when it is not there.

        `artifacts` are texts by file name; `prompt` is the registered version that the run is linked to. A run whose
        logging breaks off half-way stays behind as FAILED.
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
        """Enter the prompt into the model registry as `NAME-release`, tagged and aliased `production`; its version.

        MLflow keeps prompts and models in one namespace, hence the ending. The entry points at the run's files.
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
        """Let another entry of the model registry be the prompt's production one, by alias and tag; None for none."""
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
        """Remove an entry of the model registry: for undoing a promotion."""
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
                if isinstance(self._reader, SqlReader):
                    check_writable(self._reader)
                if self._artifact_root:
                    self._artifact_root.mkdir(parents=True, exist_ok=True)
                self._client = open_client(self.tracking_uri)
        with translated_errors(self.tracking_uri):
            yield self._client

    def _download_text(self, uri: str, path: str, missing: NotFound) -> str:
        if uri.startswith("mlflow-artifacts:") and isinstance(self._reader, SqlReader):
            where = describe(self.tracking_uri)
            raise SourceUnavailable(f"artifact: {uri} is served by a tracking server; give its address, not {where}")
        if isinstance(self._reader, HttpReader):
            open_client(self.tracking_uri)  # sets the time limits, also for the download
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with tempfile.TemporaryDirectory() as folder, translated_errors(self.tracking_uri):
            repository: Any = get_artifact_repository(uri, tracking_uri=self.tracking_uri)
            parent = posixpath.dirname(path) or None
            if path not in {entry.path for entry in repository.list_artifacts(parent)}:
                raise missing
            return _read_text(Path(folder), repository.download_artifacts(path, folder))


def _release_of(name: str) -> str:
    return f"{name}-release"


def _links(prompt: PromptVersion | None) -> Mapping[str, str]:
    # What MlflowClient.link_prompt_version_to_run writes; that function itself uses the process-wide tracking URI
    # instead of its client's, and makes a stray mlflow.db in the working directory.
    return {LINKED_PROMPTS: json.dumps([{"name": prompt.name, "version": str(prompt.version)}])} if prompt else {}


def _log_dataset(client: Any, run_id: str, dataset: Dataset) -> None:
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput, InputTag

    source = json.dumps({"uri": dataset.source})
    entry = MlflowDataset(name=dataset.name, digest=dataset.digest, source_type="local", source=source)
    client.log_inputs(run_id, [DatasetInput(entry, [InputTag("mlflow.data.context", "evaluation")])])


def _await_prompt_links() -> None:
    """Wait for the threads in which MLflow links a new prompt to an experiment: what is written should be there."""
    for thread in threading.enumerate():
        if thread.name.startswith("link_prompt_to_experiment_thread"):
            thread.join(timeout=10.0)


def _default_artifact_root(uri: str) -> Path | None:
    database = uri.removeprefix("sqlite:///")
    return Path(database).absolute().parent / "artifacts" if database != uri else None


def _read_text(folder: Path, path: Path | str) -> str:
    return Boundary(folder).read(path).decode("utf-8").replace("\r\n", "\n")


def _local_folder(uri: str) -> Path | None:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(uri) if not parts.scheme else None
