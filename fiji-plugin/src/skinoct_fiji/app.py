"""All entries, and opening ImageJ with them."""

from __future__ import annotations

import time

from skinoct_fiji.bridge.gateway import Gateway
from skinoct_fiji.bridge.jvm import Installation, start
from skinoct_fiji.commands import correction, folder, help, layers, measure, segment
from skinoct_fiji.front import Command, Front

ENTRIES: dict[str, Command] = {
    segment.LABEL: segment.segment,
    folder.LABEL: folder.segment_all,
    measure.LABEL: measure.measure,
    layers.EXPORT: layers.export,
    layers.DISPLAY: layers.display,
    correction.LABEL: correction.save,
    help.SETTINGS: help.settings,
    help.HELP: help.show_help,
}
"""Label to command, in the order of the menu."""
BESIDE = (layers.DISPLAY, help.SETTINGS, help.HELP)
"""Entries that can be used while another one is at work."""


def open_imagej(installation: Installation, *, server: str | None = None, memory: str = "2g") -> Gateway:
    """Open ImageJ with *Plugins > Skin*; return as soon as it can be used."""
    start(installation, memory=memory)
    ij = Gateway()
    if server is not None:
        ij.remember({"server": server})
    Front(ij, ENTRIES, BESIDE).install()
    ij.status("skinoct is ready: Plugins > Skin > Segment skin")
    return ij


def run_macro(installation: Installation, text: str, argument: str = "", *, memory: str = "2g") -> str:
    """Run an ImageJ macro with our entries and without a window; return what it returns.

    Raises
    ------
    FijiError
        When the macro stops with an error; the sentence is the macro's.
    """
    start(installation, memory=memory, window=False)
    ij = Gateway()
    Front(ij, ENTRIES, BESIDE).install()
    return ij.evaluate(text, argument)


def stay(ij: Gateway) -> None:
    """Keep this process alive until the user quits ImageJ."""
    while ij.running():
        time.sleep(0.3)
