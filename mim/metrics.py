"""Figures that are counted as plain numbers on the hot path and become Prometheus metrics only when asked for.

Everything else is declared with prometheus_client in the module that raises it. Where several processes serve one port,
each tells its figures as `Family` records, and `render_merged` makes one answer of them in which every sample says
whose it is.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
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
        """Show these figures at /metrics, in the place of those of a node that this process has already."""
        shown = _SHOWN.setdefault(registry, [])
        if shown:
            registry.unregister(shown[-1])
        registry.register(self)
        shown.append(self)

    def unregister(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Show them no more, and again those in whose place they were."""
        shown = _SHOWN.get(registry, [])
        if self not in shown:
            return
        registry.unregister(shown[-1])
        shown.remove(self)
        if shown:
            registry.register(shown[-1])


_SHOWN: Final[dict[CollectorRegistry, list[Figures]]] = {}


class Family(Struct, array_like=True):
    """One metric of one process: samples of (name, labels, value)."""

    name: str
    text: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


Families = list[Family]


def own_families(registry: CollectorRegistry = REGISTRY) -> Families:
    """All metrics of this process."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [(sample.name, sample.labels, sample.value) for sample in metric.samples],
        )
        for metric in registry.collect()
    ]


def encode_families(families: Families) -> bytes:
    """For `decode_families`."""
    return msgspec.msgpack.encode(families)


def decode_families(data: bytes) -> Families:
    """What `encode_families` made."""
    return msgspec.msgpack.decode(data, type=Families)


def render_merged(answered: Mapping[str, Families], starts: Mapping[str, float]) -> bytes:
    """The text of what the workers `answered`. `starts` has how often each that should be there was started."""
    registry = CollectorRegistry()
    registry.register(_Merged(answered, starts))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, answered: Mapping[str, Families], starts: Mapping[str, float]) -> None:
        self._answered = answered
        self._starts = starts

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("mim_worker_up", "Whether a worker told its figures.", labels=["worker"])
        started = CounterMetricFamily("mim_worker_starts", "Times that a worker was started.", labels=["worker"])
        for worker in self._starts or self._answered:
            up.add_metric([worker], float(worker in self._answered))
        for worker, count in self._starts.items():
            started.add_metric([worker], count)
        yield up
        yield started
        merged: dict[str, Metric] = {}
        for worker, families in self._answered.items():
            for family in families:
                metric = merged.setdefault(family.name, Metric(family.name, family.text, family.kind))
                for name, labels, value in family.samples:
                    metric.add_sample(name, {**labels, "worker": worker}, value)
        yield from merged.values()
