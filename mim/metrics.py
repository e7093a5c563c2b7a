"""Figures that are counted as plain numbers on the hot path and become Prometheus metrics only when asked for.

Everything else is declared with prometheus_client in the module that raises it.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector


class Figures(Collector):
    """Reads numbers from where they are kept. `gauges` and `counters` map a name to (help, reader)."""

    def __init__(self) -> None:
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._counters: dict[str, tuple[str, str | None, Callable[[], Mapping[str, float]]]] = {}

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A value that goes up and down."""
        self._gauges[name] = (text, read)

    def counter(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Counts by the value of one label."""
        self._counters[name] = (text, label, read)

    def collect(self) -> Iterable[Metric]:
        for name, (text, read) in self._gauges.items():
            yield GaugeMetricFamily(name, text, value=read())
        for name, (text, label, read_all) in self._counters.items():
            family = CounterMetricFamily(name, text, labels=[label or "kind"])
            for value, count in sorted(read_all().items()):
                family.add_metric([value], count)
            yield family

    def register(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Show these figures at /metrics, unless another node of this process shows its own."""
        with suppress(ValueError):
            registry.register(self)

    def unregister(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Show them no more."""
        with suppress(KeyError):
            registry.unregister(self)
