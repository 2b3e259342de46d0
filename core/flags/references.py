"""Gateway to the source files of a folder: where the keys of flags stand in them, and which keys are asked for.

What that means for a flag is said in `cleanup.py`.
"""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import InvalidInput
from core.flags.cleanup import CodeReference

MOST_FILES, MOST_BYTES = 100_000, 1_000_000  # of a folder; of a file that is read
_SKIPPED = frozenset({
    "node_modules", "venv", "__pycache__", "site-packages", "dist", "build", "target", "vendor", "bower_components",
})  # fmt: skip
# How clients are asked for a flag: Quarterdeck's, and OpenFeature's in Python, JavaScript, Java, Go and C#.
_ASKED = re.compile(
    r"\b(?:is_enabled|isEnabled|get_(?:boolean|string|integer|float|object)_(?:value|details)"
    r"|[gG]et(?:Boolean|String|Number|Integer|Double|Object)(?:Value|Details)(?:Async)?"
    r"|(?:Boolean|String|Float|Int|Object)Value(?:Details)?)\(\s*(?:ctx\s*,\s*)?[\"'`]([^\"'`\n]{1,256})[\"'`]"
)


@dataclass(frozen=True, slots=True)
class FoundReferences:
    """What the files of a folder name, in the order of files and lines, and how many files were read."""

    files: int
    found: tuple[CodeReference, ...]


def find_references(folder: Path, keys: Collection[str]) -> FoundReferences:
    """Return where these keys stand in the text files below a folder, and which other keys clients are asked for there.

    Hidden folders, and those of installed or built code, are left out. Raises InvalidInput.
    """
    if not folder.is_dir():
        raise InvalidInput("folder", f"{folder} is no folder")
    found: list[CodeReference] = []
    files = 0
    named = _match_any(keys)
    for path in _list_files(folder):
        if files >= MOST_FILES:
            raise InvalidInput("folder", f"{folder} has over {MOST_FILES:,} files; name a smaller one")
        if (text := _read_text(path)) is not None:
            files += 1
            found += _find_in(text, path.relative_to(folder).as_posix(), named)
    return FoundReferences(files, tuple(found))


def _find_in(text: str, path: str, named: re.Pattern[str] | None) -> Iterator[CodeReference]:
    for number, line in enumerate(text.splitlines(), 1):
        asked = {found[1] for found in _ASKED.finditer(line)}
        standing = {found[1] for found in named.finditer(line)} if named else set()
        for key in sorted(asked | standing):
            yield CodeReference(key, path, number, key in asked)


def _match_any(keys: Collection[str]) -> re.Pattern[str] | None:
    """A pattern of any of the keys as a whole word; of two that begin alike, the longer one."""
    words = "|".join(re.escape(key) for key in sorted(keys, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])({words})(?![\w-])") if words else None


def _list_files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names))


def _read_text(path: Path) -> str | None:
    """The text of a file; None if it is large, no text, or cannot be read."""
    try:
        if not path.is_file() or path.is_symlink() or path.stat().st_size > MOST_BYTES:
            return None
        raw = path.read_bytes()
    except OSError:
        return None
    return None if b"\0" in raw else raw.decode("utf-8", "replace")
