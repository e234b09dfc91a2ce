"""HTTP/1.1 as strangers speak it: endless headers and trailers, what is not HTTP, upgrades that nobody wants."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

MIB = 1 << 20
HANG_UP_SECONDS = 8
"""Within which the server must end what goes on too long; its deadline for headers comes later."""
CHUNKED = b"POST /segment HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def converse(server, parts: Iterator[bytes] | list[bytes]) -> bytes:
    """Send what a client might, until the server hangs up, and return all that it says."""
    host, port = server.url.removeprefix("http://").split(":")
    said = b""
    with socket.create_connection((host, int(port)), HANG_UP_SECONDS) as client:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                client.sendall(part)
        with contextlib.suppress(ConnectionError):
            while part := client.recv(65536):
                said += part
    return said


def problem(said: bytes) -> dict[str, object]:
    """Return the only answer's problem."""
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"connection: close" in head.lower()
    parsed: dict[str, object] = json.loads(body)
    return parsed


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /" + b"a" * MIB, id="address"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * MIB, id="one-header"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X-Much: more\r\n" * 80_000, id="many-headers"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X" * MIB, id="a-name-without-end"),
    ],
)
def test_an_endless_head_is_cut_off(live_server, head):
    said = converse(live_server, [head])
    # Whoever still sends when the server hangs up may lose the answer.
    assert said == b"" or problem(said)["status"] == 400
    assert live_server.http.get("/healthz").status_code == 200


@pytest.mark.parametrize("trailer", [b"X-More: data\r\n", b"x" * 1000], ids=["many", "one-without-end"])
def test_endless_trailers_are_cut_off(live_server, trailer):
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        yield CHUNKED + b"5\r\nhello\r\n0\r\n"
        while sent < 64 * MIB:
            sent += len(trailer) * 100
            yield trailer * 100

    said = converse(live_server, parts())
    assert sent < 16 * MIB, "the server read on"
    assert said == b"" or b" 400 " in said


def test_trailers_are_no_headers(live_server):
    body = b"2\r\nno\r\n0\r\nAccept: text/plain\r\nX-After: it\r\n\r\n"
    said = converse(live_server, [CHUNKED.replace(b"Host: x", b"Host: x\r\nConnection: close") + body])
    assert b" 422 " in said
    assert b"not-a-tomogram" in said


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"no such thing\r\n\r\n", id="no-http"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="tls"),
        pytest.param(
            b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            id="lengths",
        ),
        pytest.param(b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", id="negative"),
        pytest.param(CHUNKED + b"zz\r\nhello\r\n", id="chunk-size"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX-Line: a\nb\x00\r\n\r\n", id="nul"),
        pytest.param(b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", id="address"),
    ],
)
def test_what_is_not_http(live_server, request_bytes):
    told = problem(converse(live_server, [request_bytes]))
    assert told["status"] == 400
    assert told["type"] == "urn:skinoct:problem:bad-request"


def test_an_upgrade_that_nobody_wants_is_a_request_like_others(live_server, make_tiff):
    """Java's HTTP client asks for HTTP/2 in its first request, with the tomogram in it."""
    body = make_tiff(2, 32, 32)
    head = (
        "POST /segment HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        f"HTTP2-Settings: AAEAAEAAAAIAAAAB\r\nContent-Length: {len(body)}\r\nAccept: application/json\r\n\r\n"
    )
    host, port = live_server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 20) as client:
        for _ in range(2):  # the connection goes on
            client.sendall(head.encode() + body)
            said = b""
            while b"\r\n\r\n" not in said:
                part = client.recv(65536)
                assert part, said
                said += part
            assert said.startswith(b"HTTP/1.1 200 OK"), said
            length = int(said.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(said.partition(b"\r\n\r\n")[2]) < length:
                part = client.recv(65536)
                assert part, said
                said += part
            assert b'"slices"' in said.replace(b" ", b"")
