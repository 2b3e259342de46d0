"""Repositories with DVC's rarer settings, each read as DVC's own API reads it, from cache and from the remotes."""

import shutil
from pathlib import Path

import pytest
from dvc.utils.strictyaml import YAMLValidationError

from core.corpus.corpus import WORKSPACE, Corpus
from tests.core.corpus.test_referee import Listing, ask_corpus, ask_referee
from tests.dvc_repos import DvcRepo

pytestmark = [pytest.mark.slow, pytest.mark.deep]


def referee(repo: DvcRepo, commit: str, prefix: str = "") -> Listing:
    """What DVC's own API finds in a commit, with the contents."""
    return ask_referee(repo.root, commit, cache=repo.root / prefix / ".dvc" / "cache", prefix=prefix)


def drop_cache(repo: DvcRepo, prefix: str = "") -> None:
    shutil.rmtree(repo.root / prefix / ".dvc" / "cache")


@pytest.fixture
def repo(tmp_path: Path) -> DvcRepo:
    made = DvcRepo.create(tmp_path)
    made.dvc("remote", "add", "--quiet", "second", str(tmp_path / "second"))
    (tmp_path / "second").mkdir()
    return made


def test_files_in_another_folder_in_a_remote_of_their_own_and_never_pushed(repo: DvcRepo) -> None:
    """A `.dvc` file with `wdir`, an output with `remote`, one with `push: false`, and DVC that stages for git."""
    repo.dvc("config", "core.autostage", "true")
    repo.write({"data/docs/a.md": "a\n", "data/docs/sub/ä b.md": "b\n", "data/one.txt": "one\n", "kept.txt": "kept\n"})
    repo.dvc("add", "--quiet", "data/docs", "data/one.txt", "kept.txt")
    docs = (repo.root / "data" / "docs.dvc").read_text()
    repo.write({"data/docs.dvc": None, "meta/docs.dvc": f"wdir: ../data\n{docs}"})
    ignored = (repo.root / "data" / ".gitignore").read_text()
    repo.write({"data/.gitignore": ignored})
    one = (repo.root / "data" / "one.txt.dvc").read_text()
    repo.write({"data/one.txt.dvc": f"{one.rstrip()}\n  remote: second\n"})
    kept = (repo.root / "kept.txt.dvc").read_text()
    repo.write({"kept.txt.dvc": f"{kept.rstrip()}\n  push: false\n"})
    commit = repo.commit("rare", tag="v1")
    repo.dvc("push", "--quiet")
    expected = referee(repo, commit)
    assert set(expected) == {"data/docs/a.md", "data/docs/sub/ä b.md", "data/one.txt", "kept.txt"}
    assert ask_corpus(Corpus(repo.root), commit) == expected
    assert {file.path for file in Corpus(repo.root).list_files(WORKSPACE)} == set(expected)
    kept_md5 = expected.pop("kept.txt")[1]
    drop_cache(repo)
    corpus = Corpus(repo.root)
    found = {
        file.path: corpus.read_file(commit, file.path) for file in corpus.list_files(commit) if file.path in expected
    }
    assert found == {path: content for path, (_, _, content) in expected.items()}
    with pytest.raises(LookupError, match=kept_md5):
        corpus.read_file(commit, "kept.txt")


def test_outputs_of_foreach_and_matrix_with_parameters_and_a_lock_of_the_first_schema(repo: DvcRepo) -> None:
    """Stages that are templates, an output that git keeps, a stage in another folder.

    A `dvc.lock` without a schema is DVC 1.0's, which DVC refuses today.
    """
    repo.write({
        "params.yaml": "langs: [de, en]\nout: built\n",
        "dvc.yaml": (
            "vars:\n- sizes: {small: 1, large: 2}\n"
            "stages:\n"
            "  split:\n    foreach: ${langs}\n    do:\n"
            "      cmd: mkdir -p ${out}/${item} && echo ${item} > ${out}/${item}/text.md\n"
            "      params: [out]\n      outs:\n      - ${out}/${item}\n"
            "  cut:\n    matrix:\n      lang: [de]\n      size: [small, large]\n"
            "    cmd: echo ${item.lang} ${item.size} > ${item.lang}-${item.size}.md\n"
            "    outs:\n    - ${item.lang}-${item.size}.md\n"
            "  note:\n    cmd: echo 3 > count.txt && echo kept > kept.md\n"
            "    outs:\n    - count.txt:\n        cache: false\n"
            "    - kept.md:\n        persist: true\n        push: false\n"
            "  inside:\n    wdir: work\n    cmd: echo inside > made.md\n"
            "    outs:\n    - made.md:\n        remote: second\n"
        ),
        "work/.gitkeep": "",
    })  # fmt: skip
    repo.dvc("repro", "--quiet")
    first = repo.commit("made")
    repo.dvc("push", "--quiet")
    expected = referee(repo, first)
    assert set(expected) == {
        "built/de/text.md", "built/en/text.md", "de-small.md", "de-large.md", "kept.md", "work/made.md",
    }  # fmt: skip
    assert ask_corpus(Corpus(repo.root), first) == expected
    assert {file.path for file in Corpus(repo.root).list_files(WORKSPACE)} == set(expected)
    lock = (repo.root / "dvc.lock").read_text()
    stages = "".join(
        line[2:] if line.startswith("  ") else line for line in lock.partition("stages:\n")[2].splitlines(True)
    )
    repo.write({"dvc.lock": stages})
    old = repo.commit("a lock of DVC 1.0")
    assert "schema" not in stages
    with pytest.raises(YAMLValidationError):
        referee(repo, old)
    found = {version.revision: version.problem for version in Corpus(repo.root).list_versions()}
    assert (found[first], "dvc.lock' validation failed" in found[old]) == ("", True)
    drop_cache(repo)
    corpus = Corpus(repo.root)
    pushed = {path: content for path, (_, _, content) in expected.items() if path != "kept.md"}
    assert {path: corpus.read_file(first, path) for path in pushed} == pushed


def test_projects_within_projects_and_imports_of_a_tag(tmp_path: Path) -> None:
    """`dvc init --subdir` twice, one inside the other, with an import pinned to a tag that has moved on since."""
    source = DvcRepo.create(tmp_path / "source")
    source.write({"docs/a.md": "first\n"})
    source.commit("first", track=("docs",), tag="v1")
    source.write({"docs/a.md": "second\n"})
    source.commit("second", track=("docs",), tag="v2")
    source.push()
    top = DvcRepo(tmp_path / "repo", tmp_path / "storage", tmp_path / "site")
    top.root.mkdir()
    top.git("init", "--quiet", "--initial-branch=main")
    for prefix in ("a", "a/inner"):
        inner = DvcRepo(top.root / prefix, top.storage, top.site_cache)
        inner.root.mkdir(parents=True, exist_ok=True)
        inner.dvc("init", "--quiet", "--subdir")
        inner.dvc("remote", "add", "--quiet", "-d", "origin", str(top.storage))
        inner.write({f"own/{prefix[-1]}.md": f"{prefix}\n"})
        inner.dvc("add", "--quiet", "own")
        inner.dvc("import", "--quiet", "--rev", "v1", str(source.root), "docs", "-o", "taken")
        inner.dvc("push", "--quiet")
    commit = top.commit("both", tag="v1")
    for prefix in ("a", "a/inner"):
        expected = referee(top, commit, prefix)
        assert set(expected) == {f"own/{prefix[-1]}.md", "taken/a.md"}
        assert expected["taken/a.md"][2] == b"first\n"
        assert ask_corpus(Corpus(top.root / prefix), commit) == expected
        assert {file.path for file in Corpus(top.root / prefix).list_files(WORKSPACE)} == set(expected)
