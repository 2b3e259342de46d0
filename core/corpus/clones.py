"""Gateway to remote git repositories: keeps a bare copy of each in the user's cache and fetches it when asked.

It runs the `git` command, which knows credential helpers, SSH agents and proxies.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from core.corpus.locations import without_password
from core.errors import SourceUnavailable

_NO_ACCESS = ("authentication failed", "could not read username", "permission denied", "terminal prompts disabled")
_NO_REPOSITORY = ("not found", "does not appear to be a git repository", "not valid: is this a git repository")
_TIMEOUT_SECONDS = 300


def clone_of(url: str, folder: Path | None = None) -> Path:
    """Return an up-to-date bare clone of the repository at `url`; `folder` is where clones are kept.

    Raises SourceUnavailable when it is unreachable, is not a repository, or refuses access.
    """
    folder = folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quarterdeck" / "clones"
    copy = folder / hashlib.sha256(url.encode()).hexdigest()[:24]
    if copy.is_dir():
        _git(url, "--git-dir", str(copy), "fetch", "--quiet", "--prune", "--force", "origin", "+refs/*:refs/*")
        return copy
    folder.mkdir(parents=True, exist_ok=True)
    fresh = tempfile.mkdtemp(prefix="fetching-", dir=folder)
    try:
        _git(url, "clone", "--quiet", "--mirror", "--", url, fresh)
        Path(fresh).replace(copy)
    except OSError:
        if not copy.is_dir():  # otherwise another process made one, which is as good
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return copy


def _git(url: str, *arguments: str) -> None:
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "https:http:ssh:git", "LC_ALL": "C"}
    ssh = {"GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=10")}
    try:
        subprocess.run(
            ("git", *arguments),
            env={**os.environ, **quiet, **ssh},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise SourceUnavailable(_explain(url, error.stderr)) from error
    except subprocess.TimeoutExpired as error:
        raise SourceUnavailable(f"{without_password(url)} did not answer within {_TIMEOUT_SECONDS} s") from error
    except FileNotFoundError as error:
        raise SourceUnavailable("the git command is not installed: remote repositories cannot be read") from error


def _explain(url: str, stderr: str) -> str:
    shown = without_password(url)
    line = without_password((stderr.strip().splitlines() or ["git gave no reason"])[-1])
    if any(word in stderr.lower() for word in _NO_ACCESS):
        return f"{shown} refused access: credentials are missing or wrong. Try: git ls-remote {shown}"
    if any(word in stderr.lower() for word in _NO_REPOSITORY):
        return f"{shown} is not a git repository ({line}). Check the address"
    return f"{shown} cannot be reached: {line}. Check the network, or try: git ls-remote {shown}"
