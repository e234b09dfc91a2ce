"""API keys: who gets in, who may switch models, and that keys show up nowhere."""

from __future__ import annotations

import subprocess
import sys
import time

import httpx
import pytest

from skinoct.errors import OptionError
from skinoct_server.keys import add_key, identify, read_keys


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys"
    return path, {role: add_key(path, role, role) for role in ("user", "admin")}


def test_file_holds_no_key(keys):
    path, secrets = keys
    text = path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert not any(secret in text or secret[8:20] in text for secret in secrets.values())
    assert identify(read_keys(path), f"Bearer {secrets['admin']}").admin
    assert not identify(read_keys(path), f"bearer {secrets['user']}").admin
    for wrong in (None, "", "Bearer", "Bearer ", "Basic abc", f"Bearer {secrets['user']}x", secrets["user"]):
        assert identify(read_keys(path), wrong) is None


@pytest.mark.parametrize("text", ["", "# nothing\n", "name user short\n", "name root " + "0" * 64])
def test_bad_files_are_refused(tmp_path, text):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(OptionError, match="skinoct-server key"):
        read_keys(tmp_path / "keys")


def test_names(tmp_path, keys):
    path, _ = keys
    for name in ("user", "two words", "", "a/b"):
        with pytest.raises(OptionError):
            add_key(path, name, "user")


@pytest.mark.parametrize("cut", [False, True], ids=["as written", "without its last newline"])
def test_a_key_that_is_added_leaves_the_others_as_they_were(tmp_path, keys, cut):
    """An editor may save the file without its last newline."""
    path, secrets = keys
    path.write_text("# who has one\n\n" + (path.read_text().rstrip("\n") if cut else path.read_text()))
    added = add_key(path, "carol", "user")
    known = read_keys(path)
    assert {identify(known, f"Bearer {key}").owner for key in (*secrets.values(), added)} == {"user", "admin", "carol"}


@pytest.mark.parametrize("text", ["", "\n", "# nobody yet\n", "# nobody yet"])
def test_a_file_without_a_key_gets_its_first(tmp_path, text):
    (tmp_path / "keys").write_text(text)
    key = add_key(tmp_path / "keys", "anna", "user")
    assert identify(read_keys(tmp_path / "keys"), f"Bearer {key}").owner == "anna"
    assert (tmp_path / "keys").read_text().startswith(text)


def test_a_file_that_cannot_hold_keys_stays_and_is_told_in_a_sentence(tmp_path):
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff\xe0")
    for path in (tmp_path / "picture", tmp_path, tmp_path / "none" / "keys"):
        made = run("key", str(path), "anna")
        assert made.returncode == 2
        assert made.stdout == ""
        assert str(path) in made.stderr
        assert "Traceback" not in made.stderr
    with pytest.raises(OptionError, match="not a key file"):
        read_keys(tmp_path / "picture")
    assert (tmp_path / "picture").read_bytes() == b"\xff\xd8\xff\xe0"


def test_server_with_keys(start_server, keys, make_tiff):
    path, secrets = keys
    server = start_server("--api-key-file", str(path), "--host", "0.0.0.0", ready=False)
    server.url = server.url.replace("0.0.0.0", "127.0.0.1")
    server.http = httpx.Client(base_url=server.url, timeout=60)
    server.wait_ready()
    for method, address in (
        ("POST", "/segment"),
        ("GET", "/models"),
        ("GET", "/jobs/x"),
        ("GET", "/metrics"),
    ):
        answer = server.http.request(method, address)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["type"].endswith("unauthorized")
    wrong = server.http.get(f"/models?key={secrets['user']}", headers={"Authorization": "Bearer wrong-secret"})
    assert wrong.status_code == 401
    user, admin = ({"Authorization": f"Bearer {secrets[role]}"} for role in ("user", "admin"))
    assert server.http.post("/segment", content=make_tiff(2, 32, 32), headers=user).status_code == 200
    assert server.http.put("/models/default", json={"name": "tiny"}, headers=user).status_code == 403
    assert server.http.put("/models/default", json={"name": "tiny"}, headers=admin).status_code == 200
    server.stop()
    log = server.log.read_text()
    assert "wrong-secret" not in log
    assert not any(secret in log for secret in secrets.values())


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1.evil.example", "null", "http://["])
def test_a_web_page_from_elsewhere_cannot_use_a_server_without_keys(live_server, make_tiff, origin):
    """A browser lets any page post here, without asking and without showing it the answer."""
    page, body = {"Origin": origin}, make_tiff(1, 32, 32)
    calls = [("POST", "/segment"), ("POST", "/jobs"), ("PUT", "/models/default"), ("DELETE", "/jobs/x")]
    for method, address in calls:
        content = body if method == "POST" else b'{"name": "tiny"}'
        headers = {**page, "Content-Type": "application/json"}
        answer = live_server.http.request(method, address, content=content, headers=headers)
        assert answer.status_code == 403, address
        assert answer.json()["type"].endswith("forbidden")
        assert "--cors-origins" in answer.json()["detail"]
    assert live_server.http.get("/readyz").json()["jobs"] == 0


def test_a_web_page_of_this_machine_or_one_that_is_named_can(start_server, make_tiff):
    server = start_server("--cors-origins", "https://lab.example")
    for origin in ("https://lab.example", "http://localhost:3000", "http://127.0.0.1:8000", "http://[::1]:8000"):
        answer = server.http.post("/segment", content=make_tiff(1, 32, 32), headers={"Origin": origin})
        assert answer.status_code == 200, origin


def test_requests_per_minute(start_server, make_tiff):
    server = start_server("--requests-per-minute", "3")
    started = time.monotonic()
    statuses = [server.http.post("/segment", content=make_tiff(1, 32, 32)) for _ in range(4)]
    assert [answer.status_code for answer in statuses] == [200, 200, 200, 429]
    assert 59 - (time.monotonic() - started) < int(statuses[-1].headers["retry-after"]) <= 60


def run(*arguments):
    command = [sys.executable, "-m", "skinoct_server.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_others_need_keys(tiny_models):
    answer = run("serve", "--host", "0.0.0.0", "--port", "0", "--models", str(tiny_models))
    assert answer.returncode == 2
    assert "--api-key-file" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_taken_port_and_bad_options(live_server):
    port = live_server.url.rsplit(":", 1)[1]
    taken = run("serve", "--port", port)
    assert taken.returncode == 2
    assert "--port 0" in taken.stderr
    bad = run("serve", "--port", "99999")
    assert "--port" in bad.stderr
    assert "Traceback" not in taken.stderr + bad.stderr


def test_key_command(tmp_path):
    made = run("key", str(tmp_path / "keys"), "anna", "--admin")
    assert made.returncode == 0
    key = made.stdout.strip()
    assert identify(read_keys(tmp_path / "keys"), f"Bearer {key}").owner == "anna"
    again = run("key", str(tmp_path / "keys"), "anna")
    assert again.returncode == 2
    assert "anna" in again.stderr
