"""The ASGI application as a function of its settings. Importing this module does no work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from skinoct import __version__
from skinoct_server import describe, docs_page, problems, routes, routes_fiji, routes_jobs
from skinoct_server.heads import Heads
from skinoct_server.metrics import Metrics
from skinoct_server.middleware import RequestContext, SmallBodies
from skinoct_server.service import running
from skinoct_server.settings import Settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; its child processes start and stop with its lifespan.

    Raises
    ------
    skinoct.errors.OptionError
        When the key file cannot be used.
    """
    settings = settings if settings is not None else Settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, metrics) as service:
            app.state.service = service
            yield

    app = FastAPI(version=__version__, lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None)
    app.include_router(routes.router)
    app.include_router(routes_jobs.router)
    app.include_router(routes_fiji.router)
    problems.install(app)
    describe.install(app, settings)
    docs_page.install(app, settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    app.add_middleware(SmallBodies, settings=settings)
    app.add_middleware(Heads)
    app.add_middleware(RequestContext, metrics=metrics)
    return app
