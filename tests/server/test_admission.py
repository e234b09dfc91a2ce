"""Admission before memory, deadlines, sizes: what is refused, how fast, and that nothing is lost."""

from __future__ import annotations

import concurrent.futures
import contextlib
import socket
import threading
import time

import httpx
import psutil

MIB = 1 << 20


def raw_request(server, head: str, seconds: float = 10) -> tuple[bytes, float]:
    """Send headers alone and return the answer's first bytes and how long they took."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), seconds) as client:
        started = time.perf_counter()
        client.sendall(head.encode())
        answer = b""
        while b"}" not in answer and (part := client.recv(65536)):
            answer += part
        return answer, time.perf_counter() - started


def assert_prompt(ask, limit: float) -> None:
    """Of twenty answers all but two come within a limit; other programs' bursts of work may spoil some rounds."""
    for _ in range(5):
        times = sorted(ask() for _ in range(20))
        if times[-3] < limit:
            return
        time.sleep(1)
    raise AssertionError(times)


def test_too_large_by_declared_length(start_server):
    server = start_server("--max-upload-bytes", "100000")

    def ask() -> float:
        answer, seconds = raw_request(server, "POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n")
        assert b" 413 " in answer
        assert b"too-large" in answer
        assert b"97.7 KiB" in answer
        return seconds

    assert_prompt(ask, 0.05)


def test_too_large_by_counted_length(start_server, make_tiff):
    server = start_server("--max-upload-bytes", "100000")
    answer = server.http.post("/segment", content=(bytes(10000) for _ in range(30)))
    assert answer.status_code == 413
    form = server.http.post("/segment", files={"image": ("a.tif", bytes(300000))})
    assert form.status_code == 413
    assert server.http.get("/readyz").json()["jobs"] == 0
    assert server.http.post("/segment", content=make_tiff(2, 32, 32)).status_code == 200


def test_too_large_once_decompressed(start_server, make_tiff):
    server = start_server("--max-decoded-bytes", "20000")
    answer = server.http.post("/segment", content=make_tiff(10, 64, 64))
    assert answer.status_code == 413
    assert "max_decoded_bytes" in answer.json()["detail"]


def test_excess_is_told_before_its_body_is_read(start_server, large_tiff):
    """With the queue full, 429 and Retry-After come within 50 ms of the headers; load.py measures it under load."""
    server = start_server("--max-pending-jobs", "2", gated=True)
    server.hold()
    for _ in range(2):
        assert server.http.post("/jobs", content=large_tiff).status_code == 202
    server.wait_at_work(2)

    def ask() -> float:
        head = f"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: {100 * MIB}\r\n\r\n"
        answer, seconds = raw_request(server, head)
        assert b" 429 " in answer
        assert b"retry-after: " in answer
        assert b"queue-full" in answer
        return seconds

    assert_prompt(ask, 0.05)


def test_a_client_that_sends_first_still_sees_its_429(start_server, large_tiff):
    """httpx writes 30 MB before it reads: the answer must not be lost in a reset connection."""
    server = start_server("--max-pending-jobs", "1", gated=True)
    server.hold()
    assert server.http.post("/jobs", content=large_tiff).status_code == 202
    for _ in range(3):
        answer = httpx.post(f"{server.url}/segment", content=bytes(30 * MIB), timeout=30)
        assert answer.status_code == 429


def test_bytes_are_a_budget_too(start_server, large_tiff):
    server = start_server("--max-pending-bytes", str(int(len(large_tiff) * 1.5)), gated=True)
    server.hold()
    assert server.http.post("/jobs", content=large_tiff).status_code == 202
    assert server.http.post("/jobs", content=large_tiff).status_code == 429
    chunks = (large_tiff[i : i + MIB] for i in range(0, len(large_tiff), MIB))
    assert server.http.post("/jobs", content=chunks).status_code == 429


def test_one_tomogram_larger_than_the_budget_is_let_in_alone(start_server, make_tiff):
    server = start_server("--max-pending-bytes", "1000")
    assert server.http.post("/segment", content=make_tiff(4, 32, 32)).status_code == 200


def wait_for_jobs(server, jobs: int) -> None:
    end = time.monotonic() + 30
    while server.http.get("/readyz").json()["jobs"] != jobs:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_budget_is_given_back_after_every_end(start_server, make_tiff):
    server = start_server("--max-pending-jobs", "1")
    host, port = server.url.removeprefix("http://").split(":")
    for _ in range(3):
        assert server.http.post("/segment", content=make_tiff(2, 32, 32)).status_code == 200
        assert server.http.post("/segment", content=b"bad").status_code == 422
        with socket.create_connection((host, int(port))) as client:  # goes away in the middle of its upload
            client.sendall(b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
            wait_for_jobs(server, 1)
        wait_for_jobs(server, 0)


def test_slow_headers_and_slow_bodies_end(start_server):
    most = 10  # the settings' defaults are longer
    server = start_server("--header-seconds", "1", "--body-idle-seconds", "1")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), most) as silent:
        started = time.monotonic()
        silent.sendall(b"POST /segment HTTP/1.1\r\nHost:")
        with contextlib.suppress(ConnectionResetError):
            assert silent.recv(10) == b""
        assert 0.8 < time.monotonic() - started < most
    answer, seconds = raw_request(server, "POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    assert b" 408 " in answer
    assert b"upload-timeout" in answer
    assert 0.8 < seconds < most


def test_a_body_that_is_no_tomogram_stays_small(start_server, tmp_path):
    """The framework reads it into memory before it asks for a key: neither size nor time may be the client's choice."""
    from skinoct_server.keys import add_key

    add_key(tmp_path / "keys", "admin", "admin")
    server = start_server("--api-key-file", str(tmp_path / "keys"), "--body-idle-seconds", "1")
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    answer = server.http.put("/models/default", content=(b" " * MIB for _ in range(200)))
    assert answer.status_code == 413
    assert answer.json()["type"].endswith("too-large")
    assert "64.0 KiB" in answer.json()["detail"]
    assert process.memory_info().rss - before < 50 * MIB
    head = "PUT /models/default HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    answer, seconds = raw_request(server, head)
    assert b" 408 " in answer
    assert b"upload-timeout" in answer
    assert 0.8 < seconds < 10


def test_more_connections_than_the_limit_are_told_so(start_server):
    server = start_server("--max-connections", "4")
    server.http.close()
    host, port = server.url.removeprefix("http://").split(":")
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection((host, int(port)), 10))
        with socket.create_connection((host, int(port)), 10) as client:
            answer = client.makefile("rb").read()
    assert b" 503 " in answer.split(b"\r\n")[0]
    assert b"retry-after: 5" in answer.lower()
    assert b"too-many-connections" in answer
    assert httpx.get(f"{server.url}/healthz", trust_env=False).status_code == 200


def test_smuggling_is_refused(live_server):
    both = "Content-Length: 5\r\nTransfer-Encoding: chunked"
    answer, _ = raw_request(live_server, f"POST /segment HTTP/1.1\r\nHost: x\r\n{both}\r\n\r\n0\r\n\r\n")
    assert b" 400 " in answer.split(b"\r\n")[0] or b" 422 " in answer.split(b"\r\n")[0]
    for head in ("Content-Length: -5", "Content-Length: 5\r\nContent-Length: 6", "Content-Length: 1e3"):
        answer, _ = raw_request(live_server, f"POST /segment HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n")
        assert b" 400 " in answer.split(b"\r\n")[0], head


def test_owners_take_turns(start_server, large_tiff, make_tiff, tmp_path, post_job, follow):
    """A key with many jobs does not keep another one waiting.

    Eight small tomograms may share the engine: the other key's is among the first eight, some of the many are not.
    """
    from skinoct_server.keys import add_key

    keys = {name: add_key(tmp_path / "keys", name, "user") for name in ("many", "one")}
    server = start_server("--batch", "1", "--api-key-file", str(tmp_path / "keys"), gated=True)
    server.hold()
    headers = {name: {"Authorization": f"Bearer {key}"} for name, key in keys.items()}
    server.http.headers.update(headers["many"])
    first = post_job(server.http, large_tiff)
    follow(server.http, first.id, lambda s: s.state == "running")  # whoever is read first runs first
    many = [post_job(server.http, make_tiff(1, 32, 32, seed=s)) for s in range(9)]
    server.http.headers.update(headers["one"])
    one = post_job(server.http, make_tiff(1, 32, 32, seed=9))
    assert follow(server.http, one.id, lambda s: s.slices_total is not None).position == 1
    assert server.http.get(f"/jobs/{many[0].id}").status_code == 404, "another key's job"
    server.hold(40)  # the batches of the first one
    assert follow(server.http, one.id, lambda s: s.state != "queued").state == "running"
    server.http.headers.update(headers["many"])
    assert follow(server.http, many[-1].id, lambda s: True).state == "queued"
    server.release()
    assert all(follow(server.http, job.id).state == "done" for job in many)


def test_a_flood_of_tiny_chunks_is_taken_in_stride(live_server):
    """A hundred thousand chunks of one byte: refused for what they hold, and nobody else waits for them."""
    host, port = live_server.url.removeprefix("http://").split(":")
    head = b"POST /segment HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    stop, slowest, begun = threading.Event(), [0.0], time.perf_counter()

    def watch():
        with httpx.Client(base_url=live_server.url, timeout=60, trust_env=False) as http:
            while not stop.is_set():
                started = time.perf_counter()
                assert http.get("/healthz").status_code == 200
                slowest[0] = max(slowest[0], time.perf_counter() - started)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with socket.create_connection((host, int(port)), 120) as client:
        client.sendall(head + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
        answer = b""
        while part := client.recv(65536):
            answer += part
    stop.set()
    watcher.join()
    assert b" 422 " in answer.split(b"\r\n")[0]
    assert b"not-a-tomogram" in answer
    assert slowest[0] < max(2, (time.perf_counter() - begun) / 4)


def test_many_clients_at_once_lose_nothing(start_server, make_tiff):
    """A small form of load.py: more clients than room; whoever is refused is told when to come again, and gets in."""
    server = start_server("--max-pending-jobs", "3", gated=True)
    bodies = [make_tiff(2, 40, 48, seed=seed) for seed in range(4)]
    expected = [server.http.post("/segment", content=body).content for body in bodies]
    refused = []
    server.hold()  # until somebody was refused

    def post(number):
        with httpx.Client(base_url=server.url, timeout=120, trust_env=False) as http:
            for _ in range(600):
                answer = http.post("/segment", content=bodies[number % 4])
                if answer.status_code != 429:
                    return answer.status_code == 200 and answer.content == expected[number % 4]
                refused.append(float(answer.headers["retry-after"]))
                server.release()
                time.sleep(0.1)
        return False

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert all(pool.map(post, range(24)))
    assert refused
    assert server.http.get("/readyz").json()["jobs"] == 0
