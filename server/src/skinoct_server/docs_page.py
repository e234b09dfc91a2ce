"""``GET /docs``: the OpenAPI description as one page of plain HTML.

FastAPI's own page loads its scripts from the internet: blank where a hospital's network keeps servers to themselves,
and a stranger's code in the page everywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse

from skinoct_server.describe import LIMIT_COLUMNS, limits
from skinoct_server.settings import Settings

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse; margin: .5em 0 }} td, th {{ border: 1px solid #bbb; padding: .2em .6em;
text-align: left; vertical-align: top }} code {{ background: #f0f0f0 }} h3 {{ margin-top: 2em }}</style></head><body>
<h1>{title} {version}</h1>
<p>Segments full-field OCT tomograms of human skin. Errors are RFC 9457 problem details with a stable <code>type</code>.
Research only, not for clinical use. For programs: <a href="openapi.json">openapi.json</a>.</p>
"""
_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


def _text(text: str) -> str:
    """Return a description as HTML: what is in backticks is code, and line breaks stay."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)).replace("\n\n", "<br>").replace("\n", "<br>")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; nothing without rows."""
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr>{body}</table>" if body else ""


def _call(method: str, path: str, call: dict[str, Any]) -> str:
    parameters = [
        (f"`{p['name']}`", p["in"] + (", required" if p.get("required") else ""), p.get("description", ""))
        for p in call.get("parameters", [])
    ]
    body = call.get("requestBody", {})
    bodies = [(f"`{media_type}`", body.get("description", "")) for media_type in body.get("content", {})]
    answers = [(status, answer["description"]) for status, answer in sorted(call["responses"].items())]
    return "\n".join(
        [
            f"<h3><code>{method.upper()} {escape(path)}</code> {escape(call['summary'])}</h3>",
            f"<p>{_text(call.get('description', ''))}</p>",
            _table(("parameter", "where", "meaning"), parameters),
            _table(("body", "meaning"), bodies),
            _table(("answer", "meaning"), answers),
        ]
    )


def page(schema: dict[str, Any], settings: Settings) -> str:
    """Return the page."""
    info = schema["info"]
    calls = [
        _call(method, path, call) for path, operations in schema["paths"].items() for method, call in operations.items()
    ]
    head = _HEAD.format(title=escape(info["title"]), version=escape(info["version"]))
    return (
        f"{head}<h2>Limits</h2>{_table(LIMIT_COLUMNS, limits(settings))}<h2>Calls</h2>{''.join(calls)}</body></html>\n"
    )


def install(app: FastAPI, settings: Settings) -> None:
    """Answer ``GET /docs``."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi(), settings), headers=_POLICY)
