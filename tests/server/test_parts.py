"""Parts without a server: order, budget, forms, formats, and the end of a job on a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from skinoct_server.admission import Admission, Ticket
from skinoct_server.answers import answer
from skinoct_server.formats import FORMATS, choose
from skinoct_server.forms import FormFile
from skinoct_server.jobs import Job, JobStore
from skinoct_server.metrics import Metrics
from skinoct_server.problems import HttpProblem
from skinoct_server.settings import Settings
from skinoct_server.turns import in_turn
from skinoct_server.uploads import Receiver
from skinoct_server.work import WorkQueue


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers()), max_size=30),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)),
)
def test_turns(items, served):
    """Nobody is lost, each owner keeps its order, and nobody is two ahead of another who waits."""
    numbered = list(enumerate(items))
    order = in_turn(numbered, lambda item: item[1][0], served)
    assert sorted(order) == numbered
    for owner in "abc":
        mine = [number for number, item in order if item[0] == owner]
        assert mine == sorted(mine)
    left = {owner: sum(item[0] == owner for item in items) for owner in "abc"}
    taken = dict.fromkeys("abc", 0)
    for _, (owner, _) in order:
        taken[owner] += 1
        left[owner] -= 1
        assert all(taken[owner] - taken[other] <= 1 for other in "abc" if left[other])


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("ab"), st.integers(0, 60)), max_size=60))
def test_budget_is_never_exceeded_and_always_given_back(tmp_path_factory, steps):
    settings = Settings(max_pending_jobs=5, max_pending_bytes=100, max_upload_bytes=50, min_free_disk_bytes=0)
    admission = Admission(settings, tmp_path_factory.getbasetemp(), keyed=True)
    tickets: list[Ticket] = []
    refused: list[HttpProblem] = []
    for enter, owner, size in steps:
        if enter or not tickets:
            try:
                tickets.append(admission.admit(owner, size))
            except HttpProblem as problem:
                refused.append(problem)
        else:
            admission.release(tickets.pop(0))
        assert admission.jobs == len(tickets) <= 5
        assert admission.size == sum(ticket.size for ticket in tickets) <= 100
    assert all(p.kind == "too-large" or (p.kind == "queue-full" and p.headers["Retry-After"]) for p in refused)
    for ticket in tickets:
        admission.release(ticket)
    assert (admission.jobs, admission.size, admission._by_owner) == (0, 0, {})


def read_form(
    body: bytes, cut: int, content_type: str = "multipart/form-data; boundary=XX"
) -> tuple[bytes, str | None, dict[str, str]]:
    async def chunks():
        for start in range(0, len(body), cut):
            yield body[start : start + cut]

    async def collect():
        form = FormFile(content_type)
        data = b"".join([piece async for piece in form.pieces(chunks())])
        return data, form.file_name, form.fields

    return asyncio.run(collect())


def part(name: str, data: bytes, file_name: str | None = None) -> bytes:
    extra = f'; filename="{file_name}"' if file_name is not None else ""
    return f'--XX\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + data + b"\r\n"


@given(st.binary(max_size=300), st.integers(1, 64))
def test_a_form_gives_back_file_and_fields_however_it_is_cut(data, cut):
    if b"\r\n--XX" in b"\r\n" + data:
        return
    body = part("model", b"tiny") + part("image", data, "a.tif") + part("decode", b"pixel") + b"--XX--\r\n"
    assert read_form(body, cut) == (data, "a.tif", {"model": "tiny", "decode": "pixel"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        part("image", b"x") + b"--XX--\r\n",
        part("file", b"x", "a.tif") + b"--XX--\r\n",
        part("image", b"x", "a.tif") + part("image", b"y", "b.tif") + b"--XX--\r\n",
        part("file", b"x", "a.tif") + part("image", b"y", "b.tif") + b"--XX--\r\n",
        part("model", b"x" * 5000) + b"--XX--\r\n",
        b"--XX\r\n" + b"A" * 20000 + b": b\r\n\r\nx\r\n--XX--\r\n",
        b"--XX\r\n" + b"A: b\r\n" * 50 + b"\r\nx\r\n--XX--\r\n",
    ],
)
def test_bad_forms(body):
    with pytest.raises(HttpProblem) as caught:
        read_form(body, 1000)
    assert caught.value.kind == "bad-request"
    assert "curl -F image=" in caught.value.detail


@pytest.mark.parametrize(
    ("fields", "word"),
    [(["pixel_size"], "pixel_size_um"), (["Model"], "model"), (["decode", "decode"], "once"), ([""], "decode")],
)
def test_a_form_with_a_field_that_cannot_count_is_refused(fields, word):
    """Passed over, it would give an answer in the wrong scale."""
    with pytest.raises(HttpProblem, match=word) as caught:
        read_form(b"".join(part(name, b"2") for name in fields) + part("image", b"x", "a.tif") + b"--XX--\r\n", 9)
    assert caught.value.kind == "invalid-request"


def test_form_without_boundary():
    with pytest.raises(HttpProblem):
        read_form(b"", 10, "multipart/form-data")


@given(st.text(max_size=60))
def test_any_accept_header_gets_a_format_or_a_406(accept):
    with contextlib.suppress(HttpProblem):
        assert choose(accept) in FORMATS


@pytest.mark.parametrize("size", [10, 2 << 20], ids=["found when closing", "found while writing"])
def test_a_disk_that_fills_up_during_an_upload_is_told(tmp_path, size):
    """/dev/full is what Linux has for this: a file that can be opened, and whose disk is full."""
    messages = [{"type": "http.request", "body": bytes(size), "more_body": False}]

    async def receive():
        return messages.pop()

    async def run():
        admission = Admission(Settings(min_free_disk_bytes=0), tmp_path)
        request = Request({"type": "http", "method": "POST", "headers": []}, receive)
        await Receiver(request, admission, admission.admit("me", None)).receive(Path("/dev/full"))

    with pytest.raises(HttpProblem) as caught:
        asyncio.run(run())
    assert caught.value.kind == "disk-full"
    assert caught.value.headers["Retry-After"]


class FullStore(JobStore):
    """A store whose disk fills up once a job has been accepted."""

    def update(self, job):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error


class CrammedStore(JobStore):
    """A store whose disk is full of the uploads of jobs."""

    def update(self, job):
        if list(self.folder.glob("jobs/*/upload")):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        super().update(job)


class Idle:
    """Stands for codec and engine."""

    def __init__(self, kind="truncated"):
        self.ready = asyncio.Event()
        self.kind = kind

    async def decode(self, arguments):
        raise HttpProblem(self.kind, "The file is cut off. Send it again.")


def test_a_full_disk_does_not_keep_a_client_waiting(tmp_path):
    async def run():
        settings = Settings(max_pending_jobs=5)
        admission = Admission(settings, tmp_path)
        queue = WorkQueue(settings, FullStore(tmp_path), admission, Idle(), Idle(), Metrics())
        await queue.start()
        ticket = admission.admit("me", 10)
        job = Job("me", "m", "0" * 64, "ordered", None, "a.tif", 10, "0" * 64, ephemeral=True)
        await queue.submit(job, ticket)
        await asyncio.wait_for(queue.wait(job.id), 5)
        assert job.state == "failed"
        assert admission.jobs == 0
        await queue.stop()

    asyncio.run(run())


def test_a_disk_full_of_a_job_is_freed_when_the_job_ends(tmp_path):
    """Else the server would refuse everybody for want of room that it holds itself."""

    async def run():
        settings = Settings(max_pending_jobs=5)
        admission = Admission(settings, tmp_path)
        store = CrammedStore(tmp_path)
        queue = WorkQueue(settings, store, admission, Idle(), Idle(), Metrics())
        await queue.start()
        job = Job("me", "m", "0" * 64, "ordered", None, "a.tif", 10, "0" * 64)
        store.path(job.id).mkdir()
        (store.path(job.id) / "upload").write_bytes(bytes(10))
        await queue.submit(job, admission.admit("me", 10))
        await asyncio.wait_for(queue.wait(job.id), 5)
        assert not store.path(job.id).exists()
        assert (await queue.find(job.id)).state == "failed"
        await queue.stop()

    asyncio.run(run())


def test_a_job_can_be_forgotten_on_a_full_disk(tmp_path):
    store = JobStore(tmp_path)
    job = Job("me", "m", "0" * 64, "ordered", None, "a.tif", 10, "0" * 64)
    store.insert(job)
    store.path(job.id).mkdir()
    real = store._db

    class Full:
        def execute(self, *arguments):
            if store.path(job.id).exists():
                raise sqlite3.OperationalError("database or disk is full")
            return real.execute(*arguments)

    store._db = Full()
    store.delete(job.id)
    assert not store.path(job.id).exists()
    assert store.get(job.id) is None
    real.close()


@pytest.mark.parametrize(
    ("kind", "again"), [("truncated", False), ("engine-failed", True), ("internal", True), ("disk-full", True)]
)
def test_a_request_is_tried_again_where_the_server_failed_and_not_the_tomogram(tmp_path, kind, again):
    """Else a repeated request would get the failure for as long as results are kept."""

    async def run():
        settings = Settings(max_pending_jobs=5)
        admission = Admission(settings, tmp_path)
        queue = WorkQueue(settings, JobStore(tmp_path), admission, Idle(kind), Idle(), Metrics())
        await queue.start()
        job, repeated = (
            Job("me", "m", "0" * 64, "ordered", None, "a.tif", 10, "0" * 64, idempotency_key="k") for _ in range(2)
        )
        await queue.submit(job, admission.admit("me", 10))
        await asyncio.wait_for(queue.wait(job.id), 5)
        taken = await queue.submit(repeated, admission.admit("me", 10))
        assert taken.id == (repeated.id if again else job.id)
        assert (await queue.find(job.id)).problem_kind == kind
        await queue.stop()

    asyncio.run(run())


class Hasty:
    """A codec before which each job is removed while its answer is being written."""

    def __init__(self, queue):
        self.queue = queue

    async def encode(self, arguments):
        await self.queue.remove(Path(arguments["folder"]).name)
        Path(arguments["target"]).write_bytes(b"labels")
        return hashlib.sha256(b"labels").hexdigest()


def test_a_job_that_is_removed_while_its_answer_is_written_is_answered(tmp_path):
    """And then its files go; who asks again gets a 404."""
    settings, metrics, messages = Settings(max_pending_jobs=5), Metrics(), []
    scope = {"type": "http", "method": "GET", "headers": [], "asgi": {"spec_version": "2.4"}}

    async def send(message):
        messages.append(message)

    async def run():
        store = JobStore(tmp_path)
        queue = WorkQueue(settings, store, Admission(settings, tmp_path), Idle(), Idle(), metrics)
        service = SimpleNamespace(settings=settings, store=store, queue=queue, metrics=metrics, codec=Hasty(queue))
        job = Job("me", "m", "0" * 64, "ordered", None, "a.tif", 10, "0" * 64, state="done")
        store.insert(job)
        store.path(job.id).mkdir()
        response = await answer(service, job, choose("image/tiff"))
        assert store.get(job.id) is None
        await response(scope, None, send)
        assert b"".join(message.get("body", b"") for message in messages) == b"labels"
        assert not store.path(job.id).exists()
        with pytest.raises(HttpProblem) as caught:
            await answer(service, job, choose("image/tiff"))
        assert caught.value.kind == "unknown-job"
        await queue.stop()

    asyncio.run(run())
