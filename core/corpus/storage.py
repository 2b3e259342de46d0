"""Gateway to what a DVC repository stores by hash: its cache, and behind it the remotes. Reads only, takes no lock.

It knows nothing about git or versions; `corpus.py` asks for hashes.
"""

import asyncio
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, TypeGuard

from core.corpus.tracked import CloudCopy
from core.errors import InvalidInput, NotFound, SourceUnavailable
from core.safety.boundary import Boundary

_CONNECT_TIMEOUT_SECONDS = 10
_HASH = re.compile(r"[0-9a-f]{32}(?:\.dir)?")  # what is no hash would be a path that a repository chose
# Status codes stand alone, so that a port like 14013 does not match.
_NO_ACCESS = re.compile(
    r"credential|forbidden|access ?denied|unauthorized|permission|(?<![\w:.])40[13](?!\w)", re.IGNORECASE
)


class Storage:
    """The objects of one DVC repository.

    `dvc_dir` is its `.dvc` folder; `cache.dir` and remotes come from its `config` and `config.local`, and from the
    user's and the machine's settings. Raises SourceUnavailable when those are unreadable.
    """

    def __init__(self, dvc_dir: Path) -> None:
        self._config = _load_config(dvc_dir)
        cache = Path(self._config["cache"].get("dir") or dvc_dir / "cache")
        self.default_remote: str | None = self._config["core"].get("remote")
        self.caches = (cache,)
        folders = [cache, *self._folder_remotes()]
        # DVC 3 keeps objects under files/md5, its elders in folders of two hex digits at the top.
        elders = (top for top in folders if next(top.glob("[0-9a-f][0-9a-f]"), None))
        self._roots = [os.fspath(top) for top in (*(top / "files" / "md5" for top in folders), *elders)]

    def find(self, md5: str) -> Path | None:
        """Return the object's file on this machine (in the cache or in a remote that is a folder), or None."""
        if not _HASH.fullmatch(md5):
            return None
        for root in self._roots:
            if _is_plain(path := f"{root}/{md5[:2]}/{md5[2:]}"):
                return Path(path)
        return None

    def sizes_bytes(self, md5s: Iterable[str]) -> dict[str, int]:
        """Return the sizes of the objects that are on this machine."""
        sizes: dict[str, int] = {}
        for md5 in filter(_HASH.fullmatch, md5s):
            for root in self._roots:
                try:
                    sizes[md5] = os.lstat(f"{root}/{md5[:2]}/{md5[2:]}").st_size
                    break
                except OSError:
                    continue
        return sizes

    def read(
        self, md5: str, *, what: str, remote: str | None = None, copy: CloudCopy | None = None,
        most_bytes: int | None = None,
    ) -> bytes:  # fmt: skip
        """Return an object's content, from this machine or the remote (the named one, or the default).

        `copy` is where a remote that keeps versions itself has it.

        Raises NotFound with the hash when neither has it; SourceUnavailable when the remote fails; InvalidInput when
        the object is larger than `most_bytes`.
        """
        local = self.find(md5)
        if local:
            with _explained(f"{what} ({local})"), local.open("rb") as stream:
                return read_most(stream, what, most_bytes)
        try:
            with closing(self.remote(remote)) as source:
                content = source.read(md5, copy=copy, most_bytes=most_bytes)
        except FileNotFoundError as error:
            raise _missing(md5, what, remote or self.default_remote) from error
        except SourceUnavailable as error:
            raise SourceUnavailable(f"{what}: {md5} is not in the cache, and {error}") from error
        # Manifests are verified, because they define a version. Files of DVC before 3.0 have another kind of hash.
        if md5.endswith(".dir") and hashlib.md5(content, usedforsecurity=False).hexdigest() != md5[:-4]:
            raise SourceUnavailable(f"{what}: {md5} is damaged in the remote. Run dvc push on a machine that has it")
        return content

    def remote(self, name: str | None = None) -> "Remote":
        """Return the named remote, or the default one. Raises SourceUnavailable if there is none."""
        name = name or self.default_remote
        if name is None:
            raise SourceUnavailable("no DVC remote is set. Run: dvc remote add -d <name> <url>")
        return Remote(self._config, name)

    def _folder_remotes(self) -> list[Path]:
        urls = {name: str(settings.get("url", "")) for name, settings in self._config["remote"].items()}
        default = [self.default_remote] if self.default_remote in urls else []
        names = [*default, *(name for name in urls if name != self.default_remote)]
        folders = [urls[name].removeprefix("file://") for name in names]
        return [Path(folder) for folder in folders if folder and "://" not in folder]


class Remote:
    """One DVC remote, accessed through DVC's own file systems."""

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        from dvc.fs import get_cloud_fs

        self.name = name
        self.url = str(config["remote"].get(name.lower(), {}).get("url", ""))
        with _explained(self._label):
            cls, settings, self._path = get_cloud_fs(config, name=name)
            if cls.protocol in ("http", "https"):
                settings.setdefault("connect_timeout", _CONNECT_TIMEOUT_SECONDS)
            self._fs = cls(**settings)
        self._keeps_versions = bool(settings.get("version_aware") or settings.get("worktree"))
        if cls.protocol == "local" and not Path(self._path).is_dir():
            raise SourceUnavailable(
                f"{self._label} cannot be reached: there is no such folder. Mount it, or set its url: dvc remote modify"
            )

    def read(self, md5: str, *, copy: CloudCopy | None = None, most_bytes: int | None = None) -> bytes:
        """Return an object's content. Raises FileNotFoundError when the remote lacks it, else SourceUnavailable."""
        with _explained(self._label):
            if self._keeps_versions:
                return self._read(self._find_version(copy), most_bytes)
            try:
                return self._read(self._join(md5), most_bytes)
            except FileNotFoundError:
                return self._read(self._join(md5, legacy=True), most_bytes)

    def fetch(self, md5: str, target: Path, *, copy: CloudCopy | None = None) -> None:
        """Copy an object into the file `target`. Raises as `read` does."""
        with _explained(self._label):
            if self._keeps_versions:
                self._fs.get_file(self._find_version(copy), os.fspath(target))
                return
            try:
                self._fs.get_file(self._join(md5), os.fspath(target))
            except FileNotFoundError:
                self._fs.get_file(self._join(md5, legacy=True), os.fspath(target))

    def close(self) -> None:
        """Close the connections, which DVC's HTTP file system leaves to the garbage collector."""
        session = getattr(self._fs.fs, "_session", None) if self._fs.protocol in ("http", "https") else None
        if session is not None:
            asyncio.run_coroutine_threadsafe(session.close(), self._fs.fs.loop).result(_CONNECT_TIMEOUT_SECONDS)
            self._fs.fs._session = None

    @property
    def _label(self) -> str:
        return f"DVC remote {self.name!r} ({_without_password(self.url)})"

    def _read(self, path: str, most_bytes: int | None) -> bytes:
        with self._fs.open(path, "rb") as stream:
            return read_most(stream, self._label, most_bytes)

    def _find_version(self, copy: CloudCopy | None) -> str:
        if copy is None or copy.remote not in (None, self.name):
            raise SourceUnavailable(
                f"{self._label} is cloud-versioned, and git does not say which version. Run: dvc push (and commit)"
            )
        return str(self._fs.version_path(self._fs.join(self._path, *copy.path.split("/")), copy.version_id))

    def _join(self, md5: str, *, legacy: bool = False) -> str:
        below = () if legacy else ("files", "md5")
        path = str(self._fs.join(self._path, *below, md5[:2], md5[2:]))
        is_trap = self._fs.protocol == "local" and os.path.lexists(path) and not _is_plain(path)
        if is_trap or not _HASH.fullmatch(md5):
            raise SourceUnavailable(f"{self._label} holds no file under {md5!r}, only a link or an invalid hash")
        return path


def find_caches(folder: Path) -> tuple[Path, ...]:
    """Return the caches of the DVC repository that a folder lies in; none when it lies in none."""
    for each in (folder.resolve(), *folder.resolve().parents):
        if (each / ".dvc").is_dir():
            return Storage(each / ".dvc").caches
    return ()


def hash_file(path: Path, *, legacy: bool = False) -> str:
    """Return DVC's md5 of this file; `legacy` reads CRLF in texts as LF, as DVC before 3.0 did."""
    if legacy:
        from dvc_data.hashfile.hash import file_md5

        return str(file_md5(os.fspath(path), name="md5-dos2unix"))
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def read_most(stream: IO[bytes], what: str, most_bytes: int | None) -> bytes:
    """Return the rest of a stream. Raises InvalidInput when it is longer than `most_bytes` (None: any length)."""
    content = stream.read() if most_bytes is None else stream.read(most_bytes + 1)
    if most_bytes is not None and len(content) > most_bytes:
        raise InvalidInput(what, f"is larger than {most_bytes:,} bytes")
    return content


@contextmanager
def _explained(label: str) -> Iterator[None]:
    """Convert a storage library's exceptions into one line. A missing object stays a FileNotFoundError."""
    try:
        yield
    except (InvalidInput, SourceUnavailable):
        raise
    except FileNotFoundError as error:
        if not _hides_a_failure(error.__cause__):
            raise
        raise SourceUnavailable(f"{label} {_reason(error.__cause__)}") from error
    except Exception as error:
        raise SourceUnavailable(f"{label} {_reason(error)}") from error


def _hides_a_failure(cause: BaseException | None) -> TypeGuard[BaseException]:
    """fsspec reports every HTTP failure as "not found"; the real reason is the cause."""
    if isinstance(cause, OSError):
        return not isinstance(cause, FileNotFoundError)
    return getattr(cause, "status", 404) not in (404, 410)


def _reason(error: BaseException) -> str:
    kind = type(error).__name__
    text = " ".join(str(error).split())[:200]
    if kind == "RemoteMissingDepsError" or isinstance(error, ImportError):
        return f"needs another package: {text}. For S3: pip install 'quarterdeck-deck[s3]'"
    if kind in ("RemoteNotFoundError", "ConfigError"):
        return f"is not set up: {text}. Run: dvc remote list"
    if _NO_ACCESS.search(f"{kind} {text}"):
        return f"refused access: credentials are missing or wrong ({text or kind}). Run: dvc remote modify --local"
    return f"cannot be reached: {text or kind}. Check the network and the address with: dvc remote list"


def _is_plain(path: str) -> bool:
    """Tell whether an object is a file itself: DVC keeps no links, so that one would be somebody's trap."""
    try:
        is_file = stat.S_ISREG(os.lstat(path).st_mode)  # called 20,000 times for one list
    except OSError:
        return False
    return is_file and not os.path.islink(os.path.dirname(path))  # noqa: PTH114, PTH120


def _missing(md5: str, what: str, remote: str | None) -> NotFound:
    return NotFound(
        f"{what}: {md5} is neither in the cache nor in the remote {remote!r}. Run dvc push on a machine that has it"
    )


def _load_config(dvc_dir: Path) -> dict[str, Any]:
    from dvc.config import Config, ConfigError

    for name in ("config", "config.local"):
        Boundary(dvc_dir.parent).require(dvc_dir / name)
    try:
        return dict(Config(os.fspath(dvc_dir)))
    except (ConfigError, OSError) as error:
        raise SourceUnavailable(f"the settings in {dvc_dir} cannot be read: {' '.join(str(error).split())}") from error


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}" if separator else url
