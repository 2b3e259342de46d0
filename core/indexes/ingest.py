"""Shell: reads a corpus version or a folder into chunks and embeds them. The DVC stage `ingest` runs it."""

import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.config import Config
from core.corpus.corpus import Corpus
from core.corpus.readers import share_readers
from core.corpus.storage import find_caches
from core.embedding.chunks import CHUNKING, MAX_CHARACTERS, Chunk, name_chunking
from core.embedding.embed import Embedder, Vectors
from core.embedding.formats import is_readable
from core.embedding.vectors import VectorCache
from core.errors import InvalidInput, NotFound, SourceUnavailable
from core.indexes.backends import LanceIndexes
from core.safety.boundary import Boundary
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")
TABLE = "chunks"
_SLICE = 128  # texts that a killed build has to embed again at most: some seconds

OnProgress = Callable[[str, int, int], None]  # the step, how much is done, and the total


@dataclass(frozen=True, slots=True)
class Problem:
    """A document that could not be read, and the reason in one line."""

    document: str
    reason: str


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """The source of an index: the chunks of a corpus version or a folder, and the documents that could not be read.

    `documents` counts those that were read, `skipped` those whose format has no text to index. `chunking` names the
    rule that cut them.
    """

    version: str
    documents: int
    chunks: tuple[Chunk, ...]
    problems: tuple[Problem, ...] = ()
    skipped: int = 0
    chunking: str = CHUNKING


def read_version(
    corpus: Corpus, revision: str, *, max_characters: int = MAX_CHARACTERS, on_progress: OnProgress | None = None
) -> DocumentSource:
    """Return the chunks of a corpus version or of the workspace; document names are relative to the tracked folder.

    The source has the version's name in the list of versions, however it was requested. An unreadable file, or data
    that are left out of the version, become a problem of the source, not an error. Raises NotFound for an unknown
    revision.
    """
    files = [file.path for file in corpus.list_files(revision)]
    tops = {path.partition("/")[0] for path in files}
    prefix = f"{tops.pop()}/" if len(tops) == 1 and all("/" in path for path in files) else ""

    def read(name: str) -> bytes:
        return corpus.read_file(revision, prefix + name)

    name = corpus.name_revision(revision)
    source = _read_source(name, [path.removeprefix(prefix) for path in files], read, max_characters, on_progress)
    left_out = tuple(Problem(name, note) for note in corpus.list_notes(revision))
    return replace(source, problems=left_out + source.problems)


def read_folder(
    folder: Path, *, max_characters: int = MAX_CHARACTERS, on_progress: OnProgress | None = None
) -> DocumentSource:
    """Return the chunks of every document below a folder. Raises InvalidInput if the folder does not exist."""
    if not folder.is_dir():
        raise InvalidInput("folder", f"{folder} is not a folder")
    boundary = Boundary(folder, caches=lambda: find_caches(folder))
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    name = folder.resolve().name
    return _read_source(name, names, lambda each: boundary.read(folder / each), max_characters, on_progress)


def embed_chunks(
    embedder: Embedder, chunks: Sequence[Chunk], *, on_progress: OnProgress | None = None
) -> tuple[Vectors, int]:
    """Return one vector per chunk, and how many texts were not cached and had to be embedded.

    Vectors are cached slice by slice, so a killed build continues where it stopped.
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

    Shares vectors with the store's cache if there is a store. Raises InvalidInput for a folder without pages, and for
    one with an unreadable document: a pipeline stage completes or fails as a whole.
    """
    source = read_folder(folder)
    if source.problems:
        first = source.problems[0]
        raise InvalidInput(first.document, f"{first.reason} ({len(source.problems)} such documents)")
    if not source.chunks:
        raise InvalidInput("folder", f"{folder} has no documents with text")
    vectors, _ = embed_chunks(_embedder(config), source.chunks)
    shutil.rmtree(out, ignore_errors=True)
    return LanceIndexes(out).build(TABLE, source.chunks, vectors)


def _read_source(
    version: str,
    names: Iterable[str],
    read: Callable[[str], bytes],
    max_characters: int,
    on_progress: OnProgress | None,
) -> DocumentSource:
    names = list(names)
    wanted = [name for name in names if is_readable(name)]
    chunks: list[Chunk] = []
    problems = []
    readers = share_readers()
    for done, name in enumerate(wanted, start=1):
        try:
            chunks += readers.split_document(name, read(name), max_characters=max_characters)
        except InvalidInput as error:
            problems.append(Problem(name, error.problem))
        except (NotFound, SourceUnavailable, OSError) as error:
            problems.append(Problem(name, str(error).splitlines()[0]))
        if on_progress:
            on_progress("read", done, len(wanted))
    return DocumentSource(
        version, len(wanted) - len(problems), tuple(chunks), tuple(problems), len(names) - len(wanted),
        name_chunking(max_characters),
    )  # fmt: skip


def _embedder(config: Config) -> Embedder:
    store = Store(config.database_url)
    try:
        with store.read():
            return Embedder(config.embedding_model, cache=VectorCache(store))
    except SourceUnavailable as error:
        logger.warning("vectors are not cached, so that building is slow: %s", error)
        return Embedder(config.embedding_model)
