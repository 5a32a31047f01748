"""One process a search: holds its lease, makes its workers, runs its stages. Killed at any point, the next one goes on.

``python -m nas_service.search.driver SEARCH_ID [NAME]``; settings come from the environment. The modules that bring
torch are imported when the workers are on their way: both take seconds, on different cores.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas_service.database.session import Database
from nas_service.database.tables import Search
from nas_service.errors import DataAway, LeaseLost, NasError, Unavailable
from nas_service.search.ledger import Ledger
from nas_service.search.request import SearchRequest
from nas_service.search.same_data import at_rest
from nas_service.search.source import Control
from nas_service.settings import Settings, load_settings

if TYPE_CHECKING:
    from nas_service.search.pool import Pool
    from nas_service.search.stages import Stages

log = logging.getLogger(__name__)

PAUSE_GRACE_SECONDS = 20.0
"""How long running candidates may take to reach their next epoch when a search is paused."""


class Driver:
    """Runs one search from wherever it stands to its end."""

    def __init__(self, settings: Settings, search_id: str, name: str = "by-hand", *, parent: int | None = None) -> None:
        """``parent``: the process that must live as long as this one, if there is one."""
        self._settings, self._parent = settings, parent
        self._search_id = search_id
        self._database = Database(settings.url)
        owner = f"{name}@{socket.gethostname()}:{os.getpid()}"
        self._ledger = Ledger(self._database, search_id, owner, settings.lease_seconds)
        self._control = Control()
        self._done = threading.Event()
        self._max_seconds: float | None = None
        self._waiting = threading.Event()
        """No worker can be had: time does not count."""
        self._stages: Stages | None = None

    def run(self) -> None:
        """Claim the search and run it. Raises LeaseLost when another driver is at work."""
        state = self._ledger.claim()
        threading.Thread(target=self._heartbeat, name="heartbeat", daemon=True).start()
        try:
            if state == "cancelling":
                self._ledger.end_search("cancelled", "cancelled by request")
            elif state == "pausing":
                self._ledger.end_search("paused", "paused by request")
            else:
                self._search()
        except (LeaseLost, Unavailable):
            raise  # nothing is wrong with the search: the supervisor starts the next driver
        except DataAway as away:
            self._ledger.end_search("paused", at_rest(away.detail))
        except Exception as error:
            log.exception("the search failed")
            detail = error.detail if isinstance(error, NasError) else f"{type(error).__name__}: {error}"
            self._ledger.end_search("failed", f"the driver failed: {detail}\n{traceback.format_exc()}")
        finally:
            self._done.set()
            if self._stages:
                self._stages.close()

    def _search(self) -> None:
        with self._database.read() as session:
            row = session.get_one(Search, self._search_id)
            request, used = SearchRequest.model_validate(row.request), row.used_seconds
        self._max_seconds = request.budget.max_seconds
        if self._max_seconds is not None and used >= self._max_seconds:
            self._control.spent.set()
        pool = self._workers(request)
        try:
            from nas_service.search.stages import Stages

            self._stages = Stages(self._settings, self._database, self._ledger, self._control, pool)
            self._stages.run()
        finally:
            if pool is not None:
                pool.close()

    # -- Ray -------------------------------------------------------------------------------------------------------

    def _workers(self, request: SearchRequest) -> Pool | None:
        """Join the cluster, wait with a reason until it has what one candidate needs, and make the workers."""
        if self._settings.executor == "inline":
            return None
        import ray

        from nas_service.search.pool import Pool

        ray.init(
            address=os.environ.get("RAY_ADDRESS", "local"),
            namespace="nas",
            log_to_driver=False,
            logging_level="warning",
        )
        needs = {"CPU": request.resources.cpus, "GPU": request.resources.gpus}
        while short := missing(needs, [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]):
            self._wait_for(f"waits for a worker: {short}")
            time.sleep(2)
        self._wait_for("")
        most = max(request.budget.max_trials, request.finalists.top_k * len(request.finalists.seeds))
        return Pool(request.resources, min(request.resources.max_parallel, most), self._wait_for)

    def _wait_for(self, reason: str) -> None:
        """Say what the search waits for, and stop its clock; "": it waits no more."""
        if reason:
            self._waiting.set()
            self._ledger.set_reason(reason)
        elif self._waiting.is_set():
            self._waiting.clear()
            self._ledger.set_reason("")

    # -- heartbeat -------------------------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        """Renew the lease, count the time, obey cancel and pause; end the process at once when the lease is lost."""
        stopping_since: float | None = None
        while not self._done.wait(self._settings.heartbeat_seconds if stopping_since is None else 0.3):
            if self._parent not in (None, os.getppid()):
                log.error("the process that started this driver, Ray or the server, is gone")
                os._exit(4)
            try:
                state, used = self._ledger.beat(counts=not self._waiting.is_set())
                if state == "cancelling":
                    self._control.stopping.set()
                    self._ledger.end_search("cancelled", "cancelled by request")
                    self._leave()
                if state == "pausing":
                    self._control.stopping.set()
                    stopping_since = stopping_since or time.monotonic()
                    if time.monotonic() - stopping_since > PAUSE_GRACE_SECONDS:
                        self._ledger.end_search("paused", "paused by request")
                        self._leave()
            except LeaseLost as lost:
                if self._ledger.ended:
                    return  # by the main thread, which is about to leave
                log.error("%s", lost)
                os._exit(3)
            except Exception:  # whatever it was: a driver without a heartbeat could not be cancelled any more
                log.exception("heartbeat")
                continue
            if self._max_seconds is not None and used >= self._max_seconds:
                self._control.spent.set()

    def _leave(self) -> None:
        """End this process at once; Ray ends its actors with it."""
        if self._stages:
            self._stages.close(2.0)
        log.info("driver leaves")
        sys.stdout.flush()
        os._exit(0)


def missing(needs: Mapping[str, float], nodes: list[dict[str, Any]]) -> str:
    """Empty when one node has all that is needed, else what is needed and what there is."""
    if any(all(node.get(name, 0.0) >= amount for name, amount in needs.items()) for node in nodes):
        return ""
    has = "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes) or "no nodes"
    return f"one candidate needs {needs['CPU']:g} CPUs and {needs['GPU']:g} GPUs; the cluster's nodes have {has}"


def main() -> None:
    """Entry of the driver process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        Driver(load_settings(), *sys.argv[1:3], parent=os.getppid()).run()
    except LeaseLost as lost:
        log.warning("%s", lost)
        sys.exit(3)
    except Unavailable as away:
        log.error("%s", away.detail)
        sys.exit(5)


if __name__ == "__main__":
    main()
