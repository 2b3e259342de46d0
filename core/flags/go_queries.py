"""Rule: GO Feature Flag's queries as JsonLogic: `email ew "@x.org" and (plan eq "pro" or not (beta pr))`."""

import json
import re
from collections.abc import Sequence
from typing import Any

from core.flags.conditions import NEVER, NoCounterpart, all_of, any_of, compare_versions, is_given, is_one_of, negate
from core.flags.conversion import TARGETING_KEY

_TOKEN = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*")|(?P<sign>==|!=|>=|<=|>|<|\(|\)|\[|\]|,)'
    r"|(?P<number>-?\d+(?:\.\d+){0,2}(?![\w.-]))|(?P<word>[A-Za-z_$][\w.$-]*)|\s+"
)
_WORDS = {"==": "eq", "!=": "ne", "<": "lt", ">": "gt", "<=": "le", ">=": "ge"}
_SIGNS = {"lt": "<", "gt": ">", "le": "<=", "ge": ">="}
_OPERATORS = {"eq", "ne", "lt", "gt", "le", "ge", "co", "sw", "ew", "in", "pr"}


def read_query(query: str) -> Any:
    """Return the test for a query, in GO Feature Flag's own words or as JsonLogic. Raises NoCounterpart."""
    if query.lstrip().startswith("{"):
        try:
            return _rename(json.loads(query))
        except ValueError:
            raise NoCounterpart(f"its query is no JSON: {query!r}") from None
    parser = _Parser(_split(query), query)
    found = parser.read_any()
    parser.finish()
    return found


def _rename(logic: Any) -> Any:
    if isinstance(logic, list):
        return [_rename(each) for each in logic]
    if not isinstance(logic, dict):
        return logic
    if set(logic) == {"var"} and logic["var"] in ("key", ["key"]):
        return {"var": TARGETING_KEY}
    return {name: _rename(each) for name, each in logic.items()}


def _split(query: str) -> list[str]:
    tokens, place, text = [], 0, query.rstrip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise NoCounterpart(f"its query is not understood from {text[place:][:30]!r}")
        if not found.group().isspace():
            tokens.append(found.group())
        place = found.end()
    return tokens


class _Parser:
    """Reads tokens from left to right: `or` binds less than `and`, and `not` only a part in parentheses."""

    def __init__(self, tokens: Sequence[str], query: str) -> None:
        self._tokens = list(tokens)
        self._query = query

    def read_any(self) -> Any:
        tests = [self._read_all()]
        while self._take("or"):
            tests.append(self._read_all())
        return any_of(tests)

    def finish(self) -> None:
        if self._tokens:
            raise NoCounterpart(f"its query is not understood from {self._tokens[0]!r}")

    def _read_all(self) -> Any:
        tests = [self._read_one()]
        while self._take("and"):
            tests.append(self._read_one())
        return all_of(tests)

    def _read_one(self) -> Any:
        if self._take("not"):
            return negate(self._read_one())
        if self._take("("):
            inner = self.read_any()
            if not self._take(")"):
                raise NoCounterpart(f"its query lacks a parenthesis: {self._query!r}")
            return inner
        return self._compare(self._next())

    def _compare(self, name: str) -> Any:
        attribute = {"var": TARGETING_KEY if name == "key" else name}
        word = self._next()
        operator = _WORDS.get(word, word.lower())
        if operator not in _OPERATORS:
            raise NoCounterpart(f"its query has the unknown operator {word!r}")
        if operator == "pr":
            return is_given(attribute)
        if operator == "in":
            return is_one_of(attribute, self._read_list())
        token = self._next()
        # Who lacks the attribute meets no comparison.
        if re.fullmatch(r"\d+\.\d+\.\d+", token):
            sign = {"eq": "=", "ne": "!=", **_SIGNS}.get(operator)
            return compare_versions(attribute, sign, token) if sign else NEVER
        value = _read_value(token)
        if operator in ("eq", "ne"):
            found = {"===": [attribute, value]}
            return found if operator == "eq" else all_of([is_given(attribute), negate(found)])
        if operator in _SIGNS:
            return all_of([is_given(attribute), {_SIGNS[operator]: [attribute, value]}])
        if operator == "co":
            return {"in": [str(value), attribute]}
        return {"starts_with" if operator == "sw" else "ends_with": [attribute, str(value)]}

    def _read_list(self) -> list[Any]:
        values: list[Any] = []
        if not self._take("["):
            raise NoCounterpart(f"its query has `in` without a list: {self._query!r}")
        while not self._take("]"):
            values.append(_read_value(self._next()))
            self._take(",")
        return values

    def _take(self, token: str) -> bool:
        if self._tokens and self._tokens[0].lower() == token:
            del self._tokens[0]
            return True
        return False

    def _next(self) -> str:
        if not self._tokens:
            raise NoCounterpart(f"its query ends too early: {self._query!r}")
        return self._tokens.pop(0)


def _read_value(token: str) -> Any:
    try:
        return json.loads(token)
    except ValueError:
        raise NoCounterpart(f"its query compares with {token!r}") from None
