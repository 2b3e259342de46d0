"""Rule: keeps an evaluation under its spending ceiling. Money is reserved before a call and settled after it.

Knows nothing of models and prices. Thread-safe.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import InvalidInput, QuarterdeckError


class CeilingReached(QuarterdeckError):
    """The next call could cost more than what is left under the ceiling."""


class Expense:
    """One call: what was set aside for it, and what it came to. Unless told, a call counts with all it could cost."""

    def __init__(self, reserved_usd: float) -> None:
        self.reserved_usd = reserved_usd
        self.spent_usd = reserved_usd


class Budget:
    """What may be spent, in USD, and what has been. Without a ceiling it only adds up.

    >>> budget = Budget(1.0)
    >>> with budget.expense(at_most_usd=0.75) as expense:
    ...     expense.spent_usd = 0.5
    >>> budget.spent_usd
    0.5
    """

    def __init__(self, ceiling_usd: float | None = None) -> None:
        if ceiling_usd is not None and not ceiling_usd > 0:
            raise InvalidInput("max-cost-usd", f"must be more than 0 USD, not {ceiling_usd!r}")
        self.ceiling_usd = ceiling_usd
        self.spent_usd = 0.0
        self._held_usd = 0.0
        self._changed = threading.Condition()

    @contextmanager
    def expense(self, *, at_most_usd: float) -> Iterator[Expense]:
        """Set `at_most_usd` aside while the block runs. Raises CeilingReached before the block when it is not left.

        What other calls hold may come back: as long as there are any, this waits for them.
        """
        with self._changed:
            while not self._fits(at_most_usd):
                if not self._held_usd:
                    raise CeilingReached(self._explain(at_most_usd))
                self._changed.wait()
            self._held_usd += at_most_usd
        expense = Expense(at_most_usd)
        try:
            yield expense
        finally:
            with self._changed:
                self._held_usd = max(0.0, self._held_usd - at_most_usd)
                if self._held_usd < 1e-12:
                    self._held_usd = 0.0  # what floating point leaves over must not look like a call in flight
                self.spent_usd += expense.spent_usd
                self._changed.notify_all()

    def _fits(self, amount_usd: float) -> bool:
        return self.ceiling_usd is None or self.spent_usd + self._held_usd + amount_usd <= self.ceiling_usd

    def _explain(self, amount_usd: float) -> str:
        return (
            f"${self.spent_usd:.4f} of ${self.ceiling_usd:.4f} are spent, and the next call could cost "
            f"${amount_usd:.4f}"
        )
