"""Rule: tells the language of a text by its script and its stop words, and cuts it into words.

Chinese, Japanese and Thai are cut by BudouX, whose models come with it. Knows nothing of topics or vectors.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.resources import files

# A word may hold marks, such as the vowel signs of Hindi and Thai, which `\w` leaves out.
_WORD = r"[^\W_](?:[^\W_]|{marks})*(?:['’_\-./+#&@][^\W_](?:[^\W_]|{marks})*)*[+#]*"
_MARKS = (
    "[\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0711\u0730-\u074a"
    "\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0981-\u0983\u09bc-\u09d7\u0a01-\u0a03\u0a3c-\u0a51"
    "\u0a70\u0a71\u0a81-\u0a83\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b57\u0b82\u0bbe-\u0bcd\u0bd7\u0c00-\u0c04"
    "\u0c3e-\u0c56\u0c81-\u0c83\u0cbc-\u0cd6\u0d00-\u0d03\u0d3b-\u0d4d\u0d57\u0d81-\u0d83\u0dca-\u0ddf"
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd\u102b-\u103e\u17b4-\u17d3\u20d0-\u20f0"
    "\u3099\u309a\ufe00-\ufe0f\u200c\u200d]"
)

# Scripts by first and last letter, with the language that they stand for where stop words do not say another.
_SCRIPTS = (
    (0x0370, 0x03FF, "el"), (0x0400, 0x052F, "ru"), (0x0530, 0x058F, "hy"), (0x0590, 0x05FF, "he"),
    (0x0600, 0x077F, "ar"), (0x0900, 0x097F, "hi"), (0x0980, 0x09FF, "bn"), (0x0A00, 0x0A7F, "pa"),
    (0x0A80, 0x0AFF, "gu"), (0x0B80, 0x0BFF, "ta"), (0x0C00, 0x0C7F, "te"), (0x0C80, 0x0CFF, "kn"),
    (0x0D00, 0x0D7F, "ml"), (0x0D80, 0x0DFF, "si"), (0x0E00, 0x0E7F, "th"), (0x0E80, 0x0EFF, "lo"),
    (0x1000, 0x109F, "my"), (0x10A0, 0x10FF, "ka"), (0x1200, 0x137F, "am"), (0x1780, 0x17FF, "km"),
    (0x3040, 0x30FF, "ja"), (0x3400, 0x9FFF, "zh"), (0xAC00, 0xD7AF, "ko"),
)  # fmt: skip
_SAME_SCRIPT = {"ru": ("uk", "bg"), "ar": ("fa", "ur"), "hi": ("mr",)}
_LATIN = ("de", "fr", "es", "it", "pt", "nl", "sv", "da", "no", "fi", "pl", "cs", "ro", "hu", "tr", "id", "vi")

NAMES = {
    "am": "Amharic", "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "cs": "Czech", "da": "Danish",
    "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "fa": "Persian", "fi": "Finnish",
    "fr": "French", "gu": "Gujarati", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian", "hy": "Armenian",
    "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "km": "Khmer", "kn": "Kannada",
    "ko": "Korean", "lo": "Lao", "ml": "Malayalam", "mr": "Marathi", "my": "Burmese", "nl": "Dutch",
    "no": "Norwegian", "pa": "Punjabi", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian",
    "si": "Sinhala", "sv": "Swedish", "ta": "Tamil", "te": "Telugu", "th": "Thai", "tr": "Turkish",
    "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip

_ENGLISH = frozenset(
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


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of a text's language; `en` where nothing speaks for another.

    Most letters decide the script. Languages of one script are told apart by their stop words. A text needs two of
    them, or one and an accented letter, and more than twice as many as it has English ones: a name is no language.

    >>> [language_of(text) for text in ("reset my password", "wie kann ich das ändern", "ยกเลิกสัญญา", "如何取消合同")]
    ['en', 'de', 'th', 'zh']
    """
    script = _script_of(text)
    others = _SAME_SCRIPT.get(script, ()) if script else _LATIN
    if not others:
        return script
    words = [word.casefold() for word in find_words(text)]
    scores = {other: sum(word in _own_words(other) for word in words) for other in others}
    best = max(scores, key=lambda other: scores[other])
    known = sum(word in stop_words(script or "en") for word in words)
    hints = scores[best] + (not text.isascii() and scores[best] > 0)
    return best if hints >= 2 and hints > 2 * known else script or "en"


def find_words(text: str) -> list[str]:
    """Return the words of a text as written, whatever its script.

    >>> find_words("पासवर्ड कैसे बदलें"), find_words("下载发票"), find_words("log-in via C++")
    (['पासवर्ड', 'कैसे', 'बदलें'], ['下载', '发票'], ['log-in', 'via', 'C++'])
    """
    return [word for run in _pattern().findall(text) for word in _cut(run)]


def is_stop_word(word: str) -> bool:
    """Whether a word says nothing about the subject, in the language of its script (English for Latin letters)."""
    plain = word.casefold()
    script = _script_of(word)
    return plain in stop_words(script or "en") or (len(word) == 1 and script != "zh")


@lru_cache(maxsize=64)
def stop_words(language: str) -> frozenset[str]:
    """Return the stop words of a language; none for languages without a list."""
    from stopwordsiso import has_lang, stopwords

    if language == "en":
        return _ENGLISH
    return frozenset(word.casefold() for word in stopwords(language)) if has_lang(language) else frozenset()


@lru_cache(maxsize=64)
def _own_words(language: str) -> frozenset[str]:
    """Return the stop words that no English text would hold."""
    return frozenset(word for word in stop_words(language) - _ENGLISH if len(word) > 1)


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    return re.compile(_WORD.replace("{marks}", _MARKS))


def _script_of(text: str) -> str:
    """Return the language that most letters of a text stand for; "" for Latin letters, and where there are none."""
    counts: dict[str, int] = {}
    for letter in text:
        if letter.isalpha():
            script = _script_at(ord(letter))
            counts[script] = counts.get(script, 0) + 1
    if counts.get("ja") and counts.get("zh"):  # Japanese is written with both
        counts["ja"] += counts.pop("zh")
    return max(counts, key=lambda script: (counts[script], script)) if counts else ""


@lru_cache(maxsize=4_096)
def _script_at(code: int) -> str:
    return next((name for first, last, name in _SCRIPTS if first <= code <= last), "")


def _cut(run: str) -> Iterator[str]:
    """Cut a run of letters into words, in the scripts that have no spaces between them."""
    script = _script_of(run)
    if script not in ("zh", "ja", "th"):
        yield run
        return
    yield from _cutter(script)(run)


@lru_cache(maxsize=3)
def _cutter(language: str) -> Callable[[str], list[str]]:
    import budoux

    if language == "th":
        parser = budoux.load_default_thai_parser()
    elif language == "zh":
        parser = budoux.load_default_simplified_chinese_parser()
    else:
        model = files("budoux") / "models" / "ja_word.json"
        parser = budoux.Parser(json.loads(model.read_text(encoding="utf-8")))
    return parser.parse
