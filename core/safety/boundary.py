"""Gateway to the files below a folder that others fill, such as a repository: nothing outside of it is opened.

A committed link may lead anywhere on the server. Regular files are read and nothing else: no device, no pipe.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from core.errors import InvalidInput, SourceUnavailable

# How DVC calls an object in its cache, wherever that is: files/md5/ab/cdef…
_OBJECT = re.compile(r"(?:files/md5/)?[0-9a-f]{2}/[0-9a-f]{30}(?:\.dir)?")


class Boundary:
    """The files below `root`.

    A link may lead to another file below the root, or to an object in one of the `caches` of DVC, which puts links to
    its objects into a working copy where `cache.type` is symlink.
    """

    def __init__(self, root: Path, *, caches: Callable[[], Iterable[Path]] = tuple) -> None:
        self.root = Path(os.path.realpath(root))
        self._caches = caches

    def holds(self, path: str | Path) -> bool:
        """Tell whether a path, every link in it followed, stays below the root."""
        real = os.path.realpath(path)
        return is_below(real, self.root) or any(_is_object(real, cache) for cache in self._caches())

    def require(self, path: str | Path) -> Path:
        """Return where a path really is. Raises SourceUnavailable when it leads out, InvalidInput for no path."""
        try:
            if not self.holds(path):
                raise _leads_out(self._name(path))
        except ValueError as error:  # a null character, or half of a letter
            raise InvalidInput("path", f"{os.fspath(path)!r} is no path") from error
        return Path(os.path.realpath(path))

    def open(self, path: str | Path) -> IO[bytes]:
        """Open a regular file to read. Raises what `require` raises, and OSError."""
        handle = os.open(self.require(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0))
        try:
            mode = os.fstat(handle).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(mode):
                raise SourceUnavailable(f"{self._name(path)} is no regular file, so it is not read")
            return os.fdopen(handle, "rb")
        except BaseException:
            os.close(handle)
            raise

    def read(self, path: str | Path) -> bytes:
        """Return the content of a regular file. Raises as `open` does."""
        with self.open(path) as stream:
            return stream.read()

    def _name(self, path: str | Path) -> str:
        return os.path.relpath(os.path.abspath(path), self.root).replace(os.sep, "/")  # noqa: PTH100  (follows no link)


def is_below(path: str, root: Path) -> bool:
    """Tell whether a path without links is the root, or lies below it."""
    top = os.fspath(root)
    return path == top or path.startswith(top.rstrip(os.sep) + os.sep)


def refuse_links(root: Path, path: Path) -> None:
    """Raise SourceUnavailable when a folder on the way from `root` to `path`, or the path itself, is a link.

    For places of our own within a repository, where a link can only be somebody's trap.
    """
    for each in (path, *path.parents):
        if each == root:
            return
        if each.is_symlink():
            raise _leads_out(os.fspath(each.relative_to(root)))


def confine_dvc(boundary: Boundary) -> Any:
    """Return the local file system as DVC's own code takes it, which opens what the boundary holds."""
    from dvc.fs import LocalFileSystem

    class Confined(LocalFileSystem):  # type: ignore[misc]
        def exists(self, path: Any, **options: Any) -> Any:
            return boundary.holds(path) and super().exists(path, **options)

        def open(self, path: Any, mode: str = "r", **options: Any) -> Any:
            with boundary.open(path):  # says whether it is a regular file
                return super().open(os.fspath(boundary.require(path)), mode=mode, **options)

    return Confined()


def _is_object(path: str, cache: Path) -> bool:
    top = os.path.realpath(cache)
    return is_below(path, Path(top)) and bool(_OBJECT.fullmatch(os.path.relpath(path, top).replace(os.sep, "/")))


def _leads_out(name: str) -> SourceUnavailable:
    return SourceUnavailable(f"{name} is a link that leads elsewhere, so it is not followed")
