"""Labeled sets of questions for the topic benchmarks: subsets of BANKING77, and sets made from the documentation.

`intents` are questions by templates over headings, `passages` are sentences of whole documents (diffuse), `mixture`
has both kinds of texts. Each takes a seed: rules are tuned on seeds from 10,000 upward and reported on seeds from 0.
"""

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.data import locate

Texts = list[tuple[str, str]]  # (text, class)

_DOCUMENTS = locate("data", "corpus")
_UNDERLINE = re.compile(r"^([=\-~^*+#])\1{2,}\s*$")
_ROLE = re.compile(r":[\w:+-]+:`~?([^`<]*?)(?:\s*<[^>]*>)?`")
_VAGUE = frozenset({
    "overview", "introduction", "background", "limitations", "references", "example", "examples", "notes", "usage",
})  # fmt: skip
_OPENINGS = ("", "", "", "", "hi, ", "hello, ", "quick question: ", "please tell me: ", "sorry, ", "one more thing: ")
_ENDINGS = ("", "", "", "", " please", " on Ubuntu", " in production", " for a customer", " in the latest release")
_PATTERNS = (
    "how do I set up {}", "what is {}", "where is {} explained", "why does {} fail", "{} does not work",
    "can I turn off {}", "is there an example of {}", "how does {} work", "when should I use {}", "{} gives an error",
    "I need help with {}", "what are the limits of {}", "how can I test {}", "which version has {}", "{} documentation",
    "do I need {}", "who can explain {} to me", "what do I have to know about {}", "how do I debug {}", "{}",
)  # fmt: skip


def subset(data: Texts, *, seed: int, classes: int, least: int, most: int) -> Texts:
    """Return `least` to `most` texts of each of `classes` classes."""
    rng = np.random.default_rng(seed)
    names = sorted({name for _, name in data})
    chosen = rng.choice(names, min(classes, len(names)), replace=False).tolist()
    found: Texts = []
    for name in chosen:
        own = [row for row in data if row[1] == name]
        found += _draw(own, int(rng.integers(least, most + 1)), rng)
    return found


def draw_small(classes: Sequence[str], *, seed: int) -> NDArray[np.int64]:
    """Return the rows of a small set: 3 to 20 of the classes, 40 to 249 rows, both log-uniform, in shuffled order.

    In half of the sets the classes are equally large, in the others as a Dirichlet(3) draw, with at least 3 rows.
    """
    rng, kinds = np.random.default_rng(seed), np.array(classes)
    names = np.unique(kinds)
    count = min(len(names), round(np.exp(rng.uniform(np.log(3), np.log(20.49)))))
    total = round(np.exp(rng.uniform(np.log(max(40, 3 * count)), np.log(249))))
    shares = np.full(count, 1 / count) if rng.random() < 0.5 else rng.dirichlet(np.full(count, 3.0))
    sizes = np.maximum(3, (shares * total).round().astype(int))
    chosen = rng.choice(names, count, replace=False)
    parts = [rng.permutation(np.flatnonzero(kinds == name))[:size] for name, size in zip(chosen, sizes, strict=True)]
    return rng.permutation(np.concatenate(parts))[:249]


def intents(*, seed: int, classes: int, questions: int) -> Texts:
    """Return `questions` distinct questions about `classes` headings, by templates with openings and endings."""
    rng = np.random.default_rng(seed)
    headings = sorted({heading for _, heading in _sections()})
    found: Texts = []
    for heading in rng.choice(headings, classes, replace=False).tolist():
        made: dict[str, None] = {}
        while len(made) < questions // classes:
            subject = heading if rng.random() < 0.5 else heading.lower()
            pattern, opening, ending = (str(rng.choice(way)) for way in (_PATTERNS, _OPENINGS, _ENDINGS))
            made[opening + pattern.format(subject) + ending] = None
        found += [(text, heading) for text in made]
    return found


def passages(*, seed: int, classes: int, least: int, most: int) -> Texts:
    """Return sentences of `classes` documents: texts that share little but their document."""
    return subset(_sentences(), seed=seed, classes=classes, least=least, most=most)


def mixture(parts: Sequence[Texts]) -> Texts:
    """Return all parts as one set."""
    return [row for part in parts for row in part]


def zipf_counts(count: int, *, exponent: float, seed: int) -> list[int]:
    """Return how often each of `count` texts was asked: 1 / rank^exponent, the least asked once, in seeded order."""
    ranks = np.random.default_rng(seed).permutation(count) + 1
    return np.maximum(1, (count / ranks**exponent).round()).astype(int).tolist()


def _draw(rows: Texts, count: int, rng: Generator) -> Texts:
    return [rows[at] for at in rng.permutation(len(rows))[:count]]


@cache
def _sections() -> tuple[tuple[str, str], ...]:
    """Return (document, heading) of the documentation, without headings that name no subject."""
    found = []
    for path in sorted(_DOCUMENTS.rglob("*.rst")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for line, below in pairwise(lines):
            title = _ROLE.sub(r"\1", line).strip().replace("``", "")
            if _UNDERLINE.match(below) and len(below.rstrip()) >= len(line.rstrip()) and _is_subject(title):
                found.append((path.stem, title))
    return tuple(found)


def _is_subject(title: str) -> bool:
    words = title.split()
    return 2 <= len(words) <= 7 and not words[0][0].isdigit() and words[0].lower() not in _VAGUE


@cache
def _sentence_rows() -> tuple[tuple[str, str], ...]:
    found = []
    for path in sorted(_DOCUMENTS.rglob("*.rst")):
        prose = []
        for part in re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")):
            if part[:1].isalpha() and "::" not in part and not _UNDERLINE.search(part):
                prose += re.split(r"(?<=[.?!])\s+", " ".join(_ROLE.sub(r"\1", part).split()))
        own = {sentence for sentence in prose if 30 <= len(sentence) <= 300}
        if len(own) >= 40:
            found += [(sentence, path.stem) for sentence in sorted(own)]
    return tuple(found)


def _sentences() -> Texts:
    return list(_sentence_rows())
