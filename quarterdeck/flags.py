"""Rule: evaluates flags: flagd definitions and an evaluation context in, an `Evaluation` out.

flagd-core defines what every flag means; common shapes are compiled (`quarterdeck.compiled`) and answer the same.
`quarterdeck.definitions` builds definitions, `quarterdeck.validation` checks them, `quarterdeck.snapshot` fetches them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from openfeature.contrib.tools.flagd.core.model.flag import Flag
from openfeature.exception import ErrorCode, OpenFeatureError
from openfeature.flag_evaluation import Reason

from quarterdeck.buckets import find_bucketing_problem, uses_fractional
from quarterdeck.compiled import Answer, Context, Decider, Rollout, Run, compile_targeting
from quarterdeck.documents import check_document, copy_json, resolve_references
from quarterdeck.errors import NotFound
from quarterdeck.hashing import CBOR, HASH_VERSIONS, interpret, read_hash_version

_STATIC, _MATCH, _DEFAULT = Reason.STATIC.value, Reason.TARGETING_MATCH.value, Reason.DEFAULT.value


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a flag evaluated to, in OpenFeature's terms. On an error, the value is the caller's default.

    `variant` is None if the caller's default was the answer. `reason` is STATIC, TARGETING_MATCH, DEFAULT, DISABLED or
    ERROR; `error_code` is FLAG_NOT_FOUND, PARSE_ERROR, TYPE_MISMATCH, INVALID_CONTEXT or GENERAL, with one line in
    `error_message`. `flag_metadata` is the flag's own.

    >>> Evaluation(10, "many", "STATIC").error_code is None
    True
    """

    value: Any
    variant: str | None
    reason: str
    error_code: str | None = None
    error_message: str | None = None
    flag_metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict, compare=False)


class FlagSet:
    """An immutable set of parsed flags. An evaluation costs the same in a set of one and in a set of thousands.

    >>> flags = FlagSet.from_definitions({"flags": {"new-ranker": {
    ...     "state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}}})
    >>> flags.evaluate("new-ranker", False).reason
    'STATIC'
    """

    __slots__ = ("_at_once", "_document", "_flags")

    def __init__(self, document: dict[str, Any], flags: dict[str, _Flag]) -> None:
        self._document = document
        self._flags = flags
        self._at_once: dict[str, Decider[Evaluation]] = {}

    @classmethod
    def from_definitions(cls, definitions: Mapping[str, Any]) -> FlagSet:
        """Return the flags of a flagd document: `flags`, and optionally `$evaluators` and `metadata`.

        A flag that is wrong does not affect the others: it evaluates to the caller's default with PARSE_ERROR. Raises
        InvalidInput, naming the field, if the document itself is wrong.
        """
        document = check_document(definitions)
        metadata = document.get("metadata") or {}
        parsed = resolve_references(document["flags"], document.get("$evaluators") or {})
        return cls(document, {key: _parse_flag(key, definition, metadata) for key, definition in parsed.items()})

    def keys(self) -> tuple[str, ...]:
        """Return the keys of all flags, in the document's order."""
        return tuple(self._flags)

    def definition(self, key: str) -> dict[str, Any]:
        """Return a copy of one flag's definition as it was given. Raises NotFound."""
        if key not in self._flags:
            raise NotFound(f"flag {key!r} does not exist")
        found: dict[str, Any] = copy_json(self._document["flags"][key])
        return found

    def definitions(self) -> dict[str, Any]:
        """Return a copy of the whole document as it was given."""
        document: dict[str, Any] = copy_json(self._document)
        return document

    def problem(self, key: str) -> str | None:
        """Return why a flag cannot be evaluated at all, in one line; None if it can."""
        flag = self._flags.get(key)
        return flag.problem if flag else None

    def evaluate(self, key: str, default: Any, context: Mapping[str, Any] | None = None) -> Evaluation:
        """Return the flag's value for this context, in the type of `default`: bool, str, int, float, dict or list.

        A whole number satisfies a float default. Any other default, such as None, accepts every type. `targetingKey`
        in the context names the user. Never raises: on an error, the value is `default` and the code says why.
        """
        try:
            flag = self._flags.get(key)
            if flag is None:
                return _failed(default, ErrorCode.FLAG_NOT_FOUND, f"flag {key!r} does not exist")
            return flag.evaluate(default, context)
        except ReferenceError as error:
            return _failed(default, ErrorCode.PARSE_ERROR, f"targeting: {error}")
        except OpenFeatureError as error:
            return _failed(default, error.error_code, error.error_message)
        except Exception as error:  # noqa: BLE001 - a service must never fail on a flag; the code says what happened
            return _failed(default, ErrorCode.GENERAL, f"{type(error).__name__}: {error}")

    def resolve(self, key: str, context: Mapping[str, Any] | None = None) -> Evaluation:
        """Return the flag's value of any type for this context, None if there is no value. Never raises."""
        return self.evaluate(key, None, context)

    def decider(self, key: str, say: Callable[[Evaluation], Answer]) -> Decider[Answer] | None:
        """Return a function from targeting key to what `say` makes of the evaluation that `resolve` would give.

        None if the flag does not exist or more of the context matters; the function gives None for an unusual key.
        """
        flag = self._flags.get(key)
        return flag.decider_of(say) if flag else None

    def is_enabled(
        self, key: str, targeting_key: str | None, context: Mapping[str, Any] | None = None, default: bool = False
    ) -> bool:
        """Return whether a boolean flag is on for this user; `default` if it is unknown, disabled or in error."""
        return bool(self.decide(key, targeting_key, context, default).value)

    def decide(
        self, key: str, targeting_key: str | None, context: Mapping[str, Any] | None = None, default: bool = False
    ) -> Evaluation:
        """Return what `evaluate` returns for a boolean flag and this user, much faster for a plain rollout."""
        try:
            decide = self._at_once.get(key) or self._learn(key)
            answer = decide(targeting_key)
            if answer is not None:
                return answer
            whole = {"targetingKey": targeting_key} if context is None else {**context, "targetingKey": targeting_key}
        except Exception as error:  # noqa: BLE001 - an unusable key or context is the caller's default, never a failure
            return _failed(default, ErrorCode.GENERAL, f"{type(error).__name__}: {error}")
        return self.evaluate(key, default, whole)

    def _learn(self, key: str) -> Decider[Evaluation]:
        """Return the fast path of this flag, built on first use so that a large set loads quickly."""
        flag = self._flags.get(key)
        return _undecided if flag is None else self._at_once.setdefault(key, flag.decider() or _undecided)


class _Flag:
    """One parsed flag: its targeting as a function, and the evaluations built so far."""

    __slots__ = (
        "_answers", "_code", "_default", "_hash_version", "_key", "_metadata", "_rollout", "_run", "_targeting",
        "_variants", "disabled", "problem",
    )  # fmt: skip

    def __init__(
        self, metadata: Mapping[str, Any], problem: str | None = None, code: ErrorCode = ErrorCode.PARSE_ERROR
    ) -> None:
        self._answers: dict[tuple[str, str | None], Evaluation] = {}
        self._default: str | None = None
        self._hash_version = CBOR
        self._key = ""
        self._metadata = metadata
        self._targeting: Any = None
        self._rollout: Rollout | None = None
        self._run: Run | None = None
        self._variants: Mapping[str, Any] = {}
        self.disabled = False
        self.problem = problem
        self._code = code

    @classmethod
    def of(cls, flag: Flag, metadata: Mapping[str, Any]) -> _Flag:
        """Return a flag that flagd-core accepts. Its own metadata overrides the set's."""
        if flag.metadata is not None and not isinstance(flag.metadata, dict):
            # flagd-core lets an empty list or text pass here and then fails on every evaluation.
            return cls(metadata, f"flag {flag.key!r}: metadata is not an object", ErrorCode.GENERAL)
        parsed = cls({**metadata, **(flag.metadata or {})})
        parsed.disabled = flag.state == "DISABLED"
        parsed._variants = flag.variants
        parsed._default = flag.default[0]
        parsed._key, parsed._targeting = flag.key, flag.targeting or None
        parsed._hash_version = str(read_hash_version(parsed._metadata))
        return parsed

    def evaluate(self, default: Any, context: Mapping[str, Any] | None) -> Evaluation:
        kind = _KINDS.get(type(default)) or _kind_of(default)
        name = None
        if self._targeting is not None and not self.disabled:
            run = self._run or self._prepare()
            name = run(context if type(context) is dict else _plain(context))
            if name is not None and type(name) is not str:
                name = _variant_name(name)
        known = self._answers.get((kind, name))
        return known if known is not None else self._answer(kind, name, default)

    def _prepare(self) -> Run:
        """Return targeting as a function, built on first use. Threads that race build the same one twice."""
        compiled = compile_targeting(self._key, self._targeting, hash_version=self._hash_version)
        self._rollout = compiled.rollout if compiled else None
        self._run = compiled.run if compiled else _interpreted(self._key, self._targeting, self._hash_version)
        return self._run

    def _answer(self, kind: str, name: str | None, default: Any) -> Evaluation:
        """Turn a targeting result (None: no match) into an evaluation, and cache it if callers may share it."""
        if self.problem is not None:
            return _failed(default, self._code, self.problem)
        if self.disabled:
            return Evaluation(default, None, Reason.DISABLED.value, flag_metadata=self._metadata)
        variant = self._default if name is None else name
        if variant is None:
            return Evaluation(default, None, _DEFAULT, flag_metadata=self._metadata)
        value = self._variants.get(variant)
        if variant not in self._variants or (name is not None and (value is None or not name)):
            return _failed(default, ErrorCode.GENERAL, f"Resolved variant {variant} not in variants config.")
        types, type_name = _ACCEPTED[kind]
        if not isinstance(value, types) or (isinstance(value, bool) and kind == "integer"):
            return _failed(
                default, ErrorCode.TYPE_MISMATCH, f"Expected type {type_name} but got {type(value).__name__}"
            )
        reason = _MATCH if name is not None else _STATIC if self._targeting is None else _DEFAULT
        if isinstance(value, dict | list):
            return Evaluation(copy_json(value), variant, reason, flag_metadata=self._metadata)
        value = float(value) if kind == "float" and isinstance(value, int) else value
        return self._answers.setdefault((kind, name), Evaluation(value, variant, reason, flag_metadata=self._metadata))

    def decider(self) -> Decider[Evaluation] | None:
        """Return a function from targeting key to evaluation if nothing else in the context matters, else None."""
        if self.problem is not None or self.disabled:
            return None
        if self._targeting is None:
            always = self._boolean(None)
            return None if always is None else lambda _: always
        if self._run is None:
            self._prepare()
        if self._rollout is None:
            return None
        return self._rollout.decider([self._boolean(variant) for variant in self._rollout.variants])

    def decider_of(self, say: Callable[[Evaluation], Answer]) -> Decider[Answer] | None:
        """Return a function from targeting key to what `say` makes of the value of any type, else None."""
        if self.problem is not None or self.disabled or self._targeting is None:
            always = say(self._answer("any", None, None))
            return lambda _: always
        if self._run is None:
            self._prepare()
        if self._rollout is None:
            return None
        names = [None if variant is None else _variant_name(variant) for variant in self._rollout.variants]
        return self._rollout.decider([say(self._answer("any", name, None)) for name in names])

    def _boolean(self, result: Any) -> Evaluation | None:
        """Return what a targeting result means to a boolean caller; None if that depends on the caller's default."""
        name = result if result is None else _variant_name(result)
        answer = self._answer("boolean", name, None)
        return answer if isinstance(answer.value, bool) else None


def _parse_flag(key: str, definition: Any, metadata: Mapping[str, Any]) -> _Flag:
    """Return a flag as flagd-core's own parser reads it; one that it refuses becomes a flag that always fails."""
    if not isinstance(definition, dict):
        return _Flag(metadata, f"flag {key!r}: a definition is an object")
    is_asked = definition.get("state") != "DISABLED" and uses_fractional(definition.get("targeting"))
    if is_asked and (problem := _bucketing_problem(definition, metadata)) is not None:
        return _Flag(metadata, f"flag {key!r}: {problem}", ErrorCode.GENERAL)
    try:
        return _Flag.of(Flag.from_dict(key, dict(definition)), metadata)
    except OpenFeatureError as error:
        unknown = ", ".join(sorted(str(name) for name in definition.keys() - _FLAG_FIELDS))
        reason = error.error_message or (f"flagd knows no field {unknown}" if unknown else "state or variants missing")
        return _Flag(metadata, f"flag {key!r}: {reason}")


def _bucketing_problem(definition: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """Why this flag's users would land in other buckets than it means, or None."""
    own = definition.get("metadata")
    hash_version = read_hash_version({**metadata, **own} if isinstance(own, dict) else metadata)
    if hash_version not in HASH_VERSIONS:
        return f"metadata.hash_version {hash_version!r} is unknown: {' and '.join(HASH_VERSIONS)} are supported"
    return find_bucketing_problem(hash_version)


def _undecided(_: Any) -> Evaluation | None:
    return None


def _interpreted(key: str, targeting: Any, hash_version: str) -> Run:
    def run(context: Context) -> Any:
        return interpret(key, targeting, context, hash_version=hash_version)

    return run


def _variant_name(result: Any) -> str:
    if isinstance(result, bool):
        return "true" if result else "false"
    return str(result)


def _plain(context: Any) -> Context:
    if context is None:
        return {}
    if not isinstance(context, Mapping):
        raise OpenFeatureError(ErrorCode.INVALID_CONTEXT, "context: give a mapping of attribute to value")
    return dict(context)


_FLAG_FIELDS = {"state", "variants", "defaultVariant", "targeting", "metadata", "source", "selector"}
_KINDS: dict[type, str] = {
    bool: "boolean", str: "string", int: "integer", float: "float", dict: "object", list: "object", type(None): "any",
}  # fmt: skip
_ACCEPTED: dict[str, tuple[type | tuple[type, ...], str]] = {
    "boolean": (bool, "bool"),
    "string": (str, "str"),
    "integer": (int, "int"),
    "float": ((int, float), "float"),
    "object": ((dict, list), "dict or list"),
    "any": (object, "any"),
}


def _kind_of(default: Any) -> str:
    """Return the kind of a default whose type is derived, such as a StrEnum."""
    return next((kind for base, kind in _KINDS.items() if isinstance(default, base)), "any")


def _failed(default: Any, code: ErrorCode, message: str | None) -> Evaluation:
    return Evaluation(default, None, Reason.ERROR.value, code.value, message)
