"""Rebuilds run the real `dvc repro` on a real pipeline."""

import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.corpus.corpus import Corpus
from core.corpus.rebuild import KIND, cancel_rebuild, explain_end, find_rebuild, jobs_of, start_rebuild
from core.errors import Conflict, InvalidInput, SourceUnavailable
from core.jobs.jobs import Job, JobState
from tests.dvc_repos import DvcRepo

pytestmark = [pytest.mark.slow, pytest.mark.sqlite_only("of the store it needs the audit trail alone")]

ME = Act("ada", "a test")
DVC_YAML = """\
stages:
  chunk:
    cmd: cat corpus/*.md > chunks.txt
    deps:
    - corpus
    outs:
    - chunks.txt
  index:
    cmd: cp chunks.txt index.txt
    deps:
    - chunks.txt
    outs:
    - index.txt
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> DvcRepo:
    repo = DvcRepo.create(tmp_path_factory.mktemp("rebuild"))
    repo.write({"corpus/a.md": "alpha\n", "dvc.yaml": DVC_YAML})
    repo.commit("Start", track=("corpus",), tag="v1")
    return repo


@pytest.fixture
def repo(pipeline: DvcRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DvcRepo]:
    copied = pipeline.copy(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(copied.site_cache))
    yield copied
    jobs_of(Corpus(copied.root)).cancel(KIND)


def until(condition: Callable[[], object]) -> None:
    for _ in range(1_200):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it did not come to that within two minutes")


def end_of(corpus: Corpus) -> tuple[Job, str]:
    """Wait for the rebuild's end; return it with its outcome in one line."""
    until(lambda: (found := find_rebuild(corpus)) and found.state is not JobState.RUNNING)
    job = find_rebuild(corpus)
    assert job
    return job, explain_end(job, jobs_of(corpus).read_log(KIND))


@pytest.mark.deep
def test_a_rebuild_runs_the_stale_stages_and_is_audited(store, repo: DvcRepo) -> None:
    corpus = Corpus(repo.root)
    assert find_rebuild(corpus) is None
    entry = start_rebuild(store, corpus, ME)
    job, said = end_of(corpus)
    assert (job.state, job.actor, said) == (JobState.DONE, "ada", "every stage ran; commit dvc.lock to keep this")
    assert (repo.root / "index.txt").read_text() == "alpha\n"
    assert "Running stage 'index':" in jobs_of(corpus).read_log(KIND)
    assert corpus.list_stale_stages() == ()
    (audit,) = list_audit(store)
    assert (audit.entry_id, audit.action, audit.reason) == (entry, "job.start", "a test")
    assert audit.after == {"stale": ["chunk", "index"]}
    start_rebuild(store, corpus, ME)
    assert end_of(corpus)[1] == "everything is up to date"


@pytest.mark.deep
def test_there_is_one_rebuild_at_a_time_and_it_can_be_cancelled_with_all_it_started(store, repo: DvcRepo) -> None:
    repo.write({"dvc.yaml": DVC_YAML.replace("cmd: cat", "cmd: touch begun && sleep 300; cat")})
    corpus = Corpus(repo.root)
    start_rebuild(store, corpus, ME)
    with pytest.raises(Conflict, match="is already running"):
        start_rebuild(store, Corpus(repo.root), Act("bob", "me too"))
    until((repo.root / "begun").exists)
    cancel_rebuild(store, corpus, ME)
    job, said = end_of(corpus)
    assert (job.state, said) == (JobState.CANCELLED, "it was canceled; the interrupted stage is stale")
    assert [entry.action for entry in list_audit(store)] == ["job.cancel", "job.start"]
    with pytest.raises(Conflict, match="no rebuild is running"):
        cancel_rebuild(store, corpus, ME)
    repo.write({"dvc.yaml": DVC_YAML})
    start_rebuild(store, corpus, ME)
    job, said = end_of(corpus)
    assert (job.state, said) == (JobState.DONE, "every stage ran; commit dvc.lock to keep this")


@pytest.mark.deep
def test_a_stage_that_fails_is_named_with_its_exit_code(store, repo: DvcRepo) -> None:
    repo.write({"dvc.yaml": DVC_YAML.replace("cat corpus/*.md", "echo no such page; exit 7; cat")})
    corpus = Corpus(repo.root)
    start_rebuild(store, corpus, ME)
    job, said = end_of(corpus)
    assert (job.state, said) == (JobState.FAILED, "stage chunk failed with exit code 7")
    assert "no such page" in jobs_of(corpus).read_log(KIND)


@pytest.mark.deep
def test_dvcs_lock_held_by_another_program_is_told_as_that(store, repo: DvcRepo) -> None:
    lock = repo.root / ".dvc" / "tmp" / "lock"
    lock.parent.mkdir(exist_ok=True)
    corpus = Corpus(repo.root)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        start_rebuild(store, corpus, ME)
        assert end_of(corpus)[1].startswith("DVC's lock is held: another DVC process is running in this repository")


@pytest.mark.deep
def test_what_cannot_be_rebuilt_is_refused_before_anything_starts(store, repo: DvcRepo, tmp_path: Path) -> None:
    corpus = Corpus(repo.root)
    repo.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    with pytest.raises(InvalidInput, match="without a working copy cannot be rebuilt"):
        start_rebuild(store, Corpus(tmp_path / "bare.git"), ME)
    repo.write({"corpus.dvc": "<<<<<<< HEAD\n=======\n>>>>>>> x\n"})
    with pytest.raises(SourceUnavailable, match=r"corpus\.dvc is in a merge conflict"):
        start_rebuild(store, corpus, ME)
    repo.git("checkout", "--quiet", "corpus.dvc")
    repo.write({"dvc.yaml": "stages: ["})
    with pytest.raises(SourceUnavailable, match=r"dvc\.yaml is invalid"):
        start_rebuild(store, corpus, ME)
    repo.write({"dvc.yaml": None})
    with pytest.raises(InvalidInput, match=r"dvc\.yaml has no stages"):
        start_rebuild(store, corpus, ME)
    assert find_rebuild(corpus) is None
    assert list_audit(store) == ()


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("ERROR: failed to reproduce 'corpus.dvc': missing data 'source': corpus", "corpus is not in the working copy"),
        ("x\nERROR: 'out' is busy, it is being blocked by:\n  (PID 41): dvc", "process 41 is using the same files"),
        ("ERROR: failed to reproduce 'a': output 'b' does not exist", "stage a failed: output 'b' does not exist"),
        ("ERROR: unexpected error - disk full", "unexpected error - disk full"),
        ("Killed", "Killed"),
        ("", "it failed without a message"),
    ],
)
def test_every_end_is_one_line(log: str, said: str) -> None:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    last = (log.splitlines() or [""])[-1]
    job = Job(KIND, "repo", "ada", now, JobState.FAILED, now, None, last)
    line = explain_end(job, log)
    assert said in line
    assert "\n" not in line
