"""Faults: children killed, the server killed or stopped with work on hand, a full disk."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import threading
import time

import httpx
import pytest


def post_all(server, bodies, path="/segment"):
    def post(body):
        with httpx.Client(base_url=server.url, timeout=300) as http:
            return http.post(path, content=body)

    pool = concurrent.futures.ThreadPoolExecutor(len(bodies))
    return [pool.submit(post, body) for body in bodies]


def ready_seconds() -> float:
    """Ten seconds, on a machine that has a core to spare for us."""
    return 10 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def wait_at_work(server, jobs: int) -> None:
    """Wait until that many tomograms were admitted and one of them is being segmented."""
    end = time.monotonic() + 60
    while True:
        text = server.http.get("/metrics").text
        if f"\nskinoct_pending_jobs {jobs}.0" in text and "\nskinoct_running 1.0" in text:
            return
        assert time.monotonic() < end, server.log.read_text()
        time.sleep(0.02)


@pytest.mark.parametrize("child", ["engine", "codec"])
def test_a_killed_child_costs_no_request(start_server, make_tiff, slow_tiff, child):
    """Kill -9 in the middle: requests finish with the right labels, and the server is ready within 10 s."""
    server = start_server("--batch", "1")
    bodies = [make_tiff(6, 48, 64, seed=seed) for seed in range(6)]
    expected = [server.http.post("/segment", content=body).content for body in bodies]
    running = post_all(server, [slow_tiff, *bodies])
    wait_at_work(server, 7)
    os.kill(server.children()[child], signal.SIGKILL)
    killed = time.monotonic()
    time.sleep(0.1)
    server.wait_ready(ready_seconds())
    assert time.monotonic() - killed < ready_seconds()
    answers = [r.result() for r in running]
    assert [a.status_code for a in answers] == [200] * 7, [a.text for a in answers if a.status_code != 200]
    assert [a.content for a in answers[1:]] == expected


def test_a_tomogram_that_kills_the_engine_every_time_is_given_up(start_server, slow_tiff, make_tiff):
    server = start_server("--batch", "1")
    (running,) = post_all(server, [slow_tiff])
    for _ in range(2):
        server.wait_ready(ready_seconds())
        wait_at_work(server, 1)
        os.kill(server.children()["engine"], signal.SIGKILL)
        time.sleep(0.2)
    answer = running.result()
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("engine-failed")
    assert "retry-after" in answer.headers
    server.wait_ready(ready_seconds())
    assert server.http.post("/segment", content=make_tiff()).status_code == 200


def test_accepted_jobs_survive_kill_9_of_the_server(start_server, tmp_path, slow_tiff, make_tiff, post_job, follow):
    """Exactly once: each job ends done, once, with the bytes that an undisturbed server gives."""
    data = str(tmp_path / "data")
    server = start_server("--batch", "1", "--data-dir", data)
    bodies = [make_tiff(6, 48, 64, seed=seed) for seed in range(4)]
    finished = post_job(server.http, bodies[0])
    follow(server.http, finished.id)
    before = server.http.get(f"/jobs/{finished.id}/result").content
    jobs = [post_job(server.http, body, Idempotency_Key=f"k{n}") for n, body in enumerate([slow_tiff, *bodies])]
    follow(server.http, jobs[0].id, lambda s: s.slices_done > 5)
    children = server.children()
    server.stop(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in children.values()):  # noqa: PTH110
        assert time.monotonic() < deadline, "children outlive the server"
        time.sleep(0.05)

    server = start_server("--data-dir", data)
    assert server.http.get(f"/jobs/{finished.id}/result").content == before
    again = post_job(server.http, bodies[0], Idempotency_Key="k1")
    assert again.id == jobs[1].id
    for job, body in zip(jobs[1:], bodies, strict=True):
        assert follow(server.http, job.id).state == "done"
        direct = server.http.post("/segment", content=body)
        assert server.http.get(f"/jobs/{job.id}/result").content == direct.content
    assert follow(server.http, jobs[0].id).state == "done"
    assert server.http.get("/readyz").json()["jobs"] == 0


def test_sigterm_drains(start_server, slow_tiff, make_tiff):
    """After SIGTERM: not ready, nothing new, what runs is finished, then the process leaves."""
    server = start_server("--batch", "4", "--drain-seconds", "120")
    running = post_all(server, [slow_tiff, make_tiff()])
    wait_at_work(server, 2)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    ready = server.http.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["type"].endswith("shutting-down")
    refused = server.http.post("/segment", content=make_tiff())
    assert refused.status_code == 503
    assert "retry-after" in refused.headers
    assert [r.result().status_code for r in running] == [200, 200]
    assert server.process.wait(60) in (0, -signal.SIGTERM)


def test_sigterm_gives_typed_503_when_time_is_up(start_server, slow_tiff):
    server = start_server("--batch", "1", "--drain-seconds", "0.5")
    running = post_all(server, [slow_tiff, slow_tiff])
    wait_at_work(server, 2)
    server.process.send_signal(signal.SIGTERM)
    for answer in (r.result() for r in running):
        assert answer.status_code == 503
        assert answer.json()["type"].endswith("shutting-down")
    assert server.process.wait(60) in (0, -signal.SIGTERM)


def test_a_waiting_job_survives_sigterm(start_server, tmp_path, slow_tiff, make_tiff, post_job, follow):
    data = str(tmp_path / "data")
    server = start_server("--batch", "1", "--data-dir", data, "--drain-seconds", "0.3")
    jobs = [post_job(server.http, slow_tiff), post_job(server.http, make_tiff())]
    follow(server.http, jobs[0].id, lambda s: s.slices_done > 0)
    server.stop()
    server = start_server("--data-dir", data)
    assert [follow(server.http, job.id).state for job in jobs] == ["done", "done"]


def test_full_disk_is_told_before_the_upload(start_server, make_tiff):
    server = start_server("--min-free-disk-bytes", str(1 << 60))
    answer = server.http.post("/segment", content=make_tiff())
    assert answer.status_code == 507
    assert answer.json()["type"].endswith("disk-full")


def test_a_stalled_engine_is_replaced(start_server, slow_tiff, make_tiff):
    server = start_server("--batch", "1", "--stall-seconds", "2", "--max-attempts", "1")
    (running,) = post_all(server, [slow_tiff])
    wait_at_work(server, 1)
    os.kill(server.children()["engine"], signal.SIGSTOP)
    answer = running.result()
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("engine-failed")
    assert server.http.post("/segment", content=make_tiff()).status_code == 200


def test_health_during_a_restart_of_the_engine(start_server):
    server = start_server()
    stop, slowest = threading.Event(), [0.0]

    def watch():
        with httpx.Client(base_url=server.url) as http:
            while not stop.is_set():
                started = time.perf_counter()
                assert http.get("/healthz").status_code == 200
                slowest[0] = max(slowest[0], time.perf_counter() - started)

    watcher = threading.Thread(target=watch)
    watcher.start()
    os.kill(server.children()["engine"], signal.SIGKILL)
    time.sleep(0.1)
    server.wait_ready(ready_seconds())
    stop.set()
    watcher.join()
    assert slowest[0] < 0.5
