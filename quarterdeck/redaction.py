"""Rule: removes personal data and secrets from a query before it is stored: addresses, numbers, passwords, keys.

It runs in linear time and recognizes patterns, not people: names and street addresses stay. So does technical text:
versions, IP and PCI addresses, hashes, dates, error codes, numbers of orders, short numbers.
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
_SHORTEST_CODE = 3  # of a card or a text message
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")  # image@2x.png
_VERBS = frozenset(("is", "was", "ist", "lautet", "es", "est", "to", "jest", "\u00e9", "\u00e8", "er", "\u00e4r", "on"))

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]{0,40}-----|\Z)", re.DOTALL
)
_LOGIN_IN_URL = re.compile(r"(://[^\s:/@]{0,64}:)[^\s@/]{1,256}(?=@)")
_TOKEN = re.compile(
    r"""(?<![\w-])(?:
        [sprx]k[-_.][\w.-]{16,} | gh[opsur]_\w{20,} | github_pat_\w{20,} | gl[a-z]{2,5}-[\w-]{16,} | xox[a-z]-[\w-]{10,}
      | xapp-[\w-]{20,} | (?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{12,}(?!\w) | LTAI[0-9A-Za-z]{12,} | AIza[\w-]{30,}
      | GOCSPX-[\w-]{20,}
      | (?:qd|hf|npm|whsec|gsk|r8|pcsk|sbp|fw|nfp|glsa|glc|figd|ntn|lin_api|lsv2_[ps][tk]|dckr_pat|do[op]_v1
          |shp(?:at|ss|ca|pa)|rubygems|tfp|nvapi|xai|pplx|api|secret|key|token|dapi|sntry[su]|rzp_(?:live|test)|sq0[a-z]{3}|EAA[A-Z]?
          |tvly|jina|sgp|pul|tskey-[a-z]{1,8}|vercel_blob_rw|ATATT3?|NRAK|PMAK|AGE-SECRET-KEY|AKCp|sl|dp\.[a-z]{2}(?:\.[a-z]{2,8})?|hv[sbr]|cfut|gho|sm_)[-_.]?
        (?=[\w-]{0,40}\d)[A-Za-z0-9_=-]{18,}(?:\.[\w-]{10,})*
      | pypi-[\w-]{40,} | ya29\.[\w-]{20,} | 1//[\w-]{30,} | SG\.[\w-]{16,}\.[\w-]{16,}
      | AQ\.[\w-]{30,} | LLM\|\d{10,20}\|[\w-]{20,}
      | pat[A-Za-z0-9]{14}\.[0-9a-f]{40,}
      | eyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*){0,3} | \d{8,10}:AA[\w-]{30,} | [MNO][\w-]{22,28}\.[\w-]{6}\.[\w-]{25,}
      | (?:AC|SK|key-)[0-9a-f]{32}(?!\w) | [0-9a-f]{32}-us\d{1,2}(?!\w)
    )|(?<=hooks\.slack\.com/services/)[\w/]{20,80}""",
    re.VERBOSE,
)
_WORD = re.compile(r"(?<![\w/.:-])[\w-]{32,512}(?![\w/.-])")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_AUTHORIZATION = re.compile(r"(?<!\w)((?:bearer|basic|digest|token)\s{1,8})([\w.~+/=-]{16,})", re.IGNORECASE)
_COOKIES = re.compile(r"(?<![\w-])((?:set-)?cookie2?['\"]?:\s{0,3})([\w.$-]{1,64}=[^\n'\"]{1,4096})", re.IGNORECASE)
_SESSION = re.compile(
    r"""(?<![\w-])([\w.-]{0,32}(?:sess|sid|sso|csrf|xsrf|remember|jwt|auth|_streamlit_)[\w.-]{0,24}"""
    r"""["']?\s{0,2}[=:]\s{0,2}["']?)"""
    r"""([^\s;,&"'<>]{12,})""",
    re.IGNORECASE,
)
# In Polish, Portuguese, Turkish, Dutch, Swedish, Norwegian, Danish, Finnish, Czech, Hungarian, Romanian, Russian,
# Chinese, Japanese and Korean.
_FOREIGN_PASSWORDS = (
    r"has[\u0142l]o|senha|[\u015fs]ifre|wachtwoord|l[\u00f6o]senord|passord|adgangskode|salasana|heslo|jelsz[\u00f3o]|parola"
    r"|\u043f\u0430\u0440\u043e\u043b\u044c|\u5bc6\u7801|\u5bc6\u78bc|\u30d1\u30b9\u30ef\u30fc\u30c9|\ube44\ubc00\ubc88\ud638"
)
_WORDS_OF_PASSWORDS = (
    rf"(?:pass(?:word|wort|wd|phrase|code)?|pwd|pw|contrase\u00f1a|mot\sde\spasse|kennwort|secret|{_FOREIGN_PASSWORDS})"
)
_FOREIGN = re.compile(_FOREIGN_PASSWORDS, re.IGNORECASE)
_PASSWORD = re.compile(
    rf"""((?<![A-Za-z]){_WORDS_OF_PASSWORDS}["']?[=:]["']?|<(?:password|passwd|secret)>|[\w-]{{0,30}}(?:password|passwd|secret)["']?[=:]["']?)"""
    r"""([^\s"'<>${}&;,][^\s"'<>{}&;,]{3,})""",
    re.IGNORECASE,
)
_MAY_SAY_PASSWORD = re.compile(f"[Pp]ass|PASS|[Pp]wd?|PW|[Kk]enn|[Ss]ecret|SECRET|[Cc]ontra|(?i:{_FOREIGN_PASSWORDS})")
_SAYS = (
    r"(?:(?:was|is|has\sbeen)\s(?:changed|set|reset)\sto|is|was|ist|lautet|es|est|to|jest|\u00e9|\u00e8|er|\u00e4r|on)"
)
_SAID_PASSWORD = re.compile(
    rf"""(?<![A-Za-z])({_WORDS_OF_PASSWORDS}["']?"""
    rf"""(?:\s{{0,3}}(?:=>|[=:\uff1a\u2192])\s{{0,3}}|\s{{1,3}}{_SAYS}:?\s{{1,3}}|\s{{1,3}})["'`\u201c\u201e]?)"""
    r"""([^\s"'`<>${}()\u201d][^\s"'`<>{}()\u201d]{3,63})(?=(["'`\u201d]|[.,;!?]?(?:\s|\Z)(\w?)))""",
    re.IGNORECASE,
)
_NOT_A_PASSWORD = re.compile(
    r"(?:sha-?\d|md5|argon2|pbkdf2|bcrypt|scrypt|oauth|base64|utf-?8|ntlm|http|v?\d+(?:[./:-]\d+)*$|\W+$|\w+\(|\d+-\w+$"
    r"|[a-z]+[-_/][a-z]+(?:[-_/][a-z]+)*$|[\w.-]+\.(?:md|py|txt|js|ya?ml|json|html?|env|conf|ini|cfg|php|com|org)$"
    r"|[a-z]+\.[a-z.]+$|(?-i:[A-Z][A-Z_]+$))",
    re.IGNORECASE,
)
# fmt: off
_STATES = frozenset((
    "wrong", "incorrect", "invalid", "expired", "required", "missing", "empty", "correct", "weak", "strong",
    "forgotten", "lost", "reset", "changed", "hashed", "stored", "null", "none", "true", "false", "string", "text",
    "optional", "mandatory", "disabled", "enabled", "denied", "refused", "rejected", "accepted", "unknown", "unset",
    "secure", "default", "hidden", "encrypted", "necessary", "blank", "here", "too", "not", "never", "always",
))
# fmt: on
_FLAG = re.compile(
    r"(?<![\w-])((?:--?(?:password|passwd|pass|pw|secret|token|api-key)[ =]|-u\s?[\w.@-]{1,64}:"
    r"|(?:mysql(?:dump|admin)?|mariadb|sshpass|docker\slogin)\s(?:[^\n|;]{0,40}?\s)?-p\s?|net\suser\s[\w.-]{1,64}\s"
    r"|openssl\s(?:[^\n|;]{0,40}?\s)?-k\s)['\"]?)([^\s'\"$<>{}]{4,})"
)
_ASSIGNED = re.compile(
    r"""((?:key|token|secret|password|passwd|pwd|auth|credentials?|signature|kennwort|passwort)["']?\s{0,8}"""
    r"""(?:[=:]|\s(?:is|was)\s|(?<=y)\s|(?<=n)\s)\s{0,8}["']?)([\w+/.~=-]{16,})""",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"(?<![A-Za-z])((?:(?:my|the|your)\s)?"
    r"(?:pin|cvv2?|cvc2?|otp|tan|(?:verification|security|sms|2fa|access|login|confirmation|one[ -]time)[ -]code)"
    r"(?:\s(?:code|number))?(?:\s{0,2}[:=]\s{0,2}|\s(?:is|was)\s|\s))(\d{3,8})(?![\w.:/-]*\w)",
    re.IGNORECASE,
)
_E_MAIL = re.compile(
    r"([\w.+%'-]{1,64})(?:@|\s?[\[(]at[\])]\s?)(?:[\w-]{1,63}(?:\.|\s?[\[(]dot[\])]\s?)){1,8}[^\W\d_]{2,24}"
)
# UUIDs and ISO dates are matched first and kept, so that two dates in a row do not look like a card number.
_CARD = re.compile(
    r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|\d{4}-\d\d-\d\d(?!\d)"
    rf"|{_ALONE}(?P<digits>\d(?:{_GAP}?\d){{12,}})(?!\w)"
)
_IBAN = re.compile(r"(?<!\w)[A-Za-z]{2}\d\d(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,3})?(?!\w)")
_SSN = re.compile(
    r"(?<![\w.-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w.-]*\w)"
    r"|(?<![A-Za-z])(?<=(?:.ssn|..sn)[ :=#])\d{9}(?!\w)"
    r"|(?<!\w)(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D](?!\w)"
    r"|(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d\d(?!\w)"
    r"|(?<!\w)[A-Z]{6}\d\d[A-EHLMPR-T]\d\d[A-Z]\d{3}[A-Z](?!\w)"
)
_MAY_SAY_SSN = re.compile("[Ss]sn|SSN|[Ss]ocial|[Nn]ational|[Pp]assport|PASSPORT|[Tt]ax|[Ss]teuer")
_SAID_SSN = re.compile(
    r"(?<![A-Za-z])((?:ssn|social security|national insurance|passport|tax id|steuer-?id|steuernummer)"
    r"(?:\s(?:no\.?|number|nr\.?))?"
    r"(?:\s{0,2}[:=#]\s{0,2}|\s(?:is|was)\s|\s))([A-Z0-9](?:[ /-]?[A-Z0-9]){6,13})(?!\w)",
    re.IGNORECASE,
)
_PHONE = re.compile(
    rf"""
    (?:(?<![\w(])\(?\+|(?<![\w(])\(?[Tt]el:\+?|{_ALONE}00[ ]?(?=[1-9]))                           # +49 30 1234567
    \d(?:[ \u00a0()./\u2010-\u2013-]{{0,3}}\d){{7,14}}(?!\w)
  | (?<![\w.-])(?:1[ .-])?(?:\([2-9]\d\d\)[ ]?|[2-9]\d\d[./-])[2-9]\d\d[ .-]\d{{4}}(?![\w.-]*\w)  # 415-555-2671
  | (?<![\w.-])[2-9]\d\d[ ][2-9]\d\d-\d{{4}}(?![\w.-]*\w)                                       # 415 555-2671
  | (?<![\w(.:/-])(?:\(0[1-9]\d{{0,4}}\)|0[1-9]\d{{1,3}})[ ]?[ /-][ ]?                           # 030 901820
    [1-9]\d{{1,7}}(?:[ -]\d{{2,8}}){{0,3}}(?![\w.:-]*\w)
  | (?<![\w.:/-])(?<!\d\d[ ])0[1-9](?:[ .]\d\d){{4}}(?![ ]?\w|[.:-]\w)                          # 06 12 34 56 78
  | (?<![\w.:/-])(?:0[1-9]-(?:\d{{4}}-\d{{4}}|\d{{8}})                                           # 03-1234-5678
    | 0[1-9]\d{{8,9}}                                                                            # 01701234567
    | 1[38]00[ -]\d{{3}}[ -]\d{{3}}                                                             # 1300 123 456
    | \(\d\d\)[ ]?9?\d{{4}}-\d{{4}}                                                            # (11) 91234-5678
    | 8[ ]?\(\d{{3}}\)[ ]?\d{{3}}-\d\d-\d\d                                                     # 8 (495) 123-45-67
    | 1[3-9]\d[- ]\d{{4}}[- ]\d{{4}}                                                             # 138-0013-8000
    | [6-9]\d{{4}}[ ]\d{{5}})(?![\w.:-]*\w)                                                      # 98765 43210
    """,
    re.VERBOSE,
)
_CALLED = re.compile(
    rf"((?:phone|tel|mobile|cell|call|fax|whatsapp|sms|number|reach|dial|ring)\D{{0,24}}?)"
    rf"{_ALONE}([2-9]\d\d{_GAP}?\d{{3}}{_GAP}?\d{{4}})(?!\w)"
    rf"|((?<![A-Za-z])(?:(?:tele)?(?:phone|fon|fax)|tel|mobile?|cell|handy|m\u00f3vil|celular|tel\u00e9fono|portable|whatsapp"
    rf"|t\u00e9l\u00e9phone|sms|text\sme|(?:call|ring|dial|reach)(?:\s(?:me|us|him|her|back))?|zadzwo\u0144|ligue|ligar|llam[ae]r?|appelez|chiamare?)"
    rf"(?:\s(?:number|no|nr|at|on|is|unter|para|al|au))?\W{{0,4}}(?:(?:at|on|is|unter|ist|es|est)\s)?)"
    rf"(\(?\d(?:[ \u00a0()./\u2010-\u2013-]{{0,3}}\d){{6,13}})(?![\w.:-]*\w)",
    re.IGNORECASE,
)
# What stands before a number that is none of a person: "order 0123456789", "build 415.555.2671".
_OF_THINGS = re.compile(
    r"(?:order|ticket|invoice|article|artikel|part|sku|item|case|issue|ref(?:erence)?|serial|build|version|release|isbn|ean|gtin|"
    r"customer|tracking|shipment|parcel|rma|batch|lot|asset|driver|firmware|revision|commit|port|pid|inode|offset|model|document|doc|"
    r"transaction|timestamp|job|run|request|trace|session|row|record|product|po|id|"
    r"zam[\u00f3o]wienie|pedido|commande|ordine|bestelling|sipari[\u015fs]|faktura|fa[ct]tura|facture|fattura|paczka|colis|paquete"
    r"|\u0437\u0430\u043a\u0430\u0437|encomenda|zg\u0142oszenie|best\u00e4llning|tilaus|objedn\u00e1vka|rendel\u00e9s|"
    r"bestell(?:ung)?|rechnungs?|auftrags?|kunden|sendungs|vorgangs)"
    r"(?:\s?(?:id|no|nr|num(?:ber)?|nummer|code))?[\s.:#=-]{0,4}(?:is\s)?\Z",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Return the text with e-mail addresses, phone, card, bank and social security numbers, and keys replaced.

    Their kind in brackets takes their place.

    >>> redact("mail bob@example.com or call +49 30 901820")
    'mail [e-mail] or call [phone]'
    """
    text = _redact_keys(text)
    if "@" in text or "at]" in text or "at)" in text:
        text = _E_MAIL.sub(_redact_e_mail, text)
    digits = len(_DIGIT.findall(text))
    if digits >= _FEWEST_DIGITS - 1:
        text = _IBAN.sub(_redact_iban, text)
        text = _CARD.sub(_redact_cards, text)
        text = _SSN.sub("[ssn]", text)
        if _MAY_SAY_SSN.search(text):
            text = _SAID_SSN.sub(lambda found: f"{found[1]}[ssn]" if _has_digits(found[2], 6) else found[0], text)
        text = _PHONE.sub(_redact_phone, text)
        text = _CALLED.sub(_redact_called, text)
    return _CODE.sub(r"\1[key]", text) if digits >= _SHORTEST_CODE else text


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
    if "=" in text or ":" in text or "<" in text:
        text = _COOKIES.sub(_redact_cookies, text)
        text = _PASSWORD.sub(r"\1[key]", text)
    if "-" in text or "net user" in text:
        text = _FLAG.sub(r"\1[key]", text)
    if _MAY_SAY_PASSWORD.search(text):
        text = _SAID_PASSWORD.sub(_redact_password, text)
    if max(map(len, text.split()), default=0) < _SHORTEST_SECRET:
        return text
    text = _TOKEN.sub(lambda found: "[key]" if _has_digit(found[0]) else found[0], text)
    text = _SESSION.sub(lambda found: f"{found[1]}[key]" if _is_of_a_session(found[2]) else found[0], text)
    text = _WORD.sub(lambda found: "[key]" if _is_drawn(found[0]) else found[0], text)
    text = _ASSIGNED.sub(lambda found: f"{found[1]}[key]" if _looks_random(found[2]) else found[0], text)
    return _AUTHORIZATION.sub(lambda found: f"{found[1]}[key]" if _has_digit(found[2]) else found[0], text)


def _redact_cookies(found: re.Match[str]) -> str:
    pairs = (pair.partition("=") for pair in found[2].split(";"))
    kept = (f"{name}={'[key]' if len(value) >= 8 else value}" if is_set else name for name, is_set, value in pairs)
    return found[1] + ";".join(kept)


def _redact_password(found: re.Match[str]) -> str:
    """Replace a word after "password" that is none of English: with digits or symbols, or the last one after "is"."""
    value = found[2].rstrip(".,;!?") if len(found[2]) > 4 else found[2]
    if "[key]" in value or _NOT_A_PASSWORD.match(value):
        return found[0]
    separator = found[1].strip("\"'`\u201c\u201e").split()[-1][-1:] if found[1].strip() else ""
    is_said = found[1].rstrip("\"'`\u201c\u201e ")[-1:] in "=:>\uff1a\u2192" or found[1].split()[-1].lower() in _VERBS
    is_odd = (_has_digit(value) and not value.isdigit()) or any(letter in "!@#%^*+~|" for letter in value[:-1])
    is_last = bool(separator) and found[4] == "" and value.lower() not in _STATES and not _FOREIGN.search(found[1])
    if is_odd or (is_said and (is_last or value.isdigit() or _is_mixed(value))):
        return f"{found[1]}[key]{found[2][len(value) :]}"
    return found[0]


def _is_of_a_session(value: str) -> bool:
    return _has_digits(value, 3) or (len(value) > _SHORTEST_SECRET and _has_digit(value) and _is_mixed(value))


def _is_mixed(value: str) -> bool:
    return value[1:] != value[1:].lower() and value != value.upper()


def _redact_e_mail(found: re.Match[str]) -> str:
    return found[0] if found[1] == "git" or found[0].lower().endswith(_PICTURES) else "[e-mail]"


def _redact_iban(found: re.Match[str]) -> str:
    """Replace an account number whose check digits are right; a word of the sentence may follow it."""
    for end in (len(found[0]), *(match.start() for match in reversed(list(re.finditer("[ -]", found[0]))))):
        plain = "".join(filter(str.isalnum, found[0][:end])).upper()
        digits = "".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])
        if 15 <= len(plain) <= 34 and int(digits) % 97 == 1:
            return f"[iban]{found[0][end:]}"
    return found[0]


def _has_digits(text: str, fewest: int) -> bool:
    return sum(map(str.isdigit, text)) >= fewest


def _is_drawn(word: str) -> bool:
    """Return whether a long word was drawn at random: digits among letters of both cases."""
    return _has_digits(word, 4) and word != word.lower() and word != word.upper()


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _looks_random(text: str) -> bool:
    """Return whether a word looks like a secret: digits among hex or mixed case, or several digits in one word."""
    digits = sum(map(str.isdigit, text))
    if not digits:
        return False
    if all(letter in "0123456789abcdefABCDEF" for letter in text) or _UUID.fullmatch(text):
        return True
    return (text != text.lower() and text != text.upper()) or (digits > 2 and not set("_-./") & set(text))


def _redact_cards(found: re.Match[str]) -> str:
    """Replace each run of whole groups whose 13 to 19 digits pass the Luhn check; a security code may follow."""
    run = found["digits"]
    if run is None or _is_of_things(found):
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
    is_phone = _FEWEST_DIGITS <= digits <= 17 and not _is_of_things(found)
    return f"{'(' if found[0][0] == '(' and ')' not in found[0] else ''}[phone]" if is_phone else found[0]


def _redact_called(found: re.Match[str]) -> str:
    place = 2 if found[2] else 4
    return found[0] if _is_of_things(found, place) else f"{found[place - 1]}[phone]"


def _is_of_things(found: re.Match[str], place: int = 0) -> bool:
    """Tell whether the words before a number say that it is of an order, a build or the like."""
    start = found.start(place)
    is_abroad = found.string[start : start + 2].lstrip("(").startswith("+")
    return not is_abroad and bool(_OF_THINGS.search(found.string[max(0, start - 40) : start]))
