"""A checkpoint is complete or absent, and never gives a wrong answer that looks right."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from skinoct import checkpoint as cp
from skinoct import checkpoint_write
from skinoct.checkpoint import Architecture, Card, load_checkpoint
from skinoct.checkpoint_write import README_FILE, describe, save_checkpoint
from skinoct.decode_config import DecodeConfig
from skinoct.engines import expected_golden
from skinoct.engines.torch_engine import build_network, compute_golden
from skinoct.errors import CheckpointError, OptionError, UnknownModelError
from skinoct.intensity import IntensityConfig
from skinoct.unet import UNet, UNetConfig

CONFIG = UNetConfig(in_slices=3, stem=(2, 2), widths=(4, 6))


def make_card(name: str = "tiny") -> Card:
    return Card(
        name=name,
        created="2026-01-01T00:00:00+00:00",
        architecture=Architecture(config=CONFIG.model_dump()),
        pixel_size_um=0.9,
        band_thickness_um=5.0,
        metrics={"dej": {"mae_um": 1.25}},
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tiny", make_card(), UNet(CONFIG).state_dict())
    return tmp_path / "tiny"


def test_what_is_saved_is_loaded(saved: Path) -> None:
    torch.manual_seed(0)
    weights = UNet(CONFIG).state_dict()
    loaded = load_checkpoint(saved)
    assert loaded.card.model_copy(update={"weights_sha256": ""}) == Card.model_validate_json(
        make_card().model_dump_json()
    )
    assert loaded.weights.keys() == weights.keys()
    assert all(torch.equal(loaded.weights[k], weights[k]) for k in weights)
    assert loaded.identity.sha256 == loaded.card.fingerprint
    build_network(loaded)


def test_the_same_checkpoint_has_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = save_checkpoint(tmp_path / "again", make_card(), load_checkpoint(saved).weights)
    assert (saved / cp.WEIGHTS_FILE).read_bytes() == (tmp_path / "again" / cp.WEIGHTS_FILE).read_bytes()
    assert again.card.weights_sha256 == load_checkpoint(saved).card.weights_sha256


def test_a_fingerprint_is_of_all_that_decides_an_answer() -> None:
    card = make_card()
    told = {"name": "other", "description": "x", "metrics": {}, "recipe": {"seed": 1}}
    deciding = {
        "decode": DecodeConfig(dej_step_price=3.0),
        "intensity": IntensityConfig(power=1.0),
        "pixel_size_um": 1.0,
        "slice_step_um": 2.0,
        "band_thickness_um": 6.0,
        "class_weights": (1.0, 1.0, 1.0, 2.0, 1.0),
        "weights_sha256": "0" * 64,
    }
    assert card.model_copy(update=told).fingerprint == card.fingerprint
    changed = [card.model_copy(update={key: value}).fingerprint for key, value in deciding.items()]
    assert len({card.fingerprint, *changed}) == 1 + len(deciding)


def test_settings_that_nobody_knows_are_refused_in_a_sentence(saved: Path) -> None:
    content = json.loads((saved / cp.CARD_FILE).read_text())
    content["decode"] = {"dej_step_pirce": 3}
    (saved / cp.CARD_FILE).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"card\.json: decode\.dej_step_pirce: Extra inputs"):
        load_checkpoint(saved)


def test_it_remembers_what_the_network_answers(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.golden is not None
    np.testing.assert_allclose(loaded.golden, compute_golden(build_network(loaded)), atol=1e-3)
    assert (np.diff(loaded.golden, axis=0) >= 0).all()


def test_an_older_checkpoint_without_golden_slice_is_read(saved: Path) -> None:
    before = load_checkpoint(saved)
    (saved / cp.GOLDEN_FILE).unlink()
    loaded = load_checkpoint(saved)
    assert loaded.golden is None
    np.testing.assert_allclose(expected_golden(loaded), before.golden, atol=1e-3)


def test_the_answer_for_an_earlier_golden_slice_is_not_compared(saved: Path) -> None:
    path = saved / cp.GOLDEN_FILE
    before = load_checkpoint(saved).golden
    content = json.loads(path.read_text())
    assert content["format_version"] == 2
    earlier = [[top + 1 for top in row] for row in content["layer_tops_px"]]
    path.write_text(json.dumps(content | {"format_version": 1, "layer_tops_px": earlier}))
    loaded = load_checkpoint(saved)
    assert loaded.golden is None
    np.testing.assert_allclose(expected_golden(loaded), before, atol=1e-3)


@pytest.mark.parametrize("damage", ["cut", "other weights", "nan", "ragged"])
def test_a_damaged_golden_slice_is_refused(saved: Path, damage: str) -> None:
    path = saved / cp.GOLDEN_FILE
    content = json.loads(path.read_text())
    if damage == "other weights":
        content["weights_sha256"] = "0" * 64
    elif damage == "nan":
        content["layer_tops_px"][2][5] = float("nan")
    elif damage == "ragged":
        content["layer_tops_px"][2].pop()
    text = json.dumps(content)
    path.write_text(text[: len(text) // 2] if damage == "cut" else text)
    with pytest.raises(CheckpointError, match=r"golden\.json"):
        load_checkpoint(saved)


def test_it_holds_no_pickle(saved: Path) -> None:
    assert sorted(p.name for p in saved.iterdir()) == [README_FILE, cp.CARD_FILE, cp.GOLDEN_FILE, cp.WEIGHTS_FILE]
    header = (saved / cp.WEIGHTS_FILE).read_bytes()
    length = int.from_bytes(header[:8], "little")
    json.loads(header[8 : 8 + length])


def test_the_page_for_people_carries_the_figures(saved: Path) -> None:
    page = (saved / README_FILE).read_text()
    assert "1.25" in page
    assert "Not for clinical use" in page


def test_the_page_for_people_stays_short() -> None:
    names = [f"phantom-{k:04d}" for k in range(900)]
    data = {"trained_on": names, "files": {n: {"tomogram.tif": "0" * 64} for n in names}}
    page = describe(make_card().model_copy(update={"data": data}))
    assert len(page) < 2000
    assert "900 in all" in page
    assert "900 tomograms" in page


@pytest.mark.parametrize("name", [cp.WEIGHTS_FILE, cp.CARD_FILE])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(saved)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        load_checkpoint(tmp_path / "nowhere")


def test_one_changed_byte_is_noticed(saved: Path) -> None:
    path = saved / cp.WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"classes": ["skin", "rest"]}, "predicts skin, rest"),
        ({"surprise": 1}, "surprise"),
        ({"pixel_size_um": -1}, "pixel_size_um"),
    ],
)
def test_a_card_that_means_something_else_is_refused(saved: Path, change: dict[str, object], words: str) -> None:
    content = json.loads((saved / cp.CARD_FILE).read_text())
    (saved / cp.CARD_FILE).write_text(json.dumps({**content, **change}))
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(saved)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{}", "not json"])
def test_a_damaged_card_is_refused(saved: Path, text: str) -> None:
    (saved / cp.CARD_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=r"card\.json"):
        load_checkpoint(saved)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    other = UNet(UNetConfig(in_slices=3, stem=(2, 2), widths=(8, 6))).state_dict()
    saved = save_checkpoint(tmp_path / "odd", make_card(), other)
    with pytest.raises(CheckpointError, match="do not fit"):
        build_network(saved)


def test_an_unknown_kind_of_network_is_refused(tmp_path: Path) -> None:
    card = make_card().model_copy(update={"architecture": Architecture(kind="transformer", config={})})
    saved = save_checkpoint(tmp_path / "odd", card, {"w": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="transformer"):
        build_network(saved)


def test_nothing_is_overwritten_unless_asked(saved: Path) -> None:
    before = (saved / cp.CARD_FILE).read_bytes()
    with pytest.raises(OptionError, match="never overwritten"):
        save_checkpoint(saved, make_card("other"), {"w": torch.zeros(1)})
    assert (saved / cp.CARD_FILE).read_bytes() == before
    save_checkpoint(saved, make_card("other"), {"w": torch.zeros(1)}, overwrite=True)
    assert load_checkpoint(saved).card.name == "other"
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_folder_that_is_no_checkpoint_is_never_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.txt").write_text("x")
    with pytest.raises(OptionError, match="never overwritten"):
        save_checkpoint(precious, make_card(), {"w": torch.zeros(1)}, overwrite=True)
    assert (precious / "chapter1.txt").read_text() == "x"


def test_a_full_disk_leaves_the_old_checkpoint_and_no_rubbish(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    before = load_checkpoint(saved).card
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_checkpoint(saved, make_card("other"), {"w": torch.zeros(1)}, overwrite=True)
    assert load_checkpoint(saved).card == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


class TestChoosing:
    def make(self, folder: Path, *names: str) -> None:
        for name in names:
            save_checkpoint(folder / name, make_card(name), {"w": torch.zeros(1)})

    def test_the_newest_phantom_is_the_default(self, tmp_path: Path) -> None:
        self.make(tmp_path, "phantom-v2", "phantom-v10", "clinic")
        assert cp.list_checkpoints(tmp_path) == ["clinic", "phantom-v10", "phantom-v2"]
        assert cp.default_checkpoint(tmp_path) == "phantom-v10"
        assert cp.find_checkpoint("clinic", tmp_path) == tmp_path / "clinic"

    def test_the_default_can_be_asked_for_without_knowing_it(self, tmp_path: Path) -> None:
        self.make(tmp_path, "phantom-v2", "clinic")
        assert cp.open_checkpoint("default", tmp_path).card.name == "phantom-v2"
        self.make(tmp_path, "phantom-v3")
        assert cp.open_checkpoint("default", tmp_path).card.name == "phantom-v3"
        self.make(tmp_path, "default")
        assert cp.open_checkpoint("default", tmp_path).card.name == "default"

    def test_a_single_checkpoint_is_the_default(self, tmp_path: Path) -> None:
        self.make(tmp_path, "clinic")
        assert cp.find_checkpoint(None, tmp_path).name == "clinic"

    def test_no_rule_no_guess(self, tmp_path: Path) -> None:
        self.make(tmp_path, "a", "b")
        with pytest.raises(UnknownModelError, match="a, b"):
            cp.default_checkpoint(tmp_path)
        with pytest.raises(UnknownModelError, match="there are: a, b"):
            cp.find_checkpoint("c", tmp_path)
        with pytest.raises(UnknownModelError, match="holds no checkpoint"):
            cp.default_checkpoint(tmp_path / "empty")

    def test_the_folder_comes_from_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.make(tmp_path, "clinic")
        monkeypatch.setenv("SKINOCT_MODELS", str(tmp_path))
        assert cp.open_checkpoint("clinic").card.name == "clinic"
        assert cp.open_checkpoint(tmp_path / "clinic").card.name == "clinic"


@pytest.mark.parametrize("file", [cp.WEIGHTS_FILE, README_FILE])
def test_a_save_that_is_stopped_leaves_the_old_checkpoint_and_no_rubbish(
    file: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_checkpoint(saved).card
    original = checkpoint_write._write_durably

    def stopped(path: Path, content: bytes) -> None:
        original(path, content)
        if path.name == file:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint_write, "_write_durably", stopped)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(saved, make_card("new"), UNet(CONFIG).state_dict(), overwrite=True)
    assert load_checkpoint(saved).card == before
    assert [p.name for p in saved.parent.iterdir()] == ["tiny"]


def test_ctrl_c_between_the_two_renames_brings_the_old_checkpoint_back(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_checkpoint(saved).card
    original = Path.rename

    def stopped(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise KeyboardInterrupt
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopped)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(saved, make_card("new"), UNet(CONFIG).state_dict(), overwrite=True)
    assert load_checkpoint(saved).card == before
    assert [p.name for p in saved.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_saved(value: float, tmp_path: Path) -> None:
    weights = UNet(CONFIG).state_dict()
    weights["head.bias"][0] = value
    with pytest.raises(CheckpointError, match=r"head\.bias.*lower learning_rate"):
        save_checkpoint(tmp_path / "tiny", make_card(), weights)
    assert not list(tmp_path.iterdir())
