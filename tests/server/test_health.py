"""The event loop is never blocked: health is told while the network computes."""

from __future__ import annotations

import concurrent.futures
import threading
import time

import httpx


def test_health_answers_within_50_ms_during_inference(live_server, make_tiff):
    body, stop, statuses = make_tiff(50, 128, 256), threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            statuses.append(live_server.http.post("/segment", content=body).status_code)

    def slowest_but_one(http: httpx.Client) -> float:
        times = []
        for _ in range(100):
            started = time.perf_counter()
            assert http.get("/healthz").status_code == 200
            times.append(time.perf_counter() - started)
            time.sleep(0.01)
        return sorted(times)[-2]

    with concurrent.futures.ThreadPoolExecutor(3) as pool, httpx.Client(base_url=live_server.url, timeout=60) as http:
        running = [pool.submit(work) for _ in range(3)]
        try:  # a round may be spoiled by what else this machine does
            assert any(slowest_but_one(http) < 0.05 for _ in range(5))
        finally:
            stop.set()
        for worker in running:
            worker.result()
    assert set(statuses) == {200}
