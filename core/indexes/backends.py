"""Gateway to the vector indexes: build, search, list, copy, remove. LanceDB by default, Chroma as an extra, embedded.

Which index readers use is an alias in the shared store (`registry.py`, `operations.py`), not known here. To add a
backend, implement `VectorIndexes` (a library that keeps its index in a folder: subclass `_Folder`) and name it in
BACKENDS.
"""

import logging
import os
import re
import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.embedding.chunks import Chunk
from core.errors import Conflict, InvalidInput, NotFound, SourceUnavailable
from quarterdeck.errors import first_line

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_BATCH = 200
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Passage:
    """One search hit: a chunk and its cosine similarity to the query, at least 0."""

    document: str
    section: str
    text: str
    score: float


class VectorIndexes(Protocol):
    """The finished vector indexes of one location. Names are never reused, and an index never changes."""

    def list_names(self) -> tuple[str, ...]:
        """Return the names of the finished indexes."""

    def build(self, name: str, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> int:
        """Build the index `name` atomically; return its number of chunks. Raises Conflict for a taken name."""

    def count(self, name: str) -> int:
        """Return how many chunks the index holds. Raises NotFound."""

    def list_chunks(self, name: str) -> tuple[Chunk, ...]:
        """Return every chunk of the index. Raises NotFound."""

    def search(self, name: str, vectors: NDArray[np.float32], *, top_k: int = 5) -> tuple[tuple[Passage, ...], ...]:
        """Return the `top_k` nearest passages of each row of `vectors`, best first. Raises NotFound."""

    def remove(self, name: str) -> bool:
        """Remove an index; False if there is none of that name."""

    def remove_leftovers(self, *, older_than_s: float) -> int:
        """Remove what killed builds and removals left behind, if untouched for this long; return how many."""


def open_indexes(uri: str) -> VectorIndexes:
    """Return the indexes at `uri`: a folder (LanceDB), or `chroma:` and a folder. Raises InvalidInput."""
    kind, separator, folder = uri.partition(":")
    if "://" not in uri and (not separator or not kind.isalpha() or len(kind) == 1):  # a path may contain a colon
        return LanceIndexes(uri)
    if kind not in BACKENDS or "://" in uri:
        known = " or ".join(f"{name}:FOLDER" for name in BACKENDS)
        raise InvalidInput("index uri", f"{kind!r} is unknown; use a folder, {known}")
    return BACKENDS[kind](folder)


class _Folder(ABC):
    """Indexes as folders `name.suffix`: written under a hidden name, made durable, then renamed into place.

    Each build has its own hidden name, so two builders never write to the same folder; the later rename fails.
    """

    suffix = ""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._opened: dict[str, Any] = {}

    def list_names(self) -> tuple[str, ...]:
        found = self._folder.glob(f"*{self.suffix}")
        return tuple(sorted(path.name.removesuffix(self.suffix) for path in found if not path.name.startswith(".")))

    def build(self, name: str, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> int:
        if not chunks:
            raise InvalidInput("chunks", "there is nothing to index; check the corpus folder")
        if len(vectors) != len(chunks):
            raise InvalidInput("vectors", f"there are {len(vectors)} for {len(chunks)} chunks")
        self._check_free(name)
        self._folder.mkdir(parents=True, exist_ok=True)
        staging = self._hidden("staging", name)
        try:
            self._write(staging, chunks, np.ascontiguousarray(vectors, dtype=np.float32))
        except Exception as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise SourceUnavailable(f"index {name!r} could not be written: {first_line(error)}") from error
        self._publish(staging, name)
        return len(chunks)

    def count(self, name: str) -> int:
        return self._ask(name, self._count)

    def list_chunks(self, name: str) -> tuple[Chunk, ...]:
        return self._ask(name, self._chunks)

    def search(self, name: str, vectors: NDArray[np.float32], *, top_k: int = 5) -> tuple[tuple[Passage, ...], ...]:
        if top_k < 1:
            raise InvalidInput("top_k", f"{top_k} is below 1")
        hits: list[tuple[Passage, ...]] = []
        for start in range(0, len(vectors), _BATCH):
            part = np.ascontiguousarray(vectors[start : start + _BATCH], dtype=np.float32)
            hits += self._ask(name, partial(self._search, vectors=part, top_k=top_k))
        return tuple(hits)

    def remove(self, name: str) -> bool:
        self._forget(name)
        grave = self._hidden("removed", name)
        try:
            self._path(name).rename(grave)
        except FileNotFoundError:
            return False
        shutil.rmtree(grave, ignore_errors=True)
        return True

    def remove_leftovers(self, *, older_than_s: float) -> int:
        limit, removed = time.time() - older_than_s, 0
        for pattern in (".staging-*", ".removed-*"):
            for path in self._folder.glob(pattern + self.suffix):
                if _last_touched(path) <= limit:
                    shutil.rmtree(path, ignore_errors=True)
                    removed += 1
        return removed

    def _check_free(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidInput("index name", f"{name!r} must be small letters, digits, '.', '_' and '-'")
        if self._path(name).exists():
            raise Conflict(f"index {name!r} already exists; choose another name")

    def _publish(self, staging: Path, name: str) -> None:
        _make_durable(staging)
        try:
            staging.rename(self._path(name))
        except OSError as error:
            shutil.rmtree(staging, ignore_errors=True)
            if self._path(name).exists():
                raise Conflict(f"index {name!r} already exists: another build finished first") from error
            raise SourceUnavailable(f"index {name!r} could not be put in place: {error.strerror}") from error

    def _ask(self, name: str, question: Callable[[Any], _Found]) -> _Found:
        """Run a query on the index, which is opened once and cached; an index rebuilt under the name is reopened."""
        known = self._opened.get(name)
        if known is not None:
            try:
                return question(known)
            except Exception as error:  # noqa: BLE001 - each library has a family of its own; below it is named
                logging.getLogger(__name__).info("index %s is reopened: %s", name, first_line(error))
                self._forget(name)
        self._check_there(name)
        try:
            self._opened[name] = self._open(name)
            return question(self._opened[name])
        except Exception as error:
            self._forget(name)
            self._check_there(name)  # it may have been removed just now
            raise SourceUnavailable(f"index {name!r} could not be read: {first_line(error)}") from error

    def _check_there(self, name: str) -> None:
        if not _NAME.fullmatch(name) or not self._path(name).is_dir():
            raise NotFound(f"index: no index {name!r} in {self._folder}; there are: {', '.join(self.list_names())}")

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{self.suffix}"

    def _hidden(self, purpose: str, name: str) -> Path:
        return self._path(f".{purpose}-{name}-{secrets.token_hex(4)}")

    def _forget(self, name: str) -> None:
        self._opened.pop(name, None)

    @abstractmethod
    def _write(self, staging: Path, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> None: ...

    @abstractmethod
    def _open(self, name: str) -> Any: ...

    @abstractmethod
    def _count(self, table: Any) -> int: ...

    @abstractmethod
    def _chunks(self, table: Any) -> tuple[Chunk, ...]: ...

    @abstractmethod
    def _search(self, table: Any, vectors: NDArray[np.float32], top_k: int) -> list[tuple[Passage, ...]]: ...


class LanceIndexes(_Folder):
    """LanceDB tables in one folder, one per index; searched exhaustively, so scores are exact cosine similarities."""

    suffix = ".lance"

    def copy_from(self, table: Path, name: str) -> int:
        """Copy a finished table folder (`x.lance`) in as index `name`; return its number of chunks."""
        if not table.is_dir():
            raise NotFound(f"index: there is no table at {table}")
        self._check_free(name)
        self._folder.mkdir(parents=True, exist_ok=True)
        staging = self._hidden("staging", name)
        shutil.copytree(table, staging)
        staging.touch()  # a copy keeps the original's times, but is not a leftover
        self._publish(staging, name)
        return self.count(name)

    def _write(self, staging: Path, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        import pyarrow as pa

        columns = {
            "document": [chunk.document for chunk in chunks],
            "section": [chunk.section for chunk in chunks],
            "text": [chunk.text for chunk in chunks],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
        self._connect().create_table(staging.name.removesuffix(self.suffix), data=pa.table(columns))

    def _open(self, name: str) -> Any:
        return self._connect().open_table(name)

    def _count(self, table: Any) -> int:
        return int(table.count_rows())

    def _chunks(self, table: Any) -> tuple[Chunk, ...]:
        rows = table.search().select(["document", "section", "text"]).to_list()
        return tuple(Chunk(row["document"], row["section"], row["text"]) for row in rows)

    def _search(self, table: Any, vectors: NDArray[np.float32], top_k: int) -> list[tuple[Passage, ...]]:
        wanted = ["document", "section", "text", "_distance"]
        hits: list[list[Passage]] = [[] for _ in vectors]
        for hit in table.search(vectors).distance_type("cosine").select(wanted).limit(top_k).to_list():
            passage = Passage(hit["document"], hit["section"], hit["text"], _similarity(hit["_distance"]))
            hits[hit.get("query_index", 0)].append(passage)
        return [tuple(sorted(found, key=lambda each: -each.score)) for found in hits]

    def _connect(self) -> Any:
        import lancedb

        return lancedb.connect(self._folder)


class ChromaIndexes(_Folder):
    """Chroma databases in one folder, one per index; needs the extra `quarterdeck[chroma]`. Its telemetry is off.

    Chroma searches a graph (HNSW): a large index may occasionally miss a passage, which the probe would show.
    """

    suffix = ".chroma"

    def _write(self, staging: Path, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        client = _chroma_client(staging)
        try:
            table = client.create_collection(
                "chunks", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
            )
            for start in range(0, len(chunks), step := client.get_max_batch_size()):
                part = chunks[start : start + step]
                table.add(
                    ids=[str(start + at) for at in range(len(part))],
                    embeddings=vectors[start : start + step],
                    documents=[chunk.text for chunk in part],
                    metadatas=[{"document": chunk.document, "section": chunk.section} for chunk in part],
                )
        finally:
            client.close()

    def _open(self, name: str) -> Any:
        return (client := _chroma_client(self._path(name))), client.get_collection("chunks", embedding_function=None)

    def _count(self, table: Any) -> int:
        return int(table[1].count())

    def _chunks(self, table: Any) -> tuple[Chunk, ...]:
        rows = table[1].get(include=["documents", "metadatas"])
        return tuple(
            Chunk(where["document"], where["section"], text)
            for where, text in zip(rows["metadatas"], rows["documents"], strict=True)
        )

    def _search(self, table: Any, vectors: NDArray[np.float32], top_k: int) -> list[tuple[Passage, ...]]:
        wanted = min(top_k, self._count(table))
        rows = table[1].query(vectors, n_results=wanted, include=["documents", "metadatas", "distances"])
        return [
            tuple(
                Passage(where["document"], where["section"], text, _similarity(distance))
                for where, text, distance in zip(*found, strict=True)
            )
            for found in zip(rows["metadatas"], rows["documents"], rows["distances"], strict=True)
        ]

    def _forget(self, name: str) -> None:
        opened = self._opened.pop(name, None)
        if opened is not None:
            opened[0].close()


# By the word before the colon in QUARTERDECK_INDEX_URI. The tests of tests/core/indexes/test_backends.py run on each.
BACKENDS: Mapping[str, Callable[[str | Path], VectorIndexes]] = {"lancedb": LanceIndexes, "chroma": ChromaIndexes}


def _chroma_client(path: Path) -> Any:
    try:
        from chromadb import PersistentClient
        from chromadb.config import Settings
    except ModuleNotFoundError as error:
        raise SourceUnavailable("Chroma is not installed: pip install 'quarterdeck[chroma]'") from error
    return PersistentClient(path, settings=Settings(anonymized_telemetry=False))


def _similarity(distance: float) -> float:
    return min(1.0, max(0.0, 1.0 - distance))


def _make_durable(folder: Path) -> None:
    """Flush every file of the folder to disk before its name appears; no name may outlive its content."""
    for path in [*(each for each in folder.rglob("*")), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _last_touched(folder: Path) -> float:
    return max((path.stat().st_mtime for path in _still_there(folder)), default=0.0)


def _still_there(folder: Path) -> Iterator[Path]:
    yield from (path for path in (folder, *folder.rglob("*")) if path.exists())
