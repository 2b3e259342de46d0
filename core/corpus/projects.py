"""Gateway to where the DVC project of a git repository is: at its top, in a folder of it, or nowhere."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname
from shlex import quote
from typing import Any

import pygit2

from core.errors import SourceUnavailable
from core.safety.letters import quote_bytes

_MOST_FOLDERS = 5
_MOST_TREES = 20_000


@dataclass(frozen=True, slots=True)
class Project:
    """A DVC project: git's folder, the project's path in the repository, and its place on disk (None if bare)."""

    git_dir: str
    prefix: str
    root: Path | None


def find_project(folder: Path, within: str = "", *, shown: str = "") -> Project:
    """Return the DVC project of a folder in a working copy, or of the folder `within` a repository, bare or not.

    `shown` names the repository in messages. Raises SourceUnavailable if there is no git repository or no DVC
    project; the message names the folders that hold one.
    """
    git = _open(folder)
    shown = shown or str(folder)
    if git.is_bare:
        prefix = _find_above(_head_tree(git), within)
        if prefix is None:
            raise _not_dvc(git, within, shown)
        return Project(git.path, prefix, None)
    top = Path(git.workdir).resolve()
    start = folder / within
    for root in (start, *start.parents) if start.is_dir() else ():
        if (root / ".dvc").is_dir():
            return Project(git.path, "" if root == top else root.relative_to(top).as_posix(), root)
        if root == top:
            break
    raise _not_dvc(git, within, shown)


def is_project(tree: Any) -> bool:
    """Tell whether a folder in git is the top of a DVC project."""
    return ".dvc" in tree and isinstance(tree[".dvc"], pygit2.Tree)


def explain_git_error(folder: Path, error: Exception) -> SourceUnavailable:
    """Return what libgit2 says about a repository as one line with the way out."""
    said = " ".join(str(error).split())
    if "not owned by" in said or "safe.directory" in said:
        return SourceUnavailable(
            f"git repository {folder} belongs to another user, so git does not trust it. "
            f"If you do, run as the user of this process: git config --global --add safe.directory {quote(str(folder))}"
        )
    if "object format" in said:
        return SourceUnavailable(f"git repository {folder} cannot be read: {said}. DVC and this deck read sha1 alone")
    if _is_partial(folder):
        return SourceUnavailable(
            f"git repository {folder} is a partial clone that lacks an object of its history ({said}). Complete it: "
            f"git -C {quote(str(folder))} config --unset remote.origin.partialclonefilter, "
            f"then git -C {quote(str(folder))} fetch --refetch"
        )
    return SourceUnavailable(f"git repository {folder} cannot be read: {said}. Try: git fsck")


def _open(folder: Path) -> Any:
    try:
        git_dir = pygit2.discover_repository(str(folder))
        git = pygit2.Repository(git_dir) if git_dir else None
    except (pygit2.GitError, KeyError) as error:
        raise explain_git_error(folder, error) from error
    if git is None:
        raise SourceUnavailable(f"{folder} is not in a git repository. Run there: git init && dvc init")
    return git


def _is_partial(folder: Path) -> bool:
    try:
        config = pygit2.Repository(pygit2.discover_repository(str(folder)) or str(folder)).config
        return any(entry.name.endswith((".promisor", ".partialclonefilter")) for entry in config)
    except (pygit2.GitError, KeyError, TypeError):
        return False


def _head_tree(git: Any) -> Any:
    return None if git.head_is_unborn else git.head.peel(pygit2.Tree)


def _find_above(tree: Any, within: str) -> str | None:
    """Return the nearest folder, from `within` up to the top, that is a DVC project in this tree."""
    if tree is None or (within and within not in tree):
        return None
    while True:
        found = tree[within] if within else tree
        if isinstance(found, pygit2.Tree) and is_project(found):
            return within
        if not within:
            return None
        within = dirname(within)


def _not_dvc(git: Any, within: str, shown: str) -> SourceUnavailable:
    where = f"{shown}#{within}" if within else shown
    folders = _project_folders(git)
    if not folders:
        return SourceUnavailable(f"{where} is a git repository, but not a DVC repository. Run there: dvc init")
    named = ", ".join(folders[:_MOST_FOLDERS]) + (" and more" if len(folders) > _MOST_FOLDERS else "")
    return SourceUnavailable(
        f"{where} has no DVC project of its own, but these folders of the repository hold one: {named}. "
        f"Choose one after a #, such as {shown}#{folders[0]}"
    )


def _project_folders(git: Any) -> list[str]:
    """Return the folders that hold a DVC project in HEAD; a few more than are named, and not all of a huge tree."""
    tree = _head_tree(git)
    return [] if tree is None else sorted(path for path, _ in zip(_walk(tree), range(_MOST_FOLDERS + 1), strict=False))


def _walk(top: Any) -> Iterator[str]:
    waiting = deque([("", top)])
    for _ in range(_MOST_TREES):
        if not waiting:
            return
        path, tree = waiting.popleft()
        if is_project(tree):
            yield path
        below = [entry for entry in tree if isinstance(entry, pygit2.Tree) and entry.name != ".dvc"]
        waiting += ((f"{path}/{quote_bytes(str(entry.name))}".lstrip("/"), entry) for entry in below)
