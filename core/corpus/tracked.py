"""Rule: what the `.dvc` files of a repository track. Works on bytes that somebody else has read."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from posixpath import dirname, isabs, join, normpath
from shlex import quote
from typing import Any, NamedTuple

from core.corpus.manifests import CorpusFile
from core.errors import InvalidInput, SourceUnavailable
from core.safety.yaml_texts import parse_yaml_texts


class CloudCopy(NamedTuple):
    """Where a remote that keeps versions itself has a file: its path in the project, and the version of the object."""

    path: str
    remote: str | None
    version_id: str


@dataclass(frozen=True, slots=True)
class Tracked:
    """One file or folder that a `.dvc` file tracks. `legacy` marks the hashes of DVC before 3.0.

    Without an `md5` it is not part of the version, and `note` says why in one line. A `note` beside an `md5` is about
    a part of it. The data of an import may be absent from the remote, because `dvc push` leaves imports out.
    """

    path: str
    md5: str
    size_bytes: int | None
    file_count: int | None
    legacy: bool
    remote: str | None
    dvc_file: str
    listing: tuple[CorpusFile, ...] | None = None
    note: str = ""
    is_import: bool = False
    copies: tuple[CloudCopy, ...] = ()

    @property
    def is_folder(self) -> bool:
        return self.md5.endswith(".dir")


def parse_tracked(text: bytes, dvc_file: str) -> tuple[Tracked, ...]:
    """Return what the `.dvc` file at `dvc_file` (relative to the repository) tracks.

    Outputs of a pipeline (`cmd`, of DVC before 1.0) are not added data and give an empty result. Raises
    SourceUnavailable with a remedy when the file is in a merge conflict or half written.
    """
    if b"<<<<<<< " in text or b">>>>>>> " in text:
        raise SourceUnavailable(
            f"{dvc_file} is in a merge conflict. Keep one side (git checkout --ours or --theirs {dvc_file}), "
            "then run: dvc checkout"
        )
    try:
        document = parse_yaml_texts(text, dvc_file)
        if document and "cmd" in document:
            return ()
        folder = join(dirname(dvc_file), document.get("wdir") or "")
        return tuple(_parse_out(out, document.get("deps") or (), folder, dvc_file) for out in document["outs"])
    except (InvalidInput, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _half_written(dvc_file, _reason(error)) from error


def holds(out: Tracked, path: str) -> bool:
    """Tell whether a path is the tracked file, or lies in the tracked folder."""
    return f"{path}/".startswith(f"{out.path}/")


def split_notes(found: Iterable[Tracked]) -> tuple[tuple[Tracked, ...], tuple[str, ...]]:
    """Return what belongs to the version, and the notes about what is left out."""
    every = tuple(found)
    return tuple(out for out in every if out.md5), tuple(out.note for out in every if out.note)


def parse_out(out: dict[str, Any], path: str, dvc_file: str, *, is_import: bool = False) -> Tracked:
    """Return one entry of `outs`, whose path in the repository is `path`. Raises ValueError, KeyError, TypeError."""
    if path == "." or isabs(path) or path.split("/")[0] == ".." or "://" in out["path"]:
        return _left_out(path if "://" not in out["path"] else out["path"], dvc_file, _OUTSIDE)
    listing, missing = _parse_listing(out.get("files"), path)
    md5 = out.get("md5") or (_listing_md5(listing) if listing else None)
    if md5 is None and (is_import or missing):
        return _left_out(path, dvc_file, "is not downloaded, so it is left out. Run: " + _update(dvc_file))
    if not isinstance(md5, str) or not md5.removesuffix(".dir").isalnum():
        raise ValueError(f"{out['path']} has no md5")
    legacy = out.get("hash", "md5-dos2unix") != "md5"
    return Tracked(
        path=path,
        md5=md5,
        size_bytes=_int_or_none(out.get("size")),
        file_count=len(listing) if listing else _int_or_none(out.get("nfiles")) if md5.endswith(".dir") else 1,
        legacy=legacy,
        remote=_text_or_none(out.get("remote")),
        dvc_file=dvc_file,
        listing=listing,
        note=_note_missing(missing, path, dvc_file),
        is_import=is_import,
        copies=_parse_copies(out, path),
    )


_OUTSIDE = "is outside of the repository, so it is left out. Only data inside can be shown: dvc add a folder of it"


def _parse_out(out: dict[str, Any], deps: Any, folder: str, dvc_file: str) -> Tracked:
    return parse_out(out, normpath(join(folder, out["path"])), dvc_file, is_import=bool(deps))


def _left_out(path: str, dvc_file: str, why: str) -> Tracked:
    return Tracked(path, "", None, None, False, None, dvc_file, note=f"{path} of {dvc_file} {why}")


def _note_missing(missing: int, path: str, dvc_file: str) -> str:
    if not missing:
        return ""
    files, are = ("1 file", "is") if missing == 1 else (f"{missing:,} files", "are")
    return f"{files} of {path} {are} not downloaded, so left out. Run: {_update(dvc_file)}"


def _update(dvc_file: str) -> str:
    return f"dvc update {quote(dvc_file)}"


def _parse_listing(files: Any, folder: str) -> tuple[tuple[CorpusFile, ...] | None, int]:
    """Return the list of files that a `.dvc` file of cloud-versioned data has, and how many more have no md5."""
    if not files:
        return None, 0
    known = tuple(
        CorpusFile(_inside(folder, f["relpath"]), _int_or_none(f.get("size")), _hash(f["md5"]))
        for f in files
        if f.get("md5")
    )
    return known, len(files) - len(known)


def _parse_copies(out: dict[str, Any], path: str) -> tuple[CloudCopy, ...]:
    """Return the versions of cloud objects that DVC recorded: under `cloud` by remote, and before DVC 3 without."""
    found = []
    for entry in out.get("files") or [out]:
        place = _inside(path, entry["relpath"]) if "relpath" in entry else path
        by_remote = {entry.get("remote"): entry, **(entry.get("cloud") or {})}
        found += [
            CloudCopy(place, _text_or_none(remote), str(copy["version_id"]))
            for remote, copy in by_remote.items()
            if isinstance(copy.get("version_id"), str)
        ]
    return tuple(found)


def _inside(folder: str, path: str) -> str:
    if isabs(path) or ".." in path.split("/"):
        raise ValueError(f"{path} lies outside of {folder}")
    return join(folder, path)


def _hash(text: str) -> str:
    if not text.isalnum():
        raise ValueError(f"{text} is no md5")
    return text


def _int_or_none(text: str | None) -> int | None:
    return None if text is None else int(text)


def _text_or_none(text: Any) -> str | None:
    if text is not None and not isinstance(text, str):
        raise TypeError("a list or a mapping where a name belongs")
    return text


def _listing_md5(listing: tuple[CorpusFile, ...]) -> str:
    lines = "\n".join(f"{file.path} {file.md5}" for file in listing)
    return hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _reason(error: Exception) -> str:
    if isinstance(error, InvalidInput) and "not YAML" not in error.problem:
        return error.problem
    return str(error).splitlines()[0] if type(error) is ValueError else "it is not complete YAML with outs"


def _half_written(dvc_file: str, what: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"{dvc_file} is half written: {what}. Run: git checkout {dvc_file} (the last committed one), "
        "or dvc add its data again"
    )
