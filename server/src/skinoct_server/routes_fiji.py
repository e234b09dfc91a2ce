"""``GET /fiji``: the plugin for a workstation without Python, as one zip and a page that says where it goes.

The zip is made by ``skinoct-fiji zip`` and lies beside this module, since the server never imports the plugin.
"""

from __future__ import annotations

from html import escape
from importlib import resources

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse

from skinoct import __version__

ZIP = "skinoct-fiji.zip"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Segment skin in Fiji</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 42em; margin: 2em auto; padding: 0 1em }}</style></head><body>
<h1>Segment skin in Fiji</h1>
<p><a href="fiji/{zip}" download><b>{zip}</b></a> (skinoct {version}) puts <i>Plugins &gt; Skin</i> into Fiji.
It needs no Python and no installer.</p>
<ol>
<li>Quit Fiji. Unpack the zip <b>into the folder Fiji.app</b> (newer: <b>Fiji</b>), the one that holds <code>jars</code>
and <code>plugins</code>, so that <code>Fiji.app/scripts/Plugins/Skin</code> and <code>Fiji.app/lib/skinoct</code>
come to be. Nothing that is there is replaced.</li>
<li>Start Fiji. Choose <i>Plugins &gt; Skin &gt; Server settings...</i>, enter <code>{address}</code> and the key
that you were given, if there is one, and press <i>Test connection</i>.</li>
<li>Open a tomogram and choose <i>Plugins &gt; Skin &gt; Segment skin</i>.</li>
</ol>
<p>To take it out again, delete these two folders. Research only, not for clinical use.</p>
</body></html>
"""

router = APIRouter(tags=["fiji"])


@router.get("/fiji", summary="How to put Segment skin into Fiji", response_class=HTMLResponse)
async def page(request: Request) -> HTMLResponse:
    """Say where the zip goes and which address to enter; for browsers."""
    address = escape(str(request.base_url).rstrip("/"))
    return HTMLResponse(_PAGE.format(zip=ZIP, version=escape(__version__), address=address))


@router.get(
    f"/fiji/{ZIP}",
    summary="Segment skin for a Fiji without Python",
    response_class=Response,
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def archive() -> Response:
    """Send the scripts as one zip, to be unpacked in the folder of Fiji."""
    content = (resources.files("skinoct_server") / "fiji" / ZIP).read_bytes()
    headers = {"Content-Disposition": f'attachment; filename="{ZIP}"'}
    return Response(content, media_type="application/zip", headers=headers)
