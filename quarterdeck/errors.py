"""The errors that a caller of Quarterdeck can meet; `core.errors` adds those that only the deck can raise.

QuarterdeckError
├── InvalidInput        a value that was given is wrong: names the field and says what to do
├── NotFound            a flag, revision, run or index of that name does not exist
├── Conflict            somebody else changed it first; nothing was overwritten
└── SourceUnavailable   a store, server or repository could not be read: says which, where, and why
"""


class QuarterdeckError(Exception):
    """Base of every error that Quarterdeck raises on purpose; its text is one line that a person can act on."""


class InvalidInput(QuarterdeckError, ValueError):
    """A given value is wrong. The message starts with the field's name."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class NotFound(QuarterdeckError, LookupError):
    """What was asked for by name does not exist."""


class Conflict(QuarterdeckError):
    """The stored state is not the one that the caller expected to replace."""


class SourceUnavailable(QuarterdeckError):
    """A store, server or repository could not be read or written."""
