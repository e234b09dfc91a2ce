"""``skinoct-train``: one module of ``skinoct_training.commands`` per subcommand."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from skinoct.errors import SkinoctError

COMMANDS = {
    "phantom": "make synthetic tomograms with their truth",
    "check": "look for mistakes in a training folder before anyone trains on it",
    "fit": "train a network on tomograms and ROI sets",
    "average": "take the mean of a checkpoint and of one trained further from it",
    "evaluate": "measure a checkpoint on annotated tomograms",
    "tune": "choose the settings of ordered decoding for a checkpoint",
    "crossval": "train and measure with each tomogram left out in turn",
    "ablate": "measure what each part of the recipe gives",
    "agree": "compare two doctors' ROI sets of one tomogram",
    "explain": "show what the network's filters respond to",
    "benchmark": "measure how fast a training runs on this machine",
    "export": "write a checkpoint as ONNX or as a bioimage.io package",
}
"""Each is a module in ``commands`` with ``add_arguments(parser)`` and ``run(args)``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return the exit status.

    0 is success, 1 what the user can mend, 2 wrong usage, 130 Ctrl-C.
    """
    logging.basicConfig(format="%(message)s", level=logging.ERROR, stream=sys.stderr)
    for ours in ("skinoct", "skinoct_training"):
        logging.getLogger(ours).setLevel(logging.INFO)
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="skinoct-train", description="Train and measure networks that find the layers of skin."
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        # Only the chosen command is imported: torch takes seconds.
        if name in words[:1]:
            module = importlib.import_module(f"skinoct_training.commands.{name}")
            module.add_arguments(sub)
            sub.set_defaults(execute=module.run)
    args = parser.parse_args(words)
    try:
        args.execute(args)
    except SkinoctError as error:
        print(f"skinoct-train {args.command}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        what = f"{error.filename} cannot be read or written" if error.filename else "A file cannot be read or written"
        cure = "make room on the disk, or check the folder and its permissions."
        print(f"skinoct-train {args.command}: {what} ({error.strerror or error}); {cure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
