"""Rule: the files of a version as a tree of folders, one level at a time."""

from collections.abc import Iterable
from dataclasses import dataclass

from core.corpus.manifests import CorpusFile


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """An entry of a folder: a file, or a folder with everything below it.

    `path` is the path in the version, without a trailing slash. `size_bytes` counts the files of known size; None if
    no size is known.
    """

    path: str
    name: str
    is_folder: bool
    files: int
    size_bytes: int | None
    md5: str = ""


def list_folder(files: Iterable[CorpusFile], folder: str = "") -> tuple[FolderEntry, ...]:
    """Return the direct entries of `folder` ("" for the top), folders first, each ordered by name.

    >>> files = [CorpusFile("corpus/a.md", 3, "m1"), CorpusFile("corpus/guides/b.md", 4, "m2")]
    >>> [(entry.name, entry.files, entry.size_bytes) for entry in list_folder(files, "corpus")]
    [('guides', 1, 4), ('a.md', 1, 3)]
    """
    top = f"{folder}/" if folder else ""
    folders: dict[str, list[CorpusFile]] = {}
    found: list[FolderEntry] = []
    for file in files:
        if not file.path.startswith(top):
            continue
        name, slash, _ = file.path[len(top) :].partition("/")
        if slash:
            folders.setdefault(name, []).append(file)
        else:
            found.append(FolderEntry(file.path, name, False, 1, file.size_bytes, file.md5))
    below = [
        FolderEntry(f"{top}{name}", name, True, len(inside), add_sizes(inside)) for name, inside in folders.items()
    ]
    return (*sorted(below, key=lambda entry: entry.name), *sorted(found, key=lambda entry: entry.name))


def find_first_folder(files: Iterable[CorpusFile]) -> str:
    """Return the folder to begin with: the first one that holds more than a lone folder; "" for the top.

    >>> find_first_folder([CorpusFile("corpus/a.md", 3, "m1"), CorpusFile("corpus/guides/b.md", 4, "m2")])
    'corpus'
    """
    folders = [file.path.split("/")[:-1] for file in files]
    shared = []
    for names in zip(*folders, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return "/".join(shared)


def add_sizes(files: Iterable[CorpusFile]) -> int | None:
    """Return the total bytes of the files whose size is known; None if none is."""
    known = [file.size_bytes for file in files if file.size_bytes is not None]
    return sum(known) if known else None
