"""Rule: YAML of strangers as texts, lists and mappings, in time and memory that grow with its length and no faster.

PyYAML's loaders recurse in C: a file of 200 kB that opens a list in a list ends the process. This one reads events and
counts how deep they go.
"""

from typing import Any

import yaml

from core.errors import InvalidInput

MOST_BYTES = 16_000_000
MOST_DEPTH = 64
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def parse_yaml_texts(text: bytes, what: str, *, most_bytes: int = MOST_BYTES, most_depth: int = MOST_DEPTH) -> Any:
    """Return the first document of a YAML text; every scalar stays text, and an empty text is None.

    An alias is the same object as its anchor, so no text grows when it is read. Raises InvalidInput for what is no
    YAML, for a text longer than `most_bytes`, and for lists and mappings deeper than `most_depth`.

    >>> parse_yaml_texts(b"outs: [{path: 1_000, size: 12}]", "a.dvc")
    {'outs': [{'path': '1_000', 'size': '12'}]}
    """
    if len(text) > most_bytes:
        raise InvalidInput(what, f"is larger than {most_bytes:,} bytes")
    try:
        return _build(text, what, most_depth)
    except yaml.YAMLError as error:
        raise InvalidInput(what, f"is not YAML: {' '.join(str(error).split())[:200]}") from error


def _build(text: bytes, what: str, most_depth: int) -> Any:
    top: list[Any] = []
    open_ones: list[list[Any]] = [top]  # a mapping is a list of keys and values until it ends
    anchors: dict[str, Any] = {}
    names: list[str | None] = []
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.ScalarEvent):
            _keep(event.value, event.anchor, open_ones[-1], anchors)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(open_ones) > most_depth:
                raise InvalidInput(what, f"is nested more than {most_depth} levels deep")
            open_ones.append([])
            names.append(event.anchor)
        elif isinstance(event, yaml.SequenceEndEvent):
            _keep(open_ones.pop(), names.pop(), open_ones[-1], anchors)
        elif isinstance(event, yaml.MappingEndEvent):
            _keep(_pair(open_ones.pop(), what), names.pop(), open_ones[-1], anchors)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise InvalidInput(what, f"refers to {event.anchor!r}, which is not defined before")
            open_ones[-1].append(anchors[event.anchor])
        elif isinstance(event, yaml.DocumentEndEvent):
            break
    return top[0] if top and top[0] != "" else None


def _keep(value: Any, anchor: str | None, among: list[Any], anchors: dict[str, Any]) -> None:
    among.append(value)
    if anchor:
        anchors[anchor] = value


def _pair(flat: list[Any], what: str) -> dict[str, Any]:
    keys = flat[::2]
    if not all(isinstance(key, str) for key in keys):
        raise InvalidInput(what, "has a list or a mapping as the name of a field")
    return dict(zip(keys, flat[1::2], strict=True))
