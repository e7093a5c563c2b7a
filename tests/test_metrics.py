"""Figures of several processes in one answer."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from mim.metrics import Figures, decode_families, encode_families, own_families, render_merged


def registry(messages: int, seconds: float) -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("mim_messages_total", "Messages.", ["outcome"], registry=made).labels("stored").inc(messages)
    Gauge("mim_sessions", "Sessions.", registry=made).set(messages / 2)
    Histogram("mim_commit_seconds", "Commits.", buckets=[0.1, 1], registry=made).observe(seconds)
    return made


def samples(text: bytes) -> dict[str, float]:
    """By name and labels, as Prometheus writes them."""
    return {
        f"{sample.name} {' '.join(f'{key}={value}' for key, value in sorted(sample.labels.items()))}": sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_every_sample_says_whose_it_is() -> None:
    answered = {
        worker: decode_families(encode_families(own_families(registry(*told))))
        for worker, told in {"0": (3, 0.05), "2": (5, 0.5)}.items()
    }
    text = render_merged(answered, {"0": 1, "1": 4, "2": 2})

    assert samples(text) == {
        "mim_worker_up worker=0": 1, "mim_worker_up worker=1": 0, "mim_worker_up worker=2": 1,
        "mim_worker_starts_total worker=0": 1, "mim_worker_starts_total worker=1": 4,
        "mim_worker_starts_total worker=2": 2,
        "mim_messages_total outcome=stored worker=0": 3, "mim_messages_total outcome=stored worker=2": 5,
        "mim_sessions worker=0": 1.5, "mim_sessions worker=2": 2.5,
        "mim_commit_seconds_bucket le=0.1 worker=0": 1, "mim_commit_seconds_bucket le=0.1 worker=2": 0,
        "mim_commit_seconds_bucket le=1.0 worker=0": 1, "mim_commit_seconds_bucket le=1.0 worker=2": 1,
        "mim_commit_seconds_bucket le=+Inf worker=0": 1, "mim_commit_seconds_bucket le=+Inf worker=2": 1,
        "mim_commit_seconds_count worker=0": 1, "mim_commit_seconds_count worker=2": 1,
        "mim_commit_seconds_sum worker=0": 0.05, "mim_commit_seconds_sum worker=2": 0.5,
    }  # fmt: skip
    assert text.count(b"# TYPE mim_commit_seconds histogram") == 1


def test_a_worker_that_reaches_nobody_tells_of_itself() -> None:
    told = samples(render_merged({"1": own_families(registry(3, 0.05))}, {}))
    assert told["mim_worker_up worker=1"] == 1
    assert told["mim_sessions worker=1"] == 1.5


def test_the_newest_node_of_a_process_shows_its_figures_until_it_ends() -> None:
    made = CollectorRegistry()

    def figures(sessions: float) -> Figures:
        node = Figures()
        node.gauge("mim_sessions", "Sessions.", lambda: sessions)
        node.register(made)
        return node

    def shown() -> list[float]:
        return [sample.value for metric in made.collect() for sample in metric.samples]

    first, second, third = figures(1), figures(2), figures(3)
    assert shown() == [3]
    second.unregister(made)
    assert shown() == [3]
    third.unregister(made)
    assert shown() == [1]
    first.unregister(made)
    first.unregister(made)
    assert shown() == []
