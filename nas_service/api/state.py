"""What every request can reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import Annotated, Any

from fastapi import Depends, Request

from nas_service.database.session import Database
from nas_service.settings import Settings


@dataclass
class State:
    """The server's parts. The app puts cluster and supervisor in, so that routes import neither them nor ray."""

    settings: Settings
    database: Database
    cluster: Any = None
    supervisor: Any = None
    exporter: Any = None
    stopping: Event = field(default_factory=Event)
    """Set when the server was told to stop: event streams end."""
    optuna_url: str = ""
    not_ready: str = "starting"
    """Why the server is not ready, empty when it is."""

    def wake(self) -> None:
        """There is work for the supervisor."""
        if self.supervisor is not None:
            self.supervisor.wake()


def _state(request: Request) -> State:
    state: State = request.app.state.nas
    return state


StateDep = Annotated[State, Depends(_state)]
