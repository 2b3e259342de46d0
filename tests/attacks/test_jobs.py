"""What a pipeline, a release or a job can learn of the deck's secrets, and what its log reveals."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from core.audit.acts import Act
from core.config import PROJECT, load_config
from core.corpus.corpus import Corpus
from core.corpus.rebuild import KIND, explain_end, find_rebuild, jobs_of, start_rebuild
from core.deployments.colors import Color
from core.deployments.drivers import make_driver
from core.deployments.services import DriverKind, Service
from core.errors import InvalidInput
from core.jobs.jobs import Jobs, JobState
from core.jobs.launches import Launch, start_job
from core.safety.inheritance import inherit
from quarterdeck.store import Store
from tests.dvc_repos import DvcRepo

pytestmark = [pytest.mark.slow, pytest.mark.sqlite_only("of the store it needs the audit trail alone")]

ME = Act("ada", "a test")
SECRETS = {
    "QUARTERDECK_COOKIE_SECRET": "cookie-secret-of-more-than-32-letters",
    "QUARTERDECK_OIDC_CLIENT_SECRET": "secret-of-the-provider",
    "QUARTERDECK_DATABASE_URL": "postgresql://deck:password-of-db@db/deck",
    "QUARTERDECK_LOG_URL": "clickhouse://deck:password-of-log@log/deck",
    "MLFLOW_TRACKING_PASSWORD": "password-of-mlflow",
    "MLFLOW_TRACKING_URI": "https://ada:login-of-mlflow@mlflow.example.org",
    "OPENAI_API_KEY": "sk-of-openai-0123456789",
    "AWS_SECRET_ACCESS_KEY": "key-of-the-cloud",
    "HTTPS_PROXY": "http://ada:login-of-proxy@proxy:3128",
    "DOCKER_HOST": "tcp://ada:login-of-docker@docker:2375",
}
HIDDEN = (
    "cookie-secret", "secret-of-the-provider", "password-of-db", "password-of-log", "password-of-mlflow",
    "login-of-mlflow", "sk-of-openai", "key-of-the-cloud", "login-of-proxy", "login-of-docker",
)  # fmt: skip


@pytest.fixture
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def until(condition: Callable[[], object]) -> None:
    for _ in range(1_200):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it did not come to that within two minutes")


def assert_hidden(text: str) -> None:
    assert [secret for secret in HIDDEN if secret in text] == []


@pytest.mark.deep
@pytest.mark.usefixtures("_secrets")
def test_a_pipeline_gets_no_secret_of_the_deck(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = DvcRepo.create(tmp_path)
    stage = f'stages:\n  steal:\n    cmd: {sys.executable} -c "import os; print(dict(os.environ))" | tee stolen.txt\n'
    repo.write({"a.txt": "a", "dvc.yaml": f"{stage}    outs:\n    - stolen.txt\n"})
    repo.commit("Start", track=("a.txt",), tag="v1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(repo.site_cache))
    corpus = Corpus(repo.root)
    start_rebuild(store, corpus, ME)
    until(lambda: (found := find_rebuild(corpus)) and found.state is not JobState.RUNNING)
    job = find_rebuild(corpus)
    assert job and job.state is JobState.DONE, jobs_of(corpus).read_log(KIND)
    stolen = (repo.root / "stolen.txt").read_text()
    assert "DVC_SITE_CACHE_DIR" in stolen
    assert_hidden(stolen)
    assert_hidden((repo.root / ".dvc" / "tmp" / "quarterdeck" / KIND / "log").read_text())


@pytest.mark.usefixtures("_secrets")
def test_a_release_gets_no_secret_of_the_deck(tmp_path: Path) -> None:
    script = "import os, time; print(dict(os.environ), flush=True); time.sleep(60)"
    service = Service(
        name="search", driver=DriverKind.PROCESS, command=(sys.executable, "-c", script), directory=tmp_path,
        blue="127.0.0.1:8698", green="127.0.0.1:8699", blue_upstream="127.0.0.1:8698", green_upstream="127.0.0.1:8699",
        upstream=tmp_path / "upstream.conf", address="http://127.0.0.1:8697", nginx=("nginx",), health="/healthz",
        start_timeout_s=10, drain_timeout_s=1, keep_minutes=1,
    )  # fmt: skip
    driver = make_driver(service, tmp_path)
    driver.start(Color.BLUE, "r1")
    try:
        until(lambda: driver.read_log(Color.BLUE))
        log = (tmp_path / "blue" / "log").read_text()
    finally:
        driver.stop(Color.BLUE)
    assert "'RELEASE': 'r1'" in log
    assert_hidden(log)


@pytest.mark.usefixtures("_secrets")
def test_a_command_of_the_deck_keeps_what_it_needs_and_its_log_shows_none_of_it(store: Store, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs")
    secret = "qd_" + "Z" * 43
    script = f"import os; print(dict(os.environ)); print('Authorization: Bearer {secret}'); print(os.environ)"
    start_job(store, jobs, Launch("build", "v1", (sys.executable, "-c", script), is_own=True), ME)
    until(lambda: (found := jobs.find("build")) and found.state is not JobState.RUNNING)
    job = jobs.find("build")
    assert job and job.state is JobState.DONE
    assert "password-of-mlflow" in (tmp_path / "jobs" / "build" / "log").read_text()
    for shown in (jobs.read_log("build"), job.last_line, explain_end(job, jobs.read_log("build"))):
        assert_hidden(shown)
        assert secret not in shown
    assert "MLFLOW_TRACKING_PASSWORD" in jobs.read_log("build")


def test_what_is_inherited_is_a_list_and_the_operator_adds_to_it_by_name() -> None:
    environ = {**SECRETS, "PATH": "/bin", "LC_ALL": "C", "AWS_PROFILE": "deck", "QUARTERDECK_HOME": "/h", "OTHER": "x"}
    assert inherit(environ) == {"PATH": "/bin", "LC_ALL": "C", "QUARTERDECK_HOME": "/h"}
    passed = {"QUARTERDECK_PASS_ENVIRONMENT": "AWS_PROFILE, AWS_SECRET_ACCESS_KEY"}
    assert inherit(environ | passed).keys() - inherit(environ).keys() == {"AWS_PROFILE", "AWS_SECRET_ACCESS_KEY"}


@pytest.mark.parametrize("name", ["QUARTERDECK_COOKIE_SECRET", "QUARTERDECK_OIDC_CLIENT_SECRET"])
def test_the_secrets_of_the_sign_in_cannot_be_passed_on(name: str) -> None:
    with pytest.raises(InvalidInput, match="QUARTERDECK_PASS_ENVIRONMENT: may not name"):
        load_config({"QUARTERDECK_PASS_ENVIRONMENT": f"PATH,{name}"})


def test_a_number_that_no_step_has_does_not_break_the_job(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs")
    jobs.start("build", [sys.executable, "-c", "print('progress: read', '9' * 5_000, 'of 1')"], subject="s", actor="a")
    until(lambda: (found := jobs.find("build")) and found.state is not JobState.RUNNING)
    job = jobs.find("build")
    assert job and job.step is None


@pytest.mark.deep
def test_what_the_deck_writes_is_for_its_user_alone_and_doctor_warns_of_what_is_not(tmp_path: Path) -> None:
    home, environ = tmp_path / "home", {"QUARTERDECK_HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "quarterdeck", *arguments], cwd=PROJECT, env=environ, capture_output=True, text=True,
            check=False, umask=0o000,
        )  # fmt: skip
        return done.stdout + done.stderr

    run("flags", "create", "odd", "--reason", "because")
    run("tokens", "create", "search", "--scope", "ingest", "--reason", "because")
    run("backup", str(home / "all.zip"))
    run("restore", str(home / "all.zip"), "--replace", "--reason", "because")
    modes = {path: path.stat().st_mode & 0o077 for path in (home, *home.rglob("*"))}
    assert (home / "quarterdeck.db") in modes
    assert [path for path, mode in modes.items() if mode] == []
    assert "other users may read it" not in run("doctor", "--quick")
    (home / "quarterdeck.db").chmod(0o644)
    assert "other users may read it" in run("doctor", "--quick")


def test_a_store_is_made_for_its_user_alone_whoever_makes_it(tmp_path: Path) -> None:
    with closing(Store(f"sqlite:///{tmp_path / 'deck.db'}", create=True)) as made, made.begin():
        pass
    assert {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()}
    assert [path for path in tmp_path.iterdir() if path.stat().st_mode & 0o077] == []


def test_files_of_a_pipeline_are_as_others_expect_them(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "jobs")
    former = os.umask(0o077)
    try:
        jobs.start("build", ["/bin/sh", "-c", f"touch {tmp_path / 'out'}"], subject="s", actor="a")
        until(lambda: (found := jobs.find("build")) and found.state is not JobState.RUNNING)
    finally:
        os.umask(former)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "jobs" / "build" / "log").stat().st_mode & 0o077 == 0
