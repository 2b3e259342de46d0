"""Rule: reads prompt files: YAML front matter and a text with {context} and {question}.

Text in, values out. `core.tracking.gateway` registers prompts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from core.errors import InvalidInput

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*\n(.*)\Z", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{(context|question)\}")
_KEYS = ("name", "version", "description", "top_k", "max_sentences", "refuse_below")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")

_SOURCES = r"(?:context|passages?|documents?|documentation|sources?|excerpts?|text below)"
_WITHIN = (
    r"(?:[^.!?\n]|\n(?![\n*#\d-])){0,80}?"  # the rest of a sentence, over wrapped lines but not into the next item
)
_GROUNDING = re.compile(
    rf"\b(?:only|solely|exclusively|nothing but)\b{_WITHIN}\b{_SOURCES}\b"
    rf"|\b(?:use|cite|quote|answer from|rely on)\b{_WITHIN}\b{_SOURCES}\s+(?:only|alone)\b"
    rf"|\b(?:do not|don't|never)\b{_WITHIN}\b(?:outside|prior|other|own|general)\s+knowledge\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of a prompt and the settings it is run with.

    `top_k` passages are put into the context; the answer has at most `max_sentences`. `refuse_below` is the cosine
    under which the best sentence is too poor to answer with, or None for a prompt that never refuses.
    """

    name: str
    version: str
    description: str
    text: str
    top_k: int
    max_sentences: int
    refuse_below: float | None

    @property
    def label(self) -> str:
        """The name and version as people say it: `qa-v2`."""
        return f"{self.name}-v{self.version}" if self.version.isdigit() else f"{self.name}-{self.version}"

    @property
    def is_grounded(self) -> bool:
        """Whether the text tells the answerer to keep to the context. Read off the wording, by a fixed pattern.

        "Use only the passages", "answer from the context alone" and "do not use outside knowledge" count.
        """
        return bool(_GROUNDING.search(self.text))


def parse_prompt(text: str, *, source: str = "prompt") -> Prompt:
    """Return the prompt that a file holds. Raises InvalidInput, naming the source and the field."""
    match = _FRONT_MATTER.match(text.replace("\r\n", "\n"))
    if not match:
        raise InvalidInput(source, "must start with front matter between two lines of `---`")
    keys = _parse_front_matter(match[1], source)
    body = match[2].strip("\n") + "\n"
    if missing := sorted({"context", "question"} - set(_PLACEHOLDER.findall(body))):
        raise InvalidInput(source, f"the text must hold {{{missing[0]}}} where it is to be filled in")
    name, version = str(keys.get("name", "")), str(keys.get("version", ""))
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{source}, name", f"must be 1 to 100 letters, digits, '.', '_' and '-', not {name!r}")
    if not _NAME.fullmatch(version):
        raise InvalidInput(f"{source}, version", f"must be a short label such as v1, not {version!r}")
    return Prompt(
        name=name,
        version=version,
        description=str(keys.get("description") or ""),
        text=body,
        top_k=_count(keys, "top_k", source, default=3),
        max_sentences=_count(keys, "max_sentences", source, default=3),
        refuse_below=_share(keys, "refuse_below", source),
    )


def render_prompt(prompt: Prompt, *, context: str, question: str) -> str:
    """Return the text that is sent to an answerer. Braces inside the context or the question stay as they are."""
    values = {"context": context, "question": question}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], prompt.text)


def _parse_front_matter(text: str, source: str) -> Mapping[str, Any]:
    try:
        keys = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(source, f"the front matter is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(keys, dict):
        raise InvalidInput(source, "the front matter must hold `key: value` lines")
    if unknown := sorted(set(keys) - set(_KEYS), key=str):
        raise InvalidInput(f"{source}, {unknown[0]}", f"is unknown; there are: {', '.join(_KEYS)}")
    return keys


def _count(keys: Mapping[str, Any], name: str, source: str, *, default: int) -> int:
    value = keys.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100:
        raise InvalidInput(f"{source}, {name}", f"must be a whole number from 1 to 100, not {value!r}")
    return value


def _share(keys: Mapping[str, Any], name: str, source: str) -> float | None:
    value = keys.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise InvalidInput(f"{source}, {name}", f"must be a number from 0 to 1, not {value!r}")
    return float(value)
