"""Gateway to git: which commits touched the `.dvc` files of a repository, and what those files said.

It reads objects through libgit2 in microseconds, checks nothing out and takes no lock.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pygit2

from core.corpus.ignores import NAME, may_ignore
from core.corpus.outputs import is_lock, read_outputs
from core.corpus.projects import explain_git_error, find_project, is_project
from core.corpus.tracked import Tracked, parse_tracked, split_notes
from core.errors import InvalidInput, NotFound, SourceUnavailable
from core.safety.letters import decode_bytes, quote_bytes, unquote_bytes
from core.safety.yaml_texts import MOST_BYTES

_Blobs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class CommitSnapshot:
    """What one commit tracks. `problem` names an unreadable `.dvc` file, if any; `notes` say what is left out."""

    revision: str
    tags: tuple[str, ...]
    committed: datetime
    author: str
    message: str
    outs: tuple[Tracked, ...]
    problem: str
    notes: tuple[str, ...] = ()


class GitHistory:
    """The history of the `.dvc` files of one DVC repository.

    `folder` is in a working copy, or is a bare repository; `within` is a folder of it, and `shown` its name in
    messages. `root` is the top of the DVC repository, None if bare, and `prefix` its path in the git repository.
    Raises SourceUnavailable if there is no git repository, or DVC is not set up in it.
    """

    def __init__(self, folder: Path, within: str = "", *, shown: str = "") -> None:
        self.folder = folder
        project = find_project(folder, within, shown=shown)
        self._git_dir, self.root, self.prefix = project.git_dir, project.root, project.prefix
        self._trees: dict[Any, _Blobs] = {}
        self._told: dict[Any, tuple[tuple[Tracked, ...], str]] = {}

    def walk(self) -> Iterator[tuple[CommitSnapshot, CommitSnapshot | None]]:
        """Yield every commit that is tagged or changed a `.dvc` file, newest first, each with its first parent.

        Follows HEAD, the local branches and the tags. As in git's log, a merge changed what differs from all of its
        parents.
        """
        with self._open() as git:
            tags = _tags(git)
            for commit in _commits(git, tags):
                state = _sources(self._blobs(commit))
                before = [_sources(self._blobs(parent)) for parent in commit.parents]
                touched = all(state != other for other in before) and (state or before)
                if touched or commit.id in tags:
                    parent = commit.parents[0] if before else None
                    yield self._snapshot(git, commit, tags), parent and self._snapshot(git, parent, tags)

    def get_snapshot(self, revision: str) -> CommitSnapshot:
        """Return what a tag, branch or commit tracks. Raises NotFound if there is no such revision."""
        with self._open() as git:
            return self._snapshot(git, self._commit(git, revision), _tags(git))

    def read_file(self, revision: str, path: str) -> bytes | None:
        """Return a file tracked by git, by its path in the DVC repository; None if the revision has no such file."""
        with self._open() as git:
            if revision == "HEAD" and git.head_is_unborn:
                return None
            tree = self._top(self._commit(git, revision))
            found = tree[path] if tree is not None and path in tree else None
            return found.data if isinstance(found, pygit2.Blob) else None

    def _snapshot(self, git: Any, commit: Any, tags: dict[Any, list[str]]) -> CommitSnapshot:
        found, problem = self._tracked(git, commit)
        outs, notes = split_notes(found)
        return CommitSnapshot(
            revision=str(commit.id),
            tags=tuple(sorted(tags.get(commit.id, ()))),
            committed=datetime.fromtimestamp(commit.commit_time, UTC),
            author=decode_bytes(commit.author.raw_name, commit.message_encoding),
            message=(decode_bytes(commit.raw_message, commit.message_encoding).strip().splitlines() or [""])[0],
            outs=outs,
            problem=problem,
            notes=notes,
        )

    def _tracked(self, git: Any, commit: Any) -> tuple[tuple[Tracked, ...], str]:
        """Return what a commit tracks, and why the rest cannot be read."""
        blobs = self._blobs(commit)
        files = [(path, blob) for path, blob in blobs if path.endswith(".dvc")]
        try:
            ignores = [_read_blob(git, blob, path) for path, blob in blobs if path.endswith(NAME)]
        except SourceUnavailable as error:
            return (), str(error)
        if may_ignore(ignores, (path for path, _ in files)):
            return self._ask_dvc(commit)
        found: list[Tracked] = []
        problem = ""
        for path, blob in files:
            try:
                found += _parse(_read_blob(git, blob, path), path)
            except SourceUnavailable as error:
                problem = problem or str(error)
        has_outputs = files or any(is_lock(path) for path, _ in blobs)
        return self._ask_dvc(commit) if has_outputs and not found and not problem else (tuple(found), problem)

    def _ask_dvc(self, commit: Any) -> tuple[tuple[Tracked, ...], str]:
        """Return what DVC says of a commit; that is slow, so it is kept for each state of the tree."""
        tree = self._top(commit).id
        if tree not in self._told:
            try:
                self._told[tree] = read_outputs(self._git_dir, self.prefix, str(commit.id)), ""
            except SourceUnavailable as error:
                self._told[tree] = (), str(error)
        return self._told[tree]

    def _blobs(self, commit: Any) -> _Blobs:
        """Return (path, blob) of every file in a commit that says what is tracked."""
        tree = self._top(commit)
        return () if tree is None else self._blobs_below(tree)

    def _blobs_below(self, tree: Any) -> _Blobs:
        """Walk each git folder once, because most of them are the same in the next commit."""
        found = self._trees.get(tree.id)
        if found is None:
            files: list[tuple[str, Any]] = []
            for entry in tree:
                name = quote_bytes(str(entry.name))
                if isinstance(entry, pygit2.Tree) and name != ".dvc" and not is_project(entry):
                    files += ((f"{name}/{path}", blob) for path, blob in self._blobs_below(entry))
                elif isinstance(entry, pygit2.Blob) and (name.endswith(".dvc") or is_lock(name) or name == NAME):
                    files.append((name, entry.id))
            found = self._trees[tree.id] = tuple(files)
        return found

    def _top(self, commit: Any) -> Any:
        """Return the folder of the DVC repository in a commit, or None if it did not exist yet."""
        if not self.prefix:
            return commit.tree
        found = commit.tree[self.prefix] if self.prefix in commit.tree else None  # noqa: SIM401  (not a mapping)
        return found if isinstance(found, pygit2.Tree) else None

    def _commit(self, git: Any, revision: str) -> Any:
        if not revision.strip():
            raise InvalidInput("revision", "is empty; use a tag, a branch or a commit")
        try:
            return _find(git, revision).peel(pygit2.Commit)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise NotFound(
                f"there is no revision {revision!r} in {self.folder}. See: git log --oneline --decorate --all"
            ) from error

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """Open the repository for one call; this takes 0.1 ms, and handles are not thread-safe."""
        try:
            yield pygit2.Repository(self._git_dir)
        except (pygit2.GitError, KeyError, OSError) as error:
            raise explain_git_error(self.folder, error) from error


@lru_cache(maxsize=4096)
def _parse(text: bytes, path: str) -> tuple[Tracked, ...]:
    return parse_tracked(text, path)


def _sources(blobs: _Blobs) -> _Blobs:
    """Return the files whose change makes a version: `.dvc` files, or `dvc.lock` where there are none."""
    added = tuple(pair for pair in blobs if pair[0].endswith(".dvc"))
    return added or tuple(pair for pair in blobs if is_lock(pair[0]))


def _read_blob(git: Any, blob: Any, path: str) -> bytes:
    """Return a file's bytes; its size is checked first, because git may hold gigabytes under any name."""
    found = git[blob]
    if found.size > MOST_BYTES:
        raise SourceUnavailable(f"{path} is larger than {MOST_BYTES:,} bytes, so it is not read")
    return bytes(found.data)


def _commits(git: Any, tags: dict[Any, list[str]]) -> Iterator[Any]:
    starts = set(tags) | ({git.head.target} if not git.head_is_unborn else set())
    for reference in git.references.iterator(pygit2.enums.ReferenceFilter.BRANCHES):
        if reference.raw_name.startswith(b"refs/heads/"):
            with suppress(pygit2.GitError, ValueError, KeyError):  # a branch on a lost commit hides no other one
                starts.add(reference.peel(pygit2.Commit).id)
    if not starts:
        return
    walker = git.walk(None, pygit2.enums.SortMode.TOPOLOGICAL | pygit2.enums.SortMode.TIME)
    for start in starts:
        walker.push(start)
    yield from walker


def _tags(git: Any) -> dict[Any, list[str]]:
    """Return the names of the tags by the commit that they point to."""
    tags: dict[Any, list[str]] = {}
    for reference in git.references.iterator(pygit2.enums.ReferenceFilter.TAGS):
        try:
            commit = reference.peel(pygit2.Commit)
        except (pygit2.GitError, ValueError, KeyError):
            continue  # a tag on a file or a folder is not a version
        tags.setdefault(commit.id, []).append(_show(reference))
    return tags


def _show(reference: Any) -> str:
    """Return the short name of a tag as git quotes it: its bytes need not be UTF-8."""
    return quote_bytes(reference.raw_shorthand.decode(errors="surrogateescape"))


def _find(git: Any, revision: str) -> Any:
    """Return what a revision names; a tag is found by its name as it is shown, too."""
    if "\\" not in revision:  # git allows none in a name
        return git.revparse_single(revision)
    wanted = unquote_bytes(revision).encode(errors="surrogateescape")
    tags = git.references.iterator(pygit2.enums.ReferenceFilter.TAGS)
    return next((tag for tag in tags if tag.raw_shorthand == wanted), None) or git.revparse_single(revision)
