"""Run the application under uvicorn, and leave in order: not ready, drain, go."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import ssl
from types import FrameType

import uvicorn
from fastapi import FastAPI

from skinoct.errors import OptionError
from skinoct_server.app import create_app
from skinoct_server.jobs import JobStore
from skinoct_server.keys import is_loopback, read_keys
from skinoct_server.protocol import guarded_protocol
from skinoct_server.service import Service, data_folder
from skinoct_server.settings import Settings

log = logging.getLogger(__name__)


def check_exposure(settings: Settings) -> None:
    """Refuse to serve others without keys.

    Raises
    ------
    OptionError
        When the address is not loopback and there is neither a key file nor ``insecure``.
    """
    if not is_loopback(settings.host) and settings.api_key_file is None and not settings.insecure:
        raise OptionError(
            f"Others can reach {settings.host}, so that address needs API keys: make one with "
            "`skinoct-server key "
            "keys.txt NAME` and add --api-key-file keys.txt (or --insecure, on a network where everybody "
            "may use it)."
        )


def check_files(settings: Settings) -> None:
    """Refuse at once what the start would stumble over later, so that an operator reads a sentence.

    Raises
    ------
    OptionError
        When the key file, the certificate or the data folder cannot be used.
    """
    if settings.api_key_file is not None:
        read_keys(settings.api_key_file)
    if settings.ssl_certfile is not None or settings.ssl_keyfile is not None:
        check_certificate(settings)
    with data_folder(settings) as folder:
        JobStore(folder).close()


def check_certificate(settings: Settings) -> None:
    """Refuse a certificate that cannot be used.

    Raises
    ------
    OptionError
        When a file is missing, or is no certificate or key.
    """
    if settings.ssl_certfile is None:
        raise OptionError("--ssl-keyfile needs its certificate; give it with --ssl-certfile.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
    except OSError as error:  # of which ssl.SSLError is a kind
        raise OptionError(
            f"The certificate {settings.ssl_certfile} or its key cannot be used ({error.strerror or error}). Give PEM "
            "files that belong together with --ssl-certfile and --ssl-keyfile."
        ) from None


def allow_files(settings: Settings) -> None:
    """Let this process have as many files open as connections may need; many systems begin with 1,024."""
    wanted = 2 * settings.max_connections + 256  # a request has its upload or its answer open, too
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def bind(settings: Settings) -> socket.socket:
    """Open the port before anything is loaded, so that a taken one is told at once.

    Raises
    ------
    OptionError
        When the port cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        # asyncio turns Nagle's delay (40 ms an answer) off only where a socket names its protocol
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(1024)
    except OSError as error:
        raise OptionError(
            f"Port {settings.port} of {settings.host} cannot be used ({error.strerror or error}). Choose "
            "another with "
            "--port, or --port 0 for a free one."
        ) from None
    listener.setblocking(False)
    return listener


class DrainingServer(uvicorn.Server):
    """Finishes its work, with `/readyz` at 503, before it closes; obeys a second signal at once."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on the first signal."""
        service: Service | None = getattr(self._app.state, "service", None)
        if service is None or self._draining is not None or not self.started:
            self.force_exit = self._draining is not None
            super().handle_exit(sig, frame)
            return
        loop = self.servers[0].get_loop()
        self._draining = loop.create_task(self._drain(service, sig))
        loop.call_soon_threadsafe(lambda: None)  # wakes the loop: signals come between its steps

    async def _drain(self, service: Service, sig: int) -> None:
        log.info("%s: finishing what is running", signal.Signals(sig).name)
        await service.queue.drain(self._settings.drain_seconds)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where the server is, in one line that scripts can wait for."""
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            scheme = "https" if self._settings.ssl_certfile else "http"
            shown = f"[{host}]" if ":" in host else host
            print(
                f"skinoct-server listens on {scheme}://{shown}:{port}  (documentation: /docs, stop: Ctrl-C)",
                flush=True,
            )


def serve(settings: Settings) -> None:
    """Serve until a signal comes.

    Raises
    ------
    OptionError
        When the settings cannot be used.
    """
    check_exposure(settings)
    check_files(settings)
    allow_files(settings)
    app = create_app(settings)
    listener = bind(settings)
    config = uvicorn.Config(
        app,
        http=guarded_protocol(settings),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        ssl_certfile=str(settings.ssl_certfile) if settings.ssl_certfile else None,
        ssl_keyfile=str(settings.ssl_keyfile) if settings.ssl_keyfile else None,
    )
    server = DrainingServer(config, app, settings)
    server.run(sockets=[listener])
    if not server.started:
        raise OptionError("The server did not start; its log says why.")
