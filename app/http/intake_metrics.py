"""What came in and what was refused, for /metrics: the store's totals, read at each scrape."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from core.errors import QuarterdeckError
from core.intake.counts import IntakeCount, list_counts
from quarterdeck.store import Store

_NAME = "quarterdeck_intake"
_HELP = "What came in through each entry point: taken, or not, with the reason. The same on every server of a store."


class IntakeCollector(Collector):
    """Reads the totals of the store that `get_store` returns; none while it cannot be read."""

    def __init__(self, get_store: Callable[[], Store]) -> None:
        self._get_store = get_store

    def describe(self) -> Iterable[Metric]:
        """Return the metric without its values: registering must not open the store."""
        return [self._make()]

    def collect(self) -> Iterator[Metric]:
        """Return one counter for each entry point and reason; the reason is empty for what was taken."""
        family = self._make()
        for count in self._read():
            family.add_metric((count.source, ""), count.taken)
            for reason, n in sorted((count.reasons | count.ignored).items()):
                family.add_metric((count.source, reason), n)
        yield family

    def _make(self) -> CounterMetricFamily:
        return CounterMetricFamily(_NAME, _HELP, labels=("source", "reason"))

    def _read(self) -> list[IntakeCount]:
        try:
            return list_counts(self._get_store())
        except QuarterdeckError:
            return []
