"""Jobs: states, events, results, cancelling, idempotency, order, expiry."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from skinoct.wire import JobStatus, Problem


def events(http: httpx.Client, job: str) -> list[tuple[str, JobStatus]]:
    found = []
    with http.stream("GET", f"/jobs/{job}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                found.append((name, JobStatus.model_validate_json(line[6:])))
    return found


def test_a_job_gives_the_same_bytes_as_segment(live_server, make_tiff, post_job, follow):
    body = make_tiff()
    job = post_job(live_server.http, body)
    assert follow(live_server.http, job.id).state == "done"
    for accept in ("image/tiff", "application/x-npy"):
        direct = live_server.http.post("/segment", content=body, headers={"Accept": accept})
        for _ in range(2):
            result = live_server.http.get(f"/jobs/{job.id}/result", headers={"Accept": accept})
            assert result.content == direct.content
            assert result.headers["repr-digest"] == direct.headers["repr-digest"]


def test_events_tell_every_step_to_the_end(start_server, large_tiff, post_job):
    server = start_server("--batch", "4", gated=True)
    server.hold(None, seconds=0.15)  # events come at most ten times a second
    job = post_job(server.http, large_tiff)
    seen = events(server.http, job.id)
    assert seen[-1][0] == "done"
    assert all(name == status.state for name, status in seen)
    done = [status.slices_done for _, status in seen]
    assert done == sorted(done)
    assert len(set(done)) > 3
    assert done[-1] == 40


def test_estimate_is_honest(start_server, large_tiff, post_job, follow):
    server = start_server("--batch", "4", gated=True)
    server.hold(None, seconds=0.4)  # what the time is made of, on any machine that is faster
    first = post_job(server.http, large_tiff)
    assert first.seconds_left is None
    follow(server.http, first.id)
    job = post_job(server.http, large_tiff)
    running = follow(server.http, job.id, lambda s: s.state == "running" and s.slices_done >= 8)
    started = time.monotonic()
    follow(server.http, job.id)
    took = time.monotonic() - started
    assert running.seconds_left == pytest.approx(took, rel=0.6, abs=0.7)


def test_cancel_a_running_job_frees_the_engine(start_server, large_tiff, make_tiff, post_job, follow):
    """The batch at hand passes the gate, no other: whatever else it began would keep the next tomogram for ever."""
    server = start_server("--batch", "1", gated=True)
    server.hold(3)
    job = post_job(server.http, large_tiff)
    follow(server.http, job.id, lambda s: s.slices_done > 0)
    assert server.http.delete(f"/jobs/{job.id}").status_code == 204
    server.step_until(lambda: server.metric("skinoct_running") == 0, most=3)
    server.release()
    assert server.http.post("/segment", content=make_tiff(1, 32, 32)).status_code == 200
    status = follow(server.http, job.id)
    assert status.state == "cancelled"
    assert status.problem is not None
    assert status.problem.type.endswith("job-cancelled")
    answer = server.http.get(f"/jobs/{job.id}/result")
    assert answer.status_code == 409
    assert Problem.model_validate_json(answer.content).type.endswith("job-cancelled")
    assert server.http.delete(f"/jobs/{job.id}").status_code == 204
    assert server.http.get(f"/jobs/{job.id}").status_code == 404


def test_cancel_a_waiting_job(start_server, large_tiff, make_tiff, post_job, follow):
    server = start_server("--batch", "1", gated=True)
    server.hold()
    first = post_job(server.http, large_tiff)
    follow(server.http, first.id, lambda s: s.state == "running")
    second = post_job(server.http, make_tiff())
    assert server.http.delete(f"/jobs/{second.id}").status_code == 204
    assert follow(server.http, second.id).state == "cancelled"
    server.release()
    assert follow(server.http, first.id).state == "done"


def test_segment_is_cancelled_when_its_client_goes(start_server, large_tiff, make_tiff):
    server = start_server("--batch", "1", gated=True)
    server.hold(3)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/segment", content=large_tiff, timeout=httpx.Timeout(30, read=1.0))
    server.step_until(lambda: server.metric("skinoct_pending_jobs") == 0, most=3)
    server.release()
    assert server.http.post("/segment", content=make_tiff(1, 32, 32)).status_code == 200
    assert server.http.get("/readyz").json()["jobs"] == 0
    assert 'skinoct_jobs_total{state="cancelled"} 1.0' in server.http.get("/metrics").text


def test_result_before_the_end_is_409(start_server, large_tiff, post_job):
    server = start_server(gated=True)
    server.hold()
    job = post_job(server.http, large_tiff)
    answer = server.http.get(f"/jobs/{job.id}/result")
    assert answer.status_code == 409
    assert Problem.model_validate_json(answer.content).type.endswith("not-done")


def test_a_bad_tomogram_fails_its_job_with_the_same_problem(live_server, post_job, follow):
    job = post_job(live_server.http, b"II*\x00\x08\x00\x00\x00")
    status = follow(live_server.http, job.id)
    assert status.state == "failed"
    result = live_server.http.get(f"/jobs/{job.id}/result")
    direct = live_server.http.post("/segment", content=b"II*\x00\x08\x00\x00\x00")
    for answer in (result, direct):
        assert answer.status_code == 422
        assert answer.json()["type"] == status.problem.type
        assert answer.json()["detail"] == status.problem.detail


def test_idempotency(live_server, make_tiff, post_job):
    body, other = make_tiff(seed=1), make_tiff(seed=2)
    first = post_job(live_server.http, body, Idempotency_Key="k1")
    assert post_job(live_server.http, body, Idempotency_Key="k1").id == first.id
    assert post_job(live_server.http, body, Idempotency_Key="k2").id != first.id
    for content, query in ((other, ""), (body, "?decode=pixel")):
        answer = live_server.http.post(f"/jobs{query}", content=content, headers={"Idempotency-Key": "k1"})
        assert answer.status_code == 422
        assert answer.json()["type"].endswith("idempotency-key-reused")


def test_a_cancelled_job_gives_its_idempotency_key_back(start_server, large_tiff, make_tiff, post_job, follow):
    """What a repeated request gets is no job that was cancelled, whether it ran or waited."""
    server = start_server("--batch", "1", gated=True)
    server.hold()
    bodies = {"k1": large_tiff, "k2": make_tiff(1, 32, 32)}
    first = {"k1": post_job(server.http, large_tiff, Idempotency_Key="k1")}
    follow(server.http, first["k1"].id, lambda s: s.state == "running")
    first["k2"] = post_job(server.http, bodies["k2"], Idempotency_Key="k2")
    for job in first.values():
        assert server.http.delete(f"/jobs/{job.id}").status_code == 204
    again = {key: post_job(server.http, body, Idempotency_Key=key) for key, body in bodies.items()}
    server.release()
    for key, job in again.items():
        assert job.id != first[key].id
        assert follow(server.http, job.id).state == "done"
        assert follow(server.http, first[key].id).state == "cancelled"
        assert post_job(server.http, bodies[key], Idempotency_Key=key).id == job.id


def test_results_go_after_their_time(start_server, make_tiff, post_job, follow):
    server = start_server("--result-seconds", "4")
    started = time.time()
    job = post_job(server.http, make_tiff(1, 32, 32))
    status = follow(server.http, job.id)
    assert started + 4 <= status.expires <= time.time() + 4
    end = time.monotonic() + 60
    while server.http.get(f"/jobs/{job.id}").status_code != 404:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_position_counts_down(start_server, large_tiff, make_tiff, post_job, follow):
    server = start_server("--batch", "1", gated=True)
    server.hold()
    first = post_job(server.http, large_tiff)
    # Whoever is read first runs first: the small ones must find the large one at work.
    follow(server.http, first.id, lambda s: s.state == "running")
    jobs = [first, *(post_job(server.http, make_tiff(seed=s)) for s in range(3))]
    positions = [json.loads(server.http.get(f"/jobs/{job.id}").content)["position"] for job in jobs[1:]]
    assert positions == [1, 2, 3]
    server.http.delete(f"/jobs/{jobs[0].id}")
    server.release()
    assert all(follow(server.http, job.id).state == "done" for job in jobs[1:])
