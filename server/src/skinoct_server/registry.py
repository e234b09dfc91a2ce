"""The front's view of the models: what the engine process reported, and which one is the default."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any

from skinoct.wire import ModelInfo
from skinoct_server.codec_client import disk_full
from skinoct_server.problems import HttpProblem

log = logging.getLogger(__name__)

_DEFAULT_FILE = "default-model"


class Registry:
    """Models by name. The admin's choice of default is kept in the data folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _DEFAULT_FILE
        self._infos: dict[str, ModelInfo] = {}
        self._preferred: str | None = None
        self.chosen = self._file.read_text().strip() if self._file.exists() else None
        """Name of the model that an administrator made the default one, if any."""
        self.known = False
        """Whether the engine has looked at the checkpoints yet."""
        self.problems: dict[str, str] = {}
        """Why checkpoints cannot be used, by name of their folder."""

    def update(self, report: dict[str, Any]) -> None:
        """Take a report of ``library.Library``."""
        for name, reason in report["problems"].items():
            if self.problems.get(name) != reason:
                log.warning("model %s cannot be used: %s", name, reason)
        self._infos = {info["name"]: ModelInfo(**info) for info in report["models"]}
        self._preferred = report["preferred"]
        self.problems = report["problems"]
        self.known = True

    @property
    def default(self) -> str | None:
        """Name of the model used when a request names none."""
        return self.chosen if self.chosen in self._infos else self._preferred

    def list(self) -> list[ModelInfo]:
        """Return all models, the default one first."""
        infos = [i.model_copy(update={"default": i.name == self.default}) for i in self._infos.values()]
        return sorted(infos, key=lambda info: (not info.default, info.name))

    def find(self, name: str | None) -> ModelInfo:
        """Return a model by name, or the default one.

        Raises
        ------
        HttpProblem
            ``unknown-model``, or ``not-ready`` when there is no model at all.
        """
        wanted = name if name is not None else self.default
        for info in self.list():
            if info.name == wanted:
                return info
        if name is None:
            reasons = " ".join(self.problems.values())
            raise HttpProblem(
                "not-ready",
                f"This server has no model that can be used. {reasons}".strip(),
                {"Retry-After": "5"},
            )
        if name in self.problems:
            raise HttpProblem("invalid-checkpoint", self.problems[name])
        known = ", ".join(sorted(self._infos)) or "none"
        raise HttpProblem("unknown-model", f"There is no model {name[:100]!r}; this server has: {known}.")

    def choose(self, name: str) -> ModelInfo:
        """Make a model the default one, also after a restart.

        Runs on the event loop: a line is written in no time, and two administrators at once take turns.

        Raises
        ------
        HttpProblem
            When it is unknown or cannot be used, or the disk is full; nothing changes then.
        """
        info = self.find(name)
        partial = self._file.with_suffix(".partial")
        try:
            partial.write_text(name + "\n")
            partial.rename(self._file)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise disk_full() from error
        self.chosen = name
        return info.model_copy(update={"default": True})
