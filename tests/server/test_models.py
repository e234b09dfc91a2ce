"""Hot models: a checkpoint appears by rename, is verified, can become the default, and bad ones change nothing."""

from __future__ import annotations

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from skinoct.checkpoint import load_checkpoint
from skinoct.errors import UnknownModelError
from skinoct_server.library import Library


@pytest.fixture
def models(tmp_path, tiny_models):
    folder = tmp_path / "models"
    shutil.copytree(tiny_models, folder)
    return folder


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def names(server):
    return {model["name"]: model["sha256"] for model in server.http.get("/models").json()}


def test_a_new_checkpoint_becomes_available_and_default(start_server, models, make_checkpoint, make_tiff, tmp_path):
    data = str(tmp_path / "data")
    server = start_server("--models", str(models), "--model", "tiny", "--data-dir", data)
    assert set(names(server)) == {"tiny"}
    make_checkpoint(models / "second", seed=1)
    wait_for(lambda: "second" in names(server))
    asked = server.http.post("/segment?model=second", content=make_tiff(2, 40, 40))
    assert asked.headers["x-skinoct-model-sha256"] == names(server)["second"] != names(server)["tiny"]
    assert server.http.post("/segment", content=make_tiff(2, 40, 40)).headers["x-skinoct-model"] == "tiny"
    switched = server.http.put("/models/default", json={"name": "second"})
    assert switched.status_code == 200
    assert switched.json()["default"]
    assert server.http.post("/segment", content=make_tiff(2, 40, 40)).headers["x-skinoct-model"] == "second"
    server.stop()
    server = start_server("--models", str(models), "--model", "tiny", "--data-dir", data)
    assert server.http.get("/models").json()[0]["name"] == "second", "the choice survives a restart"
    assert server.http.put("/models/default", json={"name": "tiny"}).status_code == 200, "rollback"
    assert server.http.get("/models").json()[0]["name"] == "tiny"


def damage(folder, how):
    weights, card = folder / "model.safetensors", folder / "card.json"
    content = bytearray(weights.read_bytes())
    match how:
        case "cut":
            weights.write_bytes(content[:-10])
        case "flipped":
            content[-1] ^= 1
            weights.write_bytes(content)
        case "card":
            card.write_text("{}")
        case "missing":
            weights.unlink()
        case "golden":  # as if this machine computed something else than the one that saved it
            path = folder / "golden.json"
            golden = json.loads(path.read_text())
            golden["layer_tops_px"][2] = [top + 0.1 for top in golden["layer_tops_px"][2]]
            path.write_text(json.dumps(golden))


BAD = ("cut", "flipped", "card", "missing", "golden")


def test_a_bad_checkpoint_changes_nothing_and_says_why(start_server, models, make_checkpoint, make_tiff, tmp_path):
    server = start_server("--models", str(models))
    for how in BAD:
        damage(make_checkpoint(tmp_path / how, seed=2), how)
        (tmp_path / how).rename(models / how)
    for how in BAD:
        wait_for(lambda how=how: server.http.get(f"/models/{how}").status_code == 503)
        answer = server.http.get(f"/models/{how}")
        assert answer.json()["type"].endswith("invalid-checkpoint")
        assert how in answer.json()["detail"]
        assert server.http.put("/models/default", json={"name": how}).status_code == 503
        assert server.http.post(f"/segment?model={how}", content=make_tiff(1, 32, 32)).status_code == 503
    assert server.http.post("/segment", content=make_tiff(1, 32, 32)).headers["x-skinoct-model"] == "tiny"
    assert "golden slice" in server.http.get("/models/golden").json()["detail"]
    shutil.rmtree(models / "cut")
    wait_for(lambda: server.http.get("/models/cut").status_code == 404)


def test_administrators_at_the_same_time_take_turns(start_server, models, make_checkpoint):
    make_checkpoint(models / "second", seed=1)
    server = start_server("--models", str(models), "--model", "tiny")

    def put(number):
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as http:
            names = [("second", "tiny")[(number + turn) % 2] for turn in range(10)]
            return [http.put("/models/default", json={"name": name}).status_code for name in names]

    with ThreadPoolExecutor(8) as pool:
        assert {status for statuses in pool.map(put, range(8)) for status in statuses} == {200}


def test_a_folder_that_is_away_for_a_while_takes_no_model_away(start_server, models, make_tiff):
    """As a network share may be; what appeared meanwhile is found when it is back."""
    server = start_server("--models", str(models))
    away = models.with_name("away")
    models.rename(away)
    time.sleep(2.5)  # the folder is looked at every second
    assert set(names(server)) == {"tiny"}
    assert server.http.post("/segment", content=make_tiff(1, 32, 32)).status_code == 200
    shutil.copytree(away / "tiny", away / "copy")
    away.rename(models)
    wait_for(lambda: set(names(server)) == {"tiny", "copy"})


def test_models_may_appear_in_a_folder_that_did_not_exist(start_server, models):
    away = models.with_name("away")
    models.rename(away)
    server = start_server("--models", str(models), ready=False)
    wait_for(lambda: "no model" in server.http.get("/readyz").json()["detail"])
    away.rename(models)
    wait_for(lambda: server.http.get("/readyz").status_code == 200)


def test_an_engine_that_starts_again_is_ready_with_its_first_model(models, make_checkpoint):
    """The default one comes first and stays in memory, however many others are looked at."""
    for number in range(5):
        make_checkpoint(models / f"a{number}", seed=number + 1)
    library = Library(models, engine="torch", batch=None, threads=1, warm=None, first="tiny")
    at_first = []
    library.scan(lambda: at_first.append(library.report()))
    (report,) = at_first
    assert [info["name"] for info in report["models"]] == ["tiny"]
    (sha256,) = (info["sha256"] for info in report["models"])
    assert len(library.report()["models"]) == 6
    assert sha256 in library._models


def test_files_without_pixel_size_are_prepared_for_apart(monkeypatch):
    """Images as they are first, which is what most need; enlarged ones once the server is ready."""
    library = Library(None, engine="torch", batch=None, threads=1, warm=None)
    library.scan()
    preferred = library.report()["preferred"]
    sha256 = next(m["sha256"] for m in library.report()["models"] if m["name"] == preferred)
    engine, seen = library.model(sha256).shared.engine, set()

    def probabilities(images, compute=engine.probabilities):
        seen.add(images.shape[2:])
        return compute(images)

    monkeypatch.setattr(engine, "probabilities", probabilities)
    library.warm_up(calibrated=True)
    assert seen == {(224, 512)}
    library.warm_up(calibrated=False)
    assert seen == {(224, 512), (448, 1024)}


def test_a_model_that_is_asked_for_too_early_is_waited_for(models):
    library = Library(models, engine="torch", batch=None, threads=1, warm=None)
    sha256 = load_checkpoint(models / "tiny").card.fingerprint
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(library.model, sha256)
        library.scan()
        assert asked.result(60).checkpoint.card.name == "tiny"
    with pytest.raises(UnknownModelError):
        library.model("0" * 64)


def test_the_same_weights_with_other_settings_are_another_model(models, make_checkpoint):
    make_checkpoint(models / "tuned", decode={"dej_step_price": 60.0})
    library = Library(models, engine="torch", batch=None, threads=1, warm=None)
    library.scan()
    infos = {info["name"]: info["sha256"] for info in library.report()["models"]}
    one, other = (library.model(infos[name]).checkpoint.card for name in ("tiny", "tuned"))
    assert one.weights_sha256 == other.weights_sha256
    assert (one.decode.dej_step_price, other.decode.dej_step_price) == (1.0, 60.0)


def test_requests_that_wait_keep_their_model(
    start_server, models, make_checkpoint, large_tiff, make_tiff, post_job, follow
):
    make_checkpoint(models / "second", seed=1)
    server = start_server("--models", str(models), "--model", "tiny", "--batch", "1", gated=True)
    server.hold()
    sha = names(server)
    first = post_job(server.http, large_tiff)
    old = post_job(server.http, make_tiff())
    assert server.http.put("/models/default", json={"name": "second"}).status_code == 200
    new = post_job(server.http, make_tiff())
    server.http.delete(f"/jobs/{first.id}")
    server.release()
    for job, name in ((old, "tiny"), (new, "second")):
        assert follow(server.http, job.id).model == name
        result = server.http.get(f"/jobs/{job.id}/result")
        assert result.headers["x-skinoct-model"] == name
        assert result.headers["x-skinoct-model-sha256"] == sha[name]


NAMES = ["../tiny", "/etc/passwd", "http://example.com/tiny", "tiny/card.json", "."]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_a_name_and_nothing_else(live_server, make_tiff, name):
    asked = live_server.http.post("/segment", params={"model": name}, content=make_tiff(1, 32, 32))
    chosen = live_server.http.put("/models/default", json={"name": name})
    for answer in (asked, chosen):
        assert answer.status_code == 404
        assert answer.json()["type"].endswith("unknown-model")


def test_an_older_checkpoint_without_golden_slice_is_served(start_server, models, make_tiff):
    (models / "tiny" / "golden.json").unlink()
    server = start_server("--models", str(models))
    assert server.http.post("/segment", content=make_tiff(1, 32, 32)).headers["x-skinoct-model"] == "tiny"


def test_switching_under_load(start_server, models, make_checkpoint, make_tiff):
    """No request fails, and each answer is of the model that its headers name; load.py does it a thousand times."""
    make_checkpoint(models / "second", seed=1)
    server = start_server("--models", str(models), "--model", "tiny")
    body = make_tiff(1, 32, 32)
    path = "/segment?decode=pixel&model="
    expected = {name: server.http.post(path + name, content=body).content for name in names(server)}
    stop, failures, count = threading.Event(), [], [0]

    def load():
        with httpx.Client(base_url=server.url, timeout=60) as http:
            while not stop.is_set():
                answer = http.post("/segment?decode=pixel", content=body)
                count[0] += 1
                if answer.status_code != 200 or answer.content != expected[answer.headers["x-skinoct-model"]]:
                    failures.append(answer.text[:300])

    workers = [threading.Thread(target=load) for _ in range(4)]
    for worker in workers:
        worker.start()
    end = time.monotonic() + 120
    number = 0
    while number < 100 or count[0] <= 8:
        assert time.monotonic() < end
        number += 1
        name = ("second", "tiny")[number % 2]
        assert server.http.put("/models/default", json={"name": name}).status_code == 200
        time.sleep(0.01)
    stop.set()
    for worker in workers:
        worker.join()
    assert not failures
    assert len(set(expected.values())) == 2
