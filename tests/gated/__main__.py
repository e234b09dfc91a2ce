"""The front as it is, but for the name of its engine's module."""

from __future__ import annotations

import sys
from typing import Any

from skinoct_server import cli, engine_client
from skinoct_server.channel import Child


class GatedChild(Child):
    """Starts ``gated.engine`` in the place of ``skinoct_server.engine``."""

    def __init__(self, module: str, *rest: Any) -> None:
        assert module == "skinoct_server.engine"
        super().__init__("gated.engine", *rest)


engine_client.Child = GatedChild
sys.exit(cli.main())
