"""The table of what each part gives: every variant differs in one thing, is continued, and never mixed with another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinoct.checkpoint import load_checkpoint
from skinoct_training import ablation, benchmark, paper
from skinoct_training.ablation import VARIANTS, Plan, Result
from skinoct_training.ablation_table import ERROR, Row
from skinoct_training.cli import main
from skinoct_training.dataset import LabelOptions
from skinoct_training.fit import make_config

from .conftest import TINY, skin, write_stack

IMAGES = 8


@pytest.fixture(scope="module")
def _small() -> Iterator[None]:
    """Make the paper's network, and the measuring of speed, as small as ours here."""
    patch = pytest.MonkeyPatch()
    patch.setitem(paper.PAPER_SETTINGS, "crop", (48, 48))
    patch.setitem(paper.PAPER_SETTINGS, "network", {"in_slices": 1, "stem": (1, 1), "widths": (4, 6), "filters": 6})
    quick = partial(benchmark.measure_speed, seconds=0.05, shape=(4, 48, 64))
    patch.setattr(benchmark, "measure_speed", lambda config, **_: quick(config))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, _small: None) -> list[str]:
    """Train every variant once; returns the command."""
    folder = tmp_path_factory.mktemp("ablation")
    for data, seeds in (("data", range(3)), ("unseen", range(10, 12))):
        for seed in seeds:
            image, labels = skin(seed)
            write_stack(folder / data / f"t{seed}" / "tomogram.tif", image)
            write_stack(folder / data / f"t{seed}" / "labels.tif", labels)
            family = "ffoct" if seed % 2 else "wide"
            (folder / data / f"t{seed}" / "phantom.json").write_text(json.dumps({"family": family}))
    (folder / "tiny.json").write_text(json.dumps({"network": TINY["network"]}))
    words = ["ablate", str(folder / "data"), "--held-out", str(folder / "unseen"), "--out", str(folder / "out")]
    words += ["--images", str(IMAGES), "--longer", "2", "--seeds", "1", "--crop", "48", "48", "--threads", "1"]
    words += ["--config", str(folder / "tiny.json")]
    assert main(words) == 0
    return words


def out(words: list[str]) -> Path:
    return Path(words[words.index("--out") + 1])


def test_every_variant_is_trained_alike_and_kept(words: list[str]) -> None:
    for variant in VARIANTS:
        card = load_checkpoint(out(words) / "checkpoints" / f"{variant.name}-0").card
        images = IMAGES * (2 if variant.longer else 1)
        assert card.recipe["config"]["epoch_images"] == images
        assert card.recipe["trained"]["steps"] == images / 4
        assert card.data["trained_on"] == (["t0", "t1", "t2"] if variant.every_family else ["t1"])
    assert not (out(words) / "unfinished").exists()


def test_the_table_says_what_was_compared(words: list[str]) -> None:
    text = (out(words) / "ablation.md").read_text()
    for variant in VARIANTS:
        assert f"| {variant.title}" in text
    for said in (
        "Synthetic",
        "Short trainings",
        "ordered decoding",
        "divided by the loss weights",
        f"{len(VARIANTS)} of {len(VARIANTS)}",
        "GFLOP a B-scan",
    ):
        assert said in text
    assert "DEJ error, um, on other families" in text
    assert "from 1 tomogram of the family `ffoct`; *of every family* also from 2 of `wide`" in text
    assert "torch: " in text
    assert "skinoct-train " in text


def test_what_is_finished_is_not_trained_again(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lost = out(words) / "cells" / "no-dice-0.json"
    before = lost.read_text()
    lost.unlink()
    (out(words) / "unfinished").mkdir()  # as a kill leaves it
    trained: list[str] = []
    original = ablation.run_cell

    def counted(cell: ablation.Cell) -> None:
        trained.append(cell.name)
        original(cell)

    monkeypatch.setattr(ablation, "run_cell", counted)
    assert main(words) == 0
    assert trained == ["no-dice-0"]
    assert json.loads(lost.read_text())["figures"] == json.loads(before)["figures"]
    assert main(words) == 0
    assert trained == ["no-dice-0"]


def test_tables_are_never_mixed(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main([*words, "--images", "16"]) == 1
    assert "other settings or tomograms" in capsys.readouterr().err
    with monkeypatch.context() as patch:  # a later version, in which a variant is another
        patch.setitem(next(v for v in VARIANTS if v.name == "adamw").settings, "learning_rate", 1e-3)
        assert main(words) == 1
    assert "other settings or tomograms" in capsys.readouterr().err
    (tmp_path / "thesis.txt").write_text("x")
    assert main([*words, "--out", str(tmp_path)]) == 1
    assert "never overwritten" in capsys.readouterr().err


def plan(**settings: Any) -> Plan:
    return Plan(Path("a"), Path("b"), Path("c"), LabelOptions(), settings, images=8, longer=2)


def test_each_variant_differs_from_the_default_in_one_part() -> None:
    given = plan(crop=[48, 48], loss={"surface": 0.5}, network={"widths": [4, 6]})
    whole = make_config(given.settings_of(VARIANTS[0], 3)).model_dump()
    assert whole["loss"]["surface"] == 0.5
    assert whole["seed"] == 3
    changed: dict[str, list[str]] = {}
    for variant in VARIANTS[1:]:
        if not variant.paper and not variant.every_family:
            config = make_config(given.settings_of(variant, 3)).model_dump()
            changed[variant.name] = [key for key in config if config[key] != whole[key]]
    assert changed.pop("adamw") == ["optimizer", "learning_rate"]  # each optimizer at its own rate
    assert sorted(key for (key,) in changed.values()) == ["augment", "ema_decay", "loss", "loss", *["network"] * 8]
    config = make_config(given.settings_of(VARIANTS[-1], 0))
    assert config.network.filters == 6
    assert config.epoch_images == 16


def test_the_spread_is_over_seeds_of_means_over_tomograms() -> None:
    seeds = []
    for seed, errors in enumerate(([1.0, 3.0], [4.0, None], [6.0, 6.0])):
        figures = {f"t{k}": {ERROR: error} for k, error in enumerate(errors)}
        content = {"families": {"t0": "ffoct", "t1": "wide"}, "figures": {"ordered": figures}}
        seeds.append(Result(ablation.Cell(VARIANTS[0], seed, plan()), content))
    row = Row(VARIANTS[0], "ordered", seeds)
    assert row.mean(ERROR) == "4 ± 2"
    assert row.mean(ERROR, ["wide"]) == f"4.5 ± {np.std([3, 6], ddof=1):.2g}"
    assert row.mean("nothing") == "-"


def test_families_are_told_apart_with_the_papers_microscope_first(tmp_path: Path) -> None:
    facts = {"a": {"family": "wide"}, "b": {"family": "wide", "processed": {}}, "c": {"family": "ffoct"}, "d": {}}
    for name, known in facts.items():
        write_stack(tmp_path / name / "tomogram.tif", skin(0)[0])
        write_stack(tmp_path / name / "labels.tif", skin(0)[1])
        (tmp_path / name / "phantom.json").write_text(json.dumps(known))
    cases = ablation.find_cases(tmp_path, "labels")
    assert ablation.families(cases) == ["ffoct", "wide", "processed"]
    assert [case.name for case in ablation.of_first_family(cases)] == ["c", "d"]
