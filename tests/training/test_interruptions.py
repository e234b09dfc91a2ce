"""Full disks, kills and damaged files: one sentence, and nothing half-written."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import save_file

from skinoct.checkpoint import CARD_FILE, Architecture, Card, load_checkpoint
from skinoct.checkpoint_write import recover_checkpoint, save_checkpoint
from skinoct.errors import OptionError
from skinoct.unet import UNet, UNetConfig
from skinoct_training import follow
from skinoct_training.cli import main
from skinoct_training.dataset import LabelOptions
from skinoct_training.files import complete_or_absent, write_text
from skinoct_training.follow import Board
from skinoct_training.lint import lint
from skinoct_training.run_folder import RunFolder

from .conftest import MakeData

pytestmark = pytest.mark.usefixtures("_here")


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    config = UNetConfig(in_slices=3, stem=(2, 2), widths=(4, 6))
    torch.manual_seed(0)
    card = Card(
        name="net",
        created="2026-01-01T00:00:00+00:00",
        architecture=Architecture(config=config.model_dump()),
        pixel_size_um=0.9,
        band_thickness_um=5.0,
    )
    save_checkpoint(tmp_path / "net", card, UNet(config).state_dict())
    return tmp_path / "net"


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let the operating system refuse to make any file longer, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only line that an error may leave below the progress."""
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize("size", [0, 4_000, 40_000])
def test_a_full_disk_is_one_sentence_and_nothing_half_written(
    make_data: MakeData,
    tiny_config: Path,
    size: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Board, "write", lambda *_: None)  # the disk itself has room; see the test of the board
    words = ["fit", str(make_data()), "--out", "net", "--epochs", "1", "--config", str(tiny_config), "--threads", "1"]
    with files_up_to(size):
        assert main(words) == 1
    said = sentence(capsys)
    assert said.startswith("skinoct-train fit: ")
    assert "File too large" in said
    assert "make room" in said
    assert not [path for path in Path().rglob("*") if "partial" in path.name]
    if Path("net").exists():
        load_checkpoint("net")


def test_an_export_that_does_not_fit_leaves_nothing(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with files_up_to(1000):
        assert main(["explain", str(net), "--out", "filters.png", "--steps", "1"]) == 1
    assert "File too large" in sentence(capsys)
    assert sorted(path.name for path in Path().iterdir()) == ["net"]


def test_a_file_is_complete_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")

    def stopped() -> None:
        with complete_or_absent(path) as partial:
            partial.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_text() == "old"
    write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "new"


def test_a_save_that_was_killed_between_its_two_renames_is_undone(net: Path) -> None:
    before = load_checkpoint(net).card
    shutil.copytree(net, net.with_name(".net.partial-17"))
    (net.with_name(".net.partial-17") / CARD_FILE).unlink()
    net.rename(net.with_name(".net.old-17"))
    recover_checkpoint(net)
    assert load_checkpoint(net).card == before
    assert [path.name for path in net.parent.iterdir()] == ["net"]
    recover_checkpoint(net)
    assert load_checkpoint(net).card == before


def test_a_checkpoint_in_place_is_newer_than_what_a_kill_left(net: Path) -> None:
    shutil.copytree(net, net.with_name(".net.old-17"))
    (net.with_name(".net.old-17") / CARD_FILE).write_text("{}")
    recover_checkpoint(net)
    load_checkpoint(net)
    assert [path.name for path in net.parent.iterdir()] == ["net"]


@pytest.mark.parametrize("words", [[], ["--resume"]])
def test_a_run_without_a_finished_epoch_is_begun_anew(
    make_data: MakeData, tiny_config: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data()
    command = ["fit", str(data), "--out", "net", "--epochs", "1", "--config", str(tiny_config), "--threads", "1"]
    image = data / "t1" / "tomogram.tif"
    whole = image.read_bytes()
    image.write_bytes(whole[:3000])
    assert main(command) == 1
    assert "t1/tomogram.tif" in sentence(capsys)
    image.write_bytes(whole)
    RunFolder(Path("runs/net"), resume=False).append_metrics({"epoch": 1, "loss": 7.0})  # killed before its state
    assert main([*command, *words]) == 0
    assert len(Path("runs/net/metrics.csv").read_text().splitlines()) == 2
    assert main([*command[:3], "other", *command[4:], "--run", "runs/net"]) == 1
    assert "holds another run" in sentence(capsys)


def test_a_run_is_not_resumed_with_another_network(
    make_data: MakeData, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", str(make_data()), "--out", "net", "--epochs", "1", "--threads", "1"]
    assert main([*words, "--config", str(tiny_config)]) == 0
    before = Path("runs/net/config.json").read_bytes()
    assert main([*words, "--resume"]) == 1
    assert "trains another network" in sentence(capsys)
    assert Path("runs/net/config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--seed", "7"], "seed: 0, now 7"),
        (["--val", "2"], "trained_on"),
        (["--crop", "16", "16"], "crop"),
        (["--pixel-size", "2.5"], "--pixel-size: none, now 2.5"),
        (["--labels", "labels"], "--labels:"),
        (["--roi-class", "dej"], '--roi-class: none, now "dej"'),
        (["--from", "NET"], "--from: none, now"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings_or_data(
    words: list[str],
    named: str,
    make_data: MakeData,
    net: Path,
    tiny_config: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    common = ["fit", str(make_data(count=4)), "--out", "mine", "--threads", "1", "--config", str(tiny_config)]
    assert main([*common, "--epochs", "1"]) == 0
    state = Path("runs/mine/state.safetensors").read_bytes()
    words = [str(net) if word == "NET" else word for word in words]
    assert main([*common, "--epochs", "2", "--resume", *words]) == 1
    assert named in sentence(capsys)
    assert Path("runs/mine/state.safetensors").read_bytes() == state
    assert main([*common, "--epochs", "2", "--resume"]) == 0


def test_a_fine_tune_is_not_resumed_from_another_checkpoint(
    make_data: MakeData, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Path("small.json")
    settings.write_text('{"crop": [48, 48], "epoch_images": 4, "batch": 4, "val_slices": 2}')
    checkpoint = load_checkpoint(net)
    weights = {name: value.clone() for name, value in checkpoint.weights.items()}
    weights["head.bias"] += 1
    save_checkpoint("other", checkpoint.card.model_copy(update={"name": "other"}), weights)
    common = ["fit", str(make_data()), "--out", "mine", "--config", str(settings), "--threads", "1"]
    assert main([*common, "--epochs", "1", "--from", str(net)]) == 0
    for words in (["--from", "./other"], []):
        assert main([*common, "--epochs", "2", "--resume", *words]) == 1
        assert "(--from: " in sentence(capsys)
    assert load_checkpoint("mine").card.recipe["start"]["name"] == "net"
    assert main([*common, "--epochs", "2", "--resume", "--from", str(net)]) == 0


def test_a_run_of_an_earlier_version_is_resumed(make_data: MakeData, tiny_config: Path) -> None:
    common = ["fit", str(make_data()), "--out", "net", "--threads", "1", "--config", str(tiny_config)]
    assert main([*common, "--epochs", "1"]) == 0
    config = Path("runs/net/config.json")
    content = json.loads(config.read_text())
    del content["options"]
    config.write_text(json.dumps(content))
    assert main([*common, "--epochs", "2", "--resume"]) == 0


def test_a_run_whose_steps_were_made_otherwise_is_not_resumed(
    make_data: MakeData, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was begun before Muon: the state of one AdamW for all parameters."""
    common = ["fit", str(make_data()), "--out", "net", "--threads", "1", "--config", str(tiny_config)]
    assert main([*common, "--epochs", "1"]) == 0
    state = Path("runs/net/state.safetensors")
    with safetensors.safe_open(state, "pt") as file:
        tensors = {name.replace("optimizer.1.", "optimizer."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        save_file(tensors, state, file.metadata())
    assert main([*common, "--epochs", "2", "--resume"]) == 1
    assert "runs/net was begun by an earlier version" in sentence(capsys)


def test_a_folder_of_the_users_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "thesis.tex").write_text("mine")
    for resume in (False, True):
        with pytest.raises(OptionError):
            RunFolder(tmp_path, resume=resume)


def test_a_row_that_was_cut_off_is_forgotten_with_its_epoch(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", resume=False)
    for epoch in range(1, 14):
        run.append_metrics({"epoch": epoch, "loss": 1 / epoch, "val_score_um": 2.0})
    path = tmp_path / "run" / "metrics.csv"
    path.write_text(path.read_text()[: -len("3,0.07692307692307693,2.0\n")])
    run.forget_metrics_after(12)
    rows = path.read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", *map(str, range(1, 13))]
    run.forget_metrics_after(0)
    run.append_metrics({"epoch": 1, "loss": 1.0, "val_score_um": 2.0})
    assert path.read_text().splitlines() == ["epoch,loss,val_score_um", "1,1.0,2.0"]


def test_logs_end_before_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    board = Board(tmp_path)
    board.write(1, {"loss": 1.0}, None)
    (events,) = (tmp_path / "tensorboard").iterdir()
    size = events.stat().st_size
    monkeypatch.setattr(follow, "LEAST_FREE", 10**18)
    board.write(2, {"loss": 1.0}, np.zeros((4, 6, 3), np.uint8))
    assert "TensorBoard's logs end with epoch 1" in caplog.text
    assert events.stat().st_size == size
    assert not board.active


def test_one_corrupt_tomogram_among_forty_is_named_by_fit_and_check(
    make_data: MakeData, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(count=40)
    path = data / "t17" / "tomogram.tif"
    path.write_bytes(path.read_bytes()[:5000])
    assert main(["fit", str(data), "--out", "net", "--epochs", "1", "--config", str(tiny_config)]) == 1
    assert "t17/tomogram.tif is cut off" in sentence(capsys)
    assert not Path("net").exists()
    (error,) = (finding for finding in lint(data, LabelOptions()).findings if finding.error)
    assert "t17/tomogram.tif is cut off" in str(error)


def test_the_card_says_which_weights_a_fine_tune_started_from(make_data: MakeData, net: Path) -> None:
    settings = Path("small.json")
    settings.write_text('{"crop": [48, 48], "epoch_images": 4, "batch": 4, "val_slices": 2}')
    words = ["fit", str(make_data()), "--from", str(net), "--out", "mine", "--epochs", "1", "--config", str(settings)]
    assert main([*words, "--threads", "1"]) == 0
    base = load_checkpoint(net).card
    assert load_checkpoint("mine").card.recipe["start"] == {"name": "net", "weights_sha256": base.weights_sha256}
