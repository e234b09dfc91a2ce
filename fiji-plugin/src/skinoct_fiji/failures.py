"""What goes wrong on the workstation itself; the server's errors are in ``client``."""

from __future__ import annotations

from skinoct.errors import SkinoctError


class FijiError(SkinoctError):
    """ImageJ or Fiji cannot be found, started or used."""

    kind = "fiji"


class ImageError(FijiError):
    """The image in front cannot be segmented."""

    kind = "image"


class Declined(FijiError):  # noqa: N818 - the user pressed Cancel in a dialog, not a failure
    """The user closed a dialog without OK."""

    kind = "declined"
