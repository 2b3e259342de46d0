"""What somebody who may push to the corpus' repository can do to the server: read its files, write to them, stop it."""

import json
import os
import shutil
import subprocess
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from core.corpus import readers
from core.corpus.checkout import Checkout
from core.corpus.corpus import WORKSPACE, Corpus
from core.corpus.leftovers import remove_leftovers
from core.corpus.manifests import Manifest
from core.corpus.pipeline import list_stages, list_stale_stages
from core.corpus.rebuild import KIND, find_rebuild, jobs_of
from core.errors import InvalidInput, NotFound, QuarterdeckError, SourceUnavailable
from core.indexes.ingest import read_folder, read_version
from tests.attacks.conftest import attacking
from tests.browser.conftest import PATIENCE_MS, Visit
from tests.dvc_repos import DvcRepo

SECRET = "QUARTERDECK_COOKIE_SECRET=topsecret"
EMPTY_FOLDER = "d751713988987e9331980363e24189ce.dir"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> DvcRepo:
    repo = DvcRepo.create(tmp_path_factory.mktemp("library"))
    repo.write({"corpus/a.md": "# A\n\nText.\n", "corpus/deep/b.md": "# B\n\nText.\n"})
    repo.commit("first", track=("corpus",), tag="v1")
    repo.push()
    return repo


@pytest.fixture
def repo(library: DvcRepo, tmp_path: Path) -> DvcRepo:
    return library.copy(tmp_path / "copy")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the server that the repository must not reach."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "cookie.env").write_text(SECRET)
    (folder / "settings.yaml").write_text("password: topsecret\n")
    return folder


def track(repo: DvcRepo, path: str, md5: str = "d41d8cd98f00b204e9800998ecf8427e") -> None:
    name = path.rsplit("/", 1)[-1]
    (repo.root / f"{path}.dvc").write_text(f"outs:\n- path: {name}\n  md5: {md5}\n  hash: md5\n")


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["file", "folder", "within a tracked folder", "above a tracked file"])
def test_a_link_out_of_the_working_copy_is_listed_and_not_followed(repo: DvcRepo, outside: Path, kind: str) -> None:
    path = "corpus/cookie.env" if kind == "within a tracked folder" else "cookie.env"
    if kind == "file":
        (repo.root / path).symlink_to(outside / "cookie.env")
        track(repo, path)
    elif kind == "folder":
        (repo.root / "secrets").symlink_to(outside)
        track(repo, "secrets", EMPTY_FOLDER)
        path = "secrets"
    elif kind == "above a tracked file":
        (repo.root / "secrets").symlink_to(outside)
        (repo.root / "cookie.env.dvc").write_text(
            "outs:\n- path: secrets/cookie.env\n  md5: d41d8cd98f00b204e9800998ecf8427e\n  hash: md5\n"
        )
        path = "secrets/cookie.env"
    else:
        (repo.root / path).symlink_to(outside / "cookie.env")
    corpus = Corpus(repo.root)
    listed = {file.path: file for file in corpus.list_files(WORKSPACE)}
    assert (listed[path].size_bytes, listed[path].md5) == (None, "")
    assert not any(name.startswith("secrets/") for name in listed if name != path)
    assert listed["corpus/a.md"].size_bytes == 11
    for name in (path, "secrets/cookie.env"):
        with pytest.raises((SourceUnavailable, NotFound)) as refused:
            corpus.read_file(WORKSPACE, name)
        assert "topsecret" not in str(refused.value)
    assert corpus.compare_versions("v1", WORKSPACE).changes
    with pytest.raises(SourceUnavailable, match="leads elsewhere"):
        corpus.archive(WORKSPACE, outside / "all.zip")


@pytest.mark.deep
def test_a_link_within_the_repository_and_one_into_dvcs_cache_are_followed(repo: DvcRepo) -> None:
    (repo.root / "corpus" / "same.md").symlink_to("a.md")
    corpus = Corpus(repo.root)
    assert corpus.read_file(WORKSPACE, "corpus/same.md") == b"# A\n\nText.\n"
    shutil.move(repo.root / ".dvc" / "cache", repo.root.parent / "cache")
    repo.dvc("cache", "dir", "--local", str(repo.root.parent / "cache"))
    repo.dvc("config", "--local", "cache.type", "symlink")
    shutil.rmtree(repo.root / "corpus")
    repo.dvc("checkout", "--quiet")
    assert (repo.root / "corpus" / "a.md").is_symlink()
    assert Corpus(repo.root).read_file(WORKSPACE, "corpus/a.md") == b"# A\n\nText.\n"
    assert read_folder(repo.root / "corpus").documents == 2


@pytest.mark.deep
def test_what_is_no_regular_file_is_neither_waited_for_nor_read_for_ever(repo: DvcRepo) -> None:
    os.mkfifo(repo.root / "corpus" / "pipe.md")
    (repo.root / "corpus" / "zero.md").symlink_to("/dev/zero")
    (repo.root / "corpus" / "gone.md").symlink_to("nowhere")
    corpus = Corpus(repo.root)
    found = {file.path: file.md5 for file in corpus.list_files(WORKSPACE)}
    assert [found[f"corpus/{name}.md"] for name in ("pipe", "zero", "gone")] == ["", "", ""]
    for name in ("pipe", "zero", "gone"):
        with pytest.raises((SourceUnavailable, NotFound)):
            corpus.read_file(WORKSPACE, f"corpus/{name}.md")


def test_an_index_holds_nothing_that_a_link_leads_to(repo: DvcRepo, outside: Path) -> None:
    (outside / "private.md").write_text("# Private\n\ntopsecret\n")
    (repo.root / "corpus" / "private.md").symlink_to(outside / "private.md")
    for source in (read_folder(repo.root / "corpus"), read_version(Corpus(repo.root), WORKSPACE)):
        assert not any("topsecret" in chunk.text for chunk in source.chunks)
        assert [problem.document for problem in source.problems] == ["private.md"]
        assert "leads elsewhere" in source.problems[0].reason


def test_a_dvc_file_that_is_a_link_is_named(repo: DvcRepo, outside: Path) -> None:
    (repo.root / "x.dvc").symlink_to(outside / "settings.yaml")
    with pytest.raises(SourceUnavailable, match=r"x\.dvc is a link that leads elsewhere"):
        Corpus(repo.root).list_files(WORKSPACE)


@pytest.mark.parametrize(
    ("relpath", "md5"),
    [("x", "../../../../../../../../../../../../{outside}/cookie.env"), ("../../x", "d41d8cd98f00b204e9800998ecf8427e"),
     ("/etc/x", "d41d8cd98f00b204e9800998ecf8427e")],
)  # fmt: skip
def test_a_list_of_files_within_a_dvc_file_leads_nowhere_else(
    repo: DvcRepo, outside: Path, relpath: str, md5: str
) -> None:
    files = [{"relpath": relpath, "md5": md5.format(outside=outside)}]
    repo.write({"cloud.dvc": json.dumps({"outs": [{"path": "cloud", "files": files}]})})
    repo.commit("cloud", tag="v2")
    corpus = Corpus(repo.root)
    with pytest.raises(SourceUnavailable, match=r"cloud\.dvc is half written"):
        corpus.list_files("v2")
    assert [version.name for version in corpus.list_versions()] == ["v2", "v1"]


def test_an_object_that_is_a_link_or_no_hash_is_not_read(repo: DvcRepo, outside: Path) -> None:
    corpus = Corpus(repo.root)
    md5 = next(file.md5 for file in corpus.list_files("v1") if file.path == "corpus/a.md")
    for top in (repo.cache, repo.storage / "files" / "md5"):
        (top / md5[:2] / md5[2:]).unlink()
        (top / md5[:2] / md5[2:]).symlink_to(outside / "cookie.env")
    with pytest.raises(SourceUnavailable, match="only a link or an invalid hash"):
        corpus.read_file("v1", "corpus/a.md")
    with pytest.raises(SourceUnavailable, match="only a link or an invalid hash"):
        corpus.verify_version("v1")


def test_settings_of_dvc_that_are_a_link_are_not_read(repo: DvcRepo, outside: Path) -> None:
    (repo.root / ".dvc" / "config").unlink()
    (repo.root / ".dvc" / "config").symlink_to(outside / "settings.yaml")
    with pytest.raises(SourceUnavailable, match="config is a link that leads elsewhere"):
        Corpus(repo.root).list_files("v1")


@pytest.mark.parametrize("how", ["vars", "params", "wdir", "link"])
def test_a_pipeline_shows_no_value_of_a_file_outside(repo: DvcRepo, outside: Path, how: str) -> None:
    away = os.path.relpath(outside / "settings.yaml", repo.root)
    stage: dict[str, object] = {"cmd": "echo ${password}" if how == "vars" else "echo"}
    if how == "params":
        stage["params"] = [{away: ["password"]}]
    if how == "wdir":
        stage |= {"wdir": os.path.relpath(outside, repo.root), "params": [{"settings.yaml": ["password"]}]}
    if how == "link":
        (repo.root / "linked.yaml").symlink_to(outside / "settings.yaml")
        stage["params"] = [{"linked.yaml": ["password"]}]
    locked = {"cmd": "echo", "params": {name: {"password": "x"} for name in (away, "settings.yaml", "linked.yaml")}}
    repo.write({
        "dvc.yaml": json.dumps({"stages": {"s": stage}} | ({"vars": [away]} if how == "vars" else {})),
        "dvc.lock": json.dumps({"schema": "2.0", "stages": {"s": locked}}),
    })  # fmt: skip
    checkout, said = Checkout(repo.root), ""
    try:
        said = f"{list_stages(checkout)} {list_stale_stages(checkout)}"
    except QuarterdeckError as error:
        said = str(error)
    assert said
    assert "topsecret" not in said


@pytest.mark.parametrize("name", [".dvcignore", "corpus/.dvcignore", ".gitignore", "corpus/.gitignore"])
def test_an_ignore_file_that_never_ends_is_not_read(repo: DvcRepo, name: str) -> None:
    (repo.root / name).unlink(missing_ok=True)
    (repo.root / name).symlink_to("/dev/zero")
    listed = {file.path: file.md5 for file in Corpus(repo.root).list_files(WORKSPACE)}
    assert listed["corpus/a.md"]
    assert listed.get(name, "") == ""


@pytest.mark.parametrize("name", ["log", "job.json", "lock"])
def test_the_log_of_a_rebuild_is_no_link_that_somebody_committed(repo: DvcRepo, outside: Path, name: str) -> None:
    place = repo.root / ".dvc" / "tmp" / "quarterdeck" / KIND
    place.mkdir(parents=True)
    (place / "job.json").write_text(
        json.dumps({"subject": "s", "actor": "a", "started": "2026-01-01T00:00:00+00:00"})
    )  # fmt: skip
    (place / name).unlink(missing_ok=True)
    (place / name).symlink_to(outside / "cookie.env")
    corpus = Corpus(repo.root)
    with pytest.raises(SourceUnavailable, match="leads elsewhere"):
        find_rebuild(corpus)
    with pytest.raises(SourceUnavailable, match="leads elsewhere"):
        jobs_of(corpus).read_log(KIND)
    with pytest.raises(SourceUnavailable, match="leads elsewhere"):
        jobs_of(corpus).start(KIND, ["true"], subject="s", actor="a")
    assert (outside / "cookie.env").read_text() == SECRET


@pytest.mark.parametrize("link", [".dvc/tmp", ".dvc/tmp/rwlock", ".dvc/tmp/rwlock.lock"])
def test_dvcs_lock_is_not_written_through_a_link(repo: DvcRepo, outside: Path, link: str) -> None:
    (outside / "rwlock").write_text('{"write": {}, "read": {}}')
    shutil.rmtree(repo.root / ".dvc" / "tmp", ignore_errors=True)
    (repo.root / link).parent.mkdir(exist_ok=True)
    (repo.root / link).symlink_to(outside if link == ".dvc/tmp" else outside / "rwlock")
    before = {path.name: path.read_text() for path in outside.iterdir()}
    with pytest.raises(SourceUnavailable, match="leads elsewhere"):
        remove_leftovers(repo.root)
    assert {path.name: path.read_text() for path in outside.iterdir()} == before


@pytest.mark.parametrize("path", ["corpus/a\x00.md", "\x00", "corpus/\ud800.md"])
@pytest.mark.parametrize("revision", [WORKSPACE, "v1"])
def test_what_is_no_path_is_refused(repo: DvcRepo, revision: str, path: str) -> None:
    with pytest.raises((InvalidInput, NotFound)):
        Corpus(repo.root).read_file(revision, path)


def test_an_archive_unpacks_below_its_own_folder(repo: DvcRepo, tmp_path: Path) -> None:
    target = Corpus(repo.root).archive("v1", tmp_path / "v1.zip")
    names = zipfile.ZipFile(target).namelist()
    assert names == ["corpus/a.md", "corpus/deep/b.md"]
    assert not any(name.startswith("/") or ".." in name for name in names)


def test_git_itself_keeps_a_link_as_the_attacks_suppose(repo: DvcRepo, outside: Path, tmp_path: Path) -> None:
    """The attacks above put links into a working copy; they get there by a push and a pull."""
    (repo.root / "cookie.env").symlink_to(outside / "cookie.env")
    track(repo, "cookie.env")
    repo.git("add", "--force", "cookie.env", "cookie.env.dvc")
    repo.git("commit", "--quiet", "--message", "link")
    subprocess.run(["git", "clone", "--quiet", str(repo.root), str(tmp_path / "clone")], check=True)
    corpus = Corpus(tmp_path / "clone")
    with pytest.raises(SourceUnavailable, match="leads elsewhere"):
        corpus.read_file(WORKSPACE, "cookie.env")


LATIN = b"caf\xe9".decode(errors="surrogateescape")
SHOWN = "caf\\351"


def break_names(repo: DvcRepo) -> None:
    """Names whose bytes are not UTF-8, wherever git, DVC and the file system allow them."""
    (repo.root / "corpus" / f"{LATIN}.md").write_text("# Coffee\n\nText.\n")
    (repo.root / LATIN).mkdir()
    (repo.root / LATIN / f"{LATIN}.txt").write_text("text")
    (repo.root / LATIN / f"{LATIN}.dvc").write_text("outs:\n- path: data\n")
    subprocess.run(["git", "add", "--all"], cwd=repo.root, check=True)
    repo.git("commit", "--quiet", "--message", "CAFE au lait", "--author", "CAFE <a@example.org>")
    raw = repo.git("cat-file", "commit", "HEAD").encode().replace(b"CAFE", b"caf\xe9")  # git would correct the name
    write = ["git", "hash-object", "-t", "commit", "-w", "--stdin"]
    commit = subprocess.run(write, cwd=repo.root, input=raw, capture_output=True, check=True).stdout.decode().strip()
    repo.git("update-ref", "HEAD", commit)
    subprocess.run(["git", "tag", LATIN], cwd=repo.root, check=True)
    subprocess.run(["git", "branch", f"branch-{LATIN}"], cwd=repo.root, check=True)


def test_names_that_are_not_utf8_are_shown_as_git_quotes_them_and_can_be_given_back(repo: DvcRepo) -> None:
    break_names(repo)
    corpus = Corpus(repo.root)
    newest = corpus.list_versions()[0]
    assert newest.tags == (SHOWN,)
    assert newest.author == "caf\ufffd"
    assert newest.message == "caf\ufffd au lait"
    assert f"{SHOWN}/{SHOWN}.dvc" in newest.problem
    assert corpus.name_revision(SHOWN) == SHOWN
    assert corpus.find_commit(SHOWN) == newest.revision
    assert newest.revision in corpus.restore_commands(SHOWN)[1]
    json.dumps([version.name for version in corpus.list_versions()], ensure_ascii=False).encode()
    (repo.root / LATIN / f"{LATIN}.dvc").unlink()
    assert f"corpus/{SHOWN}.md" in [file.path for file in corpus.list_files(WORKSPACE)]
    assert corpus.read_file(WORKSPACE, f"corpus/{SHOWN}.md") == b"# Coffee\n\nText.\n"
    source = read_version(corpus, WORKSPACE)
    assert [chunk.document for chunk in source.chunks if "Coffee" in chunk.text] == [f"{SHOWN}.md"]
    assert list_stages(Checkout(repo.root)) == ()


def test_a_name_in_a_manifest_that_is_not_utf8_is_shown_as_git_quotes_it() -> None:
    md5 = "d41d8cd98f00b204e9800998ecf8427e"
    raw = json.dumps([{"md5": md5, "relpath": f"{LATIN}.md"}, {"md5": md5, "relpath": "a.md"}]).encode()
    assert Manifest(raw, "m.dir").entries("corpus") == {f"corpus/{SHOWN}.md": md5, "corpus/a.md": md5}


def test_a_name_with_a_backslash_of_its_own_is_found(repo: DvcRepo) -> None:
    (repo.root / "corpus" / "a\\351.md").write_text("x")
    assert Corpus(repo.root).read_file(WORKSPACE, "corpus/a\\351.md") == b"x"
    with pytest.raises(NotFound):
        Corpus(repo.root).find_commit("no\\351")


MATRIX = {name: [str(number) for number in range(100)] for name in "abcdefgh"}
LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 20)}]\n" for a, b in pairwise("abcdefghij"))


@pytest.mark.parametrize(
    "text",
    [
        "stages: " + "[" * 200_000,
        "- " * 200_000,
        json.dumps({"stages": {"s": {"matrix": MATRIX, "cmd": "echo ${item.a}"}}}),
        json.dumps({"stages": {f"s{number}": {"cmd": "echo"} for number in range(30_000)}}),
        LAUGHS + "vars: [{x: *j}]\nstages: {s: {foreach: '${x}', do: {cmd: 'echo ${item}'}}}\n",
        "stages: {s: {cmd: '" + "x" * 2_000_000 + "'}}\n",
    ],
    ids=["deep", "deep in one line", "a matrix of a thousand million", "many stages", "laughs", "long"],
)
@pytest.mark.deep
def test_a_pipeline_made_to_end_the_server_ends_the_process_that_reads_it(
    repo: DvcRepo, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "DVC_SECONDS", 8)
    (repo.root / "dvc.yaml").write_text(text)
    checkout = Checkout(repo.root)
    for ask in (list_stages, list_stale_stages):
        with pytest.raises(SourceUnavailable, match=r"dvc\.yaml"):
            ask(checkout)
    assert [file.path for file in Corpus(repo.root).list_files("v1")] == ["corpus/a.md", "corpus/deep/b.md"]
    (repo.root / "dvc.yaml").write_text("stages: {s: {cmd: echo}}\n")
    assert [stage.name for stage in list_stages(checkout)] == ["s"]


@pytest.mark.deep
def test_a_commit_of_such_a_pipeline_is_a_problem_of_its_version_only(
    repo: DvcRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "DVC_SECONDS", 8)
    repo.git("rm", "--quiet", "corpus.dvc")
    repo.write({"dvc.yaml": json.dumps({"stages": {"s": {"matrix": MATRIX, "cmd": "echo ${item.a}"}}})})
    repo.write({"dvc.lock": "schema: '2.0'\nstages: {}\n"})
    repo.commit("bomb", tag="v2")
    corpus = Corpus(repo.root)
    versions = {version.name: version for version in corpus.list_versions()}
    assert versions["v2"].problem
    assert (versions["v1"].problem, versions["v1"].files) == ("", 2)


def test_a_huge_dvc_file_is_not_read(repo: DvcRepo) -> None:
    repo.write({"huge.dvc": b"outs: []\n#" + b"x" * 17_000_000})
    repo.commit("huge", tag="v2")
    corpus = Corpus(repo.root)
    assert "huge.dvc is larger than" in corpus.list_versions()[0].problem
    with pytest.raises(SourceUnavailable, match=r"huge\.dvc is half written: is larger than"):
        corpus.list_files(WORKSPACE)
    assert len(corpus.list_files("v1")) == 2


@pytest.mark.deep
@pytest.mark.browser
def test_pages_show_a_hostile_repository_and_no_file_of_the_server(
    repo: DvcRepo, outside: Path, tmp_path: Path, chromium: Browser
) -> None:
    break_names(repo)
    (repo.root / LATIN / f"{LATIN}.dvc").unlink()
    (repo.root / "corpus" / "cookie.env").symlink_to(outside / "cookie.env")
    with attacking(tmp_path / "home", QUARTERDECK_CORPUS_REPO=str(repo.root)) as running:
        page = chromium.new_page()
        page.set_default_timeout(PATIENCE_MS)
        visit = Visit(page, running.address, [])
        for path in ("corpus", "", "drift", "corpus?tab=Files&version=caf%5C351", "corpus?tab=Files&version=workspace"):
            visit.open(path)
            assert page.get_by_test_id("stException").count() == 0, path
        visit.open("corpus?tab=Files&version=workspace&path=corpus%2Fcookie.env")
        assert page.get_by_text("leads elsewhere").count() >= 1
        assert "topsecret" not in page.content()
        page.close()
        assert "Traceback" not in running.log
        assert "topsecret" not in running.log
