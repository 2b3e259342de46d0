"""Gateway to the corpus: the versions of a git and DVC repository, their files, and the difference between two.

Read only: it checks nothing out and takes no lock. `git_history.py` reads git, `checkout.py` the working copy and
`storage.py` what DVC stored; `manifests.py` compares versions.
"""

import hashlib
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from shlex import quote

from core.corpus.checkout import Checkout
from core.corpus.clones import clone_of, is_url, without_password
from core.corpus.git_history import CommitSnapshot, GitHistory
from core.corpus.manifests import (
    CorpusFile,
    FileChange,
    FileChangeKind,
    Manifest,
    Tracked,
    compare_entries,
    count_changes,
    diff_manifests,
)
from core.corpus.pipeline import Stage, StaleStage, list_stages, list_stale_stages
from core.corpus.readers import share_readers
from core.corpus.storage import Storage, hash_file
from core.corpus.worddiff import TextSegment
from core.errors import InvalidInput, NotFound, SourceUnavailable

WORKSPACE = "workspace"
_MANIFESTS_KEPT_BYTES = 24_000_000
_MOST_SIZES = 100_000
_SHORT = 7
_MOST_TEXT_BYTES = 2_000_000
Counts = tuple[int, int, int, int] | tuple[None, None, None, None]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the corpus. The counts compare it with the previous one, that of its first parent in git.

    They are None if a required manifest is not on this machine; moved files count as renamed. `problem` says in one
    line why the version is only partly readable; files and bytes then count the readable part.
    """

    revision: str
    short: str
    tags: tuple[str, ...]
    name: str
    committed: datetime
    author: str
    message: str
    files: int
    size_bytes: int
    added: int | None
    removed: int | None
    modified: int | None
    renamed: int | None
    digest: str
    problem: str = ""

    def answers_to(self, name: str) -> bool:
        """Return whether `name` refers to this version."""
        return name in (self.revision, self.short, *self.tags)


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """The differences between two revisions, by path."""

    old: str
    new: str
    changes: tuple[FileChange, ...]

    def count(self, kind: FileChangeKind) -> int:
        """Return how many files changed in this way."""
        return sum(change.kind is kind for change in self.changes)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of fetching every file of a version from its remote. `size_bytes` is the fetched size."""

    revision: str
    remote: str
    files: int
    size_bytes: int
    damaged: tuple[CorpusFile, ...]
    missing: tuple[CorpusFile, ...]

    @property
    def is_whole(self) -> bool:
        return not self.damaged and not self.missing


class Corpus:
    """The corpus versions of one repository, read-only and thread-safe.

    `location` is a path inside a git + DVC repository (or a bare one), or a URL that git can clone with the rights of
    this process. The corpus is the data tracked by `.dvc` files, without outputs of `dvc.yaml`. Raises
    SourceUnavailable when the location is not a git repository, or not a DVC repository.
    """

    def __init__(self, location: str | Path, *, clones: Path | None = None) -> None:
        self.location = without_password(str(location))
        self._history = GitHistory(_folder_of(str(location), clones))
        self.root = self._history.root
        self._checkout = Checkout(self.root) if self.root else None
        self._manifests = _ManifestCache()
        self._sizes = _SizeCache()
        self._counts: dict[tuple[str, str], Counts] = {}

    def list_versions(self, limit: int | None = None) -> tuple[Version, ...]:
        """Return the tagged commits and every commit that changed the corpus, newest first.

        Follows HEAD, the local branches and the tags. Uses only manifests on this machine, so it never waits for a
        network; a version with a broken `.dvc` file is listed with its problem.
        """
        storage = self._storage()
        found = islice(self._history.walk(), limit)
        return tuple(self._version(snapshot, before, storage) for snapshot, before in found)

    def name_revision(self, revision: str) -> str:
        """Return the name of a revision in the list of versions: its first tag, or its shortened commit hash.

        Raises NotFound if there is no such revision.
        """
        if revision == WORKSPACE:
            return WORKSPACE
        return _name(self._history.get_snapshot(revision))

    def find_commit(self, revision: str) -> str:
        """Return the commit hash of a tag, branch or shortened hash. Raises NotFound."""
        return self._history.get_snapshot(revision).revision

    def list_files(self, revision: str, *, search: str = "") -> tuple[CorpusFile, ...]:
        """Return the files of a revision (or of the workspace) whose path contains `search`, ignoring case, by path.

        Paths are relative to the repository. Raises NotFound for an unknown revision, or when the list of files is
        neither in the cache nor in the remote; SourceUnavailable when a `.dvc` file is broken.
        """
        wanted = search.casefold()
        if revision == WORKSPACE:
            return tuple(file for file in self._workspace().files() if wanted in file.path.casefold())
        storage = self._storage()
        files: list[CorpusFile] = []
        for out in self._outs(revision):
            if out.listing is not None:
                files += (file for file in out.listing if wanted in file.path.casefold())
                continue
            entries = self._entries(out, storage)
            if wanted:
                entries = {path: md5 for path, md5 in entries.items() if wanted in path.casefold()}
            sizes = self._sizes.look_up(entries.values(), storage)
            files += (CorpusFile(path, sizes.get(md5), md5) for path, md5 in entries.items())
        return tuple(sorted(files, key=lambda file: file.path))

    def compare_versions(self, old: str, new: str) -> VersionDiff:
        """Return the differences between two revisions; `workspace` is the uncommitted state.

        If more than 100,000 contents differ, sizes are left out, because looking them up would take seconds.
        Raises what `list_files` raises.
        """
        storage = self._storage()
        sizes: dict[str, int | None] = {}
        if WORKSPACE in (old, new):
            before, after = (self._all_entries(revision, storage, sizes) for revision in (old, new))
        else:
            before, after = self._differing(self._outs(old), self._outs(new), storage)
        changed = {md5 for _, md5 in before.items() ^ after.items()}
        if len(changed) <= _MOST_SIZES:
            known = self._sizes.look_up(changed - sizes.keys(), storage)
            sizes |= {md5: known[md5] for md5 in changed & known.keys()}
        return VersionDiff(old, new, compare_entries(before, after, sizes=sizes))

    def count_changes(self, old: str, new: str) -> Counts:
        """Return how many files were added, removed, modified and renamed between two revisions.

        All are None if a manifest is not on this machine; it never waits for a network. Raises NotFound.
        """
        before, after = (self._history.get_snapshot(revision) for revision in (old, new))
        return self._count(before, after, self._storage())

    def read_file(self, revision: str, path: str, *, most_bytes: int | None = None) -> bytes:
        """Return a file's content, from the cache or the remote.

        Raises NotFound when the revision has no such file, or when its content is neither here nor in the remote;
        InvalidInput when it is larger than `most_bytes`, or `path` is none.
        """
        if "\x00" in path:
            raise InvalidInput("path", "holds a null character")
        if revision == WORKSPACE:
            return self._workspace().read(path, most_bytes=most_bytes)
        storage = self._storage()
        for out in self._outs(revision):
            if f"{path}/".startswith(f"{out.path}/"):
                md5 = self._entries(out, storage).get(path)
                if md5:
                    return storage.read(md5, what=f"{path} of {revision}", remote=out.remote, most_bytes=most_bytes)
        raise NotFound(f"{path} is not in version {revision}. Look for it in the files of that version")

    def compare_text(self, old: str, new: str, path: str, *, old_path: str | None = None) -> tuple[TextSegment, ...]:
        """Return the word-level difference of one text between two revisions; a missing side counts as empty.

        `old_path` is the former path of a renamed file. Raises NotFound when neither revision has the file,
        InvalidInput when it is not UTF-8 text, or larger than 2 MB.
        """
        before, after = self._text(old, old_path or path), self._text(new, path)
        if before is None and after is None:
            raise NotFound(f"{path} is neither in version {old} nor in {new}")
        return share_readers().compare_words(path, before or "", after or "")

    def verify_version(
        self, revision: str, *, remote: str | None = None, on_progress: OnProgress | None = None
    ) -> VerifyReport:
        """Fetch every file of a version from the remote to a temporary place and check it against its hash.

        `remote` overrides DVC's default remote. `on_progress(done, total)` is called after each content, where equal
        files count once; an exception in it ends the check. Needs disk space for one file at a time.
        Raises SourceUnavailable when the remote is unreachable.
        """
        storage = self._storage()
        owners = {md5: (out, files) for out in self._outs(revision) for md5, files in self._by_md5(out, storage)}
        remotes = {name: storage.remote(remote or name) for name in {out.remote for out, _ in owners.values()}}
        damaged: list[CorpusFile] = []
        missing: list[CorpusFile] = []
        size_bytes = 0
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="quarterdeck-verify-"))
            for source in remotes.values():
                stack.callback(source.close)
            target = Path(folder) / "object"
            for done, (md5, (out, files)) in enumerate(owners.items(), start=1):
                try:
                    remotes[out.remote].fetch(md5, target)
                except FileNotFoundError:
                    missing += files
                else:
                    size_bytes += target.stat().st_size
                    damaged += files if hash_file(target, legacy=out.legacy) != md5 else ()
                    target.unlink()
                if on_progress:
                    on_progress(done, len(owners))
        names = ", ".join(sorted(found.name for found in remotes.values()))
        total = sum(len(files) for _, files in owners.values())
        return VerifyReport(revision, names, total, size_bytes, tuple(damaged), tuple(missing))

    def archive(self, revision: str, target: Path, *, on_progress: OnProgress | None = None) -> Path:
        """Write all files of a revision into the zip file `target` and return it; leaves nothing behind on failure.

        Raises what `read_file` raises, and SourceUnavailable when `target` cannot be written.
        """
        files = self.list_files(revision)
        partial = target.with_name(target.name + ".part")
        try:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as bundle:
                for done, (path, content) in enumerate(self._contents(revision, files), start=1):
                    bundle.writestr(path, content)
                    if on_progress:
                        on_progress(done, len(files))
            partial.replace(target)
        except OSError as error:
            raise SourceUnavailable(f"{target} cannot be written: {error.strerror}. Choose another folder") from error
        finally:
            partial.unlink(missing_ok=True)
        return target

    def restore_commands(self, revision: str) -> tuple[str, ...]:
        """Return the commands that restore a version in a working copy."""
        snapshot = self._history.get_snapshot(revision)
        name = next((tag for tag in snapshot.tags if "\\" not in tag), snapshot.revision)
        dvc_files = sorted({out.dvc_file for out in snapshot.outs})
        enter = f"cd {quote(str(self.root))}" if self.root else f"git clone {quote(self.location)} corpus && cd corpus"
        return enter, f"git checkout {quote(name)}", " ".join(("dvc pull", *map(quote, dvc_files)))

    def restore_file_command(self, revision: str, path: str) -> str:
        """Return the command that fetches one file of a version, from cache or remote, into the current folder."""
        snapshot = self._history.get_snapshot(revision)
        where = quote(str(self.root)) if self.root else quote(self.location)
        return f"dvc get {where} {quote(path)} --rev {quote(snapshot.revision)}"

    def list_stages(self) -> tuple[Stage, ...]:
        """Return the pipeline of the workspace as a graph. Raises InvalidInput if there is no workspace."""
        return list_stages(self._workspace())

    def list_stale_stages(self) -> tuple[StaleStage, ...]:
        """Return the stages that `dvc repro` would run, each with all reasons."""
        return list_stale_stages(self._workspace())

    def _version(self, snapshot: CommitSnapshot, before: CommitSnapshot | None, storage: Storage) -> Version:
        added, removed, modified, renamed = self._count(before, snapshot, storage)
        return Version(
            revision=snapshot.revision,
            short=snapshot.revision[:_SHORT],
            tags=snapshot.tags,
            name=_name(snapshot),
            committed=snapshot.committed,
            author=snapshot.author,
            message=snapshot.message,
            files=sum(self._file_count(out, storage) for out in snapshot.outs),
            size_bytes=sum(out.size_bytes or 0 for out in snapshot.outs),
            added=added,
            removed=removed,
            modified=modified,
            renamed=renamed,
            digest=_digest(snapshot.outs),
            problem=snapshot.problem,
        )

    def _count(self, old: CommitSnapshot | None, new: CommitSnapshot, storage: Storage) -> Counts:
        """Return how many files were added, removed, modified and renamed; cached for each pair of states."""
        if new.problem or (old and old.problem):
            return None, None, None, None
        before = old.outs if old else ()
        if not before:
            return sum(self._file_count(out, storage) for out in new.outs), 0, 0, 0
        key = (_digest(before), _digest(new.outs))
        if key not in self._counts:
            try:
                differing = self._differing(before, new.outs, storage, remote=False)
            except (NotFound, SourceUnavailable):
                return None, None, None, None
            counts = count_changes(*differing)
            self._counts[key] = (
                counts[FileChangeKind.ADDED], counts[FileChangeKind.REMOVED], counts[FileChangeKind.MODIFIED],
                counts[FileChangeKind.RENAMED],
            )  # fmt: skip
        return self._counts[key]

    def _file_count(self, out: Tracked, storage: Storage) -> int:
        if out.file_count is not None:
            return out.file_count
        try:
            return len(self._entries(out, storage, remote=False))
        except (NotFound, SourceUnavailable):
            return 0

    def _differing(
        self, old: tuple[Tracked, ...], new: tuple[Tracked, ...], storage: Storage, *, remote: bool = True
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return the entries (md5 by path) of both states that a comparison needs: at least all that differ."""
        before, after = {out.path: out for out in old}, {out.path: out for out in new}
        old_entries: dict[str, str] = {}
        new_entries: dict[str, str] = {}
        for path in before.keys() | after.keys():
            one, other = before.get(path), after.get(path)
            if one and other and one.md5 == other.md5:
                continue
            if one and other and _has_manifest(one) and _has_manifest(other):
                gone, come = diff_manifests(
                    self._manifest(one, storage, remote=remote), self._manifest(other, storage, remote=remote), path
                )
                old_entries |= gone
                new_entries |= come
            else:
                old_entries |= self._entries(one, storage, remote=remote) if one else {}
                new_entries |= self._entries(other, storage, remote=remote) if other else {}
        return old_entries, new_entries

    def _all_entries(self, revision: str, storage: Storage, sizes: dict[str, int | None]) -> dict[str, str]:
        """Return md5 by path of a revision; for the workspace, also add its sizes to `sizes`."""
        if revision == WORKSPACE:
            files = self._workspace().files()
            sizes |= {file.md5: file.size_bytes for file in files}
            return {file.path: file.md5 for file in files}
        entries: dict[str, str] = {}
        for out in self._outs(revision):
            entries |= self._entries(out, storage)
        return entries

    def _entries(self, out: Tracked, storage: Storage, *, remote: bool = True) -> dict[str, str]:
        """Return md5 by path of what one `.dvc` file tracks."""
        if out.listing is not None:
            return {file.path: file.md5 for file in out.listing}
        if not out.is_folder:
            return {out.path: out.md5}
        return self._manifest(out, storage, remote=remote).entries(out.path)

    def _manifest(self, out: Tracked, storage: Storage, *, remote: bool) -> Manifest:
        """Return the list of files of a tracked folder; without `remote`, NotFound if it is not on this machine."""
        manifest = self._manifests.get(out.md5)
        if manifest is None:
            if not remote and storage.find(out.md5) is None:
                raise NotFound(f"{out.path}: {out.md5} is not on this machine")
            raw = storage.read(out.md5, what=f"the list of files of {out.path}", remote=out.remote)
            manifest = Manifest(raw, out.md5)
            self._manifests.put(manifest)
        return manifest

    def _by_md5(self, out: Tracked, storage: Storage) -> Iterable[tuple[str, list[CorpusFile]]]:
        entries = self._entries(out, storage)
        sizes = self._sizes.look_up(entries.values(), storage)
        files: dict[str, list[CorpusFile]] = {}
        for path, md5 in entries.items():
            files.setdefault(md5, []).append(CorpusFile(path, sizes.get(md5), md5))
        return files.items()

    def _contents(self, revision: str, files: Iterable[CorpusFile]) -> Iterator[tuple[str, bytes]]:
        if revision == WORKSPACE:
            yield from ((file.path, self._workspace().read(file.path)) for file in files)
            return
        storage, outs = self._storage(), self._outs(revision)
        for file in files:
            remote = next(out.remote for out in outs if f"{file.path}/".startswith(f"{out.path}/"))
            yield file.path, storage.read(file.md5, what=f"{file.path} of {revision}", remote=remote)

    def _text(self, revision: str, path: str) -> str | None:
        if not any(file.path == path for file in self.list_files(revision, search=path)):
            return None
        try:
            return self.read_file(revision, path, most_bytes=_MOST_TEXT_BYTES).decode()
        except UnicodeDecodeError as error:
            raise InvalidInput("path", f"{path} of {revision} is not UTF-8 text: download it instead") from error

    def _outs(self, revision: str) -> tuple[Tracked, ...]:
        snapshot = self._history.get_snapshot(revision)
        if snapshot.problem:
            raise SourceUnavailable(f"version {revision}: {snapshot.problem}")
        return snapshot.outs

    def _workspace(self) -> Checkout:
        if self._checkout is None:
            raise InvalidInput("revision", "a repository without a working copy has no workspace; use a tag or commit")
        return self._checkout

    def _storage(self) -> Storage:
        """Reread DVC's settings, so that a newly added remote is found. A bare repository uses those of HEAD."""
        if self.root:
            return Storage(self.root / ".dvc")
        with tempfile.TemporaryDirectory(prefix="quarterdeck-") as folder:
            (Path(folder) / "config").write_bytes(self._history.read_file("HEAD", ".dvc/config") or b"")
            return Storage(Path(folder))


class _ManifestCache:
    """The manifests read last, up to 24 MB. They never change, and the next comparison reuses one of them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Manifest] = OrderedDict()

    def get(self, md5: str) -> Manifest | None:
        return self._kept.get(md5)

    def put(self, manifest: Manifest) -> None:
        self._kept[manifest.md5] = manifest
        while len(self._kept) > 2 and sum(len(kept.raw) for kept in tuple(self._kept.values())) > _MANIFESTS_KEPT_BYTES:
            self._kept.popitem(last=False)


class _SizeCache:
    """Sizes of objects by hash, up to 400,000 of them; the content of a hash never changes."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def look_up(self, md5s: Collection[str], storage: Storage) -> Mapping[str, int]:
        """Return the known sizes, including those of these objects that are on this machine."""
        if len(self._known) + len(md5s) > 4 * _MOST_SIZES:
            self._known = {}
        known = self._known
        known |= storage.sizes_bytes(md5 for md5 in md5s if md5 not in known)
        return known


def _folder_of(location: str, clones: Path | None) -> Path:
    if is_url(location):
        return clone_of(location, clones)
    folder = Path(location.removeprefix("file://")).expanduser()
    if not folder.is_dir():
        raise SourceUnavailable(f"{location} is not a folder on this machine. Check the path, or use a git URL")
    return folder.resolve()


def _name(snapshot: CommitSnapshot) -> str:
    return snapshot.tags[0] if snapshot.tags else snapshot.revision[:_SHORT]


def _digest(outs: Iterable[Tracked]) -> str:
    lines = "\n".join(sorted(f"{out.path} {out.md5}" for out in outs))
    return hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest()


def _has_manifest(out: Tracked) -> bool:
    return out.is_folder and out.listing is None
