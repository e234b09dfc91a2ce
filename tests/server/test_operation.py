"""What an operator sees: metrics, logs, doctor, TLS, CORS, and an engine that is broken for good."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import psutil
import pytest

from skinoct.checkpoint import load_checkpoint
from skinoct.golden import golden_slice, layer_tops
from skinoct_server import doctor
from skinoct_server.cli import main
from skinoct_server.engine import Engine, Runs
from skinoct_server.library import Model
from skinoct_server.settings import Settings
from skinoct_server.sharing import SharedEngine


def metric(server, name):
    for line in server.http.get("/metrics").text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[-1])
    raise AssertionError(name)


def test_metrics(start_server, make_tiff):
    server = start_server()
    body = make_tiff(3, 32, 32)
    assert server.http.post("/segment", content=body).status_code == 200
    assert server.http.post("/segment", content=b"bad").status_code == 422
    assert server.http.get("/no/such/path").status_code == 404
    assert metric(server, "skinoct_slices_total") == 3
    assert metric(server, "skinoct_upload_bytes_total") == len(body) + 3
    assert metric(server, 'skinoct_jobs_total{state="done"}') == 1
    assert metric(server, 'skinoct_jobs_total{state="failed"}') == 1
    assert metric(server, 'skinoct_failures_total{kind="not-a-tomogram"}') == 1
    assert metric(server, 'skinoct_requests_total{method="GET",path="other",status="404"}') == 1
    assert metric(server, 'skinoct_problems_total{kind="not-a-tomogram"}') == 1
    assert metric(server, 'skinoct_problems_total{kind="not-found"}') == 1
    for stage in ("upload", "read", "queue", "segment", "write"):
        assert metric(server, f'skinoct_stage_seconds_count{{stage="{stage}"}}') >= 1
    for gauge in ("skinoct_queued", "skinoct_running", "skinoct_pending_jobs", "skinoct_pending_bytes"):
        assert metric(server, gauge) == 0
    assert metric(server, "skinoct_ready") == 1
    assert "/no/such/path" not in server.http.get("/metrics").text


def test_json_logs_name_the_request(start_server):
    server = start_server("--log-json")
    server.http.get("/models", headers={"X-Request-Id": "find-me"})
    server.stop()
    entries = [json.loads(line) for line in server.log.read_text().splitlines()]
    (entry,) = (e for e in entries if e.get("request_id") == "find-me")
    assert entry["path"] == "/models"
    assert entry["status"] == 200
    assert {"time", "level", "seconds"} <= set(entry)
    assert "problem" not in entry


def test_a_client_that_goes_away_while_it_sends_leaves_one_line(start_server):
    server = start_server("--log-json")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /segment HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone\r\nContent-Length: 1000\r\n\r\nabc")
        server.wait_at_work(1, running=0)
    server.wait_at_work(0, running=0)
    server.stop()
    (entry,) = (json.loads(line) for line in server.log.read_text().splitlines() if "gone" in line)
    assert entry["status"] == 499
    assert entry["level"] == "info"


def test_doctor(tiny_models, capsys):
    assert main(["doctor", "--models", str(tiny_models), "--port", "0", "--max-pending-bytes", "1000000"]) == 0
    report = capsys.readouterr().out
    for topic in ("skinoct", "processor", "GPU", "model tiny", "memory", "disk", "port"):
        assert f"ok      {topic}" in report, report


def test_doctor_names_problems(tmp_path, live_server, capsys):
    port = live_server.url.rsplit(":", 1)[1]
    assert main(["doctor", "--models", str(tmp_path), "--port", port]) == 1
    report = capsys.readouterr().out
    assert f"PROBLEM models: {tmp_path} holds no checkpoint" in report
    assert "PROBLEM port" in report


def start_badly(*arguments):
    """Run a server that cannot start; returns the sentence that it ends with."""
    command = [sys.executable, "-m", "skinoct_server.cli", "serve", "--port", "0", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    return sentence


def test_what_keeps_a_server_from_starting_is_told_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("neither a folder nor a certificate")
    for name, content in (("no-database", b"x" * 5000), ("newer", None)):
        (tmp_path / name).mkdir()
        if content:
            (tmp_path / name / "jobs.sqlite").write_bytes(content)
    with sqlite3.connect(tmp_path / "newer" / "jobs.sqlite") as database:
        database.execute("PRAGMA user_version = 9")
    database.close()
    assert "File exists" in start_badly("--data-dir", tmp_path / "file")
    assert "no database" in start_badly("--data-dir", tmp_path / "no-database")
    assert "another version" in start_badly("--data-dir", tmp_path / "newer")
    assert "skinoct-server key" in start_badly("--api-key-file", tmp_path / "none")
    assert "--ssl-certfile" in start_badly("--ssl-certfile", tmp_path / "file", "--ssl-keyfile", tmp_path / "file")
    assert "--ssl-certfile" in start_badly("--ssl-keyfile", tmp_path / "file")


def test_a_data_folder_has_one_server(start_server, tmp_path):
    """A second one would finish the same jobs again and remove the first one's uploads."""
    server = start_server("--data-dir", str(tmp_path / "data"))
    assert "Another skinoct-server" in start_badly("--data-dir", tmp_path / "data")
    server.stop(signal.SIGKILL)
    start_server("--data-dir", str(tmp_path / "data"))


def test_a_server_can_have_as_many_connections_as_it_says(start_server):
    """Where a shell allows 1,024 open files, as most do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = start_server("--max-connections", "300")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)[0] > 600
    host, port = server.url.removeprefix("http://").split(":")
    with contextlib.ExitStack() as stack:
        for _ in range(290):
            stack.enter_context(socket.create_connection((host, int(port)), 10))
        assert server.http.get("/healthz").status_code == 200


def test_help_explains_every_setting(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--max-upload-bytes" in text
    assert "Largest request body" in text


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_help_is_what_can_be_typed(command, capsys, monkeypatch):
    """Nobody can type None, and backticks are for pages."""
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert "Left out:" in text
    assert "None" not in text
    assert "`" not in text


def test_doctor_takes_the_settings_that_it_reads(tiny_models, tmp_path):
    class Watched:
        def __init__(self):
            self.read = set()

        def __getattr__(self, name):
            self.read.add(name)
            return getattr(settings, name)

    settings, watched = Settings(models=tiny_models, data_dir=tmp_path, port=0), Watched()
    doctor.examine(watched)
    assert watched.read == set(doctor.SETTINGS)


def test_origins_come_from_the_environment_with_commas_between_them(monkeypatch):
    for text, origins in {
        "http://a.example": ("http://a.example",),
        "http://a.example, https://b.example:8443,": ("http://a.example", "https://b.example:8443"),
        "": (),
    }.items():
        monkeypatch.setenv("SKINOCT_SERVER_CORS_ORIGINS", text)
        assert Settings().cors_origins == origins


@pytest.mark.parametrize("text", ["lab.example", "https://lab.example/", '["https://lab.example"]'])
def test_what_is_no_origin_is_refused_in_a_sentence(text, monkeypatch):
    """It would let no page in."""
    with pytest.raises(SystemExit, match=r"--cors-origins.*as https://lab.example"):
        main(["serve", "--cors-origins", text])
    monkeypatch.setenv("SKINOCT_SERVER_CORS_ORIGINS", text)
    with pytest.raises(SystemExit, match=r"SKINOCT_SERVER_CORS_ORIGINS.*as https://lab.example"):
        main(["serve"])


def test_cors_is_off_unless_named(live_server, start_server):
    page = {"Origin": "https://lab.example"}
    assert "access-control-allow-origin" not in live_server.http.get("/healthz", headers=page).headers
    server = start_server("--cors-origins", "https://lab.example", ready=False)
    answer = server.http.get("/healthz", headers=page)
    assert answer.headers["access-control-allow-origin"] == "https://lab.example"
    other = server.http.get("/healthz", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_tls(start_server, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
        f" -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    server = start_server("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), ready=False)
    assert server.url.startswith("https://")
    context = ssl.create_default_context(cafile=str(certificate))
    assert httpx.get(f"{server.url}/healthz", verify=context, trust_env=False).status_code == 200


class FakeEngine:
    name = "fake"
    preferred_batch = 2
    calls_at_once = 1
    broken = False

    def probabilities(self, images):
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return np.full((len(images), 5, *images.shape[2:]), 0.2, np.float32)


@pytest.mark.parametrize("broken", [False, True])
def test_an_engine_that_is_broken_for_good_ends_its_process(broken, monkeypatch, tiny_models, tmp_path):
    """After an unexpected error the golden slice decides: a bug fails its job, a poisoned engine ends the process."""
    fake, sent, ended = FakeEngine(), [], []
    golden = layer_tops(fake.probabilities(golden_slice(3)))
    checkpoint = replace(load_checkpoint(tiny_models / "tiny"), golden=golden)

    class Channel:
        def send(self, message):
            sent.append(message)

    class Ended(BaseException):
        pass

    def killpg(*arguments):
        ended.append(arguments)
        raise Ended

    with ThreadPoolExecutor(1) as network:
        model = Model(checkpoint, SharedEngine(fake, 3, None, network, lambda *_: None))

        class Library:
            def model(self, _sha):
                fake.broken = broken
                return model

        monkeypatch.setattr("skinoct_server.engine.os.killpg", killpg)
        monkeypatch.setattr("skinoct_server.engine.np.load", lambda *a, **k: 1 / 0)
        command = {"job": "j", "folder": str(tmp_path), "model": "m", "name": "n", "tomogram": {}}
        engine = Engine(Channel(), Library(), Runs(Channel()))
        if broken:
            with pytest.raises(Ended):
                engine.segment(command)
            assert [m["event"] for m in sent] == ["started"]
        else:
            engine.segment(command)
            assert not ended
            assert sent[-1]["kind"] == "internal"


def test_version():
    out = subprocess.run([sys.executable, "-m", "skinoct_server.cli", "--version"], capture_output=True, text=True)
    assert out.stdout.startswith("skinoct-server 0.")
