"""Repositories as git may keep them: linked, packed, borrowed, damaged in a part, or with names of another encoding."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from core.corpus.corpus import Corpus
from core.errors import SourceUnavailable
from tests.core.corpus.generated import Drawn, Generated
from tests.core.corpus.test_referee import ask_corpus, ask_referee

pytestmark = pytest.mark.slow


def git(folder: Path, *arguments: str) -> str:
    nobody = {f"GIT_{role}_{key}": "ada@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    environ = os.environ | nobody | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ("git", "-c", "protocol.file.allow=always", *arguments)
    return subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Generated:
    """Two commits with a folder, the second one with a file too; the data are in the cache of `config.local`."""
    made = Generated(tmp_path, "")
    for names in ({"a.md": b"alpha\n"}, {"a.md": b"alpha\n", "b.md": b"beta\n"}):
        added = {"docs": ("folder", names)} | ({"faq": ("file", {"faq": b"asked\n"})} if len(names) > 1 else {})
        made.commit(Drawn(added, {}, "plain", "", has_inner=False, is_dvc_yaml_in_folder=False))
    return made


def keep_as_it_is(repo: Generated) -> Path:
    """No tag at all, and a working copy without the data."""
    return repo.root


def link_a_worktree(repo: Generated) -> Path:
    git(repo.root, "worktree", "add", "--quiet", "../linked", "-b", "team/größe")
    return repo.folder / "linked"


def hold_it_in_another(repo: Generated) -> Path:
    outer = repo.folder / "outer"
    git(repo.folder, "init", "--quiet", str(outer))
    git(outer, "submodule", "--quiet", "add", str(repo.root), "sub")
    git(outer, "commit", "--quiet", "--message", "holds it")
    return outer / "sub"


def hold_another_in_it(repo: Generated) -> Path:
    other = repo.folder / "other"
    git(repo.folder, "init", "--quiet", str(other))
    (other / "never.dvc").write_text("outs: []\n")
    git(other, "add", "--all")
    git(other, "commit", "--quiet", "--message", "another")
    git(repo.root, "submodule", "--quiet", "add", str(other), "sub")
    git(repo.root, "commit", "--quiet", "--message", "holds another")
    return repo.root


def pack_everything(repo: Generated) -> Path:
    for tag in (
        ("team/docs/v1",),
        ("--annotate", "--message", "x", "v2"),
        ("--annotate", "--message", "y", "v3", "v2"),
    ):
        git(repo.root, "tag", *tag)
    git(repo.root, "pack-refs", "--all")
    git(repo.root, "gc", "--quiet", "--prune=now")
    return repo.root


def borrow_its_objects(repo: Generated) -> Path:
    git(repo.folder, "clone", "--quiet", "--shared", str(repo.root), "borrower")
    return repo.folder / "borrower"


def check_out_a_part(repo: Generated) -> Path:
    git(repo.root, "sparse-checkout", "set", "--no-cone", "/.dvc/", "/docs.dvc")
    return repo.root


@pytest.mark.parametrize(
    "shape",
    [
        keep_as_it_is, link_a_worktree, hold_it_in_another, hold_another_in_it, pack_everything, borrow_its_objects,
        check_out_a_part,
    ],
)  # fmt: skip
def test_it_is_read_as_dvc_reads_it(repo: Generated, shape: Callable[[Generated], Path]) -> None:
    expected = ask_referee(repo.folder / "repo", repo.commits[-1], cache=repo.cache, prefix=repo.prefix)
    settings = (repo.root / ".dvc" / "config.local").read_bytes()
    folder = shape(repo)
    (folder / ".dvc" / "config.local").write_bytes(settings)
    corpus = Corpus(folder)
    assert [(version.files, version.problem) for version in corpus.list_versions()] == [(3, ""), (1, "")]
    assert ask_corpus(corpus, "HEAD") == expected
    for tag in git(folder, "tag").split():
        assert corpus.find_commit(tag) == repo.commits[-1]


def test_a_tag_or_a_branch_whose_commit_is_lost_hides_no_other(repo: Generated) -> None:
    for place in ("tags", "heads"):
        (repo.root / ".git" / "refs" / place / "lost").write_text(f"{'1' * 40}\n")
    git(repo.root, "tag", "tree", "HEAD^{tree}")
    assert [version.files for version in Corpus(repo.root).list_versions()] == [3, 1]


def test_a_tag_named_workspace_does_not_hide_the_working_copy(repo: Generated) -> None:
    git(repo.root, "tag", "workspace", "HEAD~1")
    corpus = Corpus(repo.root)
    assert [version.name for version in corpus.list_versions()] == [commit[:7] for commit in reversed(repo.commits)]


def test_a_repository_of_sha256_is_named(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--object-format=sha256")
    (tmp_path / ".dvc").mkdir()
    with pytest.raises(SourceUnavailable, match="unknown object format 'sha256'. DVC and this deck read sha1 alone"):
        Corpus(tmp_path)


def test_a_name_on_which_dvc_would_hang_is_told_at_once(repo: Generated) -> None:
    """A `.dvc` file with a name in latin-1 is read, but where `.dvcignore` has to be asked DVC never ends."""
    odd = repo.root / os.fsdecode(b"caf\xe9.dvc")
    shutil.copy(repo.root / "docs.dvc", odd)
    git(repo.root, "add", "--all")
    git(repo.root, "commit", "--quiet", "--message", "latin-1")
    assert {file.path for file in Corpus(repo.root).list_files("HEAD")} == {"docs/a.md", "docs/b.md", "faq"}
    (repo.root / ".dvcignore").write_text("faq.dvc\n")
    git(repo.root, "commit", "--quiet", "--all", "--message", "with patterns")
    corpus = Corpus(repo.root)
    with pytest.raises(SourceUnavailable, match=r"it has caf\\351\.dvc, whose name is not UTF-8, as DVC needs it"):
        corpus.list_files("HEAD")
    assert len(corpus.list_files(repo.commits[-1])) == 3
