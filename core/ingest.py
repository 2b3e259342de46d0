"""Shell that reads a corpus version or a folder into chunks and embeds them; the DVC stage `ingest` runs it."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.boundary import Boundary
from core.chunks import Chunk
from core.config import Config
from core.corpus import Corpus
from core.embed import Embedder, Vectors
from core.errors import InvalidInput, NotFound, SourceUnavailable
from core.formats import is_readable
from core.indexes import LanceIndexes
from core.readers import share_readers
from core.storage import find_caches
from core.vectors import VectorCache
from quarterdeck.store import Store

TABLE = "chunks"
_SLICE = 128  # what a killed build embeds again at most: some seconds

OnProgress = Callable[[str, int, int], None]  # the step, how much of it is done, and of how much


@dataclass(frozen=True, slots=True)
class Problem:
    """A document that could not be read, and why, in one line."""

    document: str
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """What an index is built from: the chunks of a corpus version or of a folder, and what could not be read.

    `documents` counts those that were read, `skipped` those in formats that hold no text to index.
    """

    version: str
    documents: int
    chunks: tuple[Chunk, ...]
    problems: tuple[Problem, ...] = ()
    skipped: int = 0


def read_version(corpus: Corpus, revision: str, *, on_progress: OnProgress | None = None) -> Source:
    """Return the chunks of a corpus version, of the workspace too; names are relative to the folder tracked.

    The source is called as the list of versions calls it, whatever name it was asked for by.
    A file that cannot be read is a problem of the source and no error. Raises NotFound for an unknown revision.
    """
    files = [file.path for file in corpus.list_files(revision)]
    tops = {path.partition("/")[0] for path in files}
    prefix = f"{tops.pop()}/" if len(tops) == 1 and all("/" in path for path in files) else ""

    def read(name: str) -> bytes:
        return corpus.read_file(revision, prefix + name)

    return _read_source(
        corpus.name_revision(revision), [path.removeprefix(prefix) for path in files], read, on_progress
    )


def read_folder(folder: Path, *, on_progress: OnProgress | None = None) -> Source:
    """Return the chunks of every document below a folder. Raises InvalidInput when there is no such folder."""
    if not folder.is_dir():
        raise InvalidInput("folder", f"{folder} is no folder")
    boundary = Boundary(folder, caches=lambda: find_caches(folder))
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return _read_source(folder.resolve().name, names, lambda name: boundary.read(folder / name), on_progress)


def embed_chunks(
    embedder: Embedder, chunks: Sequence[Chunk], *, on_progress: OnProgress | None = None
) -> tuple[Vectors, int]:
    """Return one vector a chunk, and how many texts were new to the cache and had to be embedded.

    What was embedded is kept slice by slice, so that a build that was killed goes on where it was.
    """
    new = 0

    def count(done: int, _total: int) -> None:
        nonlocal new
        new += done

    texts = list(dict.fromkeys(chunk.text for chunk in chunks))
    rows = []
    for start in range(0, len(texts), _SLICE):
        part = texts[start : start + _SLICE]
        rows.append(embedder.embed(part, on_progress=count))
        if on_progress:
            on_progress("embed", start + len(part), len(texts))
    if not rows:
        return np.empty((0, 0), dtype=np.float32), 0
    place = {text: at for at, text in enumerate(texts)}
    return np.concatenate(rows)[[place[chunk.text] for chunk in chunks]], new


def build_index(folder: Path, out: Path, config: Config) -> int:
    """Index every document under `folder` into the table `chunks` of `out`, replacing it; return its number of chunks.

    Vectors are shared with the store's cache when there is a store. Raises InvalidInput for a folder without pages,
    and for one with a document that cannot be read: a pipeline's stage is whole or fails.
    """
    source = read_folder(folder)
    if source.problems:
        first = source.problems[0]
        raise InvalidInput(first.document, f"{first.reason} ({len(source.problems)} such documents)")
    if not source.chunks:
        raise InvalidInput("folder", f"{folder} holds no documents with text")
    vectors, _ = embed_chunks(_embedder(config), source.chunks)
    shutil.rmtree(out, ignore_errors=True)
    return LanceIndexes(out).build(TABLE, source.chunks, vectors)


def _read_source(
    version: str, names: Iterable[str], read: Callable[[str], bytes], on_progress: OnProgress | None
) -> Source:
    names = list(names)
    wanted = [name for name in names if is_readable(name)]
    chunks: list[Chunk] = []
    problems = []
    readers = share_readers()
    for done, name in enumerate(wanted, start=1):
        try:
            chunks += readers.split_document(name, read(name))
        except InvalidInput as error:
            problems.append(Problem(name, error.problem))
        except (NotFound, SourceUnavailable, OSError) as error:
            problems.append(Problem(name, str(error).splitlines()[0]))
        if on_progress:
            on_progress("read", done, len(wanted))
    return Source(version, len(wanted) - len(problems), tuple(chunks), tuple(problems), len(names) - len(wanted))


def _embedder(config: Config) -> Embedder:
    store = Store(config.database_url)
    try:
        with store.read():
            return Embedder(config.embedding_model, cache=VectorCache(store))
    except SourceUnavailable:
        return Embedder(config.embedding_model)
