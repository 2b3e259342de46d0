"""Routes a service's users between its stable and its new build, and logs each retrieval with the arm that served it.

The share, and who is in it, is a flag; see `Quarterdeck.route`. Watching the arms is for the deck.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from quarterdeck.client import Quarterdeck

Target = TypeVar("Target")


@dataclass(frozen=True, slots=True)
class Route(Generic[Target]):
    """Where one request goes: the arm, what stands behind it, and the way to log what it retrieved."""

    arm: str
    target: Target
    user_id: str
    deck: Quarterdeck

    def log_retrieval(self, query: str, score: float | None, **fields: Any) -> bool:
        """Queue a retrieval of this request, as `Quarterdeck.log_retrieval` does, with its arm and its user.

        The user is the session id: the deck compares the arms user by user. A search that failed is logged with the
        score None, and counts as an error.
        """
        return self.deck.log_retrieval(query, score, **{**fields, "arm": self.arm, "session_id": self.user_id or None})


class CanaryRouter(Generic[Target]):
    """Chooses between the two builds of a service, the same for a user each time: by the canary flag `key`.

        router = CanaryRouter(deck, "answer-service", blue=answer, green=new_answer)
        route = router.route(user_id)
        hits = route.target(question)
        route.log_retrieval(question, hits[0].score if hits else None, latency_ms=took)

    A user who is in at 5% is in at 25%: the bucket is the flag's. While the flag is unknown or off, all are on blue.
    """

    def __init__(self, deck: Quarterdeck, key: str, *, blue: Target, green: Target) -> None:
        self._deck = deck
        self._key = key
        self._targets = {"blue": blue, "green": green}

    def route(self, user_id: str, context: Mapping[str, Any] | None = None) -> Route[Target]:
        """Return where this user goes now. Never raises. Keep the route for the whole request: shares may change."""
        arm = self._deck.route(self._key, user_id, context)
        return Route(arm, self._targets[arm], user_id, self._deck)
