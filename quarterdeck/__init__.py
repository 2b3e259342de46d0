"""Quarterdeck for services: report retrievals, read flags, be routed.

>>> from quarterdeck import Quarterdeck                                    # doctest: +SKIP
>>> deck = Quarterdeck("sqlite:///data/var/quarterdeck.db")                # doctest: +SKIP
>>> deck.log_retrieval("what is an mbuf", 0.78, session_id="s-17")         # doctest: +SKIP
True
"""

from quarterdeck.client import Quarterdeck
from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError, SourceUnavailable
from quarterdeck.flags import Evaluation
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
]
