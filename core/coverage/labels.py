"""Rule: names clusters of texts, by class-based TF-IDF over phrases of one to three words.

Knows nothing of vectors. A cluster whose texts share no phrase is named after its most typical text.
"""

import html
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST_LABEL = 60

_TAG = re.compile(r"<[^<>]{0,200}>")
# A run of marks that end words is matched once, from its first mark.
_SPLIT = re.compile(r"(?<![.,;:!?()\[\]{}\"“”|\n])[.,;:!?()\[\]{}\"“”|\n]+(?=\s|$)|[;!?()\[\]{}\"“”|]+|\s[-–—]+\s")
_WORD = re.compile(r"[^\W_]+(?:['’_\-./+#&@][^\W_]+)*[+#]*")
_PHRASE_WORDS = 3

# Stop words: they say nothing about the subject of a question.
_STOP_WORDS = frozenset(
    """
    a about above after again against ago all almost already also although always am an and another any anybody
    anyone anything anyway are aren't around as ask asked asking at away back be because been before being below
    best better between both but by bye came can can't cannot come could couldn't cuz day days did didn't do does
    doesn't doing don't done down due each either else etc even ever every everything exactly explain far few figure
    find first for from further gave get gets getting give given go goes going gonna gone good got great guys had
    hadn't happen happened happening happens hardly has hasn't have haven't having he hello help her here hers hey
    hi him his hope how how's however i i'd i'll i'm i've if in instead into is isn't it it'd it's its itself just
    keep keeps kind know known last later least less let let's like list little long look looking lot made make
    makes making many may maybe me mean means might mine more most much must my myself near need needed needs never
    new next no nope nor not nothing now of off often ok okay old on once one only onto or other others otherwise
    our ours out over own perhaps please possible possibly put quite rather really right said same saw say says see
    seem seems seen shall she should shouldn't show since so some somebody someone something sometimes somewhere
    soon sort still such sure take taken takes taking tell than thank thanks that that's the their theirs them then
    there there's these they they'd they're they've thing things think this those though through thus till to today
    together told too took toward towards tried try trying twice two under unless until up upon us use used uses
    using very via wanna want wanted wants was wasn't way ways we we'd we'll we're we've well went were weren't what
    what's whatever when where where's whether which while who who's whom whose why will with within without won't
    wonder wondering would wouldn't yeah yes yet you you'd you'll you're you've your yours yourself im ive dont cant
    didnt doesnt isnt wont whats hows id pls plz ain't
    """.split()  # noqa: SIM905 (a list of 400 quoted words is harder to read)
)


@dataclass(frozen=True, slots=True)
class _Phrase:
    stems: tuple[str, ...]
    score: float
    texts: frozenset[int]


def name_clusters(
    texts: Sequence[str], labels: Sequence[int], weights: Sequence[float], typical: Sequence[str]
) -> tuple[str, ...]:
    """Return a name for each cluster 0..k-1; names are distinct as long as the texts allow it.

    `labels` and `weights` are per text; `typical` has one text per cluster, the fallback name.
    A phrase p scores tf(p, c) * log(1 + A / f(p)): tf is the share of the cluster's texts that contain it (a text asked
    n times counts 1 + ln n, so that one frequent query does not name the whole topic), f the sum of its counts over all
    clusters, A the mean count of all phrases per cluster (class-based TF-IDF, Grootendorst 2022). Markup is ignored.

    >>> texts = ["load a VPP plugin", "VPP plugin fails", "tap port", "tap port down"]
    >>> name_clusters(texts, [0, 0, 1, 1], [1] * 4, [""] * 2)
    ('VPP plugin', 'tap port')
    """
    sentences = [_sentences(text) for text in texts]
    damped = [1.0 + math.log(max(weight, 1.0)) for weight in weights]
    found = [_phrases(parts) for parts in sentences]
    surfaces = _surfaces(found)
    names: list[str] = []
    for cluster, ranked in enumerate(_rank_phrases(found, labels, damped, len(typical))):
        names.append(_name(ranked, surfaces, damped, taken=names) or _shorten(typical[cluster]))
    return tuple(names)


def subject_words(text: str) -> dict[str, str]:
    """Return the subject words of a text by stem, as written; stop words and numbers are left out.

    >>> subject_words("How do I load VPP plugins?")
    {'load': 'load', 'vpp': 'VPP', 'plugin': 'plugins'}
    """
    words = (word for sentence in _sentences(text) for word in sentence)
    found: dict[str, str] = {}
    for word in words:
        if not _is_stop(word) and not word.isdigit():
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


def _sentences(text: str) -> list[list[str]]:
    plain = _TAG.sub(" ", html.unescape(text[:2_000])).replace("’", "'")
    return [words for part in _SPLIT.split(plain) if (words := _WORD.findall(part))]


def _is_stop(word: str) -> bool:
    return word.casefold() in _STOP_WORDS or (len(word) == 1 and word.isascii())


def _phrases(sentences: list[list[str]]) -> dict[tuple[str, ...], str]:
    """Return the phrases of one text: stems -> words as written. No phrase begins or ends with a stop word."""
    found: dict[tuple[str, ...], str] = {}
    for words in sentences:
        for phrase in _windows(words):
            if _is_stop(phrase[0]) or _is_stop(phrase[-1]) or all(word.isdigit() for word in phrase):
                continue
            stems = tuple(stem(word) for word in phrase)
            if len(set(stems)) == len(stems):
                found.setdefault(stems, " ".join(phrase))
    return found


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
    ranked = []
    for cluster, phrases_of in enumerate(holders):
        need = 2 if sizes[cluster] >= 3 else 1
        scored = [
            _Phrase(
                stems,
                _score(stems, sum(damped[t] for t in held) / sizes[cluster], mean / overall[stems]),
                frozenset(held),
            )
            for stems, held in phrases_of.items()
            if len(held) >= need
        ]
        ranked.append(sorted(scored, key=lambda phrase: (-phrase.score, phrase.stems)))
    return ranked


def _score(stems: tuple[str, ...], share: float, rarity: float) -> float:
    return share * math.log(1.0 + rarity) * (1.0 + 0.35 * (len(stems) - 1))


def _name(
    ranked: list[_Phrase], surfaces: dict[tuple[str, ...], str], damped: Sequence[float], *, taken: Sequence[str]
) -> str:
    """Return the best phrase, joined with a second one for texts that lack the first."""
    if not ranked:
        return ""
    first = ranked[0]
    name = surfaces[first.stems]
    others = [phrase for phrase in ranked[1:40] if not set(phrase.stems) & set(first.stems)]
    fresh = [
        (sum(damped[t] for t in phrase.texts - first.texts) / max(len(phrase.texts), 1) * phrase.score, phrase)
        for phrase in others
    ]
    fresh = [pair for pair in fresh if pair[0] >= 0.35 * first.score]
    if fresh:
        second = max(fresh, key=lambda pair: (pair[0], pair[1].stems))[1]
        name = f"{name}, {surfaces[second.stems]}"
    for phrase in others:
        if name not in taken:
            break
        name = f"{surfaces[first.stems]}, {surfaces[phrase.stems]}"
    return _shorten(name)


def _shorten(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= LONGEST_LABEL else plain[: LONGEST_LABEL - 1].rstrip() + "…"
