"""DVC's own Python API as the referee: whatever a repository is like, it and we list the same files and bytes."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from core.corpus.corpus import Corpus
from tests.core.corpus.generated import STATES, Drawn, Generated

pytestmark = pytest.mark.slow

Listing = dict[str, tuple[int, str, bytes]]


def ask_referee(folder: Path, commit: str, *, cache: Path, prefix: str = "") -> Listing:
    """What DVC finds in a commit: the files that were added, or what stages made if nothing was."""
    from dvc.api import DVCFileSystem
    from dvc.fs import GitFileSystem
    from dvc.repo import Repo
    from scmrepo.git import Git

    scm = Git(str(folder))
    config = {"cache": {"dir": str(cache)}, "core": {"no_scm": True}}
    dvc = Repo(f"/{prefix}", fs=GitFileSystem(scm=scm, rev=commit), scm=scm, config=config)
    outs = [out for out in dvc.index.outs if out.use_cache and out.is_in_repo]
    added = [out for out in outs if not out.stage.cmd]
    files: Any = DVCFileSystem(repo=dvc)
    found: Listing = {}
    for out in added or outs:
        if not out.hash_info and not out.files:
            continue  # an import that was not downloaded: DVC would fetch it from where it is
        top = out.fs.relpath(out.fs_path, dvc.root_dir)
        for path, info in files.find(top, detail=True).items():
            md5 = info.get("md5") or info.get("md5-dos2unix")
            content = files.cat_file(path)
            assert info["size"] in (None, len(content))  # a manifest holds no sizes
            found[path.lstrip("/")] = (len(content), md5, content)
    scm.close()
    return found


def ask_corpus(corpus: Corpus, commit: str) -> Listing:
    listed = corpus.list_files(commit)
    return {file.path: (file.size_bytes, file.md5, corpus.read_file(commit, file.path)) for file in listed}  # type: ignore[misc]


def check(states: list[Drawn], prefix: str) -> None:
    with TemporaryDirectory(prefix="generated-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # DVC's own
        repo = Generated(Path(folder), prefix)
        commits = [repo.commit(state) for state in states]
        corpus = Corpus(repo.root)
        listings = []
        for commit in commits:
            expected = ask_referee(repo.folder / "repo", commit, cache=repo.cache, prefix=repo.prefix)
            assert ask_corpus(corpus, commit) == expected
            listings.append(expected)
        versions = {version.revision: version for version in corpus.list_versions()}
        for commit, expected in zip(commits, listings, strict=True):
            if commit in versions and versions[commit].size_bytes is not None:
                assert versions[commit].files == len(expected)
                assert versions[commit].size_bytes == sum(size for size, _, _ in expected.values())
        old, new = ({path: md5 for path, (_, md5, _) in listing.items()} for listing in (listings[0], listings[-1]))
        changes = corpus.compare_versions(commits[0], commits[-1]).changes
        touched = {path for change in changes for path in (change.path, change.old_path) if path}
        assert touched == {path for path, _ in old.items() ^ new.items()}


@pytest.mark.deep
@settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)  # fmt: skip
@given(st.lists(STATES, min_size=1, max_size=2), st.sampled_from(["", "a", "deep/er"]))
def test_every_repository_is_read_as_dvc_reads_it(states: list[Drawn], prefix: str) -> None:
    check(states, prefix)
