"""The server: the ASGI app, its parts in the order they start and stop, and the process that serves it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from nas_service import __version__
from nas_service.api import architectures, catalogue, datasets, exports, searches, system, trials
from nas_service.api.auth import check_binding, first_token
from nas_service.api.guard import Guard
from nas_service.api.problems import install_problems
from nas_service.api.state import State
from nas_service.dashboards import OptunaDashboard
from nas_service.dashboards import router as ray_router
from nas_service.database.schema import migrate
from nas_service.database.session import Database
from nas_service.errors import Misconfigured, NasError
from nas_service.export.worker import Exporter
from nas_service.search.cluster import Cluster
from nas_service.search.supervisor import Supervisor
from nas_service.settings import Settings
from nas_service.web import pages

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "web" / "static"


def create_app(state: State) -> FastAPI:
    """The app over its state; starting and stopping the parts is the lifespan's."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        starter = threading.Thread(target=_start_parts, args=(state,), name="starter", daemon=True)
        starter.start()
        yield
        state.stopping.set()
        await asyncio.to_thread(_stop_parts, state, starter)

    app = FastAPI(
        title="NAS service",
        version=__version__,
        description="Neural architecture search: post a search, watch it, take the winner home.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.nas = state
    install_problems(app, pages.page_for_error)
    for part in (searches, trials, architectures, catalogue, datasets, exports, system, pages):
        app.include_router(part.router)
    app.include_router(ray_router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def _start_parts(state: State) -> None:
    """Start database, exporter, cluster, supervisor in turn; /readyz answers 503 with the reason until all are up."""
    settings = state.settings
    while not state.stopping.is_set():
        try:
            state.not_ready = "the database is being opened"
            migrate(state.database)
            state.database.check()
            first_token(state.database, settings)
            break
        except Misconfigured as error:
            state.not_ready = error.detail
            log.error("%s", error.detail)
            return
        except Exception as error:  # away: it may come back, so ask again
            state.not_ready = f"the database does not answer: {str(error).splitlines()[0]}"
            log.warning("%s", state.not_ready)
            time.sleep(1)
    state.exporter = Exporter(state.database, settings)
    state.exporter.start()
    if settings.executor == "ray":
        state.not_ready = "Ray is starting"
        try:
            state.cluster = Cluster(settings)
            state.cluster.start()
        except NasError as error:
            state.not_ready = error.detail
            log.error("%s", error.detail)
            return
    if state.stopping.is_set():
        return
    state.supervisor = Supervisor(state.database, settings, state.cluster)
    state.supervisor.start()
    state.not_ready = ""


def _stop_parts(state: State, starter: threading.Thread) -> None:
    starter.join(30)
    if state.supervisor is not None:
        state.supervisor.stop()
    if state.exporter is not None:
        state.exporter.stop()
    if state.cluster is not None:
        state.cluster.stop()
    state.database.close()


class Server(uvicorn.Server):
    """uvicorn that ends event streams before it waits for them, and that ends with exit code 0 after a signal."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._state.stopping.set()
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises Misconfigured when a setting does not fit."""
    check_binding(settings)
    for folder in (settings.data_dir, settings.searches_dir, settings.exports_dir, settings.upload_dir):
        folder.mkdir(parents=True, exist_ok=True)
    settings = _with_ports(settings)
    state = State(settings, Database(settings.url))
    optuna = OptunaDashboard(state)
    options: dict[str, Any] = {
        "host": settings.host, "log_level": "warning", "timeout_graceful_shutdown": 3, "timeout_keep_alive": 15,
        "server_header": False, "limit_concurrency": 500,
    }  # fmt: skip
    main = Server(uvicorn.Config(Guard(create_app(state), settings), port=settings.port, **options), state)
    side = uvicorn.Server(uvicorn.Config(Guard(optuna, settings), port=settings.optuna_port, lifespan="off", **options))
    side_thread = threading.Thread(target=side.run, name="optuna-dashboard")
    side_thread.start()
    threading.Thread(target=_announce, args=(state, optuna), name="announce", daemon=True).start()
    try:
        main.run()
    finally:
        state.stopping.set()
        side.should_exit = True
        side_thread.join()


def _with_ports(settings: Settings) -> Settings:
    """The settings with free ports where 0 was asked. Raises Misconfigured when a port is taken."""
    chosen = {}
    for name in ("port", "optuna_port"):
        with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, getattr(settings, name)))
            except OSError as error:
                raise Misconfigured(
                    f"{name} {getattr(settings, name)} on {settings.host} cannot be used: {error.strerror}; "
                    "choose another, or 0 for any free one"
                ) from error
            chosen[name] = probe.getsockname()[1]
    return settings.model_copy(update=chosen)


def _announce(state: State, optuna: OptunaDashboard) -> None:
    """Open Optuna's dashboard when the database is there, and say where everything is."""
    settings = state.settings
    base = f"http://{settings.host}:{settings.port}"
    token = (
        "no token needed on loopback" if settings.insecure_loopback else f"token in {settings.data_dir / 'admin.token'}"
    )
    print(f"NAS service {__version__}   {base}   ({token})", flush=True)
    print(f"  API         {base}/docs", flush=True)
    print(f"  Optuna      http://{settings.host}:{settings.optuna_port}/   (after signing in)", flush=True)
    if settings.executor == "ray":
        print(f"  Ray         {base}/ray/", flush=True)
    print(f"  data        {settings.data_dir}", flush=True)
    said = ""
    while state.not_ready and not state.stopping.is_set():
        if state.not_ready != said:
            said = state.not_ready
            print(f"  ... {said}", flush=True)
        time.sleep(0.1)
    if state.stopping.is_set():
        return
    print("  ready", flush=True)
    try:
        optuna.open()
    except Exception:
        log.exception("Optuna's dashboard is switched off")
