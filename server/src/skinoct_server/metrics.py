"""Prometheus metrics of one server, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from skinoct_server.jobs import Job

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})


class Metrics:
    """What ``/metrics`` tells."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "skinoct_requests", "Requests answered", ["method", "path", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "skinoct_request_seconds", "Time to answer", ["path"], buckets=_SECONDS, registry=self.registry
        )
        self.stage_seconds = Histogram(
            "skinoct_stage_seconds",
            "Time of each stage of a tomogram: upload, queue, read, segment, write",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.bytes_in = Counter("skinoct_upload_bytes", "Bytes of tomograms received", registry=self.registry)
        self.slices = Counter("skinoct_slices", "Slices segmented", registry=self.registry)
        self.batches = Counter("skinoct_batches", "Batches that the network ran", registry=self.registry)
        self.shared_batches = Counter(
            "skinoct_shared_batches", "Batches with slices of several tomograms", registry=self.registry
        )
        self.jobs = Counter("skinoct_jobs", "Tomograms finished, by state", ["state"], registry=self.registry)
        self.failures = Counter(
            "skinoct_failures", "Tomograms that failed, by kind of problem", ["kind"], registry=self.registry
        )
        self.problems = Counter(
            "skinoct_problems", "Requests answered with a problem, by its kind", ["kind"], registry=self.registry
        )
        self.restarts = Counter(
            "skinoct_child_restarts",
            "Child processes lost and started again",
            ["child"],
            registry=self.registry,
        )

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when asked for."""
        Gauge(name, help_text, registry=self.registry).set_function(value)

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(method if method in _METHODS else "other", path, str(status)).inc()
        self.request_seconds.labels(path).observe(seconds)

    def job(self, job: Job) -> None:
        """Count a finished job."""
        self.jobs.labels(job.state).inc()
        if job.problem_kind:
            self.failures.labels(job.problem_kind).inc()
        for stage, seconds in job.timings.items():
            self.stage(stage, seconds)

    def ran(self, runs: int, shared: int) -> None:
        """Count batches, and those with slices of several tomograms."""
        self.batches.inc(runs)
        self.shared_batches.inc(shared)

    def stage(self, stage: str, seconds: float) -> None:
        """Count the time of a stage."""
        self.stage_seconds.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)
