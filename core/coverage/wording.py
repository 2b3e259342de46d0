"""Rule: how well passages match the words of a question: BM25 scores, and the share of the words that they hold.

Knows nothing of vectors; `answerability.py` compares both.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from core.coverage.labels import stem, subject_words

_WORD = re.compile(r"[^\W_]+")
_SATURATION, _LENGTH = 1.2, 0.75  # k1 and b of BM25, as usual


def question_words(text: str) -> frozenset[str]:
    """Return the stems of a text's words that carry its subject, compounds taken apart.

    >>> sorted(question_words("How do I load the plug-in?"))
    ['in', 'load', 'plug']
    """
    return frozenset(stem for word in subject_words(text).values() for stem in _stems(word))


class WordIndex:
    """The words of some passages, for BM25 (Robertson and Zaragoza 2009) and weighted by their rarity."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.size = len(texts)
        found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = np.zeros(len(texts))
        for place, text in enumerate(texts):
            counts = Counter(_stems(text))
            lengths[place] = counts.total()
            for word, times in counts.items():
                found[word].append((place, times))
        self._found = {word: np.array(held, dtype=np.int32) for word, held in found.items()}
        relative = lengths / max(float(lengths.mean()), 1.0) if len(texts) else lengths
        self._norms = _SATURATION * (1 - _LENGTH + _LENGTH * relative)

    def score(self, words: Collection[str]) -> NDArray[np.float64]:
        """Return the BM25 score of each passage for these words."""
        scores = np.zeros(self.size)
        for word in words:
            if word in self._found:
                at, times = self._found[word].T
                scores[at] += self._rarity(word) * times * (_SATURATION + 1) / (times + self._norms[at])
        return scores

    def cover(self, words: Collection[str]) -> NDArray[np.float64]:
        """Return the share of these words that each passage holds, rare ones weighing more: 0 to 1."""
        held, total = np.zeros(self.size), 0.0
        for word in words:
            rarity = self._rarity(word)
            total += rarity
            if word in self._found:
                held[self._found[word][:, 0]] += rarity
        return held / total if total else held

    def _rarity(self, word: str) -> float:
        """Return the inverse document frequency, log(1 + (N - n + 0.5) / (n + 0.5)); never below 0."""
        holders = len(self._found.get(word, ()))
        return float(np.log1p((self.size - holders + 0.5) / (holders + 0.5)))


def _stems(text: str) -> list[str]:
    return [stem(word) for word in _WORD.findall(text)]
