"""Gateway to the working copy of a DVC repository: what the tracked files and folders hold now, committed or not."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pygit2

from core.corpus.manifests import CorpusFile, Tracked, parse_tracked
from core.corpus.storage import hash_file, read_most
from core.errors import NotFound, SourceUnavailable

_SETTLED_SECONDS = 2.0


class Checkout:
    """The data below `root` that `.dvc` files track, as on disk. Hashes are cached while files are unchanged."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._hashes: dict[str, tuple[tuple[int, int, int], str]] = {}

    def tracked(self) -> tuple[Tracked, ...]:
        """Return what the `.dvc` files of the working copy track. Raises SourceUnavailable when one is broken."""
        outs: list[Tracked] = []
        for path in self.find_files("*.dvc"):
            outs += parse_tracked(path.read_bytes(), path.relative_to(self.root).as_posix())
        return tuple(outs)

    def files(self) -> tuple[CorpusFile, ...]:
        """Return the tracked files with the hashes of their current content, ordered by path.

        Raises SourceUnavailable when a tracked file or folder is missing.
        """
        found: list[CorpusFile] = []
        for out in self.tracked():
            top = self.root / out.path
            if not top.exists():
                raise SourceUnavailable(f"{out.path} is missing from the workspace. Run: dvc checkout {out.dvc_file}")
            paths = self._walk(top) if top.is_dir() else [str(top)]
            found += (self._describe(path, legacy=out.legacy) for path in paths)
        return tuple(sorted(found, key=lambda file: file.path))

    def read(self, path: str, *, most_bytes: int | None = None) -> bytes:
        """Return the content of a tracked file. Raises NotFound for anything else, InvalidInput for one too large."""
        inside = not path.startswith("/") and ".." not in path.split("/")
        if not inside or not any(f"{path}/".startswith(f"{out.path}/") for out in self.tracked()):
            raise NotFound(f"{path} is not tracked in the workspace")
        try:
            with (self.root / path).open("rb") as stream:
                return read_most(stream, path, most_bytes)
        except OSError as error:
            raise NotFound(f"{path} is not in the workspace: {error.strerror}") from error

    def find_files(self, pattern: str) -> Iterator[Path]:
        """Yield the files with that name, skipping what git ignores: tracked data, virtual environments."""
        git: Any = pygit2.Repository(str(self.root))
        top = Path(git.workdir).resolve()
        for folder, folders, names in os.walk(self.root):
            here = Path(folder)
            inside = here.relative_to(top).as_posix().removeprefix(".")
            folders[:] = sorted(
                name
                for name in folders
                if name not in (".git", ".dvc") and not git.path_is_ignored(f"{inside}/{name}/".removeprefix("/"))
            )
            yield from (here / name for name in sorted(names) if fnmatchcase(name, pattern))

    def hash_path(self, path: str, *, legacy: bool = False) -> str:
        """Return DVC's md5 of a file, or of a folder (that of its manifest, with `.dir`)."""
        top = self.root / path
        if not top.is_dir():
            return self.hash_of(str(top), legacy=legacy)
        entries = (
            {"md5": self.hash_of(name, legacy=legacy), "relpath": Path(name).relative_to(top).as_posix()}
            for name in self._walk(top)
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

    def _describe(self, path: str, *, legacy: bool) -> CorpusFile:
        size = os.stat(path).st_size  # noqa: PTH116
        return CorpusFile(
            os.path.relpath(path, self.root).replace(os.sep, "/"), size, self.hash_of(path, legacy=legacy)
        )

    def _walk(self, folder: Path) -> Iterator[str]:
        """Yield the files of a tracked folder, without those excluded by `.dvcignore`."""
        from dvc.fs import localfs
        from dvc.ignore import DvcIgnoreFilter

        return iter(DvcIgnoreFilter(localfs, str(self.root)).find(localfs, str(folder)))
