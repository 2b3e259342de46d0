"""Gateway to the lists of files behind what git tracks: manifests and sizes, read once and kept.

The caller brings the `Storage`, because DVC's settings are reread for each call.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from shlex import quote

from core.corpus.manifests import CorpusFile, FileChangeKind, Manifest, count_changes, diff_manifests
from core.corpus.storage import Storage
from core.corpus.tracked import CloudCopy, Tracked
from core.corpus.versions import Counts, digest_outs
from core.errors import NotFound, SourceUnavailable

MOST_SIZES = 100_000
_MANIFESTS_KEPT_BYTES = 24_000_000
Entries = dict[str, str]  # md5 by path


class Listings:
    """The files behind tracked files and folders."""

    def __init__(self) -> None:
        self._manifests = _ManifestCache()
        self._sizes = _SizeCache()
        self._counts: dict[tuple[str, str], Counts] = {}
        self._copies: dict[tuple[str, str], dict[str, CloudCopy]] = {}

    def entries(self, out: Tracked, storage: Storage, *, remote: bool = True) -> Entries:
        """Return md5 by path of what one `.dvc` file tracks.

        Raises NotFound when the list is neither here nor in the remote, which is not asked unless `remote`.
        """
        if out.listing is not None:
            return {file.path: file.md5 for file in out.listing}
        if not out.is_folder:
            return {out.path: out.md5}
        return self._manifest(out, storage, remote=remote).entries(out.path)

    def files(self, out: Tracked, storage: Storage, *, wanted: str = "") -> Iterable[CorpusFile]:
        """Return the files of one `.dvc` file whose path contains `wanted` in whatever case."""
        entries = self.entries(out, storage)
        if wanted:
            entries = {path: md5 for path, md5 in entries.items() if wanted in path.casefold()}
        sizes = self.sizes(entries.values(), storage)
        told = {file.path: file.size_bytes for file in out.listing or ()}
        if not out.is_folder:
            told[out.path] = out.size_bytes
        return (CorpusFile(path, sizes.get(md5, told.get(path)), md5) for path, md5 in entries.items())

    def files_by_md5(self, out: Tracked, storage: Storage) -> dict[str, list[CorpusFile]]:
        """Return the files of one `.dvc` file by content."""
        files: dict[str, list[CorpusFile]] = {}
        for file in self.files(out, storage):
            files.setdefault(file.md5, []).append(file)
        return files

    def find_copy(self, out: Tracked, path: str) -> CloudCopy | None:
        """Return where a remote that keeps versions has a file of this `.dvc` file, if DVC recorded that."""
        if not out.copies:
            return None
        key = (out.path, out.md5)
        if key not in self._copies:
            self._copies = {key: {copy.path: copy for copy in out.copies}}  # an archive asks for one after the other
        return self._copies[key].get(path)

    def sizes(self, md5s: Collection[str], storage: Storage) -> Mapping[str, int]:
        """Return the known sizes, including those of these objects that are on this machine."""
        return self._sizes.look_up(md5s, storage)

    def differing(
        self, old: Iterable[Tracked], new: Iterable[Tracked], storage: Storage, *, remote: bool = True
    ) -> tuple[Entries, Entries]:
        """Return the entries of both states that a comparison needs: at least all that differ."""
        before, after = {out.path: out for out in old}, {out.path: out for out in new}
        old_entries: Entries = {}
        new_entries: Entries = {}
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
                old_entries |= self.entries(one, storage, remote=remote) if one else {}
                new_entries |= self.entries(other, storage, remote=remote) if other else {}
        return old_entries, new_entries

    def count_changes(self, old: tuple[Tracked, ...], new: tuple[Tracked, ...], storage: Storage) -> Counts:
        """Return how many files were added, removed, modified and renamed; cached for each pair of states.

        All are None if a manifest is not on this machine; it never waits for a network.
        """
        if not old:
            files = self.count_files(new, storage)
            return (None, None, None, None) if files is None else (files, 0, 0, 0)
        key = (digest_outs(old), digest_outs(new))
        if key not in self._counts:
            try:
                differing = self.differing(old, new, storage, remote=False)
            except (NotFound, SourceUnavailable):
                return None, None, None, None
            counts = count_changes(*differing)
            self._counts[key] = (
                counts[FileChangeKind.ADDED], counts[FileChangeKind.REMOVED], counts[FileChangeKind.MODIFIED],
                counts[FileChangeKind.RENAMED],
            )  # fmt: skip
        return self._counts[key]

    def count_files(self, outs: Iterable[Tracked], storage: Storage) -> int | None:
        """Return how many files these are; None if neither git nor this machine knows."""
        counts = [self._count(out, storage) for out in outs]
        return None if None in counts else sum(count or 0 for count in counts)

    def add_sizes(self, outs: Iterable[Tracked], storage: Storage) -> int | None:
        """Return the total bytes; None if the size of a part is neither in git nor on this machine."""
        sizes = [self._size(out, storage) for out in outs]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def find_unreadable(self, outs: Iterable[Tracked], storage: Storage) -> dict[str, str]:
        """Return a note by path for each imported folder whose list is not here: `dvc push` leaves imports out."""
        notes: dict[str, str] = {}
        for out in outs:
            if out.is_import and _has_manifest(out):
                try:
                    self._manifest(out, storage, remote=True)
                except (NotFound, SourceUnavailable):
                    notes[out.path] = (
                        f"{out.path} of {out.dvc_file} is imported, and its list of files is neither here nor in the "
                        f"remote, so it is left out. Run: dvc fetch {quote(out.dvc_file)}"
                    )
        return notes

    def _count(self, out: Tracked, storage: Storage) -> int | None:
        if out.file_count is not None:
            return out.file_count
        try:
            return len(self.entries(out, storage, remote=False))
        except (NotFound, SourceUnavailable):
            return None

    def _size(self, out: Tracked, storage: Storage) -> int | None:
        if out.size_bytes is not None:
            return out.size_bytes
        try:
            md5s = list(self.entries(out, storage, remote=False).values())
        except (NotFound, SourceUnavailable):
            return None
        if len(md5s) > MOST_SIZES:
            return None
        known = self.sizes(md5s, storage)
        told = {file.md5: file.size_bytes for file in out.listing or ()}
        sizes = [known.get(md5, told.get(md5)) for md5 in md5s]
        return None if None in sizes else sum(size or 0 for size in sizes)

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
        if len(self._known) + len(md5s) > 4 * MOST_SIZES:
            self._known = {}
        known = self._known
        known |= storage.sizes_bytes(md5 for md5 in md5s if md5 not in known)
        return known


def _has_manifest(out: Tracked) -> bool:
    return out.is_folder and out.listing is None
