"""Rule: the offline evaluation, with an extractive answerer and two judges, working on given texts and similarities.

No language model is involved or pretended. The answerer copies sentences; the judges compare wording and embeddings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from core.errors import InvalidInput

REFUSAL = "I do not know from these documents."
EXTRACTIVE = "extractive"
EXTRACTIVE_MODEL = "extractive-offline"

# Chosen on the labeled cases in data/demo/cases/judge_faithfulness.jsonl; the test of the judge prints its agreement.
MIN_SIMILARITY = 0.55
MIN_COVERAGE = 0.65

_FENCED = re.compile(r"^[^\S\n]*(```|~~~).*?^[^\S\n]*\1[^\n]*$", re.DOTALL | re.MULTILINE)
_LIST_MARK = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'`(]?[A-Z0-9`-])")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|No|Fig)\.$")
_TOKEN = re.compile(r"--?[a-z][\w-]*(?:=\w+)?|\d+(?:[.,]\d+)*%?|[A-Za-z_][\w]*(?:[-'][A-Za-z]\w*)*")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*%?")
_SOURCE = r"context|passages?|documents?|documentation|sources?|excerpts?|text"
_STOP = frozenset(
    _TOKEN.findall(
        "a an the of to in on at by for from with into over as is are was were be been being it its this that "
        "these those and or but so if then than there their they them he she you your we our i may can could "
        "should must will would do does did has have had which who what when where how also about each per such "
        "since because therefore thus while one some any only just very more most even still yet own up out not "
        "no never none nor neither cannot without nothing longer "
    )
)
_NEGATIONS = frozenset(_TOKEN.findall("not no never none nor neither cannot without nothing nobody nowhere"))
_NEGATING_ENDING = re.compile(r"(?!regardless|unless|nonetheless|nevertheless)\w{3,60}less|\w{1,60}n't")
_OPPOSITES = tuple(
    frozenset(pair)
    for pair in re.findall(
        r"(\w+)/(\w+)",
        "lower/higher lower/raise reduce/raise low/high less/more min/max minimum/maximum before/after first/last "
        "always/never all/none same/different busy/idle enable/disable allow/forbid accept/refuse increase/decrease "
        "local/remote hardware/software receive/transmit read/write input/output fast/slow faster/slower early/late "
        "start/stop add/remove success/failure safe/unsafe",
    )
)


_REFUSES = re.compile(
    r"\b(?:i|we)(?:\s+(?:do not|don't|cannot|can't|could not|couldn't|am unable to|are unable to)|'m unable to)\s+"
    r"(?:know|say|tell|answer|find|determine|help)\b|\bi have no (?:information|answer|knowledge)\b"
    rf"|\boutside (?:of )?the scope of\b|\b(?:{_SOURCE}) says? nothing\b"
    rf"|\b(?:{_SOURCE})\b[^.!?]{{0,40}}?\b(?:does not|do not|doesn't|don't|did not|cannot)\s+(?:\w+\s+)?"
    r"(?:cover|hold|contain|say|mention|tell|provide|include|answer|address|describe|explain|specify|state|discuss|give)"
    rf"|\b(?:not|never|nothing|no information|no answer|no mention)\b[^.!?]{{0,60}}?\b(?:in|by|from)"
    rf" (?:the|these|this|our) (?:\w+ )?(?:{_SOURCE})\b"
    r"|\bthere is (?:no|not enough) (?:information|context|mention)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A pipeline's answer to one question. `context` holds the sentences that were retrieved for it.

    `said` is a model's full text, including what is not a sentence; `passages` are the retrieved texts as sent.
    `latency_ms` is None offline, because the speed of copying sentences says nothing about a product.
    """

    sentences: tuple[str, ...]
    refused: bool
    documents: tuple[str, ...]
    context: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    cost_usd: float
    latency_ms: float | None = None
    said: str = ""
    passages: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The answer as a user reads it."""
        return self.said or (REFUSAL if self.refused else " ".join(self.sentences))


@dataclass(frozen=True, slots=True)
class Judgment:
    """The judges' scores of one answer, 0 to 1; `supported` has one entry per sentence."""

    faithfulness: float
    relevancy: float
    supported: tuple[bool, ...]
    refusal_correct: bool


def split_sentences(text: str) -> tuple[str, ...]:
    """Return the sentences of a Markdown text, without headings, code, tables and other lines without a full stop.

    >>> split_sentences("# Rings\\n\\nA ring is a FIFO. Its size, e.g. 512, is fixed.\\n- It has no locks.")
    ('A ring is a FIFO.', 'Its size, e.g. 512, is fixed.', 'It has no locks.')
    """
    sentences: list[str] = []
    for line in _FENCED.sub("\n", text).splitlines():
        plain = _LIST_MARK.sub("", line).strip()
        if not plain.startswith(("#", "|", ">")):
            sentences.extend(_split_line(plain))
    return tuple(sentence for sentence in sentences if sentence.endswith((".", "!", "?")))


def is_refusal(text: str) -> bool:
    """Return whether an answer declines: its first sentence says that the answer is unknown or not in the documents.

    Judged by the wording. An answer that first gives something and then says what is missing is not a refusal.

    >>> is_refusal("I do not know: the documentation does not cover this.")
    True
    >>> is_refusal("It is 128 bytes. The context does not say why.")
    False
    """
    first = (split_sentences(text) or (text,))[0]
    return bool(_REFUSES.search(first.replace("\u2019", "'")))


def choose_sentences(
    similarities: Sequence[float], *, max_sentences: int, refuse_below: float | None
) -> tuple[int, ...]:
    """Return the positions of the sentences that make up the answer, best first; empty means to refuse.

    `similarities` are the cosines of each sentence with the question. Refuses without any sentence, or when the best
    one is below `refuse_below`.
    """
    if max_sentences < 1:
        raise InvalidInput("max_sentences", f"must be 1 or more, not {max_sentences}")
    ranked = sorted(range(len(similarities)), key=lambda i: (-similarities[i], i))
    if not ranked or (refuse_below is not None and similarities[ranked[0]] < refuse_below):
        return ()
    return tuple(ranked[:max_sentences])


def is_supported(sentence: str, context: Sequence[str], similarities: Sequence[float]) -> bool:
    """Return whether one sentence of the context supports `sentence`.

    Approximates textual entailment. A context sentence c supports it when all of these hold: their cosine is at least
    0.55; c has at least 65% of the content words (crudely stemmed); c has every number and every name (options,
    identifiers, words with capitals); both have the same number of negations; no word of one is the opposite of a word
    in the other; and they do not differ by just one exchanged word. A copied sentence is always supported.
    It misses swapped roles ("A calls B", "B calls A") and what follows only from two sentences together.
    """
    if len(context) != len(similarities):
        raise InvalidInput("similarities", f"there are {len(similarities)} for {len(context)} context sentences")
    return any(
        sentence == other or (similarity >= MIN_SIMILARITY and _follows(sentence, other))
        for other, similarity in zip(context, similarities, strict=True)
    )


def judge_answer(*, refused: bool, answerable: bool, supported: Sequence[bool], question_similarity: float) -> Judgment:
    """Return the scores of an answer.

    Faithfulness is the share of sentences that the retrieved context supports. Relevancy is the cosine of question and
    answer, at least 0. A refusal scores 1 on both if the documents do not answer the case, and 0 on both if they do;
    otherwise a prompt that always refuses would win. `refusal_correct` says whether the case was refused exactly when
    it had to be.
    """
    if refused:
        score = 0.0 if answerable else 1.0
        return Judgment(score, score, (), not answerable)
    if not supported:
        raise InvalidInput("supported", "an answer that is not a refusal has at least one sentence")
    faithfulness = sum(supported) / len(supported)
    relevancy = min(1.0, max(0.0, question_similarity))
    return Judgment(faithfulness, relevancy, tuple(supported), answerable)


def _split_line(line: str) -> list[str]:
    parts: list[str] = []
    for part in _SENTENCE_END.split(line):
        if parts and _ABBREVIATION.search(parts[-1]):
            parts[-1] += f" {part}"
        elif part:
            parts.append(part)
    return parts


def _follows(sentence: str, other: str) -> bool:
    said, given = _words(sentence), _words(other)
    content = {word for word in said if word not in _STOP}
    known = {_stem(word) for word in given}
    if not content or _count_negations(said) != _count_negations(given):
        return False
    if _contradicts(set(said), set(given)) or not _names(sentence) <= _names(other, loose=True):
        return False
    if _exchanges_a_word(said, given):
        return False
    covered = sum(_stem(word) in known for word in content)
    return covered / len(content) >= MIN_COVERAGE


def _exchanges_a_word(said: Sequence[str], given: Sequence[str]) -> bool:
    """Whether both are the same except for one exchanged word: `primary` for `secondary`."""
    here, there = ([_stem(word) for word in words if word not in _STOP] for words in (said, given))
    changes = [step for step in SequenceMatcher(None, there, here, autojunk=False).get_opcodes() if step[0] != "equal"]
    return [(tag, i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in changes] == [("replace", 1, 1)]


def _words(text: str) -> list[str]:
    return [token.lower() for token in _TOKEN.findall(text)]


def _stem(word: str) -> str:
    if len(word) <= 3 or not word.isalpha():
        return word
    for ending in ("ations", "ation", "ingly", "ings", "ing", "ions", "ion", "edly", "ed", "es", "s", "ly", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            stem = word[: -len(ending)]
            return stem[:-1] if len(stem) > 3 and stem[-1] == stem[-2] else stem
    return word


def _count_negations(words: Sequence[str]) -> int:
    return sum(word in _NEGATIONS or bool(_NEGATING_ENDING.fullmatch(word)) for word in words)


def _contradicts(said: set[str], given: set[str]) -> bool:
    said, given = {_stem(word) for word in said}, {_stem(word) for word in given}
    for pair in _OPPOSITES:
        one, two = (_stem(word) for word in sorted(pair))
        for here, there in ((one, two), (two, one)):
            if here in said and here not in given and there in given and there not in said:
                return True
    return False


def _names(text: str, *, loose: bool = False) -> set[str]:
    """Numbers, options, identifiers and words with capitals; `loose` returns every word, to be searched in."""
    tokens = _TOKEN.findall(text)
    if loose:
        return {token.lower() for token in tokens}
    names = {token.lower() for token in tokens if _is_name(token)}
    first = tokens[0].lower() if tokens and tokens[0].istitle() else ""
    return names - {first}


def _is_name(token: str) -> bool:
    return bool(_NUMBER.fullmatch(token)) or token.startswith("-") or "_" in token or token != token.lower()
