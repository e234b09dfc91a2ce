"""The engine process's checkpoints: found in a folder, verified, loaded, a few kept ready."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinoct.checkpoint import (
    CARD_FILE,
    Card,
    Checkpoint,
    default_checkpoint,
    default_models_dir,
    list_checkpoints,
    load_checkpoint,
)
from skinoct.engines import Engine, expected_golden, make_engine, network_config
from skinoct.errors import SkinoctError, UnknownModelError
from skinoct.golden import check_answer, golden_slice
from skinoct.predictor import Predictor
from skinoct.tomogram import PixelSize, Tomogram
from skinoct.wire import ModelInfo
from skinoct_server.sharing import Member, Report, SharedEngine

log = logging.getLogger(__name__)

_KEEP = 3
"""Models kept in memory: the default one, the one before it, and another."""
_CALLS = 2
"""Of networks, at most, at the same time: as many as any engine takes at once."""


@dataclass(frozen=True)
class Model:
    """A checkpoint that is ready to use."""

    checkpoint: Checkpoint
    shared: SharedEngine

    def check_golden_slice(self) -> None:
        """Compare the engine's answer for the golden slice with what it was when the checkpoint was saved.

        Raises
        ------
        CheckpointError
            When they differ.
        """
        with self.shared.member(1) as member:
            check_golden_slice(self.checkpoint, member)


def check_golden_slice(checkpoint: Checkpoint, engine: Engine) -> None:
    """Compare an engine's answer for the golden slice with what it was when the checkpoint was saved.

    Raises
    ------
    CheckpointError
        When they differ.
    """
    card = checkpoint.card
    answer = engine.probabilities(golden_slice(network_config(checkpoint).in_slices))
    check_answer(card.name, answer, expected_golden(checkpoint), card.pixel_size_um)


class Library:
    """Checkpoints of one folder, by the sha256 of all that decides their answers (``Card.fingerprint``)."""

    def __init__(
        self,
        folder: Path | None,
        *,
        engine: str | None,
        batch: int | None,
        threads: int | None,
        warm: str | None,
        first: str | None = None,
        report: Report = lambda _tomograms, _images: None,
    ) -> None:
        self.folder = folder if folder is not None else default_models_dir()
        self.device = "none"
        self._batch = batch
        self._report = report
        self._network = ThreadPoolExecutor(_CALLS, "network")
        self._loading = threading.RLock()
        self._engine = engine or "auto"
        self._threads = threads
        self._warm = warm
        self._first = first
        self._looked = threading.Event()
        self._seen: dict[str, tuple[int, int]] = {}
        self._infos: dict[str, ModelInfo] = {}
        self._problems: dict[str, str] = {}
        self._models: OrderedDict[str, Model] = OrderedDict()

    def scan(self, on_first: Callable[[], None] = lambda: None) -> None:
        """Verify checkpoints that are new or changed; forget those that are gone.

        Parameters
        ----------
        on_first : callable
            Called once the first good one is verified. It is the default one, if that is good, so that tomograms
            need not wait for all the others.
        """
        try:
            names = list_checkpoints(self.folder)
        except OSError:  # a network share that went away just now
            names = sorted(self._seen)
        for gone in set(self._seen) - set(names):
            self._seen.pop(gone)
            self._infos.pop(gone, None)
            self._problems.pop(gone, None)
        for name in sorted(names, key=lambda name: (name != self._first, name != self._preferred(names))):
            try:
                stat = (self.folder / name / CARD_FILE).stat()
            except OSError:  # went away just now; the next scan forgets it
                continue
            stamp = (stat.st_ino, stat.st_mtime_ns)
            if self._seen.get(name) != stamp:
                self._seen[name] = stamp
                had_none = not self._infos
                self._verify(name)
                if had_none and self._infos:
                    on_first()
        self._looked.set()

    def report(self) -> dict[str, Any]:
        """Return what can be used, what cannot and why, and the model to use when none is named."""
        good = sorted(self._infos)
        return {
            "models": [self._infos[name].model_dump() for name in good],
            "problems": self._problems,
            "preferred": self._preferred(good),
        }

    def warm_up(self, *, calibrated: bool) -> None:
        """Segment one slice of the usual size: what is compiled at first use is there before the first tomogram.

        Parameters
        ----------
        calibrated : bool
            Whether its pixel size is told. Where it is not, the image is tried enlarged as well, for which more is
            compiled.
        """
        name = next(iter(self._infos), None)
        if name is None:
            return
        model = self.model(self._infos[name].sha256)
        voxels = np.tile((golden_slice(1)[0] * 255).astype(np.uint8), 2)  # 224 x 512
        pixel_um = model.checkpoint.card.pixel_size_um
        size = PixelSize(pixel_um, pixel_um) if calibrated else None
        with model.shared.member(1) as member:
            self.predictor(model, member).segment(Tomogram(voxels, "the golden slice", size))

    def predictor(self, model: Model, member: Member) -> Predictor:
        """Return a predictor for one tomogram."""
        return Predictor(model.checkpoint, engine=member, batch=self._batch)

    def model(self, sha256: str) -> Model:
        """Return a model, loading it when it is not at hand; waits for the first look at all checkpoints.

        Raises
        ------
        UnknownModelError
            When the checkpoint has gone since the job was accepted.
        CheckpointError
            When it is damaged.
        """
        if (model := self._models.get(sha256)) is not None:  # without waiting for another one that is being loaded
            with contextlib.suppress(KeyError):
                self._models.move_to_end(sha256)
            return model
        if self._folder(sha256) is None:
            self._looked.wait()
        with self._loading:
            if sha256 in self._models:
                return self._models[sha256]
            folder = self._folder(sha256)
            if folder is None:
                raise UnknownModelError(
                    "The model that this job was accepted for is gone from the server. Post the tomogram again."
                )
            return self._load(folder, sha256)

    def _folder(self, sha256: str) -> Path | None:
        """Return the folder of a checkpoint that was found good, one of them where there are copies."""
        return next((self.folder / name for name, info in list(self._infos.items()) if info.sha256 == sha256), None)

    def _load(self, folder: Path, sha256: str | None = None) -> Model:
        checkpoint = load_checkpoint(folder)
        found = checkpoint.card.fingerprint
        if sha256 not in (None, found):
            raise UnknownModelError(
                f"The model {folder.name} was replaced after this job was accepted. Post the tomogram again."
            )
        engine = make_engine(checkpoint, self._engine, threads=self._threads)
        channels = network_config(checkpoint).in_slices
        model = Model(checkpoint, SharedEngine(engine, channels, self._batch, self._network, self._report))
        model.check_golden_slice()
        self.device = engine.name
        self._models[found] = model
        if not self._looked.is_set():  # whoever is only looked at must not push out the default one
            self._models.move_to_end(found, last=False)
        while len(self._models) > _KEEP:
            self._models.popitem(last=False)
        return model

    def _verify(self, name: str) -> None:
        """Load one checkpoint; a bad one leaves a reason and whatever of that name worked before."""
        try:
            with self._loading:
                card = self._load(self.folder / name).checkpoint.card
        except SkinoctError as error:
            self._problems[name] = str(error)
        except Exception as error:  # a damaged file can raise anything; the server goes on with the others
            log.exception("checkpoint %s", name)
            self._problems[name] = f"The checkpoint {name} cannot be loaded ({type(error).__name__}). Copy it again."
        else:
            self._problems.pop(name, None)
            self._infos[name] = _info(name, card)

    def _preferred(self, names: list[str]) -> str | None:
        if self._warm is not None:
            return self._warm if self._warm in names else None
        try:
            best = default_checkpoint(self.folder)
        except UnknownModelError:
            best = None
        return best if best in names else next(iter(names), None)


def _info(name: str, card: Card) -> ModelInfo:
    return ModelInfo(
        name=name,
        sha256=card.fingerprint,
        weights_sha256=card.weights_sha256,
        default=False,
        description=card.description,
        pixel_size_um=card.pixel_size_um,
        classes=list(card.classes),
        intended_use=card.intended_use,
    )
