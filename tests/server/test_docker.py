"""Docker files without a Docker engine: that they fit together, and fit the settings, the packages and each other.

`make image` and `make image-training` build and run them.
"""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import tomllib
from pathlib import Path

import httpx
import pytest
import yaml

from skinoct_server.cli import _parser, settings_from
from skinoct_server.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
IMAGES = ("server", "training")
SERVICE_KEYS = {
    *("image", "build", "command", "environment", "secrets", "volumes", "expose", "ports", "depends_on", "deploy"),
    *("restart", "stop_grace_period", "read_only", "tmpfs", "cap_drop", "cap_add", "security_opt"),
    *("pids_limit", "mem_limit"),
}
"""Of a service in the Compose specification, as far as they are used here."""


def compose(name: str) -> dict:
    return yaml.safe_load((DOCKER / name).read_text())


def steps(image: str) -> list[tuple[str, str]]:
    """Return instructions and their arguments; continued lines are one."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / f"{image}.Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def values(image: str, instruction: str) -> list[str]:
    return [text for name, text in steps(image) if name == instruction]


def variables(image: str) -> dict[str, str]:
    return dict(part.split("=", 1) for text in values(image, "ENV") for part in text.split())


def excluded(path: str) -> bool:
    """Whether .dockerignore keeps a top folder or file of the repository from the build."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().split():
        if fnmatch.fnmatch(path, line.removeprefix("!")):
            out = not line.startswith("!")
    return out


@pytest.mark.parametrize("image", IMAGES)
def test_image_is_small_and_not_root(image):
    assert [text.split(" AS ")[-1] for text in values(image, "FROM")] == ["python", "build", "python"]
    assert {"BASE", "TORCH_INDEX"} <= {text.split("=")[0] for text in values(image, "ARG")}
    last = steps(image)[max(n for n, (name, _) in enumerate(steps(image)) if name == "FROM") :]
    assert ("USER", "10001:10001") in last
    assert ("VOLUME", "/data") in last
    assert [text for name, text in last if name == "COPY"] == ["--from=build /opt/skinoct /opt/skinoct"]


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_is_there_and_not_ignored(image):
    sources = [text.split()[0] for text in values(image, "COPY") if not text.startswith("--from")]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert not excluded(source)


@pytest.mark.parametrize("image", IMAGES)
def test_entry_point_is_a_command_that_the_image_has(image):
    command = json.loads(values(image, "ENTRYPOINT")[0])[0]
    scripts = {}
    for text in values(image, "COPY"):
        manifest = ROOT / text.split()[0] / "pyproject.toml"
        if manifest.exists():
            scripts |= tomllib.loads(manifest.read_text())["project"].get("scripts", {})
    assert command in scripts


def test_variables_of_the_server_are_settings(monkeypatch):
    names = {*variables("server"), *compose("compose.yaml")["services"]["server"]["environment"]}
    names = {name for name in names if name.startswith("SKINOCT_")} - {"SKINOCT_MODELS"}
    assert names <= {f"SKINOCT_SERVER_{name.upper()}" for name in Settings.model_fields}
    for name, value in variables("server").items():
        monkeypatch.setenv(name, value)
    for name, value in compose("compose.yaml")["services"]["server"]["environment"].items():
        monkeypatch.setenv(name, value)
    entry = json.loads(values("server", "ENTRYPOINT")[0])[1:]
    settings = settings_from(_parser().parse_args([*entry, *compose("compose.yaml")["services"]["server"]["command"]]))
    assert settings.host == "0.0.0.0"
    assert settings.api_key_file, "an address that others reach needs keys"
    assert settings.data_dir == Path("/data")
    assert settings.max_pending_bytes == 8 << 30


def test_healthcheck_asks_this_server(live_server, monkeypatch):
    """It is content with a running server, and with nothing else."""
    (text,) = values("server", "HEALTHCHECK")
    command = json.loads(text[text.index("[") :])
    port = live_server.url.rsplit(":", 1)[1]
    monkeypatch.setenv("SKINOCT_SERVER_PORT", port)
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    monkeypatch.setenv("SKINOCT_SERVER_PORT", "1")
    assert subprocess.run(command, capture_output=True, timeout=60).returncode != 0


def test_compose_names_only_what_it_declares():
    file = compose("compose.yaml")
    assert set(file) == {"name", "services", "secrets", "volumes"}
    for name, service in file["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        assert service["mem_limit"]
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert set(service.get("secrets", [])) <= set(file["secrets"])
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source.startswith("./") or source in file["volumes"], volume
        assert set(service.get("depends_on", {})) <= set(file["services"])
    server = file["services"]["server"]
    assert server["read_only"] is True
    assert (DOCKER / server["build"]["context"] / server["build"]["dockerfile"]).resolve().is_file()
    assert "ports" not in server, "only the proxy is reached from outside"


def test_what_the_server_writes_to_is_writable():
    """With a read-only root: the data folder, what is compiled, and the home folder."""
    server = compose("compose.yaml")["services"]["server"]
    writable = [text.split(":")[0] for text in server["tmpfs"]]
    writable += [text.split(":")[1] for text in server["volumes"] if not text.endswith(":ro")]
    assert sorted(writable) == ["/data", "/tmp"]
    for name in ("HOME", "SKINOCT_SERVER_DATA_DIR", "NUMBA_CACHE_DIR"):
        assert Path("/", *Path(variables("server")[name]).parts[1:2]).as_posix() in writable, name


def test_time_to_stop_is_longer_than_time_to_drain():
    grace = compose("compose.yaml")["services"]["server"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Settings().drain_seconds


def test_gpu_file_changes_only_the_server():
    (service,) = compose("compose.gpu.yaml")["services"].items()
    assert service[0] == "server"
    assert set(service[1]) <= SERVICE_KEYS
    assert set(service[1]["build"]["args"]) <= {text.split("=")[0] for text in values("server", "ARG")}
    (device,) = service[1]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_proxy_passes_what_the_server_takes():
    """The proxy finds the server's port, and leaves it to the server to say that an upload is too large."""
    text = (DOCKER / "Caddyfile").read_text()
    assert f"reverse_proxy server:{variables('server')['SKINOCT_SERVER_PORT']} " in text
    assert compose("compose.yaml")["services"]["server"]["expose"] == [variables("server")["SKINOCT_SERVER_PORT"]]
    assert int(re.search(r"max_size (\d+)GiB", text)[1]) << 30 > Settings().max_upload_bytes


def test_page_for_fiji_names_the_address_of_the_proxy(start_server, monkeypatch):
    """As people reach it, over HTTPS; the proxy, whose address nobody knows beforehand, is believed."""
    believed = compose("compose.yaml")["services"]["server"]["environment"]["FORWARDED_ALLOW_IPS"]
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", believed)
    server = start_server(ready=False)
    headers = {"Host": "skinoct.lab.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=elsewhere, trust_env=False) as proxy:
        page = proxy.get(f"{server.url}/fiji", headers=headers, timeout=60)
    assert "<code>https://skinoct.lab.example</code>" in page.text


def test_script_that_builds_without_docker_is_sound():
    script = DOCKER / "build-without-docker"
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    wrong = subprocess.run([str(script), "nothing"], capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "server or training" in wrong.stderr
