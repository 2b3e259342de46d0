"""Rule: removes personal data and secrets from a query before it is stored: e-mail, phone and card numbers, keys.

It runs in linear time and recognizes patterns, not people: names and street addresses stay. So does technical text:
versions, IP and PCI addresses, hashes, dates, error codes, short numbers.
"""

import re
from collections.abc import Callable

Redactor = Callable[[str], str]

# Each quantifier is bounded, or followed by something it cannot match: no text can cause backtracking.
_GAP = "[ \u00a0\u2009\u202f\u2010-\u2013-]"
_ALONE = r"(?<!\w)(?<!\w[-.])"  # at the start of a number, not inside a name such as ORD-12
_DIGIT = re.compile(r"\d")
_FEWEST_DIGITS = 7  # of a phone number
_SHORTEST_SECRET = 15  # except passwords

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,30}-----|\Z)", re.DOTALL)
_LOGIN_IN_URL = re.compile(r"(://[^\s:/@]{0,64}:)[^\s@/]{1,256}(?=@)")
_TOKEN = re.compile(
    r"""(?<![\w-])(?:
        [spr]k[-_][\w-]{16,} | gh[opsur]_\w{20,} | github_pat_\w{20,} | glpat-[\w-]{16,} | xox[abeoprs]-[\w-]{10,}
      | (?:AKIA|ASIA)[0-9A-Z]{16}(?!\w) | AIza[\w-]{30,} | hf_[A-Za-z0-9]{20,} | npm_[A-Za-z0-9]{30,} | pypi-[\w-]{40,}
      | ya29\.[\w-]{20,} | SG\.[\w-]{16,}\.[\w-]{16,} | eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*
    )""",
    re.VERBOSE,
)
_AUTHORIZATION = re.compile(r"(?<!\w)((?:bearer|basic)\s{1,8})([\w.~+/=-]{16,})", re.IGNORECASE)
_PASSWORD = re.compile(
    r"""((?:password|passwd|passphrase|pwd|secret)["']?[=:]["']?)([^\s"'<>${}&;,]{4,})""", re.IGNORECASE
)
_ASSIGNED = re.compile(
    r"""((?:key|token|secret|password|passwd|pwd|auth|credential|signature)["']?\s{0,8}(?:[=:]|\s(?:is|was)\s)\s{0,8}["']?)"""
    r"([\w+/.~=-]{16,})",
    re.IGNORECASE,
)
_E_MAIL = re.compile(r"([\w.+%-]{1,64})@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}")
# UUIDs and ISO dates are matched first and kept, so that two dates in a row do not look like a card number.
_CARD = re.compile(
    r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|\d{4}-\d\d-\d\d(?!\d)"
    rf"|{_ALONE}(?P<digits>\d(?:{_GAP}?\d){{12,}})(?!\w)"
)
_PHONE = re.compile(
    rf"""
    (?:(?<!\w)\+|{_ALONE}00(?=[1-9]))\d(?:[ \u00a0()./\u2010-\u2013-]{{0,3}}\d){{6,14}}(?!\w)       # +49 30 1234567
  | (?<![\w.-])(?:1[ .-])?(?:\([2-9]\d\d\)[ ]?|[2-9]\d\d[.-])[2-9]\d\d[ .-]\d{{4}}(?![\w.-]*\w)     # 415-555-2671
  | (?<![\w(.:/-])(?:\(0[1-9]\d{{1,4}}\)|0[1-9]\d{{1,3}})[ ]?[ /-][ ]?                                # 030 901820
    [1-9]\d{{1,7}}(?:[ -]\d{{2,8}}){{0,3}}(?![\w.:-]*\w)
  | (?<![\w.:/-])(?<!\d\d[ ])0[1-9](?:[ .]\d\d){{4}}(?![ ]?\w|[.:-]\w)                              # 06 12 34 56 78
  | (?<![\w.:/-])0[1-9]\d{{8,9}}(?![\w.:-]*\w)                                                      # 01701234567
    """,
    re.VERBOSE,
)
_CALLED = re.compile(
    r"((?:phone|tel|mobile|cell|call|fax|whatsapp|sms|number|reach|dial|ring)\D{0,24}?)"
    rf"{_ALONE}([2-9]\d\d{_GAP}?\d{{3}}{_GAP}?\d{{4}})(?!\w)",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Return the text with e-mail addresses, phone and card numbers, and keys replaced by their kind in brackets.

    >>> redact("mail bob@example.com or call +49 30 901820")
    'mail [e-mail] or call [phone]'
    """
    text = _redact_keys(text)
    if "@" in text:
        text = _E_MAIL.sub(lambda found: found[0] if found[1] == "git" else "[e-mail]", text)
    if len(_DIGIT.findall(text)) >= _FEWEST_DIGITS:
        text = _CARD.sub(_redact_cards, text)
        text = _PHONE.sub(_redact_phone, text)
        text = _CALLED.sub(r"\1[phone]", text)
    return text


def compose(*redactors: Redactor) -> Redactor:
    """Return a redactor that applies the given ones in turn. Without any, text stays as it is."""

    def apply(text: str) -> str:
        for redactor in redactors:
            text = redactor(text)
        return text

    return apply


def _redact_keys(text: str) -> str:
    if "-----BEGIN" in text:
        text = _PRIVATE_KEY.sub("[key]", text)
    if "://" in text:
        text = _LOGIN_IN_URL.sub(r"\1[key]", text)
    if "=" in text or ":" in text:
        text = _PASSWORD.sub(r"\1[key]", text)
    if max(map(len, text.split()), default=0) < _SHORTEST_SECRET:
        return text
    text = _TOKEN.sub(lambda found: "[key]" if _has_digit(found[0]) else found[0], text)
    text = _ASSIGNED.sub(lambda found: f"{found[1]}[key]" if _looks_random(found[2]) else found[0], text)
    return _AUTHORIZATION.sub(lambda found: f"{found[1]}[key]" if _has_digit(found[2]) else found[0], text)


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _looks_random(text: str) -> bool:
    """Return whether a word looks like a secret: digits among hex or mixed case, or several digits in one word."""
    digits = sum(map(str.isdigit, text))
    if not digits:
        return False
    if all(letter in "0123456789abcdefABCDEF" for letter in text):
        return True
    return (text != text.lower() and text != text.upper()) or (digits > 2 and not set("_-./") & set(text))


def _redact_cards(found: re.Match[str]) -> str:
    """Replace each run of whole groups whose 13 to 19 digits pass the Luhn check; a security code may follow."""
    run = found["digits"]
    if run is None:
        return found[0]
    groups = [(part.start(), part.end()) for part in re.finditer(r"\d+", run)]
    kept, done, first = [], 0, 0
    while first < len(groups):
        last = _find_card(run, groups, first)
        if last is None:
            first += 1
            continue
        kept += [run[done : groups[first][0]], "[card]"]
        done, first = groups[last][1], last + 1
    return "".join([*kept, run[done:]])


def _find_card(run: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """Return the index of the last group of the longest card number that starts at group `first`, or None."""
    if run[groups[first][0]] not in "23456":
        return None
    digits, best = "", None
    for at in range(first, min(len(groups), first + 19)):
        digits += run[groups[at][0] : min(groups[at][1], groups[at][0] + 20)]
        if len(digits) > 19:
            break
        if len(digits) >= 13 and _passes_luhn(digits):
            best = at
    return best


def _passes_luhn(digits: str) -> bool:
    numbers = [int(digit) for digit in reversed(digits)]
    doubled = (sum(divmod(2 * number, 10)) for number in numbers[1::2])
    return len(set(numbers)) > 1 and (sum(numbers[::2]) + sum(doubled)) % 10 == 0


def _redact_phone(found: re.Match[str]) -> str:
    digits = sum(map(str.isdigit, found[0]))
    return "[phone]" if _FEWEST_DIGITS <= digits <= 17 else found[0]
