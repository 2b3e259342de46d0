"""Gateway to what replays remember on disk between runs: rerankings and judged answers, without anybody's words.

One JSON line each, written at once, so that a canceled run goes on where it stopped. A torn line costs one entry.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

from core.errors import Conflict, SourceUnavailable
from core.prompts.answers import Answer
from core.prompts.journal import Journal
from core.tracking.cases import CaseResult


def hash_parts(*parts: str) -> str:
    """Return the name under which something that depends on these texts is remembered."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


class OutcomeJournal(Journal):
    """The judged answers of one prompt: scores, costs and times; what was asked and answered is not written.

    A case is named after all that the answerer reads, so that no other question or context meets its outcome.
    """

    def record_answer(self, case_id: str, answer: Answer) -> None:
        """Keep an answer in memory until it is judged."""
        self.answers[case_id] = answer

    def record_result(self, result: CaseResult) -> None:
        """Append a result without its texts."""
        super().record_result(replace(result, question="", answer="", sentences=()))


class RememberedScores:
    """Rerankers' scores by `hash_parts`, in one file. Raises SourceUnavailable when it cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, list[float]] = {}
        try:
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        except OSError as error:
            raise SourceUnavailable(f"{path} cannot be read: {error.strerror}") from error
        for line in text.split("\n"):
            name, _, numbers = line.partition(" ")
            try:
                self._known[name] = [float(each) for each in json.loads(numbers)]
            except (ValueError, TypeError):
                continue  # torn: asked again

    def find(self, name: str) -> list[float] | None:
        """Return the scores of that name."""
        return self._known.get(name)

    def record(self, name: str, scores: list[float]) -> None:
        """Append scores."""
        self._known[name] = scores
        try:
            with self._lock:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(f"\n{name} {json.dumps(scores)}")
        except OSError as error:
            raise SourceUnavailable(f"{self._path} cannot be written: {error.strerror}") from error


@contextmanager
def replaying_alone(folder: Path, name: str, scope: str) -> Iterator[None]:
    """Hold the lock of a candidate's replays for a scope; that of a killed run is free.

    Raises Conflict while another process replays it: nothing is asked or paid for twice.
    """
    if fcntl is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / f"{hash_parts(name, scope)}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SourceUnavailable(f"{folder} cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"{name} is already being replayed for {scope}; wait for it, or cancel it") from error
        yield
    finally:
        os.close(handle)
