"""Shell: sets up the bench that prompts are evaluated on: index, embedder, answering model, judge and input files.

`evaluate.py` runs prompts on it.
"""

import hashlib
import json
import logging
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from core.cases.cases import CaseSet
from core.cases.store import read_reference
from core.config import PROJECT, Config
from core.embedding.chunks import Chunk, digest_chunks
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import InvalidInput, SourceUnavailable
from core.indexes.backends import LanceIndexes
from core.indexes.ingest import read_folder
from core.prompts import answers
from core.prompts.answerers import (
    ContextPassage,
    Pipeline,
    Search,
    SentenceVectors,
    extractive_pipeline,
    model_pipeline,
)
from core.prompts.journal import Journal
from core.prompts.judges import OFFLINE, Judge, llm_judge, offline_judge
from core.prompts.models import LanguageModel
from core.prompts.prices import Price
from core.prompts.prompts import Prompt
from quarterdeck.store import Store

INDEX = "bench"
logger = logging.getLogger("quarterdeck")


@dataclass(frozen=True, slots=True)
class Bench:
    """The setup for evaluating prompts: an index, the answering model and the judge. Without models both are offline.

    `index_digest` changes with the index content. Journals go to the folder `journals`, if given.
    """

    search: Search
    vectors: SentenceVectors
    prices: Mapping[str, Price]
    answerer: LanguageModel | None = None
    protocol: str = answers.EXTRACTIVE
    judge_model: LanguageModel | None = None
    index_digest: str = ""
    journals: Path | None = None
    concurrency: int = 1

    @property
    def model(self) -> str:
        """The name of the answering model, as in the price table."""
        return self.answerer.name if self.answerer else answers.EXTRACTIVE_MODEL

    @property
    def judge_name(self) -> str:
        """The judge's name, as saved with a run."""
        return f"model: {self.judge_model.name}" if self.judge_model else OFFLINE

    def pipeline(self, prompt: Prompt) -> Pipeline:
        """Return the answering pipeline for this prompt."""
        if self.answerer:
            return model_pipeline(prompt, search=self.search, model=self.answerer)
        return extractive_pipeline(prompt, search=self.search, vectors=self.vectors, prices=self.prices)

    def judge(self) -> Judge:
        """Return the judge of the answers."""
        return llm_judge(self.judge_model) if self.judge_model else offline_judge(self.vectors)

    def journal(self, prompt: Prompt, digest: str) -> Journal | None:
        """Return the journal of this prompt over a test set on this bench; any change of them starts another one.

        `digest` is the `dataset_digest` of the cases.
        """
        if self.journals is None:
            return None
        parts = [asdict(prompt), digest, self.protocol, self.model, self.judge_name, self.vectors.model]
        key = hashlib.sha256(json.dumps([*parts, self.index_digest], sort_keys=True).encode()).hexdigest()[:24]
        return Journal(self.journals / f"{prompt.label}-{key}.jsonl")


@contextmanager
def open_embedder(config: Config) -> Iterator[Embedder]:
    """Yield an embedder with the cached vectors of the deck's store; without a store, with those of earlier gates."""
    store = Store(config.database_url)
    try:
        with store.read():
            pass
    except SourceUnavailable as error:
        kept = config.home / "gate-vectors.db"
        logger.warning("vectors are kept in %s, because the deck's store cannot be read: %s", kept, error)
        config.home.mkdir(parents=True, exist_ok=True)
        store = Store(f"sqlite:///{kept}", create=True)
        with store.begin():
            pass
    try:
        yield Embedder(config.embedding_model, cache=VectorCache(store))
    finally:
        store.close()


@contextmanager
def build_bench(chunks: Sequence[Chunk], embedder: Embedder, prices: Mapping[str, Price]) -> Iterator[Bench]:
    """Yield an offline bench over a temporary index of the chunks."""
    with tempfile.TemporaryDirectory(prefix="quarterdeck-index-") as folder:
        indexes = LanceIndexes(folder)
        indexes.build(INDEX, chunks, embedder.embed([chunk.text for chunk in chunks]))
        vectors = SentenceVectors(embedder)

        def search(question: str, top_k: int) -> Sequence[ContextPassage]:
            return indexes.search(INDEX, vectors.get(question)[None], top_k=top_k)[0]

        yield Bench(search, vectors, prices, index_digest=digest_chunks(chunks, model=embedder.model))


def head_revision() -> str:
    """Return the commit of the checkout, with `+` if files differ from it; "" outside of git."""
    commit = (ask_git("rev-parse", "--short=12", "HEAD") or "").strip()
    return f"{commit}+" if commit and ask_git("status", "--porcelain", "--untracked-files=no") else commit


def read_text(path: Path, *, below: Path = Path()) -> str:
    """Return the text of a file; a relative path is relative to that folder. Raises InvalidInput."""
    try:
        return (below / path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            str(path), f"cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}"
        ) from error


def read_stored_cases(config: Config, reference: str) -> CaseSet:
    """Return a case set of the store: `qa`, or `qa@3` for a former version. Raises NotFound and InvalidInput."""
    store = Store(config.database_url)
    try:
        found = read_reference(store, reference)
    finally:
        store.close()
    if not found.cases:
        raise InvalidInput("case set", f"{reference} has no cases")
    return found


def read_corpora(folders: Sequence[Path]) -> tuple[Chunk, ...]:
    """Return the chunks of all documents; later folders override documents of the same name."""
    documents: dict[str, list[Chunk]] = {}
    for folder in folders:
        source = read_folder(folder)
        if source.problems:
            raise InvalidInput(source.problems[0].document, source.problems[0].reason)
        replaced: dict[str, list[Chunk]] = {}
        for chunk in source.chunks:
            replaced.setdefault(chunk.document, []).append(chunk)
        documents |= replaced
    return tuple(chunk for chunks in documents.values() for chunk in chunks)


def ask_git(*arguments: str, folder: Path = PROJECT) -> str | None:
    """Return git's output in a folder, or None on failure: no repository, no such commit, no such file."""
    try:
        done = subprocess.run(
            ("git", *arguments), cwd=folder, capture_output=True, text=True, check=False, encoding="utf-8"
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
