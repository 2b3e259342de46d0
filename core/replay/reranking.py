"""Rule: orders hits anew. BM25 counts the words that question and passage share, rare ones more.

`cross_encoder.py` asks a server instead.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

K1, B = 1.2, 0.75  # the usual constants: how fast a repeated word stops to count, how much a long passage pays
_WORD = re.compile(r"\w+")  # one class, one quantifier: linear in the length of the text

_Hit = TypeVar("_Hit")
Scores = Callable[[str, Sequence[str]], Sequence[float]]  # a question and its passages: a number for each


class LexicalScores:
    """BM25 over the passages of one index (Robertson & Zaragoza 2009, with the idf of Lucene, which is never negative).

    score(q, d) = sum over the words w of q: ln(1 + (N - n_w + 0.5) / (n_w + 0.5))
    * f_wd (k1 + 1) / (f_wd + k1 (1 - b + b |d| / mean |d|)), with N passages of which n_w have the word w, f_wd times
    in d. Words are runs of letters, digits and underscores, without regard to case; languages that are written without
    spaces are not split.
    """

    def __init__(self, passages: Iterable[str]) -> None:
        self._having: Counter[str] = Counter()
        self._passages = self._words = 0
        for text in passages:
            words = list_words(text)
            self._having.update(set(words))
            self._passages += 1
            self._words += len(words)

    def __call__(self, question: str, passages: Sequence[str]) -> list[float]:
        """Return the score of each passage for a question."""
        wanted = {word: self._weigh(word) for word in list_words(question)}
        mean = self._words / self._passages if self._passages else 1.0
        return [self._score(wanted, list_words(text), mean or 1.0) for text in passages]

    def _weigh(self, word: str) -> float:
        n = self._having[word]
        return math.log(1 + (self._passages - n + 0.5) / (n + 0.5))

    def _score(self, wanted: dict[str, float], words: Sequence[str], mean: float) -> float:
        counts = Counter(words)
        pays = K1 * (1 - B + B * len(words) / mean)
        return sum(weight * counts[w] * (K1 + 1) / (counts[w] + pays) for w, weight in wanted.items() if counts[w])


def list_words(text: str) -> list[str]:
    """Return the words of a text in order, folded."""
    return _WORD.findall(text.casefold())


def order_hits(hits: Sequence[_Hit], scores: Sequence[float], top_k: int) -> tuple[_Hit, ...]:
    """Return the `top_k` hits with the best scores; equal ones stay in their order. Similarities stay the hits' own."""
    ranked = sorted(range(len(hits)), key=lambda at: (-scores[at], at))
    return tuple(hits[at] for at in ranked[:top_k])
