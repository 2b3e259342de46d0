"""The errors that Quarterdeck raises on purpose; `core.errors` adds those that only the deck raises.

QuarterdeckError
├── InvalidInput        a given value is wrong: names the field and says what to do
├── NotFound            there is no flag, revision, run or index of that name
├── Conflict            someone else changed it first; nothing was overwritten
└── SourceUnavailable   a store, server or repository could not be read: says which, where and why
"""


class QuarterdeckError(Exception):
    """Base of every error that Quarterdeck raises on purpose. Its text is one line that says what to do.

    >>> from quarterdeck import Quarterdeck
    >>> try:
    ...     Quarterdeck("mysql://127.0.0.1/deck")
    ... except QuarterdeckError as error:
    ...     print(error)
    database URL: mysql is not supported; use sqlite:/// or postgresql://
    """


class InvalidInput(QuarterdeckError, ValueError):
    """A given value is wrong. The text is `field: problem`. Also a ValueError.

    >>> error = InvalidInput("score", "must be a number between 0 and 1, not 1.2")
    >>> error.field, error.problem
    ('score', 'must be a number between 0 and 1, not 1.2')
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class NotFound(QuarterdeckError, LookupError):
    """There is nothing of the name that was asked for. Also a LookupError.

    >>> from quarterdeck import Quarterdeck
    >>> Quarterdeck.from_definitions({"flags": {}}).snapshot.flags.definition("use_rerankr")
    Traceback (most recent call last):
    quarterdeck.errors.NotFound: flag 'use_rerankr' does not exist
    """


class Conflict(QuarterdeckError):
    """Someone else changed the stored state since it was read (optimistic locking). Nothing was overwritten.

    The deck raises it; a client only reads flags.

    >>> issubclass(Conflict, QuarterdeckError)
    True
    """


class SourceUnavailable(QuarterdeckError):
    """A store, server or repository could not be read or written.

    >>> from quarterdeck import Quarterdeck
    >>> deck = Quarterdeck("sqlite:///deck.db", strict=True)
    >>> deck.close()
    >>> deck.log_retrieval("what is an mbuf", 0.78)
    Traceback (most recent call last):
    quarterdeck.errors.SourceUnavailable: The recorder is closed; make a new Quarterdeck client to log again.
    """


def first_line(error: BaseException | None) -> str:
    """Return the first line of what a library's error says, without the full stop; its type if it says nothing.

    >>> first_line(OSError("disk full.\\nTraceback")), first_line(OSError())
    ('disk full', 'OSError')
    """
    said = str(error or "").strip()
    return said.splitlines()[0].rstrip(".") if said else type(error).__name__
