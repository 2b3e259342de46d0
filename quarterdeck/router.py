"""Routes a service's users between its stable and its new build, and logs each retrieval with the arm that served it.

A flag decides which users get the new build; see `Quarterdeck.route`. The deck compares the two arms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from quarterdeck.client import Quarterdeck

Target = TypeVar("Target")


@dataclass(frozen=True, slots=True)
class Route(Generic[Target]):
    """Where one request goes: the arm ("blue" or "green"), its target, and a way to log what it retrieved.

    >>> deck = Quarterdeck.from_definitions({"flags": {}})
    >>> route = CanaryRouter(deck, "answer-service", blue="stable build", green="new build").route("user-42")
    >>> route.arm, route.target, route.user_id
    ('blue', 'stable build', 'user-42')
    """

    arm: str
    target: Target
    user_id: str
    deck: Quarterdeck

    def log_retrieval(self, query: str, score: float | None = None, **fields: Any) -> str | None:
        """Queue a retrieval of this request with its arm and its user; return its id, or None if it was refused.

        `fields` are those of `Quarterdeck.log_retrieval`. The deck compares the arms user by user. The user is the
        session too, unless you name another one. A search that failed (`error`) or found nothing counts as an error.

        >>> with Quarterdeck("sqlite:///deck.db") as deck:
        ...     route = CanaryRouter(deck, "answer-service", blue=str.upper, green=str.lower).route("user-42")
        ...     retrieval_id = route.log_retrieval("what is an mbuf", 0.78, latency_ms=41.0)
        """
        user = self.user_id or None
        return self.deck.log_retrieval(query, score, **{"session_id": user, **fields, "arm": self.arm, "user_id": user})


class CanaryRouter(Generic[Target]):
    """Chooses between the two builds of a service by the canary flag `key`, always the same one for a user.

    >>> with Quarterdeck("sqlite:///deck.db") as deck:
    ...     router = CanaryRouter(deck, "answer-service", blue=lambda text: [0.78], green=lambda text: [0.81])
    ...     route = router.route("user-42")
    ...     scores = route.target("what is an mbuf")
    ...     retrieval_id = route.log_retrieval("what is an mbuf", scores[0] if scores else None, latency_ms=41.0)

    `blue` and `green` may be anything: functions, clients, addresses. A user who is on green at 5% stays there at 25%.
    While the flag does not exist or is switched off, everyone is on blue.
    """

    def __init__(self, deck: Quarterdeck, key: str, *, blue: Target, green: Target) -> None:
        self._deck = deck
        self._key = key
        self._targets = {"blue": blue, "green": green}

    def route(self, user_id: str, context: Mapping[str, Any] | None = None) -> Route[Target]:
        """Return where this user goes now. Never raises.

        Keep the route for the whole request: the share may change meanwhile. `context` holds attributes that the
        flag's targeting rules may ask for.

        >>> rule = {"if": [{"==": [{"var": "plan"}, "beta"]}, "green"]}
        >>> flag = {"state": "ENABLED", "variants": {"blue": "blue", "green": "green"}, "defaultVariant": "blue"}
        >>> deck = Quarterdeck.from_definitions({"flags": {"answer-service": {**flag, "targeting": rule}}})
        >>> router = CanaryRouter(deck, "answer-service", blue="stable build", green="new build")
        >>> router.route("user-42").target, router.route("user-7", {"plan": "beta"}).target
        ('stable build', 'new build')
        """
        arm = self._deck.route(self._key, user_id, context)
        return Route(arm, self._targets[arm], user_id, self._deck)
