"""The deck's errors: those of the client package, and three that only the deck can raise.

The tree is drawn in `quarterdeck.errors`. "Not enough data" is not an error: it is a status on a report.
"""

from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError, SourceUnavailable

__all__ = [
    "Conflict", "Forbidden", "HalfDone", "InvalidInput", "NotConnected", "NotFound", "QuarterdeckError",
    "SourceUnavailable",
]  # fmt: skip


class Forbidden(QuarterdeckError):
    """The caller lacks the required role; nothing was changed."""


class NotConnected(SourceUnavailable):
    """There is nothing where a source is looked for: it was never set up, or is gone."""


class ApprovalNeeded(QuarterdeckError):
    """A change waits for a second person, as a change request; nothing was changed."""

    def __init__(self, request_id: int, environment: str) -> None:
        self.request_id = request_id
        super().__init__(
            f"Nothing is changed yet: a second person has to approve it in {environment}. It is request {request_id}."
        )


class HalfDone(QuarterdeckError):
    """An operation over two systems failed and could not be undone completely; says what is left."""
