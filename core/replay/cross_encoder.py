"""Gateway to a reranking server: a question and passages in, a relevance for each out, under a budget.

Speaks the protocol that Cohere began and Jina, vLLM, llama.cpp and others share:
POST {"query", "documents"} gives {"results": [{"index", "relevance_score"}]}.
"""

import http.client
import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.deployments.health import StayHere
from core.errors import SourceUnavailable
from core.prompts.spending import Budget
from core.replay.candidates import check_reranker, name_reranker

KEY = "QUARTERDECK_RERANKER_KEY"
ATTEMPTS, LONGEST_WAIT_S, TIMEOUT_S = 3, 30.0, 30.0
_AGAIN = frozenset((408, 409, 425, 429))
_MOST_BYTES = 4_000_000


class CrossEncoder:
    """Asks one server. `usd` is the price of a search, reserved in the budget before it and paid when it answers.

    A key in the environment's QUARTERDECK_RERANKER_KEY is sent as a bearer token. Raises InvalidInput for an address
    that is none; a call raises SourceUnavailable in one line, and CeilingReached before the budget is passed.
    """

    def __init__(
        self,
        url: str,
        *,
        budget: Budget,
        usd: float = 0.0,
        environ: Mapping[str, str] = os.environ,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        check_reranker(url)
        self.url, self._usd, self._budget, self._sleep = url, usd, budget, sleep
        key = environ.get(KEY, "")
        self._headers = {"Content-Type": "application/json", "User-Agent": "quarterdeck"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def __call__(self, question: str, passages: Sequence[str]) -> list[float]:
        """Return the relevance of each passage, in their order."""
        body = json.dumps({"query": question, "documents": list(passages), "top_n": len(passages)}).encode()
        problem = ""
        for attempt in range(1, ATTEMPTS + 1):
            with self._budget.expense(at_most_usd=self._usd) as expense:
                expense.spent_usd = 0.0
                answer, problem, wait = self._ask(body)
                if answer is not None:
                    expense.spent_usd = self._usd
                    return _read_scores(answer, len(passages))
            if wait is None or attempt == ATTEMPTS:
                break
            if wait > LONGEST_WAIT_S:
                problem += f" and asks to wait {wait:.0f} s"
                break
            self._sleep(wait or 0.5 * 2 ** (attempt - 1))
        raise SourceUnavailable(f"the reranker {name_reranker(self.url)} {problem}")

    def _ask(self, body: bytes) -> tuple[Any, str, float | None]:
        """Return the answer, else the problem and the seconds until another attempt makes sense, None for never."""
        try:
            request = urllib.request.Request(self.url, data=body, headers=self._headers)  # noqa: S310 - checked above
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                return json.loads(answer.read(_MOST_BYTES)), "", None
        except urllib.error.HTTPError as error:
            with error:
                again = error.code in _AGAIN or error.code >= 500
                return (
                    None,
                    f"answered HTTP {error.code}",
                    _wait_s(error.headers.get("Retry-After", "")) if again else None,
                )
        except (ValueError, RecursionError):
            return None, "did not answer with JSON", None
        except (OSError, http.client.HTTPException) as error:
            said = " ".join(str(getattr(error, "reason", error)).split())[:200] or type(error).__name__
            return None, f"was not reached: {said}", 0.0


def _read_scores(answer: Any, count: int) -> list[float]:
    """Return the scores in the passages' order. Raises SourceUnavailable unless there is one for each."""
    try:
        found = {int(row["index"]): float(row["relevance_score"]) for row in answer["results"]}
    except (KeyError, TypeError, ValueError, OverflowError):
        found = {}
    if sorted(found) != list(range(count)) or not all(map(math.isfinite, found.values())):
        raise SourceUnavailable(
            "the reranker did not answer with `results`, an `index` and a `relevance_score` for each passage"
        )
    return [found[at] for at in range(count)]


def _wait_s(asked: str) -> float:
    try:
        return max(0.0, float(asked))
    except ValueError:
        return 0.0


_OPENER = urllib.request.build_opener(StayHere)
