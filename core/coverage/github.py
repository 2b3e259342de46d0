"""Gateway to GitHub's REST API: finds the issues that this deck made, and makes new ones.

Speaks HTTPS (HTTP only to this machine), follows no redirect, and reads at most 4 MB of an answer. The token is sent in
a header, and is in no message, no log and no representation.
"""

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from core.config import PUBLIC_API
from core.deployments.health import StayHere
from core.errors import Forbidden, InvalidInput, NotFound, SourceUnavailable

LABEL = "quarterdeck"
_TIMEOUT_S = 10.0
_MOST_BYTES = 4_000_000
_PAGE, _MOST_PAGES = 100, 10
_REPOSITORY = re.compile(r"[\w.-]{1,100}/[\w.-]{1,100}")
_LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue of a repository: its number, its address, and its text."""

    number: int
    url: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class GitHub:
    """One repository (`owner/name`) behind an address of the API. Raises InvalidInput for what cannot be used."""

    repository: str
    token: str = field(repr=False)
    api: str = PUBLIC_API

    def __post_init__(self) -> None:
        if not _REPOSITORY.fullmatch(self.repository):
            raise InvalidInput("repository", "must be owner/name, as in octo-org/docs")
        if not self.token or not self.token.isascii() or not self.token.isprintable() or " " in self.token:
            raise InvalidInput("token", "is missing or not a token; set QUARTERDECK_GITHUB_TOKEN")
        parts = urlsplit(self.api)
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
        if not is_safe or not parts.hostname or "@" in parts.netloc:
            raise InvalidInput("api", "must be an https address without a password in it")

    def list_own_issues(self) -> tuple[Issue, ...]:
        """Return the newest issues with our label, open or closed, at most 1,000. Raises what `create_issue` raises."""
        found: list[Issue] = []
        for page in range(1, _MOST_PAGES + 1):
            wanted = urlencode({"labels": LABEL, "state": "all", "per_page": _PAGE, "page": page})
            rows = self._call("GET", f"issues?{wanted}")
            if not isinstance(rows, list):
                raise SourceUnavailable(f"GitHub ({self.repository}) did not answer with a list of issues")
            found += [_read(row) for row in rows if isinstance(row, dict) and "pull_request" not in row]
            if len(rows) < _PAGE:
                break
        return tuple(found)

    def create_issue(self, title: str, body: str) -> Issue:
        """Return the new issue, which has our label.

        Raises Forbidden for a token that is refused, NotFound for a repository that it does not see, and
        SourceUnavailable otherwise; a limit of GitHub's says when to try again.
        """
        return _read(self._call("POST", "issues", {"title": title, "body": body, "labels": [LABEL]}))

    def _call(self, method: str, path: str, message: Mapping[str, Any] | None = None) -> Any:
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "User-Agent": "quarterdeck",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        body = None if message is None else json.dumps(message).encode()
        url = f"{self.api.rstrip('/')}/repos/{self.repository}/{path}"
        request = urllib.request.Request(url, data=body, headers=headers, method=method)  # noqa: S310 - checked above
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
                return json.loads(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                raise self._explain(error) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            said = " ".join(str(getattr(error, "reason", error)).split())[:200] or type(error).__name__
            raise SourceUnavailable(f"GitHub ({self.repository}) was not reached: {self._hide(said)}") from None

    def _explain(self, error: urllib.error.HTTPError) -> Exception:
        """Return our error for an answer; what GitHub says in it is kept, without the token."""
        said = ""
        try:
            told = json.loads(error.read(_MOST_BYTES))
            said = f": {' '.join(str(told.get('message', '')).split())[:200]}" if isinstance(told, dict) else ""
        except (OSError, ValueError, http.client.HTTPException):
            pass
        where, said = f"GitHub ({self.repository})", self._hide(said)
        if wait := error.headers.get("Retry-After"):
            return SourceUnavailable(f"{where} asks to wait {wait[:20]} s before more is written{said}")
        if error.code in (403, 429) and error.headers.get("X-RateLimit-Remaining") == "0":
            return SourceUnavailable(f"{where} allows no more requests this hour{said}")
        if error.code in (401, 403):
            return Forbidden(f"{where} refuses the token ({error.code}){said}; it needs the right to write issues")
        if error.code == 404:
            return NotFound(f"{where}: there is no such repository for this token")
        return SourceUnavailable(f"{where} answers {error.code}{said}")

    def _hide(self, text: str) -> str:
        return text.replace(self.token, "***")


def _read(row: Any) -> Issue:
    """Return an issue as the API tells it. Raises SourceUnavailable for anything else."""
    try:
        return Issue(int(row["number"]), str(row["html_url"]), str(row.get("body") or ""))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SourceUnavailable("GitHub answered with something that is no issue") from None


_OPENER = urllib.request.build_opener(StayHere)
