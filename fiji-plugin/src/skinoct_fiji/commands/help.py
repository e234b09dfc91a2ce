"""*Help* and *Server settings...*."""

from __future__ import annotations

from skinoct_fiji import __version__
from skinoct_fiji.bridge import dialogs
from skinoct_fiji.failures import Declined
from skinoct_fiji.front import Run
from skinoct_fiji.settings import connection_sentence, remembered

SETTINGS = "Server settings..."
HELP = "Help on Skin"
TEXT = """Segment skin finds glass, glycerol, epidermis, DEJ and dermis in OCT tomograms of skin.

1. Start the server: skinoct-server serve - or enter the address of yours under Server settings.
2. Open a tomogram (a stack of B-scans) and choose Plugins > Skin > Segment skin.
3. Escape stops. Layer display changes colors. Export layers puts outlines into the ROI Manager.
4. Correct some, then Save correction for training.

Its shipped models were trained on synthetic tomograms: not for clinical use."""


def settings(run: Run) -> None:
    """Ask for the server's address and key, and try them."""
    last = remembered(run.ij)
    fields: list[dialogs.Field] = [
        dialogs.Text("server", "Server", last.server, 30),
        dialogs.Text("key", "API key (empty: none)", run.ij.remembered("key", ""), 30, secret=True),
        dialogs.Button(
            "Test connection",
            lambda values: connection_sentence(str(values["server"]), str(values["key"]) or None),
        ),
        dialogs.Note("The key is kept in ImageJ's preferences file, never in a macro."),
    ]
    values = dialogs.ask(SETTINGS.removesuffix("..."), fields)
    if values is None:
        raise Declined("")
    run.ij.remember({"server": str(values["server"]).strip(), "key": str(values["key"]).strip()})
    run.status("kept", 1.0)


def show_help(run: Run) -> None:
    """Say in a few lines what there is."""
    run.ij.say(f"skinoct {__version__}", TEXT)
