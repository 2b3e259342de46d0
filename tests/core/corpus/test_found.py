"""Corpora as they are found: projects in folders, imports without data, tags of old machines, clones of every kind."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pygit2
import pytest
from click.testing import CliRunner

from app.cli import main
from core.corpus.corpus import WORKSPACE, Corpus
from core.corpus.locations import Location, parse_location
from core.errors import InvalidInput, NotFound, SourceUnavailable
from core.indexes.ingest import read_version
from tests.core.corpus.test_corpus import served
from tests.dvc_repos import DvcRepo

pytestmark = pytest.mark.slow


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def clone(source: Path, target: Path, *options: str) -> Path:
    git(source.parent, "clone", "--quiet", *options, str(source), str(target))
    return target


# Projects in folders of a repository


@pytest.fixture(scope="module")
def monorepo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with DVC projects in a/ and b/c/, none at its top, and a bare clone of it."""
    folder = tmp_path_factory.mktemp("mono")
    top = DvcRepo(folder / "repo", folder / "storage", folder / "site")
    top.root.mkdir()
    top.git("init", "--quiet", "--initial-branch=main")
    for part in ("a", "b/c"):
        inner = DvcRepo(top.root / part, top.storage, top.site_cache)
        inner.root.mkdir(parents=True)
        inner.dvc("init", "--quiet", "--subdir")
        inner.dvc("remote", "add", "--quiet", "-d", "origin", str(folder / "storage"))
        inner.write({"docs/1.md": f"{part}\n"})
        inner.dvc("add", "--quiet", "docs")
        inner.dvc("push", "--quiet")
    top.commit("parts", tag="v1")
    clone(top.root, folder / "bare.git", "--bare")
    return folder


@pytest.mark.deep
@pytest.mark.parametrize("place", ["repo", "bare.git"])
def test_a_root_without_dvc_names_the_folders_that_hold_a_project(monorepo: Path, place: str) -> None:
    with pytest.raises(SourceUnavailable) as refused:
        Corpus(monorepo / place)
    assert "these folders of the repository hold one: a, b/c" in str(refused.value)
    assert f"{monorepo / place}#a" in str(refused.value)
    assert "dvc init" not in str(refused.value)


@pytest.mark.deep
@pytest.mark.parametrize("location", ["repo/a", "repo#a", "repo#a/docs", "bare.git#a", "bare.git#/a/"])
def test_a_project_in_a_folder_is_read(monorepo: Path, location: str) -> None:
    corpus = Corpus(f"{monorepo}/{location}")
    assert [version.name for version in corpus.list_versions()] == ["v1"]
    assert [file.path for file in corpus.list_files("v1")] == ["docs/1.md"]
    assert corpus.read_file("v1", "docs/1.md") == b"a\n"
    assert corpus.verify_version("v1").is_whole


def test_a_project_in_a_folder_of_a_url_is_read(monorepo: Path, tmp_path: Path) -> None:
    git(monorepo / "bare.git", "update-server-info")
    with served(partial(SimpleHTTPRequestHandler, directory=str(monorepo))) as address:
        corpus = Corpus(f"{address}/bare.git#b/c", clones=tmp_path)
        assert corpus.read_file("v1", "docs/1.md") == b"b/c\n"
        assert corpus.restore_commands("v1")[0] == f"git clone {address}/bare.git corpus && cd corpus/b/c"
        with pytest.raises(SourceUnavailable, match="hold one: a, b/c"):
            Corpus(f"{address}/bare.git", clones=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("location", ["repo#nope", "bare.git#nope", "bare.git#b"])
def test_a_folder_without_a_project_says_where_there_is_one(monorepo: Path, location: str) -> None:
    with pytest.raises(SourceUnavailable, match="hold one: a, b/c"):
        Corpus(f"{monorepo}/{location}")


def test_a_folder_does_not_lead_out_of_the_repository(monorepo: Path) -> None:
    with pytest.raises(InvalidInput, match="outside of its repository"):
        Corpus(f"{monorepo}/bare.git#../repo/a")


@pytest.mark.deep
def test_the_restore_commands_of_a_project_in_a_folder_work(monorepo: Path, tmp_path: Path) -> None:
    for place in ("repo", "bare.git"):
        corpus = Corpus(f"{monorepo}/{place}#a")
        target = tmp_path / place
        target.mkdir()
        dvc, *arguments = shlex.split(corpus.restore_file_command("v1", "docs/1.md"))
        command = [sys.executable, "-m", dvc, *arguments]
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
        subprocess.run(command, cwd=target, check=True, env=environment, capture_output=True)
        assert (target / "1.md").read_text() == "a\n"


@pytest.mark.deep
def test_a_path_with_a_hash_sign_in_its_name_is_a_path(tmp_path: Path) -> None:
    repo = DvcRepo.create(tmp_path / "c#1")
    assert Corpus(repo.root).list_versions() == ()
    assert parse_location(str(tmp_path / "c#1")) == Location(str(tmp_path / "c#1"))


@pytest.mark.deep
def test_a_project_within_a_project_is_no_part_of_it(tmp_path: Path) -> None:
    outer = DvcRepo.create(tmp_path)
    inner = DvcRepo(outer.root / "inner", outer.storage, outer.site_cache)
    inner.root.mkdir()
    inner.dvc("init", "--quiet", "--subdir")
    inner.write({"docs/1.md": "inner\n"})
    inner.dvc("add", "--quiet", "docs")
    outer.write({"docs/1.md": "outer\n"})
    outer.commit("both", track=("docs",), tag="v1")
    for revision in ("v1", WORKSPACE):
        assert [file.path for file in Corpus(outer.root).list_files(revision)] == ["docs/1.md"]
        assert Corpus(outer.root).read_file(revision, "docs/1.md") == b"outer\n"
        assert Corpus(inner.root).read_file(revision, "docs/1.md") == b"inner\n"


# Imports


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> DvcRepo:
    """Three versions: v1 with docs, v2 with an import that was not downloaded too, v3 with its data."""
    folder = tmp_path_factory.mktemp("imports")
    lib, main_repo = DvcRepo.create(folder / "lib"), DvcRepo.create(folder / "main")
    lib.write({"docs/a.md": "# A\n\nFrom the library.\n"})
    lib.commit("lib", track=("docs",))
    lib.push()
    main_repo.write({"docs/b.md": "# B\n\nText.\n"})
    main_repo.commit("docs", track=("docs",), tag="v1")
    main_repo.dvc("import", "--quiet", "--no-download", str(lib.root), "docs", "-o", "third")
    main_repo.commit("third", tag="v2")
    main_repo.dvc("update", "--quiet", "third.dvc")
    main_repo.commit("its data", tag="v3")
    main_repo.push()
    return main_repo


NOTE = "third of third.dvc is not downloaded, so it is left out. Run: dvc update third.dvc"


@pytest.mark.deep
def test_an_import_that_was_not_downloaded_leaves_the_rest_visible(imported: DvcRepo, tmp_path: Path) -> None:
    corpus = Corpus(imported.root)
    assert [file.path for file in corpus.list_files("v2")] == ["docs/b.md"]
    assert corpus.list_notes("v2") == (NOTE,)
    assert corpus.list_notes("v1") == corpus.list_notes("v3") == ()
    versions = {version.name: version for version in corpus.list_versions()}
    assert (versions["v2"].files, versions["v2"].notes, versions["v2"].problem) == (1, (NOTE,), "")
    assert (versions["v3"].added, versions["v3"].files) == (1, 2)
    diff = corpus.compare_versions("v1", "v2")
    assert (diff.changes, diff.notes) == ((), (NOTE,))
    assert [change.path for change in corpus.compare_versions("v2", "v3").changes] == ["third/a.md"]
    report = corpus.verify_version("v2")
    assert (report.is_whole, report.files, report.notes) == (True, 1, (NOTE,))
    assert corpus.archive("v2", tmp_path / "v2.zip").stat().st_size > 0
    with pytest.raises(NotFound, match="not in version v2"):
        corpus.read_file("v2", "third/a.md")
    assert corpus.restore_commands("v2")[2] == "dvc pull docs.dvc"


@pytest.mark.deep
def test_an_index_is_built_without_what_was_not_downloaded_and_says_so(imported: DvcRepo) -> None:
    source = read_version(Corpus(imported.root), "v2")
    assert source.documents == 1
    assert [(problem.document, problem.reason) for problem in source.problems] == [("v2", NOTE)]


@pytest.mark.deep
def test_the_working_copy_leaves_it_out_too(imported: DvcRepo, tmp_path: Path) -> None:
    copy = imported.copy(tmp_path)
    copy.git("checkout", "--quiet", "v2")
    shutil.rmtree(copy.root / "third", ignore_errors=True)
    corpus = Corpus(copy.root)
    assert [file.path for file in corpus.list_files(WORKSPACE)] == ["docs/b.md"]
    assert corpus.list_notes(WORKSPACE) == (NOTE,)


def test_an_import_whose_data_are_nowhere_leaves_the_rest_visible(imported: DvcRepo, tmp_path: Path) -> None:
    copy = imported.copy(tmp_path)
    shutil.rmtree(copy.root / ".dvc" / "cache")  # dvc push stores no import: it can be had from where it came
    corpus = Corpus(copy.root)
    assert [file.path for file in corpus.list_files("v3")] == ["docs/b.md"]
    (note,) = corpus.list_notes("v3")
    assert "neither here nor in the remote" in note
    assert "dvc fetch third.dvc" in note
    diff = corpus.compare_versions("v1", "v3")
    assert (diff.changes, diff.notes) == ((), (note,))


def test_the_commands_say_what_is_left_out(imported: DvcRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", str(imported.root))
    for command in (["versions"], ["files", "v2"], ["diff", "v1", "v2"], ["verify", "v2"]):
        done = CliRunner().invoke(main, ["corpus", *command])
        assert done.exit_code == 0, done.output
        assert NOTE in done.output, command
    told = json.loads(CliRunner().invoke(main, ["corpus", "versions", "--json"]).stdout)
    assert [version["notes"] for version in told] == [[], [NOTE], []]


# Outputs of a pipeline alone


@pytest.mark.deep
def test_a_version_without_dvc_files_shows_the_outputs_of_its_pipeline(tmp_path: Path) -> None:
    repo = DvcRepo.create(tmp_path)
    stage = "  {0}:\n    wdir: work\n    cmd: mkdir {0} && echo {0} > {0}/a.md\n    outs:\n    - {0}\n"
    repo.write({"dvc.yaml": "stages:\n" + stage.format("pages"), "work/.keep": ""})
    repo.dvc("repro", "--quiet")
    repo.commit("pages", tag="v1")
    repo.write({"README.md": "Nothing of the corpus.\n"})
    repo.commit("explain")
    repo.write({"dvc.yaml": "stages:\n" + stage.format("pages") + stage.format("more")})
    repo.dvc("repro", "--quiet")
    repo.commit("more", tag="v2")
    repo.push()
    corpus = Corpus(repo.root)
    assert [(version.name, version.files, version.added) for version in corpus.list_versions()] == [
        ("v2", 2, 1), ("v1", 1, 1)
    ]  # fmt: skip
    for revision in ("v2", WORKSPACE):
        assert [file.path for file in corpus.list_files(revision)] == ["work/more/a.md", "work/pages/a.md"]
        assert corpus.read_file(revision, "work/more/a.md") == b"more\n"
    assert corpus.compare_versions("v2", WORKSPACE).changes == ()
    assert corpus.verify_version("v2").is_whole
    shutil.rmtree(repo.root / "work" / "more")
    repo.dvc(*shlex.split(corpus.restore_commands("v2")[2])[1:])
    assert (repo.root / "work" / "more" / "a.md").read_text() == "more\n"


@pytest.mark.deep
def test_a_version_whose_pipeline_dvc_refuses_is_named_and_the_others_stay(tmp_path: Path) -> None:
    repo = DvcRepo.create(tmp_path)
    repo.write({"dvc.yaml": "stages: {a: {cmd: mkdir out && echo > out/a.md, outs: [out]}}\n"})
    repo.dvc("repro", "--quiet")
    repo.commit("out", tag="v1")
    repo.write({"dvc.yaml": "stages: {a: {cmd: echo, outs: ['${nope}']}}\n"})
    repo.commit("broken", tag="v2")
    corpus = Corpus(repo.root)
    with pytest.raises(SourceUnavailable, match="version v2: .*nope"):
        corpus.list_files("v2")
    assert [file.path for file in corpus.list_files("v1")] == ["out/a.md"]
    assert [(version.name, bool(version.problem)) for version in corpus.list_versions()] == [
        ("v2", True), ("v1", False)
    ]  # fmt: skip


# Names, sizes and clones


@pytest.mark.deep
@pytest.mark.parametrize("tag", [b"caf\xe9", "größe".encode(), "\u65e5\u672c".encode("shift-jis"), b"\xff\xfe"])
def test_a_tag_in_any_encoding_names_a_version_that_can_be_chosen(tmp_path: Path, tag: bytes) -> None:
    repo = DvcRepo.create(tmp_path)
    repo.write({"docs/1.md": "1\n"})
    commit = repo.commit("docs", track=("docs",))
    subprocess.run([b"git", b"tag", tag], cwd=repo.root, check=True)
    corpus = Corpus(repo.root)
    (version,) = corpus.list_versions()
    json.dumps(version.name, ensure_ascii=False).encode()
    assert corpus.find_commit(version.name) == commit
    assert [file.path for file in corpus.list_files(version.name)] == ["docs/1.md"]


@pytest.mark.deep
def test_a_size_that_nobody_recorded_is_unknown_and_not_nothing(tmp_path: Path) -> None:
    repo = DvcRepo.create(tmp_path)
    repo.write({"docs/1.md": "1\n"})
    repo.commit("docs", track=("docs",), tag="v1")
    lines = (repo.root / "docs.dvc").read_text().splitlines()
    kept = [line for line in lines if "size:" not in line and "nfiles:" not in line]
    repo.write({"docs.dvc": "\n".join(kept) + "\n"})
    repo.commit("as an older DVC wrote it", tag="v2")
    assert Corpus(repo.root).list_versions()[0].size_bytes == 2
    shutil.rmtree(repo.cache)
    newest = Corpus(repo.root).list_versions()[0]
    assert (newest.name, newest.files, newest.size_bytes) == ("v2", None, None)
    done = CliRunner(env={"QUARTERDECK_CORPUS_REPO": str(repo.root)}).invoke(main, ["corpus", "versions"])
    assert "unknown files  size unknown" in done.output
    assert " 0 B" not in done.output


@pytest.mark.deep
def test_a_partial_clone_says_how_to_complete_it(tmp_path: Path) -> None:
    repo = DvcRepo.create(tmp_path)
    repo.write({"docs/1.md": "1\n"})
    repo.commit("one", track=("docs",), tag="v1")
    repo.write({"docs/1.md": "2\n"})
    repo.commit("two", track=("docs",), tag="v2")
    repo.git("config", "uploadpack.allowFilter", "true")
    part = tmp_path / "part"
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", f"file://{repo.root}", str(part))
    with pytest.raises(SourceUnavailable, match="is a partial clone that lacks") as refused:
        Corpus(part).list_versions()
    for command in str(refused.value).partition("Complete it: ")[2].split(", then "):
        subprocess.run(shlex.split(command), check=True, capture_output=True)
    assert [version.name for version in Corpus(part).list_versions()] == ["v2", "v1"]


@pytest.mark.deep
def test_a_shallow_clone_shows_the_versions_that_it_has(tmp_path: Path) -> None:
    repo = DvcRepo.create(tmp_path)
    for number in ("1", "2", "3"):
        repo.write({"docs/1.md": number})
        repo.commit(number, track=("docs",), tag=f"v{number}")
    repo.push()
    part = tmp_path / "part"
    git(tmp_path, "clone", "--quiet", "--depth=2", f"file://{repo.root}", str(part))
    corpus = Corpus(part)
    assert [version.name for version in corpus.list_versions()] == ["v3", "v2"]
    assert corpus.read_file("v2", "docs/1.md") == b"2"


@pytest.mark.deep
def test_a_repository_of_another_user_says_how_to_trust_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = DvcRepo.create(tmp_path)
    if os.geteuid() == 0:
        for path in [repo.root, *repo.root.rglob("*")]:
            os.chown(path, 12_345, 12_345, follow_symlinks=False)
    else:  # who is not root cannot give a file away: libgit2's own words

        def refuse(*_: object) -> None:
            raise pygit2.GitError(f"repository path '{repo.root}/' is not owned by current user")

        monkeypatch.setattr(pygit2, "Repository", refuse)
    with pytest.raises(SourceUnavailable, match="belongs to another user") as refused:
        Corpus(repo.root)
    assert f"git config --global --add safe.directory {repo.root}" in str(refused.value)
