"""The codec's children: one that crashes, hangs or eats memory takes only its own task with it."""

from __future__ import annotations

import asyncio
import os

import pytest

from skinoct_server.codec_client import CodecClient, TaskFailure
from skinoct_server.problems import HttpProblem
from skinoct_server.settings import Settings

TROUBLE = """
import os, signal, sys, time
from skinoct_server import codec, tasks

def crash(how):
    if how == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "hang":
        time.sleep(600)
    elif how == "memory":
        return {"length": len(bytearray(1 << 30))}
    elif how == "error":
        raise ZeroDivisionError
    return {"how": how}

tasks.TASKS["crash"] = crash
tasks.TASKS["decode"] = lambda how, **_: crash(how)
sys.exit(codec.main())
"""


@pytest.fixture
def codec(tmp_path):
    """A codec whose tasks do what a hostile file would make a native library do."""
    (tmp_path / "trouble.py").write_text(TROUBLE)
    client = CodecClient(Settings(decode_seconds=2, decode_memory_bytes=64 << 20))
    client.child.module = "trouble"
    client.child.environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    return client


def run(codec, work):
    async def live():
        codec.child.start()
        try:
            return await work()
        finally:
            await codec.child.stop()

    return asyncio.run(live())


@pytest.mark.parametrize(
    ("how", "kind"), [("signal", "crash"), ("hang", "timeout"), ("memory", "memory"), ("error", "crash")]
)
def test_only_the_task_at_fault_fails(codec, how, kind):
    async def work():
        bad = asyncio.ensure_future(codec._retry("crash", {"how": how}, None))
        good = await codec._retry("crash", {"how": "well"}, None)
        with pytest.raises(TaskFailure) as failure:
            await bad
        pid = codec.child.pid
        again = await codec._retry("crash", {"how": "well"}, None)
        return good, again, failure.value.kind, pid, codec.child.pid

    good, again, got, before, after = run(codec, work)
    assert good == again == {"how": "well"}
    assert got == kind
    assert before == after, "the codec process itself lives on"


@pytest.mark.parametrize(
    ("how", "kind"), [("signal", "decode-crashed"), ("hang", "decode-timeout"), ("memory", "decode-memory")]
)
def test_the_client_is_told_what_to_do(codec, how, kind):
    async def work():
        with pytest.raises(HttpProblem) as problem:
            await codec.decode({"how": how, "name": "tomogram.tif"})
        return problem.value

    problem = run(codec, work)
    assert problem.kind == kind
    assert "tomogram.tif" in problem.detail
    assert "Save it anew" in problem.detail
