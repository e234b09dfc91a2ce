"""What the workstation remembers: server, key, last options - and the *Test connection* button."""

from __future__ import annotations

import os
from dataclasses import replace

from skinoct.errors import OptionError, SkinoctError
from skinoct_fiji.bridge.gateway import Gateway
from skinoct_fiji.client import DEFAULT_SERVER, ServerClient
from skinoct_fiji.options import SegmentOptions


def remembered(ij: Gateway) -> SegmentOptions:
    """Return the options of the last dialog; factory settings when they cannot be read."""
    server = ij.remembered("server", DEFAULT_SERVER)
    try:
        return replace(SegmentOptions.from_macro(ij.remembered("options", "")), server=server)
    except OptionError:
        return SegmentOptions(server=server)


def api_key(ij: Gateway) -> str | None:
    """Return the API key: ``SKINOCT_API_KEY``, else the one from *Server settings*; never part of a macro."""
    return os.environ.get("SKINOCT_API_KEY") or ij.remembered("key", "") or None


def connection_sentence(server: str, key: str | None) -> str:
    """Say in a sentence how a server answers, with the cure when it does not."""
    try:
        with ServerClient(server, key, patience=0) as client:
            info = client.check()
            models = client.models()
    except SkinoctError as error:
        return str(error)
    default = next((model.name for model in models if model.default), "none")
    return f"Connected to skinoct-server {info.version} at {client.url}: {len(models)} model(s), default '{default}'."
