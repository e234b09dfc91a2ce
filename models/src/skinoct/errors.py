"""Every error a user can meet. The text of each says what is wrong, where, and what to do.

SkinoctError
    InputError                 something the user gave cannot be used
        TomogramError          a tomogram file or array
        RoiError               an ROI or a RoiSet.zip
        DatasetError           a training folder
        OptionError            a value of an option
    CheckpointError            a checkpoint folder cannot be used
        UnknownModelError      no checkpoint of that name
    OutOfMemoryError           the engine ran out of memory even at batch size 1
    Cancelled                  the user asked to stop
"""

from __future__ import annotations


class SkinoctError(Exception):
    """Base of all errors; ``str(error)`` is one or two sentences for the user, with the cure.

    ``kind`` is a stable slug that ends the ``type`` URI of an HTTP problem.
    """

    kind = "error"

    def __init__(self, detail: str, *, kind: str | None = None) -> None:
        super().__init__(detail)
        if kind is not None:
            self.kind = kind


class InputError(SkinoctError):
    """Something the user gave cannot be used."""

    kind = "invalid-input"


class TomogramError(InputError):
    """A tomogram cannot be read or segmented."""

    kind = "invalid-tomogram"


class RoiError(InputError):
    """An ROI or RoiSet.zip cannot be used."""

    kind = "invalid-roi"


class DatasetError(InputError):
    """A training folder cannot be used."""

    kind = "invalid-dataset"


class OptionError(InputError):
    """An option has a value that cannot be used."""

    kind = "invalid-option"


class CheckpointError(SkinoctError):
    """A checkpoint folder is incomplete, damaged or of another format."""

    kind = "invalid-checkpoint"


class UnknownModelError(CheckpointError):
    """No model of that name is available."""

    kind = "unknown-model"


class OutOfMemoryError(SkinoctError):
    """The engine ran out of memory even at batch size 1."""

    kind = "out-of-memory"


class Cancelled(SkinoctError):  # noqa: N818 - a request of the user, not a failure
    """The user asked to stop."""

    kind = "cancelled"
