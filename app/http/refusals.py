"""Our errors as HTTP responses: a status code, one line, and the challenge header for a missing token."""

from starlette.responses import JSONResponse, Response

from core.errors import ApprovalNeeded, Conflict, Forbidden, InvalidInput, NotFound, QuarterdeckError, SourceUnavailable
from core.safety.letters import show_text

_STATUSES = {
    InvalidInput: 400, Forbidden: 403, NotFound: 404, Conflict: 409, ApprovalNeeded: 409, SourceUnavailable: 503
}  # fmt: skip


class RequestRefused(QuarterdeckError):
    """The request as such is refused, with a status code of its own."""

    def __init__(self, status: int, message: str, *, retry_s: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_s = retry_s


def refuse(error: QuarterdeckError) -> Response:
    """Return the response that says why."""
    return JSONResponse({"error": show_text(str(error))}, status_of(error), challenge(error))


def status_of(error: QuarterdeckError) -> int:
    """Return the status code of an error."""
    if isinstance(error, RequestRefused):
        return error.status
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 500)


def challenge(error: QuarterdeckError) -> dict[str, str]:
    """Return the header that asks for a token, for status 401, or for some patience, for status 429; else none."""
    if isinstance(error, RequestRefused) and error.retry_s:
        return {"Retry-After": str(error.retry_s)}
    return {"WWW-Authenticate": 'Bearer realm="quarterdeck"'} if status_of(error) == 401 else {}
