"""Rule: names clusters of texts: keywords by class-based TF-IDF over phrases of one to three words, and titles.

Knows nothing of vectors. `languages.py` finds the words and knows which of them say nothing.
"""

import html
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.coverage.languages import find_words, is_stop_word

LONGEST_TITLE = 80
MOST_KEYWORDS = 4

_TAG = re.compile(r"<[^<>]{0,200}>")
# A run of marks that end words is matched once, from its first mark.
_SPLIT = re.compile(
    r"(?<![.,;:!?()\[\]{}\"“”|\n])[.,;:!?()\[\]{}\"“”|\n]+(?=\s|$)|[;!?()\[\]{}\"“”|。、？！，।]+|\s[-–—]+\s"
)
_OPENING = re.compile(r"[^,:!.?]{2,30}[,:!] +(?=\S)")
_COURTESIES = frozenset({"sorry", "quick", "question", "dear", "team", "morning", "evening", "everyone", "excuse"})
_PHRASE_WORDS = 3
_COMMON = 0.5  # a word in more of the texts than this tells no topic from another
_SHARE_OF_BEST = 0.25  # keywords that score lower than this share of the first one are left out


@dataclass(frozen=True, slots=True)
class _Phrase:
    stems: tuple[str, ...]
    score: float
    texts: frozenset[int]


def find_keywords(
    texts: Sequence[str], labels: Sequence[int], weights: Sequence[float], clusters: int
) -> tuple[tuple[str, ...], ...]:
    """Return up to four keywords for each cluster 0..k-1, the most telling first; none where no phrase is shared.

    `labels` and `weights` are per text. A phrase p scores tf(p, c) * log(1 + A / f(p)): tf is the share of the
    cluster's texts that contain it (a text asked n times counts 1 + ln n, so that one frequent query does not name the
    whole topic), f the sum of its counts over all clusters, A the mean count of all phrases per cluster (class-based
    TF-IDF, Grootendorst 2022). Words of over half of all texts and repeated ones are left out. Markup is ignored.

    >>> texts = ["load a VPP plugin", "a VPP plugin", "VPP plugin", "tap port", "the tap port", "tap port on"]
    >>> find_keywords(texts, [0, 0, 0, 1, 1, 1], [1] * 6, 2)
    (('VPP plugin',), ('tap port',))
    """
    damped = [1.0 + math.log(max(weight, 1.0)) for weight in weights]
    found = [_phrases(_sentences(text)) for text in texts]
    surfaces = _surfaces(found)
    ranked = _rank_phrases(found, labels, damped, clusters)
    return tuple(tuple(surfaces[phrase.stems] for phrase in _pick(phrases)) for phrases in ranked)


def make_title(text: str) -> str:
    """Return a text as a title: one line without markup and greeting, at most 80 characters, cut between words.

    >>> make_title("Hi, how do I <b>reset</b>   my password?")
    'how do I reset my password?'
    """
    plain = _flatten(text)
    while (opening := _OPENING.match(plain)) and all(_says_nothing(word) for word in find_words(opening[0])):
        plain = plain[opening.end() :]
    return _shorten(plain)


def titles_of(text: str) -> frozenset[str]:
    """Return the titles that a text gives: without its greeting, and with it, as topics were called before."""
    return frozenset({make_title(text), _shorten(_flatten(text))})


def choose_title(candidates: Sequence[str], keywords: Sequence[str], texts: Sequence[str] = ()) -> int:
    """Return which of some typical texts, the most typical first, is the best title of the `texts` of a topic.

    A good title has the words that many of the texts have (the mean recall of their words) and few others, says what
    the keywords say, and is neither a fragment nor long; else the first wins.
    """
    wanted = {each for keyword in keywords for each in _stems(keyword)}
    told = [words for text in texts or candidates if (words := _stems(text))]
    shares = Counter(word for words in told for word in words)

    def rate(at: int) -> float:
        text = make_title(candidates[at])
        words = _stems(text)
        recall = sum(len(words & each) / len(each) for each in told) / max(1, len(told))
        shared = sum(min(1.0, 2 * shares[word] / len(told)) for word in words) / max(1, len(words))
        named = len(words & wanted) / max(1, len(wanted))
        fragment = 0.4 if len(find_words(text)) < 3 else 0.0
        return recall + 0.4 * shared + 0.3 * named - 0.03 * at - 0.01 * max(0, len(text) - 50) - fragment

    return max(range(len(candidates)), key=rate)


def subject_words(text: str) -> dict[str, str]:
    """Return the subject words of a text by stem, as written; stop words and numbers are left out.

    >>> subject_words("How do I load VPP plugins?")
    {'load': 'load', 'vpp': 'VPP', 'plugin': 'plugins'}
    """
    words = (word for sentence in _sentences(text) for word in sentence)
    found: dict[str, str] = {}
    for word in words:
        if not is_stop_word(word) and not word.isdigit():
            found.setdefault(stem(word), word)
    return found


def stem(word: str) -> str:
    """Return a crude English stem: the same for `transfers`, `transferred` and `transfer`."""
    word = word.casefold().replace("’", "'").removesuffix("'s")
    for suffix, least, put in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= least:
            word = word[: len(word) - len(suffix)] + put
            break
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


_SUFFIXES = (
    ("ies", 2, "y"),
    ("sses", 1, "ss"),
    ("ches", 2, "ch"),
    ("shes", 2, "sh"),
    ("xes", 2, "x"),
    ("ing", 4, ""),
    ("ied", 2, "y"),
    ("ed", 3, ""),
    ("ss", 1, "ss"),
    ("us", 1, "us"),
    ("is", 1, "is"),
    ("s", 3, ""),
)


def _flatten(text: str) -> str:
    return " ".join(_strip(text).split()) or " ".join(text.split())


def _shorten(plain: str) -> str:
    if len(plain) <= LONGEST_TITLE:
        return plain
    cut = plain[: LONGEST_TITLE - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[LONGEST_TITLE // 2 :] else cut).rstrip(" ,;:-") + "…"


def _says_nothing(word: str) -> bool:
    return is_stop_word(word) or word.casefold() in _COURTESIES


def _stems(text: str) -> set[str]:
    return {stem(word) for word in find_words(text) if not is_stop_word(word)}


def _strip(text: str) -> str:
    return _TAG.sub(" ", html.unescape(text[:2_000])).replace("’", "'")


def _sentences(text: str) -> list[list[str]]:
    return [words for part in _SPLIT.split(_strip(text)) if (words := find_words(part))]


def _phrases(sentences: list[list[str]]) -> dict[tuple[str, ...], str]:
    """Return the phrases of one text: stems -> words as written. No phrase begins or ends with a stop word."""
    found: dict[tuple[str, ...], str] = {}
    for words in sentences:
        for phrase in _windows(words):
            if is_stop_word(phrase[0]) or is_stop_word(phrase[-1]) or all(word.isdigit() for word in phrase):
                continue
            stems = tuple(stem(word) for word in phrase)
            if len(set(stems)) == len(stems):
                found.setdefault(stems, _join(phrase))
    return found


def _join(phrase: Sequence[str]) -> str:
    """Join words as their script does: with spaces, or without in Chinese, Japanese and Thai."""
    joined = phrase[0]
    for before, word in pairwise(phrase):
        joined += word if _is_spaceless(before) and _is_spaceless(word) else f" {word}"
    return joined


def _is_spaceless(word: str) -> bool:
    return "\u0e00" <= word[0] <= "\u0e7f" or "\u3040" <= word[0] <= "\u9fff"


def _windows(words: list[str]) -> Iterator[list[str]]:
    for size in range(1, _PHRASE_WORDS + 1):
        for start in range(len(words) - size + 1):
            yield words[start : start + size]


def _surfaces(found: Sequence[dict[tuple[str, ...], str]]) -> dict[tuple[str, ...], str]:
    """Return the most frequent spelling of each phrase."""
    written: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for phrases in found:
        for stems, words in phrases.items():
            written[stems][words] += 1
    return {stems: min(ways, key=lambda way: (-ways[way], way[:1].isupper(), way)) for stems, ways in written.items()}


def _rank_phrases(
    found: Sequence[dict[tuple[str, ...], str]], labels: Sequence[int], damped: Sequence[float], clusters: int
) -> list[list[_Phrase]]:
    holders: list[dict[tuple[str, ...], set[int]]] = [defaultdict(set) for _ in range(clusters)]
    sizes = [0.0] * clusters
    overall: Counter[tuple[str, ...]] = Counter()
    for text, (phrases, cluster) in enumerate(zip(found, labels, strict=True)):
        sizes[cluster] += damped[text]
        for stems in phrases:
            holders[cluster][stems].add(text)
            overall[stems] += damped[text]  # type: ignore[assignment]
    mean = sum(overall.values()) / max(clusters, 1)
    common = _find_common(holders, overall, labels, most=_COMMON * sum(sizes))
    ranked = []
    for cluster, phrases_of in enumerate(holders):
        telling = {stems: held for stems, held in phrases_of.items() if not {stems[0], stems[-1]} & common}
        need = 2 if sizes[cluster] >= 3 and any(len(held) > 1 for held in telling.values()) else 1
        scored = [
            _Phrase(
                stems,
                _score(stems, sum(damped[t] for t in held) / sizes[cluster], mean / overall[stems]),
                frozenset(held),
            )
            for stems, held in telling.items()
            if len(held) >= need
        ]
        ranked.append(sorted(scored, key=lambda phrase: (-phrase.score, phrase.stems)))
    return ranked


def _find_common(
    holders: Sequence[Mapping[tuple[str, ...], set[int]]],
    overall: Mapping[tuple[str, ...], float],
    labels: Sequence[int],
    *,
    most: float,
) -> set[str]:
    """Return the words of over half of all texts that a quarter of the texts in most clusters hold, too."""
    sizes = Counter(labels)
    often = [stems for stems, total in overall.items() if len(stems) == 1 and total > most]
    spread = {
        stems[0]: sum(4 * len(held.get(stems, ())) >= sizes[cluster] for cluster, held in enumerate(holders))
        for stems in often
    }
    return {word for word, clusters in spread.items() if clusters > len(holders) / 2}


def _score(stems: tuple[str, ...], share: float, rarity: float) -> float:
    return share * math.log(1.0 + rarity) * (1.0 + 0.35 * (len(stems) - 1))


def _pick(ranked: list[_Phrase]) -> list[_Phrase]:
    """Return the best phrases that share no word."""
    picked: list[_Phrase] = []
    used: set[str] = set()
    for phrase in ranked[:40]:
        if len(picked) == MOST_KEYWORDS or phrase.score < _SHARE_OF_BEST * ranked[0].score:
            break
        if not used & set(phrase.stems):
            picked.append(phrase)
            used |= set(phrase.stems)
    return picked
