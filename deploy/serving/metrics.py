"""Metrics of the service in the format of Prometheus."""

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "serving_requests", "Requests that were answered", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "serving_request_seconds",
            "From the headers of a request to its answer",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.images = Counter(
            "serving_images", "Images of answered requests, by outcome", ["model", "outcome"], registry=self.registry
        )
        self.decode_seconds = Histogram(
            "serving_decode_seconds", "Decoding of an image", ["model"], buckets=SECONDS, registry=self.registry
        )
        self.queue_seconds = Histogram(
            "serving_queue_seconds", "Waiting of an image", ["model"], buckets=SECONDS, registry=self.registry
        )
        self.compute_seconds = Histogram(
            "serving_compute_seconds",
            "Computing of an image: its part of the time of its batch",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "serving_batch_size",
            "Size of the batch of an image",
            ["model"],
            buckets=BATCH_SIZES,
            registry=self.registry,
        )
        self.engine_events = Counter(
            "serving_engine_events", "Ends, starts and reloads of engines", ["model", "event"], registry=self.registry
        )
        self.waiting = Gauge("serving_images_waiting", "Images without an answer", ["model"], registry=self.registry)
        self.ready = Gauge("serving_ready", "1 if the service takes requests", registry=self.registry)

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return prometheus_client.generate_latest(self.registry)
