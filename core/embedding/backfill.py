"""Shell: embeds new texts in the background and reports progress, so that no page waits for the model."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from core.embedding.embed import Embedder
from core.errors import QuarterdeckError


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How far the embedding is: `done` of `total` texts; `problem` says in one line why it stopped early."""

    done: int = 0
    total: int = 0
    running: bool = False
    problem: str = ""


class Backfill:
    """One background thread that fills the vector cache. A second start while it runs is a no-op."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._lock = threading.Lock()
        self._progress = BackfillProgress()

    @property
    def progress(self) -> BackfillProgress:
        """How far the last start is."""
        return self._progress

    def start(self, texts: Sequence[str]) -> BackfillProgress:
        """Begin to embed the texts that the cache does not know, unless a run is under way."""
        with self._lock:
            if not self._progress.running:
                self._progress = BackfillProgress(0, len(texts), running=True)
                threading.Thread(target=self._run, args=(tuple(texts),), name="quarterdeck-embed", daemon=True).start()
            return self._progress

    def _run(self, texts: tuple[str, ...]) -> None:
        problem = ""
        try:
            self._embedder.embed(texts, on_progress=self._report)
        except QuarterdeckError as error:
            problem = str(error)
        finally:
            last = self._progress
            self._progress = BackfillProgress(last.done, last.total, running=False, problem=problem)

    def _report(self, done: int, total: int) -> None:
        self._progress = BackfillProgress(done, total, running=True)
