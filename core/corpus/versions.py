"""Rule: what is said of a version of the corpus, of two versions compared, and of one checked against its remote."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from core.corpus.manifests import CorpusFile, FileChange, FileChangeKind
from core.corpus.tracked import Tracked

SHORT = 7
WORKSPACE = "workspace"  # the revision that is the working copy, committed or not
Counts = tuple[int, int, int, int] | tuple[None, None, None, None]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the corpus. The counts compare it with the previous one, that of its first parent in git.

    They are None if a required manifest is not on this machine; moved files count as renamed. `files` and `size_bytes`
    are None when they are unknown without asking a remote. `problem` says in one line why the version is only partly
    readable; files and bytes then count the readable part. `notes` say what is left out, such as an import that was
    not downloaded.
    """

    revision: str
    short: str
    tags: tuple[str, ...]
    name: str
    committed: datetime
    author: str
    message: str
    files: int | None
    size_bytes: int | None
    added: int | None
    removed: int | None
    modified: int | None
    renamed: int | None
    digest: str
    problem: str = ""
    notes: tuple[str, ...] = ()

    def answers_to(self, name: str) -> bool:
        """Return whether `name` refers to this version."""
        return name in (self.revision, self.short, *self.tags)


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """The differences between two revisions, by path. `notes` say what was left out of the comparison."""

    old: str
    new: str
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...] = ()

    def count(self, kind: FileChangeKind) -> int:
        """Return how many files changed in this way."""
        return sum(change.kind is kind for change in self.changes)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of fetching every file of a version from its remote. `size_bytes` is the fetched size.

    `notes` say what is left out of the version, and so of the check.
    """

    revision: str
    remote: str
    files: int
    size_bytes: int
    damaged: tuple[CorpusFile, ...]
    missing: tuple[CorpusFile, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        return not self.damaged and not self.missing


def name_version(revision: str, tags: tuple[str, ...]) -> str:
    """Return the name of a commit in the list of versions: its first tag, or its shortened hash.

    A tag named like the working copy would mean that one.
    """
    return next((tag for tag in tags if tag != WORKSPACE), revision[:SHORT])


def digest_outs(outs: Iterable[Tracked]) -> str:
    """Return a hash of what is tracked: equal for versions that hold the same files."""
    lines = "\n".join(sorted(f"{out.path} {out.md5}" for out in outs))
    return hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest()
