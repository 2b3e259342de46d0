"""The deck's errors: those of the client package, under one roof for everything in `core/`.

The tree is drawn in `quarterdeck.errors`. "Not enough data" is not among them: it is a status on a report.
"""

from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError, SourceUnavailable

__all__ = ["Conflict", "InvalidInput", "NotFound", "QuarterdeckError", "SourceUnavailable"]
