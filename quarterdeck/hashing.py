"""Rule: the hashes by which flagd's SDKs put users into buckets, and flagd's interpreter with either of them.

flagd changed its hash twice, which moved every user. `fractional-v3` is murmur3-32 of CBOR (flagd-core 2 for Python);
`fractional-v2` is murmur3-32 of the UTF-8 text (flagd-core 1 for Python, and the other SDKs of 2026). A flag names its
own in the metadata entry `hash_version`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import cbor2
import mmh3
from json_logic import jsonLogic  # type: ignore[import-untyped]
from openfeature.contrib.tools.flagd.core.targeting import targeting
from openfeature.contrib.tools.flagd.core.targeting.custom_ops import MAX_WEIGHT_SUM, normalize_numbers
from openfeature.contrib.tools.flagd.core.targeting.targeting import OPERATORS
from openfeature.evaluation_context import EvaluationContext

STRING = "fractional-v2"
CBOR = "fractional-v3"
HASH_VERSIONS = (STRING, CBOR)
# What `/flagd/flags.json?bucketing=` and the commands call them.
BUCKETINGS = {"string": STRING, "cbor": CBOR}


def read_hash_version(metadata: Mapping[str, Any]) -> Any:
    """Return the hash that a flag names in its metadata, known or not; `fractional-v3` where it names none."""
    return metadata.get("hash_version", CBOR)


def interpret(key: str, logic: Any, context: Mapping[str, Any], *, hash_version: str = CBOR) -> Any:
    """Return what targeting gives for this context, as flagd's own interpreter works it out.

    >>> interpret("flag", {"fractional": [["a", 1], ["b", 1]]}, {"targetingKey": "ann"}, hash_version=STRING)
    'b'
    """
    user = context.get("targetingKey")
    if hash_version == CBOR:
        return targeting(key, logic, EvaluationContext(user, dict(context)))
    data = {**context, "$flagd": {"flagKey": key, "timestamp": int(time.time())}, "targetingKey": user}
    return jsonLogic(logic, data, _STRING_OPERATORS)


def hash_bucket(value: Any, *, hash_version: str) -> int:
    """Return the 32-bit hash of what a `fractional` buckets by: for the shorthand a list of flag key and targeting key.

    Raises UnicodeEncodeError for text with half a character.
    """
    if hash_version == STRING:
        text = "".join(value) if isinstance(value, list) else value
        return mmh3.hash(text.encode(), signed=False)  # given half a character as text, mmh3 crashes the process
    return mmh3.hash(cbor2.dumps(normalize_numbers(value), canonical=True), signed=False)


def fractional_by_string(data: Mapping[str, Any], *arguments: Any) -> Any:
    """Return the variant of a user as `fractional` of flagd-core 1 chooses it, None where it chooses none.

    Anything but text in front of the buckets counts as a bucket, and as a wrong one gives None.
    """
    if not arguments:
        return None
    if isinstance(arguments[0], str):
        by, buckets = arguments[0], arguments[1:]
    else:
        user = data.get("targetingKey")
        by = f"{data.get('$flagd', {}).get('flagKey', '')}{user}" if user and isinstance(user, str) else ""
        buckets = arguments
    weights = [_read_weight(bucket) for bucket in buckets]
    known = [weight for weight in weights if weight is not None]
    total = sum(known)
    if not by or len(known) < len(weights) or total > MAX_WEIGHT_SUM:
        return None
    try:
        place = (hash_bucket(by, hash_version=STRING) * total) >> 32
    except UnicodeEncodeError:
        return None
    for bucket, weight in zip(buckets, known, strict=True):
        place -= weight
        if place < 0:
            return bucket[0]
    return None


def _read_weight(bucket: Any) -> int | None:
    if not isinstance(bucket, list | tuple) or not 1 <= len(bucket) <= 2:
        return None
    weight = bucket[1] if len(bucket) == 2 else 1
    return max(0, weight) if isinstance(weight, int) and not isinstance(weight, bool) else None


_STRING_OPERATORS = {**OPERATORS, "fractional": fractional_by_string}
