"""Training from a folder to a checkpoint: repeatable, resumable, refused in one sentence."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch

from skinoct.checkpoint import load_checkpoint
from skinoct.errors import DatasetError, OptionError
from skinoct.labels import Label
from skinoct.predictor import Predictor
from skinoct.tomogram import Tomogram
from skinoct_training.augment import GENTLE, AugmentConfig
from skinoct_training.cli import main
from skinoct_training.commands.fit import standing_text
from skinoct_training.config import TrainConfig, schedule
from skinoct_training.dataset import find_cases
from skinoct_training.fit import adopt, make_config
from skinoct_training.loop import Standing, Trainer
from skinoct_training.split import hold_out

from .conftest import TINY, MakeData, skin, write_stack


@pytest.fixture(autouse=True)
def _in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fit(*words: str | Path) -> int:
    return main(["fit", *map(str, words), "--threads", "1"])


def rows(run: str) -> list[dict[str, str]]:
    with Path("runs", run, "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_fit_writes_a_checkpoint_that_segments(
    make_data: MakeData, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(rois=[Label.GLYCEROL, Label.GLASS, Label.DEJ])
    assert fit(data, "--out", "net", "--epochs", 3, "--config", tiny_config) == 0
    out, err = capsys.readouterr()
    assert "DEJ error" in out
    assert "um" in err
    checkpoint = load_checkpoint("net")
    card = checkpoint.card
    assert card.band_thickness_um == pytest.approx(5.6 * 0.9, rel=0.05)
    assert card.recipe["command"].startswith("skinoct-train")
    assert card.recipe["config"]["network"]["widths"] == TINY["network"]["widths"]  # type: ignore[index]
    assert set(card.data["files"]) == {"t0", "t1", "t2"}
    assert len(card.data["held_out"]) == 1
    dej = card.metrics["held_out_dej"]  # three epochs need not find a DEJ: then all is gap, and there is no error
    assert dej["gap_fraction"] == 1 if dej["mae_um"] is None else dej["mae_um"] >= 0
    labels = Predictor(checkpoint).segment(Tomogram(skin(9)[0], "t")).labels()
    assert labels.shape == (6, 48, 64)
    assert [r["epoch"] for r in rows("net")] == ["1", "2", "3"]
    described = json.loads(Path("runs/net/data.json").read_text())
    assert len(described["files"]["t0"]["RoiSet.zip"]) == 64
    environment = json.loads(Path("runs/net/config.json").read_text())["environment"]
    assert all(environment[key] for key in ("torch", "code", "processor", "threads"))


def test_a_clear_tomogram_is_learned(make_data: MakeData, tiny_config: Path) -> None:
    data = make_data(count=4)
    assert fit(data, "--out", "net", "--epochs", 25, "--config", tiny_config) == 0
    assert load_checkpoint("net").card.metrics["held_out_dej"]["score_um"] < 4.0


def test_the_same_seed_gives_the_same_checkpoint(make_data: MakeData, tiny_config: Path) -> None:
    data = make_data()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert fit(data, "--out", name, "--epochs", 2, "--seed", seed, "--config", tiny_config) == 0
    a, b, c = (load_checkpoint(name).card.weights_sha256 for name in "abc")
    assert a == b
    assert a != c


def test_an_interrupted_training_resumes_as_if_nothing_had_happened(
    make_data: MakeData,
    tiny_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = make_data()
    assert fit(data, "--out", "whole", "--epochs", 4, "--config", tiny_config) == 0
    steps = 0
    original = Trainer.step

    def interrupted(self: Trainer, *args: Any) -> float:
        nonlocal steps
        steps += 1
        if steps == 10:  # in the third epoch of four steps
            raise KeyboardInterrupt
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        assert fit(data, "--out", "cut", "--epochs", 4, "--config", tiny_config) == 0
    assert "the best checkpoint so far is kept" in capsys.readouterr().err
    load_checkpoint("cut")
    assert len(rows("cut")) == 2
    assert fit(data, "--out", "cut", "--epochs", 4, "--config", tiny_config, "--resume") == 0
    assert load_checkpoint("cut").card.weights_sha256 == load_checkpoint("whole").card.weights_sha256
    for one, other in zip(rows("whole"), rows("cut"), strict=True):
        del one["seconds"], other["seconds"]
        assert one == other


def test_kill_minus_nine_loses_at_most_the_current_epoch(make_data: MakeData, tiny_config: Path) -> None:
    data = make_data()
    words = [
        "fit",
        str(data),
        "--out",
        "net",
        "--epochs",
        "400",
        "--config",
        str(tiny_config),
        "--threads",
        "1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "skinoct_training.cli", *words], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 120
        metrics = Path("runs/net/metrics.csv")
        while not metrics.exists() or len(metrics.read_text().splitlines()) < 4:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = len(rows("net"))
    load_checkpoint("net")
    assert fit(data, "--out", "net", "--epochs", done + 1, "--config", tiny_config, "--resume") == 0
    epochs = [int(r["epoch"]) for r in rows("net")]
    assert epochs == list(range(1, done + 2))


@pytest.mark.parametrize("batch", [3, 5])
def test_two_processes_train_the_network_of_one(batch: int, make_data: MakeData, tiny_config: Path) -> None:
    """The same network but for rounding, which Adam magnifies where a gradient is next to nothing: so as a whole.

    Of 16 crops in batches of 3 or 5, one process gets fewer than the other, and none of the last one.
    """
    data = make_data()
    words = ["--batch", str(batch), "--threads", "1", "--out"]
    common = ["fit", str(data), "--epochs", "2", "--config", str(tiny_config), *words]
    assert main([*common, "one"]) == 0
    still = Path("still.json")
    still.write_text(json.dumps(TINY | {"learning_rate": 1e-12}))
    assert fit(data, "--out", "start", "--epochs", 2, "--config", still, "--batch", batch) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "skinoct_training.cli", *common, "two", "--run-folder", "runs/two"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    start, one, two = (
        torch.cat([value.flatten() for name, value in sorted(load_checkpoint(run).weights.items())])
        for run in ("start", "one", "two")
    )
    assert float((two - one).norm()) < 0.01 * float((one - start).norm())
    assert len(rows("two")) == 2
    for alone, together in zip(rows("one"), rows("two"), strict=True):
        assert float(together["loss"]) == pytest.approx(float(alone["loss"]), rel=1e-3)


def test_fine_tuning_starts_where_the_checkpoint_is(make_data: MakeData, tiny_config: Path) -> None:
    assert fit(make_data(), "--out", "base", "--epochs", 2, "--config", tiny_config) == 0
    one = make_data("one", 1, first_seed=7)
    settings = Path("fine.json")
    settings.write_text(json.dumps({k: v for k, v in TINY.items() if k != "network"}))
    assert fit(one, "--out", "mine", "--from", "base", "--epochs", 1, "--config", settings) == 0
    base, mine = load_checkpoint("base"), load_checkpoint("mine")
    assert base.card.architecture == mine.card.architecture
    assert mine.card.data["held_out"] == []
    moved = max(float((base.weights[k] - mine.weights[k]).abs().max()) for k in base.weights if "weight" in k)
    assert 0 < moved < 0.1


def test_a_fine_tune_leaves_gray_values_almost_alone_unless_asked(make_data: MakeData, tiny_config: Path) -> None:
    assert fit(make_data(), "--out", "base", "--epochs", 1, "--config", tiny_config) == 0
    base = load_checkpoint("base")
    settings = {k: v for k, v in TINY.items() if k not in ("network", "augment")}
    assert adopt(make_config(settings), None, settings).augment == AugmentConfig()
    assert adopt(make_config(settings), base, settings).augment == GENTLE
    own = settings | {"augment": {"gain": 0.7}}
    assert adopt(make_config(own), base, own).augment == AugmentConfig(gain=0.7)


def test_minutes_end_a_training(make_data: MakeData, tiny_config: Path) -> None:
    start = time.monotonic()
    assert fit(make_data(), "--out", "net", "--minutes", 0.05, "--config", tiny_config) == 0
    assert time.monotonic() - start < 40
    with safetensors.safe_open("runs/net/state.safetensors", "pt") as state:
        assert json.loads(state.metadata()["values"])["seconds"] >= 3  # with measuring, unlike metrics.csv


def test_the_papers_recipe_is_the_papers(make_data: MakeData) -> None:
    settings = Path("small.json")
    settings.write_text(json.dumps({"epoch_images": 8, "batch": 4, "crop": [48, 48], "val_slices": 2}))
    assert fit(make_data(), "--out", "net", "--epochs", 1, "--recipe", "paper", "--config", settings) == 0
    card = load_checkpoint("net").card
    assert card.class_weights == (10, 10, 1, 20, 1)
    assert card.architecture.config["filters"] == 6
    assert card.architecture.config["in_slices"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pixel-size", "0"], "--pixel-size 0 is not possible; give 0.1 to 10 um"),
        (["--pixel-size", "-1"], "--pixel-size -1"),
        (["--crop", "0", "5"], "--crop 0 5 is not possible"),
        (["--val", "9"], "There are 3 tomograms, and 9 must be held out"),
    ],
)
def test_impossible_options_are_one_sentence(
    make_data: MakeData, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(make_data(), "--out", "net", "--epochs", 1, *words) == 1
    assert said in capsys.readouterr().err
    assert not Path("net").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "d", "--out", "n", "--seed"],
        ["phantom", "d", "--seed"],
        ["fit", "d", "--out", "n", "--threads"],
        ["evaluate", "n", "d", "--out", "r", "--threads"],
        ["crossval", "d", "--out", "r", "--threads"],
    ],
)
def test_negative_numbers_are_refused_everywhere(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*words, "-1"])
    assert end.value.code == 2
    assert f"argument {words[-1]}: -1 is not possible; give a whole number, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("figures", "best", "said"),
    [
        ({}, float("inf"), "error not measured"),
        ({"gap_fraction": float("nan")}, float("inf"), "error not measured, because"),
        ({"gap_fraction": 0.0}, 2.345, "DEJ error 2.35 um on held-out tomograms"),
        ({"gap_fraction": 0.25}, 20.0, "(it finds none in 25 % of the columns)"),
        ({"gap_fraction": 1.0}, 48.0, "(it finds no DEJ yet; train longer)"),
    ],
)
def test_the_last_line_says_what_was_measured(figures: dict[str, float], best: float, said: str) -> None:
    text = standing_text(Standing(best_um=best, extra=figures))
    assert said in text
    assert "nan" not in text
    assert "inf" not in text


def test_the_learning_rate_rises_and_falls() -> None:
    config = TrainConfig()
    rates = [schedule(p, config) for p in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(config.learning_rate, rel=0.02)
    assert rates[0] < 0.1 * config.learning_rate
    assert rates[-1] == pytest.approx(0, abs=1e-9)


class TestSplit:
    def test_whole_tomograms_are_held_out(self, make_data: MakeData) -> None:
        cases = find_cases(make_data(count=6))
        train, held = hold_out(cases, 2, seed=0)
        assert len(held) == 2
        assert not {c.name for c in train} & {c.name for c in held}
        assert len(train) + len(held) == 6
        assert hold_out(cases, 2, seed=0) == (train, held)
        assert any(hold_out(cases, 2, seed=s)[1] != held for s in range(1, 9))

    def test_one_in_seven_by_default_at_least_one(self, make_data: MakeData) -> None:
        cases = find_cases(make_data(count=2))
        assert len(hold_out(cases, None, 0)[1]) == 1
        assert hold_out(cases, 0, 0)[1] == []

    def test_too_few(self, make_data: MakeData) -> None:
        with pytest.raises(DatasetError, match="one tomogram only"):
            hold_out(find_cases(make_data(count=1)), None, 0)
        with pytest.raises(OptionError, match="--val -1"):
            hold_out([], -1, 0)


class TestBadInput:
    def error(self, capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
        assert fit(*words) == 1
        text = capsys.readouterr().err.strip().splitlines()[-1]
        assert text.startswith("skinoct-train fit: ")
        assert not Path("net").exists()
        return text

    def test_one_tomogram(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        assert "one tomogram only" in self.error(capsys, make_data(count=1), "--out", "net")

    def test_no_dej(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        data = make_data(rois=[Label.GLYCEROL])
        assert "No dej is annotated" in self.error(capsys, data, "--out", "net")

    def test_a_class_that_is_never_annotated_is_named(
        self, make_data: MakeData, tiny_config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = make_data(rois=[Label.DEJ])
        assert fit(data, "--out", "net", "--epochs", 1, "--config", tiny_config) == 0
        assert "Never annotated: glass, glycerol." in capsys.readouterr().err

    def test_a_corrupt_file_among_many(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        data = make_data(count=5)
        path = data / "t3" / "tomogram.tif"
        path.write_bytes(path.read_bytes()[:5000])
        assert "t3/tomogram.tif is cut off" in self.error(capsys, data, "--out", "net")

    def test_sizes_and_pixel_sizes_may_differ(self, make_data: MakeData, tiny_config: Path) -> None:
        data = make_data(um=0.9)
        image, labels = skin(8, (3, 40, 90))
        write_stack(data / "odd" / "tomogram.tif", image.astype(np.uint16) * 200, 0.6)
        write_stack(data / "odd" / "labels.tif", labels, 0.6)
        assert fit(data, "--out", "net", "--epochs", 1, "--config", tiny_config) == 0
        assert load_checkpoint("net").card.pixel_size_um == pytest.approx(0.9)

    def test_no_middle_slice(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        Path("even.json").write_text('{"network": {"in_slices": 2}}')
        text = self.error(capsys, make_data(), "--out", "net", "--config", "even.json")
        assert "Setting network.in_slices: Give an odd number of slices, so that one lies in the middle." in text

    def test_nothing_left_by_a_split_by_slice(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        data = make_data()
        for folder in data.iterdir():
            labels = skin(0)[1]
            labels[np.arange(6) != 4] = 0
            write_stack(folder / "labels.tif", labels)
        text = self.error(capsys, data, "--out", "net", "--split", "by-slice")
        assert "holds out every 8th slice, from slice 5, and no other is annotated" in text

    def test_existing_output(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        Path("thesis").mkdir()
        assert fit(make_data(), "--out", "thesis") == 1
        assert "thesis exists already" in capsys.readouterr().err

    def test_nothing_to_resume(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        assert "nothing to resume" in self.error(capsys, make_data(), "--out", "net", "--resume")

    def test_another_architecture(
        self, make_data: MakeData, tiny_config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = make_data()
        assert fit(data, "--out", "base", "--epochs", 1, "--config", tiny_config) == 0
        other = Path("other.json")
        other.write_text(json.dumps({**TINY, "network": {"widths": [4, 6]}}))
        assert "cannot grow" in self.error(capsys, data, "--out", "net", "--from", "base", "--config", other)

    def test_more_slices_than_the_checkpoint_sees_are_no_other_architecture(
        self, make_data: MakeData, tiny_config: Path
    ) -> None:
        data = make_data()
        assert fit(data, "--out", "base", "--epochs", 1, "--config", tiny_config) == 0
        more = Path("more.json")
        more.write_text(json.dumps({**TINY, "network": {**TINY["network"], "in_slices": 7}, "bfloat16": True}))
        assert fit(data, "--out", "net", "--epochs", 1, "--from", "base", "--config", more) == 0
        assert load_checkpoint("net").card.architecture.config["in_slices"] == 7

    def test_unknown_settings(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        odd = Path("odd.json")
        odd.write_text('{"learning_speed": 3}')
        assert "learning_speed" in self.error(capsys, make_data(), "--out", "net", "--config", odd)
        odd.write_text('{"crop": [0, 64]}')
        assert "crop.0" in self.error(capsys, make_data(), "--out", "net", "--config", odd)
        odd.write_text("{")
        assert "not a readable JSON" in self.error(capsys, make_data(), "--out", "net", "--config", odd)

    @pytest.mark.parametrize(("out", "said"), [("file/net", "file is a file"), ("file/a/net", "file is a file")])
    def test_a_place_where_nothing_can_be_written_is_noticed_before_the_training(
        self, out: str, said: str, make_data: MakeData, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("file").write_text("mine")
        assert said in self.error(capsys, make_data(), "--out", out)
        assert not Path("runs").exists()

    def test_a_folder_that_may_not_be_written_is_noticed_before_the_training(
        self, make_data: MakeData, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = make_data()
        monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
        assert "does not allow it" in self.error(capsys, data, "--out", "net")
        assert not Path("runs").exists()

    def test_what_is_no_checkpoint_is_not_resumed(
        self, make_data: MakeData, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("thesis").mkdir()
        assert "is no checkpoint" in self.error(capsys, make_data(), "--out", "thesis", "--resume")
        assert not Path("runs").exists()

    def test_the_same_tomogram_is_not_trained_on_and_held_out(
        self, make_data: MakeData, tiny_config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = make_data()
        held = hold_out(find_cases(data), 1, seed=0)[1][0].name
        twin, other = (name for name in ("t0", "t1", "t2") if name != held)
        shutil.copy(data / held / "tomogram.tif", data / twin / "tomogram.tif")
        text = self.error(capsys, data, "--out", "net", "--config", tiny_config)
        assert f"{twin} and {held} hold the same tomogram" in text
        shutil.copy(data / other / "tomogram.tif", data / twin / "tomogram.tif")  # both are trained on
        assert fit(data, "--out", "net", "--config", tiny_config, "--epochs", 1) == 0

    def test_a_full_disk_leaves_nothing_half_written(
        self,
        make_data: MakeData,
        tiny_config: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def full(_fd: int) -> None:
            raise OSError(28, "No space left on device")

        data = make_data()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            text = self.error(capsys, data, "--out", "net", "--epochs", 1, "--config", tiny_config)
        assert "No space left on device" in text
        assert sorted(p.name for p in Path().iterdir()) == ["data", "runs", "tiny.json"]

    def test_gpu_memory_is_halved_out_loud(
        self,
        make_data: MakeData,
        tiny_config: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        original = Trainer.step

        def tight(self: Trainer, images: torch.Tensor, *args: Any) -> float:
            if len(images) > 2:
                raise torch.cuda.OutOfMemoryError("out of memory")
            return original(self, images, *args)

        monkeypatch.setattr(Trainer, "step", tight)
        assert fit(make_data(), "--out", "net", "--epochs", 1, "--config", tiny_config) == 0
        assert "batches of 2" in caplog.text
        assert rows("net")[0]["batch"] == "2"

    @pytest.mark.parametrize(("batch", "processes", "said"), [(1, 1, "not hold a single crop"), (4, 2, "at 4 crops")])
    def test_gpu_memory_that_cannot_be_halved_is_one_sentence(
        self,
        batch: int,
        processes: int,
        said: str,
        make_data: MakeData,
        tiny_config: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def full(*_: Any) -> float:
            raise torch.cuda.OutOfMemoryError("out of memory")

        monkeypatch.setattr(Trainer, "step", full)
        monkeypatch.setattr("skinoct_training.loop.world", lambda: processes)
        words = ["--out", "net", "--epochs", 1, "--batch", batch, "--config", tiny_config]
        text = self.error(capsys, make_data(), *map(str, words))
        assert said in text

    @pytest.mark.parametrize("epoch", [1, 2])
    def test_a_training_that_diverges_ends_in_one_sentence(
        self,
        epoch: int,
        make_data: MakeData,
        tiny_config: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        original = Trainer.step

        def explode(self: Trainer, *args: Any) -> float:
            if self.standing.epoch + 1 == epoch:
                with torch.no_grad():
                    self.network.head.bias.fill_(float("inf"))
            return original(self, *args)

        monkeypatch.setattr(Trainer, "step", explode)
        assert fit(make_data(), "--out", "net", "--epochs", 3, "--config", tiny_config) == 1
        text = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"no finite number in epoch {epoch}, step {4 * epoch - 3}" in text
        assert "lower learning_rate" in text
        assert Path("net").exists() == (epoch == 2)
        if epoch == 2:
            assert "is kept" in text
            load_checkpoint("net")
