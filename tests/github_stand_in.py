"""A GitHub that listens on this machine: it keeps issues of one repository, and checks the token as GitHub does."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.http_stand_in import QuietHandler, serving

TOKEN = "github_pat_11ABCDEFG0123456789"
REPOSITORY = "octo-org/docs"


@dataclass
class StandIn:
    """Its address, its issues, and what it was asked. `refuse_after` ends with 403 after so many new issues."""

    address: str = ""
    issues: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refuse_after: int = 1_000
    redirect_to: str = ""


@contextmanager
def standing_in() -> Iterator[StandIn]:
    """Run the stand-in on a free port."""
    told = StandIn()

    class Handler(QuietHandler):
        def get(self) -> None:
            if self._is_let_in():
                wanted = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                size, page = int(wanted["per_page"]), int(wanted["page"])
                assert (wanted["state"], wanted["labels"]) == ("all", "quarterdeck")
                self._answer(200, told.issues[::-1][(page - 1) * size : page * size])

        def post(self) -> None:
            sent = self.read_json()
            if not self._is_let_in():
                return
            if len(told.issues) >= told.refuse_after:
                self._answer(403, {"message": f"secondary rate limit for {TOKEN}"}, **{"Retry-After": "60"})
                return
            number = len(told.issues) + 1
            url = f"{told.address}/{REPOSITORY}/issues/{number}"
            told.issues.append({"number": number, "html_url": url, "state": "open", **sent})
            self._answer(201, told.issues[-1])

        def _is_let_in(self) -> bool:
            told.asked.append(f"{self.command} {urlsplit(self.path).path}")
            if told.redirect_to:
                self._answer(302, {}, Location=told.redirect_to)
            elif self.headers["Authorization"] != f"Bearer {TOKEN}":
                self._answer(401, {"message": f"Bad credentials {self.headers['Authorization']}"})
            elif urlsplit(self.path).path != f"/repos/{REPOSITORY}/issues":
                self._answer(404, {"message": "Not Found"})
            else:
                return True
            return False

        def _answer(self, status: int, message: Any, **headers: str) -> None:
            self.send(status, json.dumps(message).encode(), headers)

    with serving(Handler) as told.address:
        yield told
