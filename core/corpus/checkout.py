"""Gateway to the working copy of a DVC repository: what the tracked files and folders hold now, committed or not."""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pygit2

from core.corpus.ignores import NAME, may_ignore
from core.corpus.manifests import CorpusFile
from core.corpus.outputs import read_stages, read_workspace_outputs
from core.corpus.storage import Storage, hash_file, read_most
from core.corpus.tracked import Tracked, holds, parse_tracked, split_notes
from core.errors import NotFound, SourceUnavailable
from core.safety.boundary import Boundary, confine_dvc
from core.safety.letters import quote_bytes, unquote_bytes

_SETTLED_SECONDS = 2.0


class Checkout:
    """The data below `root` that `.dvc` files track, as they are on disk. Hashes are remembered while files rest.

    What leads out of the repository is not followed: such a file is listed without size and hash, and cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._boundary = Boundary(root, caches=self._caches)
        self._hashes: dict[str, tuple[tuple[int, int, int], str]] = {}

    def tracked(self) -> tuple[Tracked, ...]:
        """Return what the `.dvc` files of the working copy track, or if there is none, the outputs of `dvc.yaml`.

        Raises SourceUnavailable when one is broken.
        """
        outs: list[Tracked] = []
        for path in self._find_dvc_files():
            name = quote_bytes(path.relative_to(self.root).as_posix())
            outs += parse_tracked(self.read_own(path), name)
        if outs:
            return tuple(outs)
        return read_workspace_outputs(self.root, self._find_pipelines(), self._caches())

    def stages(self, *, with_params: bool = False) -> list[dict[str, Any]]:
        """Return the stages of the working copy as `outputs.read_stages` does. Raises SourceUnavailable."""
        return read_stages(self.root, self._find_pipelines(), self._caches(), with_params=with_params)

    def files(self) -> tuple[CorpusFile, ...]:
        """Return the tracked files with the hashes of their current content, ordered by path.

        Raises SourceUnavailable when a tracked file or folder is missing.
        """
        found: list[CorpusFile] = []
        outs, _ = split_notes(self.tracked())
        for out in outs:
            top = self.root / out.path
            if not os.path.lexists(top):
                raise SourceUnavailable(f"{out.path} is missing from the workspace. Run: dvc checkout {out.dvc_file}")
            paths = self._walk(top) if self.holds(out.path) and top.is_dir() else [str(top)]
            folders: dict[str, bool] = {}
            found += (self._describe(path, folders, legacy=out.legacy) for path in paths)
        return tuple(sorted(found, key=lambda file: file.path))

    def read(self, path: str, *, most_bytes: int | None = None) -> bytes:
        """Return the content of a tracked file. Raises NotFound for anything else, InvalidInput for one too large.

        Raises SourceUnavailable for a link that leads out of the repository, and for what is no regular file.
        """
        inside = not path.startswith("/") and ".." not in path.split("/")
        if not inside or not any(holds(out, path) for out in self.tracked() if out.md5):
            raise NotFound(f"{path} is not tracked in the workspace")
        try:
            found = self.root / path
            if not os.path.lexists(found):  # its name may be shown as git quotes it
                found = self.root / unquote_bytes(path)
            with self._boundary.open(found) as stream:
                return read_most(stream, path, most_bytes)
        except OSError as error:
            raise NotFound(f"{path} is not in the workspace: {error.strerror}") from error

    def read_own(self, path: Path) -> bytes:
        """Return the content of a file that git keeps, such as a `.dvc` file. Raises SourceUnavailable."""
        try:
            return self._boundary.read(path)
        except OSError as error:
            raise SourceUnavailable(f"{path} cannot be read: {error.strerror}") from error

    def holds(self, path: str) -> bool:
        """Tell whether a path relative to the repository, every link in it followed, stays in the repository."""
        return self._boundary.holds(self.root / path)

    def find_files(self, pattern: str) -> Iterator[Path]:
        """Yield the files with that name, skipping what git ignores (tracked data, virtual environments).

        A folder that is a DVC project of its own is skipped too, as DVC does.
        """
        git: Any = pygit2.Repository(str(self.root))
        top = Path(git.workdir).resolve()
        for folder, folders, names in os.walk(self.root):
            here = Path(folder)
            inside = here.relative_to(top).as_posix().removeprefix(".")
            folders[:] = sorted(
                name
                for name in folders
                if name not in (".git", ".dvc")
                and not (here / name / ".dvc").is_dir()
                and not _is_ignored(git, f"{inside}/{name}/".removeprefix("/"))
            )
            yield from (here / name for name in sorted(names) if fnmatchcase(name, pattern))

    def hash_path(self, path: str, *, legacy: bool = False) -> str:
        """Return DVC's md5 of a file, or of a folder (that of its manifest, with `.dir`)."""
        top = self.root / path
        if not top.is_dir():
            return self.hash_of(str(top), legacy=legacy)
        folders: dict[str, bool] = {}
        entries = (
            {"md5": self.hash_of(name, legacy=legacy), "relpath": Path(name).relative_to(top).as_posix()}
            for name in self._walk(top)
            if self._is_readable(name, folders)
        )
        manifest = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
        return hashlib.md5(manifest.encode(), usedforsecurity=False).hexdigest() + ".dir"

    def hash_of(self, path: str, *, legacy: bool = False) -> str:
        """Return the md5 of a file, cached until the file changes."""
        status = os.stat(path)  # noqa: PTH116  (called for every file)
        mark = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._hashes.get(path)
        if known and known[0] == mark:
            return known[1]
        md5 = hash_file(Path(path), legacy=legacy)
        # A file written at this moment may change again without a new modification time.
        if time.time() - status.st_mtime > _SETTLED_SECONDS:
            self._hashes[path] = (mark, md5)
        return md5

    def _find_dvc_files(self) -> list[Path]:
        """Return the `.dvc` files, without those that a `.dvcignore` hides."""
        files = list(self.find_files("*.dvc"))
        texts = []
        for path in self.find_files(NAME):
            with suppress(SourceUnavailable):  # a link that leads out: DVC reads it no more than we do
                texts.append(self.read_own(path))
        if not may_ignore(texts, (path.relative_to(self.root).as_posix() for path in files)):
            return files
        ignores = self._ignores()
        return [path for path in files if not ignores.is_ignored_file(str(path))]

    def _find_pipelines(self) -> list[str]:
        return [path.relative_to(self.root).as_posix() for path in self.find_files("dvc.yaml")]

    def _caches(self) -> tuple[Path, ...]:
        return Storage(self.root / ".dvc").caches

    def _describe(self, path: str, folders: dict[str, bool], *, legacy: bool) -> CorpusFile:
        name = quote_bytes(os.path.relpath(path, self.root).replace(os.sep, "/"))
        if not self._is_readable(path, folders):
            return CorpusFile(name, None, "")
        return CorpusFile(name, os.stat(path).st_size, self.hash_of(path, legacy=legacy))  # noqa: PTH116

    def _is_readable(self, path: str, folders: dict[str, bool]) -> bool:
        """Tell whether a path is a regular file of the repository. `folders` keeps what is known of their folders."""
        folder = path.rpartition(os.sep)[0]
        if folder not in folders:
            folders[folder] = self._boundary.holds(folder)
        try:
            mode = os.lstat(path).st_mode  # called for every file
            if stat.S_ISLNK(mode) and self._boundary.holds(path):
                mode = os.stat(path).st_mode  # noqa: PTH116
        except OSError:
            return False
        return folders[folder] and stat.S_ISREG(mode)

    def _walk(self, folder: Path) -> Iterator[str]:
        """Yield the files of a tracked folder, without those excluded by `.dvcignore`."""
        from dvc.fs import localfs

        return iter(self._ignores().find(localfs, str(folder)))

    def _ignores(self) -> Any:
        from dvc.ignore import DvcIgnoreFilter

        return DvcIgnoreFilter(confine_dvc(self._boundary), str(self.root))


def _is_ignored(git: Any, path: str) -> bool:
    try:
        return bool(git.path_is_ignored(path))
    except UnicodeEncodeError:  # libgit2 is asked in UTF-8, and the name is not
        return False
