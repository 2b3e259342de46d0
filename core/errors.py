"""The deck's errors: those of the client package, and two that only the deck can raise.

The tree is drawn in `quarterdeck.errors`. "Not enough data" is not an error: it is a status on a report.
"""

from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError, SourceUnavailable

__all__ = ["Conflict", "Forbidden", "HalfDone", "InvalidInput", "NotFound", "QuarterdeckError", "SourceUnavailable"]


class Forbidden(QuarterdeckError):
    """Whoever asked does not hold the role that it takes; nothing was changed."""


class HalfDone(QuarterdeckError):
    """An operation over two systems failed, and what it had done in one of them could not be undone: says what."""
