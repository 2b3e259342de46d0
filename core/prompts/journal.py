"""Gateway to the journal of an evaluation: results reach the disk at once, so a killed run resumes from there.

One JSON line per answer and per judged case. A torn last line costs one case, nothing more.
"""

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.errors import SourceUnavailable
from core.prompts.answers import Answer
from core.tracking.cases import CaseResult


class Journal:
    """The answers and results of one evaluation in one file, by case id; the later line of a case counts.

    Raises SourceUnavailable when the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.results: dict[str, CaseResult] = {}
        self._lock = threading.Lock()
        self._load()

    def record_answer(self, case_id: str, answer: Answer) -> None:
        """Keep what was answered, before it is judged."""
        self.answers[case_id] = answer
        self._append({"case": case_id, "answer": asdict(answer)})

    def record_result(self, result: CaseResult) -> None:
        """Keep what was judged."""
        self.results[result.case_id] = result
        self._append({"case": result.case_id, "result": asdict(result)})

    def remove(self) -> None:
        """Forget everything: the evaluation is complete and kept elsewhere."""
        self.path.unlink(missing_ok=True)

    def _load(self) -> None:
        if not self.path.exists():
            return
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError as error:
            raise SourceUnavailable(f"the journal {self.path} cannot be read: {error.strerror}") from error
        for line in lines:
            try:
                row = json.loads(line)
                if "answer" in row:
                    self.answers[row["case"]] = Answer(**_frozen(row["answer"]))
                else:
                    self.results[row["case"]] = CaseResult(**_frozen(row["result"]))
            except (ValueError, KeyError, TypeError):
                continue  # torn, or of another version: done again

    def _append(self, row: dict[str, Any]) -> None:
        # The line break comes first, so that a torn line before it spoils nothing.
        line = "\n" + json.dumps(row, ensure_ascii=False)
        try:
            with self._lock:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(line)
        except OSError as error:
            raise SourceUnavailable(f"the journal {self.path} cannot be written: {error.strerror}") from error


def _frozen(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
