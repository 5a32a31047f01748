"""A search whose data set is gone or changed rests with the reason: that is no candidate's fault."""

from __future__ import annotations

from nas_service.database.session import Database
from nas_service.database.tables import Search
from nas_service.datasets import of_search
from nas_service.errors import DataAway
from nas_service.search.ledger import Ledger
from nas_service.search.source import Control
from nas_service.settings import Settings
from workers.assignment import Failure


def at_rest(why: str) -> str:
    """The reason of a search that rests for want of its data."""
    return f"{why}; resume the search when its files are back"


def look(ledger: Ledger, database: Database, settings: Settings) -> None:
    """Read the search's data set again where its files have changed. Raises DataAway when it is not as it was."""
    with database.read() as session:
        search = session.get_one(Search, ledger.search_id)
    of_search(search, database, settings)


def rests(failure: Failure, ledger: Ledger, database: Database, settings: Settings, control: Control) -> bool:
    """Whether a candidate failed because the data set is gone or changed, as this process sees it too; then the search
    is halted. Otherwise one worker alone cannot read it, or the request is at fault."""
    if failure.kind != "data":
        return False
    try:
        look(ledger, database, settings)
    except DataAway as away:
        reason = at_rest(away.detail)
        control.halt(reason)
        ledger.set_reason(reason)
        return True
    return False
