"""Gateway to the corpus: the versions of a git and DVC repository, their files, and the difference between two.

Read only: it checks nothing out and takes no lock. `git_history.py` reads git, `checkout.py` the working copy,
`listings.py` the lists of files and `storage.py` what DVC stored; `manifests.py` compares versions.
"""

import tempfile
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from shlex import quote

from core.corpus.checkout import Checkout
from core.corpus.clones import clone_of
from core.corpus.git_history import CommitSnapshot, GitHistory
from core.corpus.listings import MOST_SIZES, Listings
from core.corpus.locations import find_folder, parse_location
from core.corpus.manifests import CorpusFile, compare_entries
from core.corpus.pipeline import Stage, StaleStage, list_stages, list_stale_stages
from core.corpus.readers import share_readers
from core.corpus.storage import Storage
from core.corpus.tracked import Tracked, holds, split_notes
from core.corpus.transfers import OnProgress, Owner, verify_contents, write_archive
from core.corpus.versions import SHORT, Counts, VerifyReport, Version, VersionDiff, digest_outs, name_version
from core.corpus.versions import WORKSPACE as WORKSPACE
from core.corpus.worddiff import TextSegment
from core.errors import InvalidInput, NotFound, SourceUnavailable

_MOST_TEXT_BYTES = 2_000_000


class Corpus:
    """The corpus versions of one repository, read-only and thread-safe.

    `location` is a path inside a git + DVC repository (or a bare one), or a URL that git can clone with the rights of
    this process; `#folder` after either names the folder of the DVC project. The corpus is the data tracked by `.dvc`
    files; in a version that has none, the outputs of `dvc.yaml`. Raises SourceUnavailable when the location is not a
    git repository, or not a DVC repository.
    """

    def __init__(self, location: str | Path, *, clones: Path | None = None) -> None:
        place = parse_location(str(location))
        self.location = place.shown
        self._repository = parse_location(self.location).repository
        folder = clone_of(place.repository, clones) if place.is_url else find_folder(place)
        self._history = GitHistory(folder, place.folder, shown=self._repository)
        self.root = self._history.root
        self._checkout = Checkout(self.root) if self.root else None
        self._listings = Listings()

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
        snapshot = self._history.get_snapshot(revision)
        return name_version(snapshot.revision, snapshot.tags)

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
        outs, _ = self._readable(revision, storage)
        files = (file for out in outs for file in self._listings.files(out, storage, wanted=wanted))
        return tuple(sorted(files, key=lambda file: file.path))

    def list_notes(self, revision: str) -> tuple[str, ...]:
        """Return what is left out of a revision and why, one line each: imports that were not downloaded, and such.

        Raises what `list_files` raises.
        """
        if revision == WORKSPACE:
            return split_notes(self._workspace().tracked())[1]
        return self._readable(revision, self._storage())[1]

    def compare_versions(self, old: str, new: str) -> VersionDiff:
        """Return the differences between two revisions; `workspace` is the uncommitted state.

        If more than 100,000 contents differ, sizes are left out, because looking them up would take seconds.
        Raises what `list_files` raises.
        """
        storage = self._storage()
        sizes: dict[str, int | None] = {}
        notes: tuple[str, ...] = ()
        if WORKSPACE in (old, new):
            before, after = (self._all_entries(revision, storage, sizes) for revision in (old, new))
        else:
            one, other, notes = self._comparable(old, new, storage)
            before, after = self._listings.differing(one, other, storage)
        changed = {md5 for _, md5 in before.items() ^ after.items()}
        if len(changed) <= MOST_SIZES:
            known = self._listings.sizes(changed - sizes.keys(), storage)
            sizes |= {md5: known[md5] for md5 in changed & known.keys()}
        return VersionDiff(old, new, compare_entries(before, after, sizes=sizes), notes)

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
            if holds(out, path):
                md5 = self._listings.entries(out, storage).get(path)
                if md5:
                    return self._read(out, CorpusFile(path, None, md5), revision, storage, most_bytes=most_bytes)
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
        outs, notes = self._readable(revision, storage)
        owners = {
            md5: Owner(out, files, self._listings.find_copy(out, files[0].path))
            for out in outs
            for md5, files in self._listings.files_by_md5(out, storage).items()
        }
        return verify_contents(revision, owners, storage, remote=remote, notes=notes, on_progress=on_progress)

    def archive(self, revision: str, target: Path, *, on_progress: OnProgress | None = None) -> Path:
        """Write all files of a revision into the zip file `target` and return it; leaves nothing behind on failure.

        Raises what `read_file` raises, and SourceUnavailable when `target` cannot be written.
        """
        files = self.list_files(revision)
        if revision == WORKSPACE:
            checkout = self._workspace()
            return write_archive(target, files, lambda file: checkout.read(file.path), on_progress=on_progress)
        storage, outs = self._storage(), self._outs(revision)

        def read(file: CorpusFile) -> bytes:
            return self._read(next(out for out in outs if holds(out, file.path)), file, revision, storage)

        return write_archive(target, files, read, on_progress=on_progress)

    def restore_commands(self, revision: str) -> tuple[str, ...]:
        """Return the commands that restore a version in a working copy."""
        snapshot = self._history.get_snapshot(revision)
        name = next((tag for tag in snapshot.tags if "\\" not in tag), snapshot.revision)
        dvc_files = sorted({out.dvc_file for out in snapshot.outs})
        below = Path("corpus", self._history.prefix).as_posix()
        clone = f"git clone {quote(self._repository)} corpus && cd {quote(below)}"
        enter = f"cd {quote(str(self.root))}" if self.root else clone
        return enter, f"git checkout {quote(name)}", " ".join(("dvc pull", *map(quote, dvc_files)))

    def restore_file_command(self, revision: str, path: str) -> str:
        """Return the command that fetches one file of a version, from cache or remote, into the current folder."""
        snapshot = self._history.get_snapshot(revision)
        prefix = self._history.prefix
        where = str(self.root).removesuffix(f"/{prefix}") if self.root else self._repository
        full = f"{prefix}/{path}" if prefix else path
        return f"dvc get {quote(where)} {quote(full)} --rev {quote(snapshot.revision)}"

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
            short=snapshot.revision[:SHORT],
            tags=snapshot.tags,
            name=name_version(snapshot.revision, snapshot.tags),
            committed=snapshot.committed,
            author=snapshot.author,
            message=snapshot.message,
            files=self._listings.count_files(snapshot.outs, storage),
            size_bytes=self._listings.add_sizes(snapshot.outs, storage),
            added=added,
            removed=removed,
            modified=modified,
            renamed=renamed,
            digest=digest_outs(snapshot.outs),
            problem=snapshot.problem,
            notes=snapshot.notes,
        )

    def _count(self, old: CommitSnapshot | None, new: CommitSnapshot, storage: Storage) -> Counts:
        if new.problem or (old and old.problem):
            return None, None, None, None
        return self._listings.count_changes(old.outs if old else (), new.outs, storage)

    def _readable(self, revision: str, storage: Storage) -> tuple[tuple[Tracked, ...], tuple[str, ...]]:
        """Return what can be listed of a revision, and notes about the rest. Raises SourceUnavailable."""
        snapshot = self._snapshot(revision)
        unreadable = self._listings.find_unreadable(snapshot.outs, storage)
        outs = tuple(out for out in snapshot.outs if out.path not in unreadable)
        return outs, (*snapshot.notes, *unreadable.values())

    def _comparable(
        self, old: str, new: str, storage: Storage
    ) -> tuple[Iterable[Tracked], Iterable[Tracked], tuple[str, ...]]:
        """Return what can be compared: a part that one side cannot list is left out of both, and noted."""
        snapshots = [self._snapshot(revision) for revision in (old, new)]
        one, other = ({out.path: out.md5 for out in snapshot.outs} for snapshot in snapshots)
        differing = [
            out for snapshot in snapshots for out in snapshot.outs if one.get(out.path) != other.get(out.path)
        ]  # fmt: skip
        unreadable = self._listings.find_unreadable(differing, storage)
        before, after = (
            [out for out in snapshot.outs if out.path not in unreadable] for snapshot in snapshots
        )  # fmt: skip
        notes = dict.fromkeys([*snapshots[0].notes, *snapshots[1].notes, *unreadable.values()])
        return before, after, tuple(notes)

    def _all_entries(self, revision: str, storage: Storage, sizes: dict[str, int | None]) -> dict[str, str]:
        """Return md5 by path of a revision; for the workspace, also add its sizes to `sizes`."""
        if revision == WORKSPACE:
            files = self._workspace().files()
            sizes |= {file.md5: file.size_bytes for file in files}
            return {file.path: file.md5 for file in files}
        entries: dict[str, str] = {}
        for out in self._readable(revision, storage)[0]:
            entries |= self._listings.entries(out, storage)
        return entries

    def _text(self, revision: str, path: str) -> str | None:
        if not any(file.path == path for file in self.list_files(revision, search=path)):
            return None
        try:
            return self.read_file(revision, path, most_bytes=_MOST_TEXT_BYTES).decode()
        except UnicodeDecodeError as error:
            raise InvalidInput("path", f"{path} of {revision} is not UTF-8 text: download it instead") from error

    def _read(
        self, out: Tracked, file: CorpusFile, revision: str, storage: Storage, *, most_bytes: int | None = None
    ) -> bytes:
        what, copy = f"{file.path} of {revision}", self._listings.find_copy(out, file.path)
        return storage.read(file.md5, what=what, remote=out.remote, copy=copy, most_bytes=most_bytes)

    def _outs(self, revision: str) -> tuple[Tracked, ...]:
        return self._snapshot(revision).outs

    def _snapshot(self, revision: str) -> CommitSnapshot:
        """Return what a revision tracks. Raises SourceUnavailable when a part cannot be read."""
        snapshot = self._history.get_snapshot(revision)
        if snapshot.problem:
            raise SourceUnavailable(f"version {revision}: {snapshot.problem}")
        return snapshot

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
