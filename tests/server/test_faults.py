"""Faults: children killed, the server killed or stopped with work on hand, a full disk."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import socket
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


@pytest.mark.parametrize("child", ["engine", "codec"])
def test_a_killed_child_costs_no_request(start_server, make_tiff, large_tiff, child):
    """Kill -9 in the middle: requests finish with the right labels, and the server is ready within 10 s."""
    server = start_server("--batch", "4", gated=True)
    bodies = [make_tiff(6, 48, 64, seed=seed) for seed in range(6)]
    expected = [server.http.post("/segment", content=body).content for body in bodies]
    server.hold(1)
    running = post_all(server, [large_tiff])
    server.wait_at_work(1)  # or a small one, which is read sooner, would overtake it
    running += post_all(server, bodies)
    server.wait_at_work(7)
    killed = server.kill(child)
    server.release()
    server.wait_ready(ready_seconds())
    assert time.monotonic() - killed < ready_seconds()
    answers = [r.result() for r in running]
    assert [a.status_code for a in answers] == [200] * 7, [a.text for a in answers if a.status_code != 200]
    assert [a.content for a in answers[1:]] == expected


def test_a_tomogram_that_kills_the_engine_every_time_is_given_up(start_server, large_tiff, make_tiff):
    server = start_server("--batch", "1", gated=True)
    server.hold(1)
    (running,) = post_all(server, [large_tiff])
    for _ in range(2):
        server.wait_ready(ready_seconds())
        server.wait_at_work(1)
        server.kill("engine")
    answer = running.result()
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("engine-failed")
    assert "retry-after" in answer.headers
    server.release()
    server.wait_ready(ready_seconds())
    assert server.http.post("/segment", content=make_tiff()).status_code == 200


def test_accepted_jobs_survive_kill_9_of_the_server(start_server, tmp_path, large_tiff, make_tiff, post_job, follow):
    """Exactly once: each job ends done, once, with the bytes that an undisturbed server gives."""
    data = str(tmp_path / "data")
    server = start_server("--batch", "1", "--data-dir", data, gated=True)
    bodies = [make_tiff(6, 48, 64, seed=seed) for seed in range(4)]
    finished = post_job(server.http, bodies[0])
    follow(server.http, finished.id)
    before = server.http.get(f"/jobs/{finished.id}/result").content
    server.hold(6)
    jobs = [post_job(server.http, large_tiff, Idempotency_Key="k0")]
    follow(server.http, jobs[0].id, lambda s: s.slices_done > 0)
    jobs += [post_job(server.http, body, Idempotency_Key=f"k{n}") for n, body in enumerate(bodies, 1)]
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


def test_sigterm_drains(start_server, large_tiff, make_tiff):
    """After SIGTERM: not ready, nothing new, what runs is finished, then the process leaves."""
    server = start_server("--batch", "4", "--drain-seconds", "120", gated=True)
    server.hold(1)
    running = post_all(server, [large_tiff, make_tiff()])
    server.wait_at_work(2)
    server.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + 30
    while (ready := server.http.get("/readyz")).status_code == 200:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert ready.status_code == 503
    assert ready.json()["type"].endswith("shutting-down")
    refused = server.http.post("/segment", content=make_tiff())
    assert refused.status_code == 503
    assert "retry-after" in refused.headers
    server.release()
    assert [r.result().status_code for r in running] == [200, 200]
    assert server.process.wait(60) in (0, -signal.SIGTERM)


def test_sigterm_gives_typed_503_when_time_is_up(start_server, large_tiff):
    server = start_server("--batch", "1", "--drain-seconds", "0.5", gated=True)
    server.hold(1)
    running = post_all(server, [large_tiff, large_tiff])
    server.wait_at_work(2)
    server.process.send_signal(signal.SIGTERM)
    for answer in (r.result() for r in running):
        assert answer.status_code == 503
        assert answer.json()["type"].endswith("shutting-down")
    assert server.process.wait(60) in (0, -signal.SIGTERM)


@contextlib.contextmanager
def half_an_upload(server, body):
    """Send all but the last bytes of a tomogram."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 60) as client:
        head = f"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        client.sendall(head.encode() + body[:-100])
        server.wait_at_work(1, running=0)
        server.process.send_signal(signal.SIGTERM)
        yield client


def test_an_upload_under_way_at_sigterm_is_finished(start_server, make_tiff):
    body = make_tiff(2, 32, 32)
    server = start_server("--drain-seconds", "120")
    expected = server.http.post("/segment", content=body).content
    with half_an_upload(server, body) as client:
        time.sleep(1)
        client.sendall(body[-100:])
        head, _, content = client.makefile("rb").read().partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0]
    assert content == expected
    assert server.process.wait(60) in (0, -signal.SIGTERM)


def test_an_upload_that_takes_too_long_after_sigterm_gets_a_typed_503(start_server, make_tiff):
    body = make_tiff(2, 32, 32)
    server = start_server("--drain-seconds", "0.5")
    with half_an_upload(server, body) as client:
        time.sleep(2)
        client.sendall(body[-100:-50])
        answer = client.makefile("rb").read()
    assert b" 503 " in answer.split(b"\r\n")[0]
    assert b"shutting-down" in answer
    assert server.process.wait(60) in (0, -signal.SIGTERM)


def test_a_waiting_job_survives_sigterm(start_server, tmp_path, large_tiff, make_tiff, post_job, follow):
    data = str(tmp_path / "data")
    server = start_server("--batch", "1", "--data-dir", data, "--drain-seconds", "0.3", gated=True)
    server.hold(1)
    jobs = [post_job(server.http, large_tiff)]
    follow(server.http, jobs[0].id, lambda s: s.slices_done > 0)
    jobs.append(post_job(server.http, make_tiff()))
    server.stop()
    server = start_server("--data-dir", data)
    assert [follow(server.http, job.id).state for job in jobs] == ["done", "done"]


def test_full_disk_is_told_before_the_upload(start_server, make_tiff):
    server = start_server("--min-free-disk-bytes", str(1 << 60))
    answer = server.http.post("/segment", content=make_tiff())
    assert answer.status_code == 507
    assert answer.json()["type"].endswith("disk-full")


def test_a_stalled_engine_is_replaced(start_server, large_tiff, make_tiff):
    server = start_server("--batch", "1", "--stall-seconds", "5", "--max-attempts", "1", gated=True)
    engine = server.children()["engine"]
    server.hold(1)
    (running,) = post_all(server, [large_tiff])
    server.wait_at_work(1)
    os.kill(engine, signal.SIGSTOP)
    server.release()
    answer = running.result()
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("engine-failed")
    assert server.http.post("/segment", content=make_tiff()).status_code == 200


def test_health_during_a_restart_of_the_engine(start_server):
    server = start_server()

    def slowest() -> float:
        stop, times = threading.Event(), []

        def watch():
            with httpx.Client(base_url=server.url, timeout=60) as http:
                while not stop.is_set():
                    started = time.perf_counter()
                    assert http.get("/healthz").status_code == 200
                    times.append(time.perf_counter() - started)
                    stop.wait(0.01)  # or a lone core would do nothing but answer

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            server.kill("engine")
            server.wait_ready(ready_seconds())
        finally:
            stop.set()
            watcher.join()
        return max(times)

    assert any(slowest() < 0.5 for _ in range(3))  # a round may be spoiled by what else this machine does
