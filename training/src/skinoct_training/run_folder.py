"""The run folder: everything needed to follow, understand, repeat and resume a training.

    runs/<name>/config.json         settings, command, versions, environment
                data.json           tomograms trained on and held out, with the SHA-256 of every file
                metrics.csv         one row per epoch
                tensorboard/        the same with pictures, where TensorBoard is installed
                state.safetensors   where to go on: weights, average, optimizer, epoch (replaced after each
                epoch)

``state.safetensors`` is written beside its old version and renamed over it, so a kill at any moment loses
at most the current epoch.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from skinoct.errors import CheckpointError, OptionError
from skinoct_training.files import complete_or_absent, write_text

STATE = "state.safetensors"
CONFIG = "config.json"
BEGUN = frozenset({CONFIG, "data.json", "metrics.csv", "tensorboard"})
"""All that a run leaves behind which was stopped before its first epoch was over."""


class RunFolder:
    """One training's folder.

    Parameters
    ----------
    folder : Path
    resume : bool
        Go on with what lies there; otherwise the folder must be new or empty.
    writing : bool
        False for all but the first of several processes.

    Raises
    ------
    OptionError
        When the folder holds another run and ``resume`` is false, or nothing to resume.

    Notes
    -----
    A run without a finished epoch is begun anew in its folder, with and without ``resume``: data that could not
    be read, or a kill, leave nothing worth keeping there and must not stand in the way of the same command.
    """

    def __init__(self, folder: Path, *, resume: bool, writing: bool = True) -> None:
        self.folder = folder
        self.writing = writing
        begun = only_begun(folder)
        if resume and not (begun or (folder / STATE).is_file()):
            raise OptionError(
                f"There is nothing to resume in {folder}; leave --resume away, or give --run the folder of the run."
            )
        self.resuming = resume and not begun
        if writing and not resume and not begun and folder.is_dir() and any(folder.iterdir()):
            raise OptionError(
                f"{folder} holds another run; give --resume to go on with it, or --run with another folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        if begun:
            self.forget_metrics_after(0)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, replacing that of an interrupted run.

        Raises
        ------
        OptionError
            When a run is resumed with other settings or other data: it would not go on as if nothing had happened.
        """
        if self.resuming:
            self._require_same(name, content)
        if not self.writing:
            return
        write_text(self.folder / name, json.dumps(content, indent=2, default=str) + "\n")

    def _require_same(self, name: str, content: Mapping[str, Any]) -> None:
        try:
            before = json.loads((self.folder / name).read_text(encoding="utf-8"))
            now = json.loads(json.dumps(content, default=str))
            if name == CONFIG:
                before, now = settled(before), settled(now)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return  # the state itself will tell
        changed = difference(before, now)
        if changed is None:
            return
        what, old, new = changed
        if what.startswith("network"):
            raise OptionError(
                f"The run in {self.folder} trains another network than the settings ask for; give --resume with the "
                "settings that it was begun with, or leave it away and choose another --out."
            )
        kind = "settings" if name == CONFIG else "data"
        raise OptionError(
            f"The run in {self.folder} was begun with other {kind} ({what}: {old}, now {new}) and cannot go on as if "
            "nothing had happened; repeat its own, or begin a new run with --from and the checkpoint so far."
        )

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add an epoch to metrics.csv."""
        path = self.folder / "metrics.csv"
        fresh = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)

    def forget_metrics_after(self, epoch: int) -> None:
        """Drop rows of epochs whose state was never saved, because they are about to be trained again."""
        path = self.folder / "metrics.csv"
        if not path.exists() or not self.writing:
            return
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        # A row that a full disk cut off lacks values.
        kept = [row for row in rows if None not in row.values() and int(row["epoch"]) <= epoch]
        with complete_or_absent(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(kept)

    def save_state(self, tensors: dict[str, Tensor], values: Mapping[str, Any]) -> None:
        """Save where the training stands, atomically.

        Raises
        ------
        CheckpointError
            When the disk refuses, for example because it is full; the state before is kept.
        """
        partial = self.folder / f".{STATE}.partial"
        content = safetensors.torch.save(
            {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, {"values": json.dumps(values)}
        )
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.folder / STATE)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise CheckpointError(
                f"The training could not be saved in {self.folder} ({error.strerror or error}); make room "
                "and go on "
                "with --resume. The epoch before is kept."
            ) from None

    def load_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read what ``save_state`` wrote."""
        try:
            with safetensors.safe_open(self.folder / STATE, "pt") as file:
                values = json.loads(file.metadata()["values"])
                return {name: file.get_tensor(name) for name in file.keys()}, values  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.folder / STATE} is damaged ({error}); start the training again in another folder."
            ) from None


def settled(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of ``config.json`` must stay when a run is resumed: options by their names, then the settings.

    Options come first: ``--from`` changes settings too, but is what the user gave.
    """
    start = content.get("start")
    options = {f"--{name}": value for name, value in content.get("options", {}).items()}
    weights = f"{start['name']} ({start['weights_sha256'][:12]})" if start else None
    return {"--from": weights, **options, **content["config"]}


def difference(before: Any, now: Any, path: str = "") -> tuple[str, str, str] | None:
    """Return the first place where two JSON values differ, and both values there; None when they agree.

    A key of an object that only ``now`` has counts as equal: settings may have come after the run was begun. Tomograms
    that were added show in the lists of their names.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for key, value in before.items():
            found = difference(value, now.get(key), f"{path}.{key}" if path else key)
            if found is not None:
                return found
        return None
    return None if before == now else (path, shortened(before), shortened(now))


def shortened(value: Any) -> str:
    """Write a value for people in a few words."""
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def only_begun(folder: Path) -> bool:
    """Tell whether a folder holds a run, and nothing else, that was stopped before its first epoch was over."""
    if not (folder / CONFIG).is_file():
        return False
    names = {path.name for path in folder.iterdir() if ".partial" not in path.name}
    return names <= BEGUN


def environment() -> dict[str, str]:
    """Describe the software and machine that a training ran on."""
    packages = ("skinoct", "skinoct-training", "torch", "numpy")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        **{name: metadata.version(name) for name in packages},
        "code": code_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "gpu": gpu,
        "threads": str(torch.get_num_threads()),
    }


def code_version() -> str:
    """Return the commit that this code is from, with a + where files of the checkout were changed."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        # A package that is merely installed below somebody's checkout is not from there.
        for words in (["ls-files", "--error-unmatch", here.name], ["describe", "--always", "--dirty=+"]):
            done = subprocess.run([*git, *words], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "not a checkout"
    return done.stdout.strip()


def processor() -> str:
    """Return the name of the processor and the number of its cores here."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {psutil.cpu_count()} cores"
