"""Reports, cross-validation and filters, from the command line."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinoct.checkpoint import load_checkpoint
from skinoct.labels import CLASSES, Label
from skinoct_training.cli import main
from skinoct_training.commands.options import red
from skinoct_training.crossval import spread, table
from skinoct_training.explain import explain, favorite_input
from skinoct_training.loop import Trainer

from .conftest import MakeData, skin, write_stack

BASELINES = {"intensity_viterbi", "constant_thickness_oracle", "same_network_per_pixel"}


@pytest.fixture(autouse=True)
def _in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evaluate(*words: str | Path) -> int:
    return main(["evaluate", *map(str, words), "--threads", "1"])


def report(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(folder, "report.json").read_text())
    return content


def test_the_report_has_every_key_that_was_promised(
    trained: Path, make_data: MakeData, capsys: pytest.CaptureFixture[str]
) -> None:
    unseen = make_data("unseen", 2, first_seed=10)
    assert evaluate(trained / "net", unseen, "--out", "report") == 0
    content = report("report")
    trees = (content["baselines"], content["per_tomogram"], content["strata"])
    for tree in (content, *(tree for part in trees for tree in part.values())):
        assert set(tree["classes"]) == {c.name for c in CLASSES}
        assert all({"dice", "recall"} <= set(figures) for figures in tree["classes"].values())
        assert {
            "mae_um", "bias_um", "p95_um", "thickness_ratio", "dice", "islands_per_slice", "gap_fraction"
        } <= set(tree["dej"])  # fmt: skip
        assert "thickness_error_um" in tree["epidermis"]
        assert "order_violations" in tree
    assert set(content["baselines"]) == BASELINES
    assert content["tomograms"] == ["t0", "t1"]
    (warning,) = content["warnings"]
    assert warning.startswith("Without a pixel size: t0, t1; all micrometers assume 0.9 um")
    assert set(content["strata"]) == {"dark", "middle", "bright"}
    assert content["dej"]["islands_per_slice"] == content["order_violations"] == 0
    assert content["dej"]["mae_um"] < 6
    assert content["intervals"]["dej"]["mae_um"] is None
    assert content["interval_method"].startswith("none: 2 tomograms")
    assert sum(row["columns"] for row in content["calibration"]) == 2 * 6 * 64
    assert np.array(content["confusion"]["model"]).sum() == 2 * 6 * 48 * 64
    assert "DEJ error, mean absolute" in capsys.readouterr().out


def test_the_page_holds_tables_and_figures_in_one_file(trained: Path, make_data: MakeData) -> None:
    unseen = make_data("unseen", 2, first_seed=10)
    assert evaluate(trained / "net", unseen, "--out", "report", "--explain") == 0
    page = Path("report/report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "://" not in page  # nothing is fetched; pictures in base64 may well spell http
    for words in (
        "intensity viterbi",
        "constant thickness oracle",
        "2 tomograms, fewer than 5",
        "not for clinical use",
    ):
        assert words in page
    style = page.split("<style>")[1].split("</style>")[0]
    assert not [line for line in style.splitlines() if line.lstrip().startswith("#")]  # in CSS that is no comment
    assert "--recipe paper" in page
    pictures = {p.name for p in Path("report").glob("*.png")}
    assert pictures == {"confusion.png", "triptychs.png", "calibration.png", "tomograms.png", "filters.png"}


def test_tomograms_that_were_trained_on_or_chose_the_epoch_are_named(trained: Path) -> None:
    assert evaluate(trained / "net", trained / "data", "--out", "report") == 0
    (held,) = load_checkpoint(trained / "net").card.data["held_out"]
    learned, chose, *_ = report("report")["warnings"]
    assert "Trained on" in learned
    assert held not in learned
    assert f"Held out while training: {held}. They chose the epoch" in chose


@pytest.mark.parametrize("name", ["tomogram.npy", "tomogram.tiff"])
def test_a_tomogram_is_known_in_every_format_and_under_another_name(
    name: str, trained: Path, make_data: MakeData
) -> None:
    data = make_data(count=2)
    for index in range(2):
        folder = data / f"t{index}"
        (folder / "tomogram.tif").rename(folder / name)
        if name.endswith("npy"):
            np.save(folder / name, skin(index)[0])
    words = ["--val", "0", "--epochs", "1", "--config", str(trained / "tiny.json"), "--threads", "1"]
    assert main(["fit", str(data), "--out", "net", *words]) == 0
    (data / "t1").rename(data / "renamed")
    assert evaluate("net", data, "--out", "report") == 0
    assert "Trained on: renamed, t0." in report("report")["warnings"][0]


def test_a_fine_tune_knows_what_its_start_had_seen(trained: Path, make_data: MakeData) -> None:
    settings = Path("small.json")
    settings.write_text(json.dumps({"epoch_images": 4, "batch": 4, "crop": [48, 48], "val_slices": 2}))
    words = ["--epochs", "1", "--config", str(settings), "--threads", "1"]
    start = trained / "net"
    for index, name in enumerate(("once", "twice")):
        data = make_data(f"data-{name}", 1, first_seed=20 + index)
        assert main(["fit", str(data), "--from", str(start), "--out", name, *words]) == 0
        start = Path(name).absolute()
    (held,) = load_checkpoint(trained / "net").card.data["held_out"]
    for folder, warnings in ((trained / "data", 2), (Path("data-once"), 1), (Path("data-twice"), 1)):
        assert evaluate("./twice", folder, "--out", f"report-{folder.name}") == 0
        said = [text for text in report(f"report-{folder.name}")["warnings"] if "pixel size" not in text]
        assert len(said) == warnings
        assert said[0].startswith("Trained on: ")
    assert f"Held out while training: {held}." in report("report-data")["warnings"][1]


def test_the_leaking_split_says_so_in_red(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", str(trained / "tiny.json"), "--epochs", "1", "--split", "by-slice", "--threads", "1"]
    assert main(["fit", str(trained / "data"), "--out", "leaky", *words]) == 0
    assert "SPLIT BY SLICE" in capsys.readouterr().err
    assert load_checkpoint("leaky").card.data["split"] == "by-slice"
    assert evaluate("leaky", trained / "data", "--out", "report", "--split", "by-slice") == 0
    content = report("report")
    assert "SPLIT BY SLICE" in content["warnings"][0]
    assert "class=warning" in Path("report/report.html").read_text()
    assert np.array(content["confusion"]["model"]).sum() == 3 * 1 * 48 * 64


def test_a_person_reads_the_leak_in_red_and_a_file_does_not() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert red("leak", Terminal()) == "\033[31;1mleak\033[0m"
    assert red("leak", io.StringIO()) == "leak"


def test_the_paper_stands_beside_ours(trained: Path, make_data: MakeData) -> None:
    settings = Path("small.json")
    settings.write_text(json.dumps({"epoch_images": 8, "batch": 4, "crop": [48, 48], "val_slices": 2}))
    words = ["--epochs", "1", "--recipe", "paper", "--config", str(settings), "--threads", "1"]
    assert main(["fit", str(trained / "data"), "--out", "paper", *words]) == 0
    unseen = make_data("unseen", 1, first_seed=10)
    assert evaluate(trained / "net", unseen, "--out", "report", "--paper", "paper") == 0
    assert set(report("report")["baselines"]) == BASELINES | {"paper_recipe"}
    page = Path("report/report.html").read_text()
    assert "paper recipe" in page
    assert "--recipe paper" not in page


def test_another_recipe_is_not_taken_for_the_papers(
    trained: Path, make_data: MakeData, capsys: pytest.CaptureFixture[str]
) -> None:
    net = trained / "net"
    assert evaluate(net, make_data("unseen", 1, first_seed=10), "--out", "report", "--paper", net) == 1
    assert "was not trained with --recipe paper" in capsys.readouterr().err
    assert not Path("report").exists()


def test_the_card_carries_the_figures(trained: Path, make_data: MakeData) -> None:
    shutil.copytree(trained / "net", "net")
    before = load_checkpoint("net").card
    assert evaluate("net", make_data("unseen", 2, first_seed=10), "--out", "report", "--card") == 0
    card = load_checkpoint("net").card
    assert card.weights_sha256 == before.weights_sha256
    assert card.metrics["evaluation"]["dej"] == report("report")["dej"]
    assert card.metrics["held_out_dej"] == before.metrics["held_out_dej"]
    assert "evaluation.dej.mae_um" in Path("net/README.md").read_text()
    assert "| `evaluation.intervals.dej.mae_um` | - |" in Path("net/README.md").read_text()


def test_five_tomograms_have_an_interval(trained: Path, make_data: MakeData) -> None:
    assert evaluate(trained / "net", make_data("unseen", 5, first_seed=10), "--out", "report") == 0
    content = report("report")
    low, high = content["intervals"]["dej"]["mae_um"]
    assert low <= content["dej"]["mae_um"] <= high
    assert "bootstrap over 5 tomograms" in content["interval_method"]
    assert "bootstrap over 5 tomograms" in Path("report/report.html").read_text()


def test_sparse_roi_sets_are_compared_where_they_say_something(trained: Path, make_data: MakeData) -> None:
    sparse = make_data("sparse", 2, rois=[Label.DEJ], every=3, first_seed=10)
    assert evaluate(trained / "net", sparse, "--out", "report") == 0
    content = report("report")
    assert content["dej"]["mae_um"] < 8
    assert content["epidermis"]["thickness_error_um"] is None
    assert set(content["baselines"]) == {"intensity_viterbi", "same_network_per_pixel"}
    assert any("baseline of a constant thickness below it is missing" in warning for warning in content["warnings"])


def test_nothing_is_overwritten(trained: Path, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
    Path("thesis").mkdir()
    Path("thesis/report.html").write_text("mine")
    assert evaluate(trained / "net", make_data(), "--out", "thesis") == 1
    assert "never overwritten" in capsys.readouterr().err
    assert Path("thesis/report.html").read_text() == "mine"


def test_an_unknown_checkpoint_is_said(make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("no-such-model", make_data(), "--out", "report") == 1
    assert "There is no model 'no-such-model'" in capsys.readouterr().err


def test_every_tomogram_is_examined_once_by_a_network_that_never_saw_it(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(trained / "tiny.json"), "--epochs", "2", "--threads", "1"]
    assert main(["crossval", str(trained / "data"), "--out", "cv", *words]) == 0
    content = json.loads(Path("cv/crossval.json").read_text())
    assert list(content["folds"]) == ["t0", "t1", "t2"]
    for name in content["folds"]:
        card = load_checkpoint(Path("cv/checkpoints") / name).card
        assert name not in card.data["trained_on"]
        assert name not in card.data["files"]
        assert card.data["held_out"] == []
    errors = [fold["dej"]["mae_with_gaps_um"] for fold in content["folds"].values()]
    assert content["mean"]["dej"]["mae_with_gaps_um"] == pytest.approx(np.mean(errors))
    assert content["standard_deviation"]["dej"]["mae_with_gaps_um"] == pytest.approx(np.std(errors, ddof=1))
    out, err = capsys.readouterr()
    assert err.count("Without a pixel size: t0, t1, t2;") == err.count("Without a pixel size") == 1
    assert "nan" not in out
    assert [line.split()[0] for line in out.splitlines()[1:6]] == ["t0", "t1", "t2", "mean", "deviation"]
    assert content["folds_in_mean"]["dej"]["mae_with_gaps_um"] == 3
    assert content["warnings"] == []
    assert "mae_with_gaps_um" in out.splitlines()[0]
    assert f"{np.mean(errors):.3f} (3 of 3)" in out.splitlines()[4]


def test_a_mean_says_how_many_folds_found_a_dej() -> None:
    figures = {name: {"dej.mae_um": value} for name, value in (("a", 1.0), ("b", 3.0), ("c", float("nan")))}
    assert "2.000 (2 of 3)" in list(table(figures))[4]
    assert spread(figures)["folds_in_mean"]["dej"]["mae_um"] == 2


@pytest.mark.parametrize("stop", [9, 14])
def test_a_cross_validation_that_was_stopped_goes_on_where_it_was(
    stop: int, trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(trained / "data"), "--config", str(trained / "tiny.json"), "--epochs", "2", "--threads", "1", "--out"]
    assert main(["crossval", *words, "whole"]) == 0
    steps = 0
    original = Trainer.step

    def interrupted(self: Trainer, *args: Any) -> float:
        nonlocal steps
        steps += 1
        if steps == stop:  # the second fold begins with the ninth step, its second epoch with the thirteenth
            raise KeyboardInterrupt
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        assert main(["crossval", *words, "cv"]) == 1
    assert "with --resume goes on" in capsys.readouterr().err
    assert steps == stop
    assert not Path("cv/crossval.json").exists()
    assert main(["crossval", *words, "cv"]) == 1
    assert "give --resume" in capsys.readouterr().err
    assert main(["crossval", *words, "cv", "--resume", "--seed", "4"]) == 1
    assert "config.seed: 0, now 4" in capsys.readouterr().err
    assert main(["crossval", *words, "cv", "--resume"]) == 0
    assert "Fold 1 of 3" not in capsys.readouterr().err
    assert json.loads(Path("cv/crossval.json").read_text()) == json.loads(Path("whole/crossval.json").read_text())


def test_a_start_that_knows_the_tomograms_is_not_cross_validated(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["crossval", str(trained / "data"), "--from", str(trained / "net"), "--out", "cv", "--epochs", "1"]
    assert main(words) == 1
    assert "was trained or chosen on" in capsys.readouterr().err
    assert not Path("cv").exists()


def test_a_tomogram_that_lies_in_two_folders_is_named_by_crossval(
    trained: Path, make_data: MakeData, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data()
    shutil.copy(data / "t0" / "tomogram.tif", data / "t1" / "tomogram.tif")
    words = ["--config", str(trained / "tiny.json"), "--epochs", "1", "--threads", "1"]
    assert main(["crossval", str(data), "--out", "cv", *words]) == 0
    assert "Trained on: t0." in capsys.readouterr().out
    assert [w.split(".")[0] for w in json.loads(Path("cv/crossval.json").read_text())["warnings"]] == [
        "Trained on: t0",
        "Trained on: t1",
    ]


def test_one_tomogram_cannot_be_left_out(make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crossval", str(make_data(count=1)), "--out", "cv"]) == 1
    assert "one tomogram only" in capsys.readouterr().err


def test_filters_are_excited_by_what_they_find(trained: Path) -> None:
    from skinoct.engines.torch_engine import build_network

    network = build_network(load_checkpoint(trained / "net")).requires_grad_(False)
    start = favorite_input(network, Label.GLYCEROL - 1, steps=0, seed=0)
    found = favorite_input(network, Label.GLYCEROL - 1, steps=20, seed=0)

    def share(image: Any) -> float:
        return float((network(image).argmax(dim=1) == Label.GLYCEROL - 1).float().mean())

    assert share(found) > share(start) + 0.2
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert explain(load_checkpoint(trained / "net"), Path("filters.png"), steps=1).stat().st_size > 1000


def test_explain_from_the_command_line(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(trained / "net"), "--out", "f.png", "--steps", "1"]) == 0
    assert main(["explain", str(trained / "net"), "--out", "f.png", "--steps", "1"]) == 1
    assert "never overwritten" in capsys.readouterr().err


class TestAgreement:
    def test_two_doctors(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        from dataclasses import replace

        from skinoct.rois import Paths, read_roi_set, write_roi_set

        data = make_data(rois=[Label.GLYCEROL, Label.DEJ], um=0.9)
        first = data / "t0" / "RoiSet.zip"
        lower = []
        for roi in read_roi_set(first):
            assert isinstance(roi.shape, Paths)
            if roi.label == Label.DEJ:
                lower.append(replace(roi, shape=Paths(tuple(p + np.array([0, 2]) for p in roi.shape.paths))))
        write_roi_set(data / "second.zip", lower[:4])
        words = [str(first), str(data / "second.zip"), "--tomogram", str(data / "t0" / "tomogram.tif")]
        assert main(["agree", *words, "--json", "agree.json"]) == 0
        out = capsys.readouterr().out
        assert "Slices that both annotated: 4" in out
        assert "second minus first: +1.80 um" in out
        content = json.loads(Path("agree.json").read_text())
        assert content["dej"]["mae_um"] == pytest.approx(1.8)
        assert 0 < content["classes"]["dej"]["dice"] < 1
        assert content["warnings"] == []
        write_stack(data / "t0" / "tomogram.tif", skin(0)[0])
        assert main(["agree", str(first), *words[:1], *words[2:]]) == 0
        out = capsys.readouterr().out
        assert "has no pixel size" in out
        assert "mean distance in depth: 0.00 um" in out
        assert main(["agree", *words, "--json", "agree.json"]) == 1

    def test_without_a_dej(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        first = make_data(count=1, rois=[Label.GLYCEROL, Label.DEJ], um=0.9) / "t0"
        second = make_data("second", count=1, rois=[Label.GLYCEROL]) / "t0"
        words = [str(first / "RoiSet.zip"), str(second / "RoiSet.zip"), "--tomogram", str(first / "tomogram.tif")]
        for order in (words, [words[1], words[0], *words[2:]]):
            assert main(["agree", *order]) == 0
            out = capsys.readouterr().out
            assert "nan" not in out
            assert "DEJ: not compared, because no column has a whole one in both" in out
            assert "Dice, glycerol: 1.000" in out

    def test_nothing_in_common(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        data = make_data(count=1)
        labels = skin(0)[1]
        for name, keep in (("a.tif", 0), ("b.tif", 3)):
            part = labels.copy()
            part[np.arange(6) != keep] = 0
            write_stack(data / name, part)
        words = [str(data / "a.tif"), str(data / "b.tif"), "--tomogram", str(data / "t0" / "tomogram.tif")]
        assert main(["agree", *words]) == 1
        assert "no annotated slice in common" in capsys.readouterr().err


class TestCheck:
    def findings(self, capsys: pytest.CaptureFixture[str], data: Path, status: int) -> str:
        Path("sheet.png").unlink(missing_ok=True)
        assert main(["check", str(data), "--sheet", "sheet.png"]) == status
        return capsys.readouterr().out

    def test_a_clean_set(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        out = self.findings(capsys, make_data(rois=[Label.GLASS, Label.GLYCEROL, Label.DEJ], um=0.9), 0)
        assert "Nothing to complain about" in out
        assert Path("sheet.png").stat().st_size > 5000

    def test_every_mistake_is_named_with_file_roi_and_slice(
        self, make_data: MakeData, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from dataclasses import replace

        from skinoct.rois import Paths, read_roi_set, write_roi_set

        data = make_data(count=7, rois=[Label.GLASS, Label.GLYCEROL, Label.DEJ])
        sets = {f"t{k}": read_roi_set(data / f"t{k}" / "RoiSet.zip") for k in range(7)}

        def shifted(roi: Any, dx: float, dy: float) -> Any:
            return replace(roi, shape=Paths(tuple(p + np.array([dx, dy]) for p in roi.shape.paths)))

        unknown = replace(sets["t0"][0], name="0001-0010-0020", label=None)
        late = replace(sets["t0"][1], slice_index=99)
        away = shifted(sets["t0"][2], 1000, 0)
        write_roi_set(data / "t0" / "RoiSet.zip", [unknown, late, away, *sets["t0"][3:]], overwrite=True)
        shutil.copy(data / "t1" / "RoiSet.zip", data / "t2" / "RoiSet.zip")
        deep = [shifted(r, 0, 12) if r.label == Label.GLYCEROL and r.slice_index == 2 else r for r in sets["t3"]]
        epidermis = replace(shifted(sets["t3"][7], 0, 8), label=Label.EPIDERMIS, name="epidermis-0003", slice_index=2)
        write_roi_set(data / "t3" / "RoiSet.zip", [*deep, epidermis], overwrite=True)
        thick = [r for r in sets["t4"] if not (r.label == Label.DEJ and r.slice_index == 1) and r.slice_index != 4]
        wide = [shifted(r, 0, dy) for r in sets["t4"] if r.label == Label.DEJ and r.slice_index == 1 for dy in (-3, 3)]
        half = Paths((np.array([[0.0, 30], [40, 30], [40, 35], [0, 35]]),))
        thick = [replace(r, shape=half) if r.label == Label.DEJ and r.slice_index == 5 else r for r in thick]
        write_roi_set(data / "t4" / "RoiSet.zip", [*thick, *wide], overwrite=True)
        image = skin(5)[0]
        image[3] = image[2]
        write_stack(data / "t5" / "tomogram.tif", image)
        (data / "t6" / "RoiSet.zip").write_bytes(b"not a zip")

        out = self.findings(capsys, data, 1)
        assert "7 tomograms looked at" in out
        for words in (
            "ERROR: t0, slice 1: ROI 0001-0010-0020 in t0/RoiSet.zip does not tell its class",
            "lies in slice 100, but the tomogram has 6",
            "covers no pixel of the image",
            "ERROR: t2: RoiSet.zip is the same file as that of t1",
            "ERROR: t3: ROI glycerol-0003 in t3/RoiSet.zip and ROI epidermis-0003",
            "warning: t4, slice 2: RoiSet.zip, ROI dej-0002, dej-0002-2: the DEJ band is 10",
            "warning: t4, slice 5: RoiSet.zip: no annotation, although there is one every slice otherwise",
            "warning: t4, slice 6: RoiSet.zip, ROI dej-0006: the DEJ is missing in 24 columns, x = 40 to 63",
            "warning: t5, slice 4: is the same image as slice 3",
            "ERROR: t6: t6/RoiSet.zip is neither a RoiSet.zip nor a .roi file",
        ):
            assert words in out, f"{words!r} not in:\n{out}"

    def test_a_missing_pixel_size_is_told(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        out = self.findings(capsys, make_data(), 0)
        assert out.count("tomogram.tif has no pixel size: all micrometers assume 0.9 um") == 3

    def test_a_folder_with_a_misnamed_tomogram_is_an_error(
        self, make_data: MakeData, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = make_data(rois=[Label.GLASS, Label.GLYCEROL, Label.DEJ])
        (data / "t1" / "tomogram.tif").rename(data / "t1" / "Tomogram.TIF")
        (data / "t2" / "tomogram.tif").rename(data / "t2" / "scan_t2.tif")
        shutil.copytree(data / "t0", data / ".Trash-1000")
        out = self.findings(capsys, data, 1)
        assert out.count("ERROR") == 1
        assert "t2 holds RoiSet.zip, scan_t2.tif but no tomogram.tif; rename its stack tomogram.tif" in out

    def test_a_dej_as_thick_as_a_layer_is_an_error(
        self, make_data: MakeData, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = make_data(um=0.9)
        labels = skin(0)[1]
        labels[3][labels[3] == Label.EPIDERMIS] = Label.DEJ
        write_stack(data / "t0" / "labels.tif", labels)
        out = self.findings(capsys, data, 1)
        assert out.count("ERROR") == 1
        assert "ERROR: t0, slice 4: labels.tif: the DEJ band is" in out

    def test_columns_that_are_seldom_known_throughout_are_told(
        self, make_data: MakeData, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = make_data(um=0.9)
        labels = skin(0)[1]
        labels[:, 10:18, :40][labels[:, 10:18, :40] == Label.EPIDERMIS] = 0
        write_stack(data / "t0" / "labels.tif", labels)
        out = self.findings(capsys, data, 0)
        assert "warning: t0: labels.tif: only 38 % of the columns" in out
        assert out.count("warning") == 2, out
        alone = make_data("alone", rois=[Label.DEJ], um=0.9)
        assert "of the columns" not in self.findings(capsys, alone, 0)

    def test_another_tomograms_set_is_suspected(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        data = make_data()
        write_stack(data / "t0" / "tomogram.tif", 255 - skin(0)[0])
        assert "does the set belong to this tomogram?" in self.findings(capsys, data, 0).replace("\n", " ")

    def test_what_is_ignored_is_no_gap(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        from skinoct.rois import Paths, Roi, read_roi_set, write_roi_set

        data = make_data(count=2, rois=[Label.GLASS, Label.GLYCEROL, Label.DEJ])
        path = data / "t1" / "RoiSet.zip"
        column = Paths((np.array([[20.0, 0], [40, 0], [40, 48], [20, 48]]),))
        ignore = [Roi(f"ignore-{z + 1}", Label.UNLABELED, z, column) for z in range(6)]
        write_roi_set(path, [*read_roi_set(path), *ignore], overwrite=True)
        out = self.findings(capsys, data, 0)
        assert "DEJ is missing" not in out, out

    def test_exchanged_sets_are_suspected(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        data = tmp_path / "phantoms"
        assert main(["phantom", str(data), "--tomograms", "2", "--slices", "2", "--seed", "11"]) == 0
        out = self.findings(capsys, data, 0)
        assert "warning: all: labels.tif is used, not the RoiSet.zip beside it, in every tomogram; --labels rois" in out
        assert "No errors, 1 warning" in out
        assert main(["check", str(data), "--sheet", "other.png", "--labels", "labels"]) == 0
        assert "Nothing to complain about" in capsys.readouterr().out
        one, other = (folder / "labels.tif" for folder in sorted(data.iterdir()))
        one.rename(data / "first.tif")
        other.rename(one)
        (data / "first.tif").rename(other)
        out = self.findings(capsys, data, 0)
        assert out.count("does the set belong to this tomogram?") == 2

    def test_exchanged_sets_of_the_dej_alone_are_suspected(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from skinoct.rois import read_roi_set, write_roi_set

        data = tmp_path / "phantoms"
        assert main(["phantom", str(data), "--tomograms", "6", "--slices", "3", "--seed", "5"]) == 0
        sets = [folder / "RoiSet.zip" for folder in sorted(data.iterdir())]
        for path in sets:
            (path.parent / "labels.tif").unlink()
            rois = [roi for roi in read_roi_set(path) if roi.label == Label.DEJ]
            write_roi_set(path, rois, overwrite=True)
        assert "exchanged" not in self.findings(capsys, data, 0)
        one, other = sets[1].read_bytes(), sets[2].read_bytes()
        sets[1].write_bytes(other)
        sets[2].write_bytes(one)
        out = self.findings(capsys, data, 0)
        assert out.count("were the two sets exchanged?") == 1
        assert f"{sets[1].parent.name}: the DEJ follows the skin surface of {sets[2].parent.name}" in out

    def test_every_contradiction_is_named(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        from skinoct.rois import Paths, Roi, read_roi_set, write_roi_set

        data = make_data(rois=[Label.GLASS, Label.GLYCEROL, Label.DEJ], um=0.9)
        path = data / "t1" / "RoiSet.zip"
        deep = Paths((np.array([[0.0, 5], [64, 5], [64, 20], [0, 20]]),))
        wrong = [Roi(f"epidermis-{z + 1}", Label.EPIDERMIS, z, deep) for z in (0, 2, 5)]
        write_roi_set(path, [*read_roi_set(path), *wrong], overwrite=True)
        out = self.findings(capsys, data, 1)
        assert [f"overlap in slice {z}" in out for z in (1, 2, 3, 6)] == [True, False, True, True]

    def test_no_sheet_is_overwritten_and_none_stops_the_check(
        self, make_data: MakeData, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = make_data(um=0.9)
        for sheet in ("data-check.png", "data-check-2.png", "data-check-3.png"):
            before = {path: path.read_bytes() for path in Path().glob("*.png")}
            assert main(["check", str(data)]) == 0
            assert f"Contact sheet: {sheet}" in capsys.readouterr().out
            assert all(path.read_bytes() == content for path, content in before.items())

    def test_blank_frames_are_no_leak(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        data = make_data(um=0.9)
        for index in range(2):
            image = skin(index)[0]
            image[0] = 0
            write_stack(data / f"t{index}" / "tomogram.tif", image, 0.9)
        assert "same image" not in self.findings(capsys, data, 0)

    def test_a_slice_in_two_tomograms_is_a_leak(self, make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
        data = make_data()
        image = skin(0)[0]
        image[1] = skin(1)[0][4]
        write_stack(data / "t0" / "tomogram.tif", image)
        assert "is the same image as slice 2 of t0" in self.findings(capsys, data, 1)
