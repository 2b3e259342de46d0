"""The gateway to the corpus, on real git + DVC repositories. Built once; tests that break something take a copy."""

import fcntl
import json
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.http.server import list_local_jobs
from core.config import load_config
from core.corpus.corpus import Corpus
from core.corpus.manifests import FileChangeKind
from core.errors import InvalidInput, NotFound, SourceUnavailable
from quarterdeck.store import Store
from tests.dvc_repos import DvcRepo

pytestmark = pytest.mark.slow

V1 = {
    "corpus/mbuf.md": "# Mbuf\nThe mbuf library allocates buffers.\n",
    "corpus/guides/eal.md": "# EAL\nThe environment abstraction layer.\n",
    "corpus/old-name.md": "# Ring\nA lockless queue, long enough to be itself.\n",
    "corpus/gone.md": "# Gone\n",
    "corpus/logo.png": b"\x89PNG\r\n\x1a\n\xff\xfe",
    "faq/faq.md": "Q: Why?\n",
    "notes/é.md": "Notes.\n",
}
V2 = {
    "corpus/mbuf.md": "# Mbuf\nThe mbuf library recycles buffers.\n",
    "corpus/old-name.md": None,
    "corpus/rings/ring.md": "# Ring\nA lockless queue, long enough to be itself.\n",
    "corpus/gone.md": None,
    "corpus/vpp.md": "# VPP\nVector packet processing.\n",
    "faq/faq.md": "Q: Why not?\n",
}
GONE = "32b135bd98ea935d9f226430a36ea9f7"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> DvcRepo:
    """Two folders and a single file under DVC, two tagged versions, one commit in between that touches no data."""
    repo = DvcRepo.create(tmp_path_factory.mktemp("library"))
    repo.write(V1)
    repo.commit("Add the corpus\n\nWith a body.", track=("corpus", "notes", "faq/faq.md"), tag="v1")
    repo.write({"README.md": "A corpus.\n"})
    repo.commit("Explain")
    repo.write(V2)
    repo.commit("Add VPP, rename the ring guide", track=("corpus", "faq/faq.md"), tag="v2")
    repo.push()
    return repo


@pytest.fixture
def copy(library: DvcRepo, tmp_path: Path) -> DvcRepo:
    return library.copy(tmp_path)


def kinds(repo: DvcRepo, old: str, new: str) -> list[tuple[str, str | None, str]]:
    return [(c.kind.value, c.old_path, c.path) for c in Corpus(repo.root).compare_versions(old, new).changes]


V1_TO_V2 = [
    ("removed", None, "corpus/gone.md"),
    ("modified", None, "corpus/mbuf.md"),
    ("renamed", "corpus/old-name.md", "corpus/rings/ring.md"),
    ("added", None, "corpus/vpp.md"),
    ("modified", None, "faq/faq.md"),
]


@pytest.mark.deep
def test_versions_are_the_commits_that_touched_the_corpus_newest_first(library: DvcRepo) -> None:
    newest, oldest = Corpus(library.root).list_versions()
    assert (newest.name, newest.tags, newest.message) == ("v2", ("v2",), "Add VPP, rename the ring guide")
    assert newest.revision == library.git("rev-parse", "v2").strip()
    assert newest.short == newest.revision[:7]
    assert newest.committed == datetime.fromtimestamp(1_760_000_180, UTC)
    assert newest.author == "Ada Lovelace"
    assert (newest.added, newest.removed, newest.modified, newest.renamed) == (1, 1, 2, 1)
    assert (oldest.message, oldest.files, oldest.added, oldest.problem) == ("Add the corpus", 7, 7, "")
    assert oldest.size_bytes == sum(len(text if isinstance(text, bytes) else text.encode()) for text in V1.values())
    assert newest.digest != oldest.digest


@pytest.mark.deep
def test_only_as_many_versions_are_read_as_asked_for(library: DvcRepo) -> None:
    assert [version.name for version in Corpus(library.root).list_versions(limit=1)] == ["v2"]


@pytest.mark.deep
def test_a_tag_elsewhere_and_a_branch_are_versions_too(copy: DvcRepo) -> None:
    copy.git("tag", "-a", "explained", "-m", "annotated", "HEAD~1")
    copy.git("checkout", "--quiet", "-b", "trial", "v1")
    copy.dvc("checkout", "--quiet")
    copy.write({"corpus/trial.md": "Trial.\n"})
    copy.commit("Try", track=("corpus",))
    copy.git("checkout", "--quiet", "main")
    versions = {version.message: version for version in Corpus(copy.root).list_versions()}
    assert versions["Explain"].tags == ("explained",)
    assert (versions["Explain"].added, versions["Explain"].digest) == (0, versions["Add the corpus"].digest)
    assert (versions["Try"].added, versions["Try"].removed) == (1, 0)
    assert Corpus(copy.root).list_files("trial", search="trial")[0].path == "corpus/trial.md"


def test_a_repository_without_commits_has_no_versions_yet(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".dvc").mkdir()
    assert Corpus(tmp_path).list_versions() == ()


@pytest.mark.deep
def test_files_of_a_version_carry_size_and_hash(library: DvcRepo) -> None:
    files = Corpus(library.root).list_files("v1")
    assert [file.path for file in files] == sorted(V1)
    assert {file.path: file.size_bytes for file in files}["corpus/gone.md"] == 7
    assert [file.path for file in Corpus(library.root).list_files("v1", search="GUIDES/e")] == ["corpus/guides/eal.md"]
    assert Corpus(library.root).list_files("v1", search="nothing like it") == ()


@pytest.mark.deep
def test_the_difference_is_the_one_that_dvc_finds(library: DvcRepo) -> None:
    assert kinds(library, "v1", "v2") == V1_TO_V2
    theirs = json.loads(library.dvc("diff", "--json", "v1", "v2"))
    theirs = {
        kind: [e["path"] for e in entries if not str(e["path"]).endswith("/")] for kind, entries in theirs.items()
    }
    assert theirs["added"] == ["corpus/vpp.md"]
    assert theirs["deleted"] == ["corpus/gone.md"]
    assert sorted(theirs["modified"]) == ["corpus/mbuf.md", "faq/faq.md"]
    assert theirs["renamed"] == [{"old": "corpus/old-name.md", "new": "corpus/rings/ring.md"}]


def test_the_difference_reads_the_other_way_round_and_counts(library: DvcRepo) -> None:
    diff = Corpus(library.root).compare_versions("v2", "v1")
    assert [diff.count(kind) for kind in FileChangeKind] == [1, 1, 2, 1, 0]
    assert Corpus(library.root).compare_versions("v1", "v1").changes == ()


@pytest.mark.deep
def test_changes_are_counted_over_several_versions(copy: DvcRepo) -> None:
    copy.write({"corpus/later.md": "Later.\n"})
    copy.commit("Add another", track=("corpus",))
    corpus = Corpus(copy.root)
    assert corpus.list_versions()[0].added == 1
    assert corpus.count_changes("v1", "main") == (2, 1, 2, 1)
    assert corpus.count_changes("v1", "v1") == (0, 0, 0, 0)


def test_sizes_of_a_change_are_those_before_and_after(library: DvcRepo) -> None:
    changes = {change.path: change for change in Corpus(library.root).compare_versions("v1", "v2").changes}
    assert (changes["faq/faq.md"].old_size_bytes, changes["faq/faq.md"].size_bytes) == (8, 12)
    assert changes["corpus/gone.md"].old_md5 == GONE


def test_words_that_changed_are_shown(library: DvcRepo) -> None:
    corpus = Corpus(library.root)
    segments = corpus.compare_text("v1", "v2", "corpus/mbuf.md")
    assert [(s.kind.value, s.text) for s in segments if s.kind != "same"] == [
        ("removed", "allocates"),
        ("added", "recycles"),
    ]
    moved = corpus.compare_text("v1", "v2", "corpus/rings/ring.md", old_path="corpus/old-name.md")
    assert {segment.kind.value for segment in moved} == {"same"}
    assert {s.kind.value for s in corpus.compare_text("v1", "v2", "corpus/vpp.md")} == {"added"}
    with pytest.raises(InvalidInput, match=r"corpus/logo\.png of v1 is not UTF-8 text"):
        corpus.compare_text("v1", "v2", "corpus/logo.png")
    with pytest.raises(NotFound, match="neither in version v1 nor in v2"):
        corpus.compare_text("v1", "v2", "corpus/nope.md")


def test_uncommitted_edits_are_compared_as_workspace(copy: DvcRepo) -> None:
    assert kinds(copy, "v2", "workspace") == []
    copy.write({"corpus/draft.md": "Draft.\n", "corpus/vpp.md": None, "faq/faq.md": "Q: Now?\n"})
    assert kinds(copy, "v2", "workspace") == [
        ("added", None, "corpus/draft.md"),
        ("removed", None, "corpus/vpp.md"),
        ("modified", None, "faq/faq.md"),
    ]
    corpus = Corpus(copy.root)
    assert corpus.read_file("workspace", "corpus/draft.md") == b"Draft.\n"
    assert {file.path: file.size_bytes for file in corpus.list_files("workspace")}["corpus/draft.md"] == 7
    assert corpus.compare_versions("workspace", "v2").count(FileChangeKind.ADDED) == 1


def test_the_workspace_notices_a_second_edit(copy: DvcRepo) -> None:
    corpus = Corpus(copy.root)
    before = corpus.list_files("workspace", search="mbuf")[0].md5
    copy.write({"corpus/mbuf.md": "x" * len(V2["corpus/mbuf.md"] or "")})
    assert corpus.list_files("workspace", search="mbuf")[0].md5 != before


def test_the_workspace_leaves_out_what_dvcignore_names(copy: DvcRepo) -> None:
    copy.write({".dvcignore": "*.tmp\n", "corpus/half.tmp": "half"})
    assert kinds(copy, "v2", "workspace") == []


@pytest.mark.parametrize("path", ["../storage", "README.md", "/etc/passwd", "corpus/../README.md", "corpus"])
def test_only_tracked_files_of_the_workspace_can_be_read(library: DvcRepo, path: str) -> None:
    with pytest.raises(NotFound):
        Corpus(library.root).read_file("workspace", path)


def test_a_tracked_folder_that_is_missing_is_no_mass_removal(copy: DvcRepo) -> None:
    shutil.rmtree(copy.root / "corpus")
    with pytest.raises(
        SourceUnavailable, match=r"corpus is missing from the workspace\. Run: dvc checkout corpus\.dvc"
    ):
        Corpus(copy.root).compare_versions("v2", "workspace")


def test_files_are_read_from_the_cache_and_without_it_from_the_remote(copy: DvcRepo) -> None:
    assert Corpus(copy.root).read_file("v1", "corpus/mbuf.md") == b"# Mbuf\nThe mbuf library allocates buffers.\n"
    shutil.rmtree(copy.cache)
    assert Corpus(copy.root).read_file("v1", "notes/é.md") == b"Notes.\n"
    assert kinds(copy, "v1", "v2") == V1_TO_V2
    assert [version.added for version in Corpus(copy.root).list_versions()] == [1, 7]


def test_data_neither_in_cache_nor_remote_are_named_by_hash(copy: DvcRepo) -> None:
    for store in (copy.cache, copy.storage / "files" / "md5"):
        (store / GONE[:2] / GONE[2:]).unlink()
    with pytest.raises(NotFound, match=rf"corpus/gone\.md of v1: {GONE} is neither in the cache nor in the remote"):
        Corpus(copy.root).read_file("v1", "corpus/gone.md")
    assert {file.path: file.size_bytes for file in Corpus(copy.root).list_files("v1")}["corpus/gone.md"] is None


def test_lost_manifests_are_an_error_and_not_an_empty_difference(copy: DvcRepo) -> None:
    shutil.rmtree(copy.cache)
    shutil.rmtree(copy.storage / "files")
    with pytest.raises(NotFound, match=r"list of files of corpus: \w{32}\.dir is neither"):
        Corpus(copy.root).compare_versions("v1", "v2")
    newest, oldest = Corpus(copy.root).list_versions()
    assert (newest.added, newest.removed, newest.modified) == (None, None, None)
    assert (newest.files, oldest.files) == (7, 7)


def test_a_cache_directory_set_elsewhere_is_used(copy: DvcRepo, tmp_path: Path) -> None:
    (copy.root / ".dvc" / "cache").rename(tmp_path / "shared-cache")
    (copy.root / ".dvc" / "config.local").write_text("[cache]\n    dir = ../../shared-cache\n")
    assert Corpus(copy.root).read_file("v1", "corpus/gone.md") == b"# Gone\n"


@pytest.mark.parametrize(
    ("location", "why"),
    [("nowhere", "is not a folder on this machine"), ("", "is not in a git repository. Run there: git init")],
)
def test_a_location_that_is_no_repository_says_so(tmp_path: Path, location: str, why: str) -> None:
    with pytest.raises(SourceUnavailable, match=why):
        Corpus(tmp_path / location)


def test_a_git_repository_without_dvc_says_so(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    with pytest.raises(SourceUnavailable, match=r"but not a DVC repository. Run there: dvc init"):
        Corpus(tmp_path)


@pytest.mark.parametrize("revision", ["v9", "deadbeef", "--all", "HEAD~99", "v1:corpus.dvc", "../x"])
def test_an_unknown_revision_says_so(library: DvcRepo, revision: str) -> None:
    with pytest.raises(NotFound, match="there is no revision"):
        Corpus(library.root).list_files(revision)


def test_an_empty_revision_is_refused(library: DvcRepo) -> None:
    with pytest.raises(InvalidInput, match="revision: is empty"):
        Corpus(library.root).list_files(" ")


def test_a_path_of_another_version_says_so(library: DvcRepo) -> None:
    with pytest.raises(NotFound, match=r"corpus/vpp\.md is not in version v1"):
        Corpus(library.root).read_file("v1", "corpus/vpp.md")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<<<<<<< HEAD\n- md5: a\n=======\n- md5: b\n>>>>>>> x\n", "in a merge conflict"),
        ("outs:\n- path: corpus\n", "half written: corpus has no md5"),
        ("outs:\n- md5: [", "half written"),
    ],
)
def test_a_broken_dvc_file_is_a_problem_of_its_version_only(copy: DvcRepo, text: str, why: str) -> None:
    copy.write({"corpus.dvc": text})
    with pytest.raises(SourceUnavailable, match=why):
        Corpus(copy.root).list_files("workspace")
    copy.commit("Break it")
    broken, good, _ = Corpus(copy.root).list_versions()
    assert why in broken.problem
    assert (broken.added, good.added, good.problem) == (None, 1, "")
    with pytest.raises(SourceUnavailable, match=why):
        Corpus(copy.root).compare_versions("v2", "HEAD")


def test_a_damaged_manifest_is_named(copy: DvcRepo) -> None:
    for manifest in copy.cache.glob("*/*.dir"):
        manifest.chmod(0o644)
        manifest.write_text("[{")
    with pytest.raises(SourceUnavailable, match=r"manifest \w{32}\.dir is damaged"):
        Corpus(copy.root).compare_versions("v1", "v2")
    assert Corpus(copy.root).list_versions()[0].added is None


def test_verify_fetches_everything_and_reports_what_is_damaged_or_missing(copy: DvcRepo) -> None:
    seen: list[tuple[int, int]] = []
    report = Corpus(copy.root).verify_version("v1", on_progress=lambda done, total: seen.append((done, total)))
    assert report.is_whole
    assert (report.files, report.remote, seen[-1]) == (7, "origin", (7, 7))
    lost = copy.storage / "files" / "md5" / GONE[:2] / GONE[2:]
    lost.unlink()
    faq = next(file for file in Corpus(copy.root).list_files("v1") if file.path == "faq/faq.md")
    bent = copy.storage / "files" / "md5" / faq.md5[:2] / faq.md5[2:]
    bent.chmod(0o644)
    bent.write_text("Q: Whx?\n")
    report = Corpus(copy.root).verify_version("v1")
    assert not report.is_whole
    assert [file.path for file in report.damaged] == ["faq/faq.md"]
    assert [file.path for file in report.missing] == ["corpus/gone.md"]


def test_verify_can_be_cancelled_and_leaves_nothing(
    library: DvcRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, _: int) -> None:
        if done == 2:
            raise InterruptedError

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(InterruptedError):
        Corpus(library.root).verify_version("v1", on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_holds_the_files_of_the_version(library: DvcRepo, tmp_path: Path) -> None:
    with zipfile.ZipFile(Corpus(library.root).archive("v1", tmp_path / "v1.zip")) as bundle:
        assert bundle.testzip() is None
        assert sorted(bundle.namelist()) == sorted(V1)
        assert bundle.read("corpus/logo.png") == V1["corpus/logo.png"]


def test_an_archive_that_fails_leaves_nothing(copy: DvcRepo, tmp_path: Path) -> None:
    for store in (copy.cache, copy.storage / "files" / "md5"):
        (store / GONE[:2] / GONE[2:]).unlink()
    with pytest.raises(NotFound, match=GONE):
        Corpus(copy.root).archive("v1", tmp_path / "v1.zip")
    assert list(tmp_path.glob("*.zip*")) == []
    with pytest.raises(SourceUnavailable, match="cannot be written"):
        Corpus(copy.root).archive("v2", tmp_path / "no such folder" / "v2.zip")


@pytest.mark.deep
def test_the_restore_commands_bring_the_version_back(copy: DvcRepo) -> None:
    assert Corpus(copy.root).restore_commands("v1") == (
        f"cd {copy.root}",
        "git checkout v1",
        "dvc pull corpus.dvc faq/faq.md.dvc notes.dvc",
    )
    copy.git("checkout", "--quiet", "v1")
    copy.dvc("pull", "--quiet", "corpus.dvc", "faq/faq.md.dvc", "notes.dvc")
    assert (copy.root / "corpus" / "gone.md").read_text() == "# Gone\n"
    assert Corpus(copy.root).compare_versions("v1", "workspace").changes == ()


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*")}


def test_reading_writes_nothing_and_does_not_wait_for_dvcs_lock(copy: DvcRepo, tmp_path: Path) -> None:
    lock = copy.root / ".dvc" / "tmp" / "lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        before = snapshot(copy.root), snapshot(copy.storage)
        corpus = Corpus(copy.root)
        assert len(corpus.list_versions()) == 2
        assert corpus.compare_versions("v1", "workspace").changes
        corpus.read_file("v1", "corpus/gone.md")
        assert corpus.verify_version("v1").is_whole
        corpus.list_stale_stages()
        assert (snapshot(copy.root), snapshot(copy.storage)) == before


def test_one_corpus_serves_many_threads(library: DvcRepo) -> None:
    corpus = Corpus(library.root)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: corpus.compare_versions("v1", "v2"), range(40)))
    assert all(diff == found[0] for diff in found)


def test_a_dvc_repository_in_a_subfolder_is_read_from_its_own_root(tmp_path: Path, library: DvcRepo) -> None:
    top = DvcRepo(tmp_path / "repo", tmp_path / "storage", tmp_path / "site")
    top.root.mkdir()
    top.git("init", "--quiet", "--initial-branch=main")
    top.write({"README.md": "Before DVC.\n"})
    top.commit("Start", tag="v0")
    inner = top.root / "docs"
    (inner / ".dvc").mkdir(parents=True)
    top.write({"docs/.dvc/config": "", "docs/faq.md.dvc": f"outs:\n- md5: {GONE}\n  size: 7\n  path: faq.md\n"})
    top.commit("Add DVC")
    corpus = Corpus(inner)
    assert corpus.root == inner
    assert [(file.path, file.size_bytes) for file in corpus.list_files("HEAD")] == [("faq.md", 7)]
    assert [(version.name, version.files) for version in corpus.list_versions()][-1] == ("v0", 0)
    assert len(corpus.list_versions()) == 2


def test_a_bare_repository_is_read_with_the_settings_of_its_head(library: DvcRepo, tmp_path: Path) -> None:
    library.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    corpus = Corpus(f"file://{tmp_path / 'bare.git'}")
    assert [version.name for version in corpus.list_versions()] == ["v2", "v1"]
    assert corpus.read_file("v1", "corpus/gone.md") == b"# Gone\n"
    assert corpus.compare_versions("v1", "v2").count(FileChangeKind.RENAMED) == 1
    assert corpus.restore_commands("v2")[0].startswith("git clone ")
    with pytest.raises(InvalidInput, match="has no workspace"):
        corpus.compare_versions("v1", "workspace")


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(401)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Serving(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(handler: object) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_remote_over_http_is_read_and_verified(copy: DvcRepo) -> None:
    shutil.rmtree(copy.cache)
    with served(partial(_Serving, directory=str(copy.storage))) as url:
        copy.set_remote(url)
        corpus = Corpus(copy.root)
        assert corpus.list_versions()[0].added is None
        assert corpus.compare_versions("v1", "v2").count(FileChangeKind.ADDED) == 1
        assert corpus.read_file("v1", "corpus/gone.md") == b"# Gone\n"
        assert corpus.verify_version("v1").is_whole
        (copy.storage / "files" / "md5" / GONE[:2] / GONE[2:]).unlink()
        with pytest.raises(NotFound, match=GONE):
            corpus.read_file("v1", "corpus/gone.md")


def test_a_remote_that_refuses_and_one_that_is_away_are_told_apart(copy: DvcRepo) -> None:
    shutil.rmtree(copy.cache)
    with served(_Refusing) as url:
        copy.set_remote(url)
        with pytest.raises(SourceUnavailable, match=r"'origin' .* refused access: credentials are missing"):
            Corpus(copy.root).read_file("v1", "faq/faq.md")
    with pytest.raises(SourceUnavailable, match=r"'origin' .* cannot be reached"):
        Corpus(copy.root).read_file("v1", "faq/faq.md")
    copy.set_remote("http://127.0.0.1:14013")  # nothing listens there, and 401 is no status in it
    with pytest.raises(SourceUnavailable, match=r"'origin' .* cannot be reached"):
        Corpus(copy.root).read_file("v1", "faq/faq.md")
    copy.set_remote(str(copy.root / "unmounted"))
    with pytest.raises(SourceUnavailable, match="cannot be reached: there is no such folder"):
        Corpus(copy.root).verify_version("v1")
    copy.set_remote("s3://bucket/data")
    with pytest.raises(SourceUnavailable, match=r"'origin' \(s3://bucket/data\) needs another package"):
        Corpus(copy.root).read_file("v1", "faq/faq.md")


def test_no_remote_and_unreadable_settings_are_told_apart(copy: DvcRepo) -> None:
    shutil.rmtree(copy.cache)
    (copy.root / ".dvc" / "config.local").unlink()
    (copy.root / ".dvc" / "config").write_text("")
    with pytest.raises(SourceUnavailable, match=r"no DVC remote is set. Run: dvc remote add"):
        Corpus(copy.root).read_file("v1", "faq/faq.md")
    (copy.root / ".dvc" / "config").write_text("[cache\ndir = 1")
    with pytest.raises(SourceUnavailable, match=r"settings in .* cannot be read"):
        Corpus(copy.root).list_versions()


def test_a_url_is_cloned_once_and_then_brought_up_to_date(copy: DvcRepo, tmp_path: Path) -> None:
    bare = tmp_path / "served" / "corpus.git"
    copy.git("clone", "--quiet", "--bare", ".", str(bare))
    copy.git("--git-dir", str(bare), "update-server-info")
    with served(partial(_Serving, directory=str(bare.parent))) as address:
        url = f"{address}/corpus.git"
        assert [v.name for v in Corpus(url, clones=tmp_path / "clones").list_versions()] == ["v2", "v1"]
        copy.git("--git-dir", str(bare), "tag", "v2-final", "v2")
        copy.git("--git-dir", str(bare), "update-server-info")
        corpus = Corpus(url, clones=tmp_path / "clones")
        assert corpus.list_versions()[0].tags == ("v2", "v2-final")
        assert len(list((tmp_path / "clones").iterdir())) == 1
        with pytest.raises(SourceUnavailable, match="is not a git repository"):
            Corpus(f"{address}/other.git", clones=tmp_path / "clones")
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        Corpus(f"{address}/third.git", clones=tmp_path / "clones")


def test_a_server_that_runs_for_long_sees_what_was_pushed_to_the_url_meanwhile(
    copy: DvcRepo, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bare = tmp_path / "served" / "corpus.git"
    copy.git("clone", "--quiet", "--bare", ".", str(bare))
    copy.git("--git-dir", str(bare), "update-server-info")
    with served(partial(_Serving, directory=str(bare.parent))) as address:
        settings = {"QUARTERDECK_HOME": str(tmp_path), "QUARTERDECK_CORPUS_REPO": f"{address}/corpus.git"}
        corpus = Corpus(settings["QUARTERDECK_CORPUS_REPO"])
        (job,) = list_local_jobs(load_config(settings), store)
        copy.git("--git-dir", str(bare), "tag", "v3", "v2")
        copy.git("--git-dir", str(bare), "update-server-info")
        assert corpus.list_versions()[0].tags == ("v2",)
        job.run()
        assert corpus.list_versions()[0].tags == ("v2", "v3")


def test_a_url_that_wants_a_password_says_so_without_showing_one(tmp_path: Path) -> None:
    with served(_Refusing) as address:
        url = address.replace("//", "//ada:secret@") + "/corpus.git"
        with pytest.raises(SourceUnavailable, match="refused access: credentials are missing") as caught:
            Corpus(url, clones=tmp_path)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
