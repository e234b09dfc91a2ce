"""Small tomograms of several requests, segmented together by a real server."""

from __future__ import annotations

import pytest

from skinoct_server.lanes import MOST_TOGETHER


def answer(server, job) -> bytes:
    result = server.http.get(f"/jobs/{job.id}/result", headers={"Accept": "application/json"})
    assert result.status_code == 200, result.text
    return result.content


def alone(server, body) -> bytes:
    direct = server.http.post("/segment", content=body, headers={"Accept": "application/json"})
    assert direct.status_code == 200, direct.text
    return direct.content


def post_together(server, bodies, post_job):
    """Post jobs to a held engine, and return when it has begun all of them."""
    server.hold()
    jobs = [post_job(server.http, body) for body in bodies]
    server.wait_at_work(len(jobs), running=len(jobs))
    return jobs


@pytest.mark.parametrize("device", ["torch", "openvino"])
def test_the_answer_is_that_of_running_alone(start_server, make_tiff, post_job, follow, device):
    """Measurements show every bit of the boundaries; here they are compared as bytes."""
    server = start_server("--device", device, gated=True)
    bodies = [make_tiff(1 + seed % 3, 64, 96, seed=seed) for seed in range(MOST_TOGETHER)]
    expected = [alone(server, body) for body in bodies]
    assert server.metric("skinoct_shared_batches_total") == 0
    jobs = post_together(server, bodies, post_job)
    server.release()
    assert [follow(server.http, job.id).state for job in jobs] == ["done"] * MOST_TOGETHER
    assert [answer(server, job) for job in jobs] == expected
    assert server.metric("skinoct_shared_batches_total") > 0


def test_a_large_tomogram_waits_for_its_turn_and_runs_alone(start_server, make_tiff, large_tiff, post_job, follow):
    server = start_server("--batch", "4", gated=True)
    small = post_together(server, [make_tiff(seed=seed) for seed in range(2)], post_job)
    large = post_job(server.http, large_tiff)
    follow(server.http, large.id, lambda status: status.slices_total is not None)
    after = post_job(server.http, make_tiff(seed=3))
    follow(server.http, after.id, lambda status: status.slices_total is not None)
    assert server.metric("skinoct_running") == 2
    assert follow(server.http, large.id, lambda status: True).position == 2
    server.step_until(lambda: follow(server.http, large.id, lambda status: True).state == "running")
    assert [follow(server.http, job.id, lambda status: True).state for job in [*small, after]] == [
        "done",
        "done",
        "queued",
    ]
    server.http.delete(f"/jobs/{large.id}")
    server.release()
    assert follow(server.http, after.id).state == "done"


def test_one_of_several_is_cancelled(start_server, make_tiff, post_job, follow):
    server = start_server("--batch", "1", gated=True)
    bodies = [make_tiff(60, 64, 96, seed=seed) for seed in range(3)]
    jobs = post_together(server, bodies, post_job)
    server.step_until(lambda: follow(server.http, jobs[1].id, lambda status: True).slices_done > 0)
    server.http.delete(f"/jobs/{jobs[1].id}")
    server.step_until(lambda: follow(server.http, jobs[1].id, lambda status: True).state == "cancelled")
    server.release()
    for job, body in ((jobs[0], bodies[0]), (jobs[2], bodies[2])):
        assert follow(server.http, job.id).state == "done"
        assert answer(server, job) == alone(server, body)


def test_a_killed_engine_costs_none_of_several(start_server, make_tiff, post_job, follow):
    """Each of them has the next engine for itself, so that the one at fault is told from the others."""
    server = start_server("--batch", "1", gated=True)
    bodies = [make_tiff(12, 64, 96, seed=seed) for seed in range(3)]
    jobs = post_together(server, bodies, post_job)
    server.kill("engine")
    server.release()
    assert [follow(server.http, job.id).state for job in jobs] == ["done"] * 3
    assert server.http.get("/readyz").json()["jobs"] == 0
