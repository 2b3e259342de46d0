"""Quarterdeck for services: report retrievals, read flags, route users between two builds.

>>> from quarterdeck import Quarterdeck
>>> with Quarterdeck("sqlite:///deck.db") as deck:
...     retrieval_id = deck.log_retrieval("what is an mbuf", 0.78, session_id="s-17")
...     deck.is_enabled("use_reranker", "user-42")
False

The public API is the names in `__all__` below and `quarterdeck.provider.QuarterdeckProvider`; see the stability policy.
Every other module, and every name that starts with an underscore, is private and may change in any release.
"""

from quarterdeck.client import Quarterdeck
from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError, SourceUnavailable
from quarterdeck.flags import Evaluation
from quarterdeck.redaction import redact
from quarterdeck.retrieval import Retrieval
from quarterdeck.router import CanaryRouter, Route

__all__ = [
    "CanaryRouter",
    "Conflict",
    "Evaluation",
    "InvalidInput",
    "NotFound",
    "Quarterdeck",
    "QuarterdeckError",
    "Retrieval",
    "Route",
    "SourceUnavailable",
    "redact",
]
