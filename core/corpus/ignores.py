"""Rule: whether a `.dvcignore` may hide a `.dvc` file from DVC. It answers yes too often, and never no in error."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

NAME = ".dvcignore"


def may_ignore(texts: Iterable[bytes], dvc_files: Iterable[str]) -> bool:
    """Return whether a pattern in the texts of `.dvcignore` files could match one of these paths or a folder above.

    >>> may_ignore([b"# as dvc init writes it"], ["a/docs.dvc"]), may_ignore([b"a/"], ["a/docs.dvc"])
    (False, True)
    """
    patterns = {part for text in texts for line in text.splitlines() for part in _parts(line)}
    if not patterns:
        return False
    names = {name for path in dvc_files for name in path.split("/")}
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _parts(line: bytes) -> list[str]:
    """Return what of a pattern could match a single name: the last of its parts that is one."""
    pattern = line.decode(errors="replace").strip()
    if not pattern or pattern.startswith("#"):
        return []
    names = [part for part in pattern.lstrip("!").split("/") if part]
    return ["*"] if not names or "\\" in pattern or "[" in pattern else [names[-1]]
