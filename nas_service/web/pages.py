"""The pages: searches, one search, one trial, a form for a new search, signing in.

They are rendered here, and stay live through the event stream.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import fastapi_offline
import sqlalchemy as sa
from fastapi import APIRouter, Form, Query, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from plotly import offline as plotly_offline
from sqlalchemy.orm import Session

from nas_service import __version__
from nas_service.api.auth import COOKIE, Viewer, find_token
from nas_service.api.state import State, StateDep
from nas_service.api.views import export_view, finalist_view, search_view, trial_view
from nas_service.cli.searches import duration, figure
from nas_service.database.tables import SEARCH_ENDED, ArchitectureRow, Export, Finalist, Measurement, Search, Trial
from nas_service.errors import NasError, NotFound
from nas_service.search import status
from nas_service.search.report import report
from nas_service.search.report_text import sentences
from nas_service.search.request import SearchRequest
from nas_service.web.figures import figures, metric_title, trial_curve
from search_spaces.architecture import Architecture
from search_spaces.auxiliary import without_auxiliary
from search_spaces.drawing import svg
from search_spaces.source import source
from workers.datasets import DatasetSpec
from workers.run import PICTURE

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
templates.env.filters.update(figure=figure, duration=duration, metric=metric_title)
templates.env.globals.update(version=__version__)

PLOTLY = Path(plotly_offline.__file__).parent.parent / "package_data" / "plotly.min.js"
SWAGGER = Path(fastapi_offline.__file__).parent / "static"
FOREVER = {"Cache-Control": "public, max-age=86400"}
RECENT = 100
"""Searches on the first page."""
MAX_LOG = 20_000


def _page(request: Request, state: State, name: str, status_code: int = 200, **values: Any) -> HTMLResponse:
    host = request.url.hostname or state.settings.host
    links = {
        "optuna": f"http://{host}:{state.settings.optuna_port}/",
        "ray": "/ray/" if state.settings.executor == "ray" else "",
    }
    signed_in = COOKIE in request.cookies and name != "login.html"
    return templates.TemplateResponse(
        request, name, {"links": links, "signed_in": signed_in, **values}, status_code=status_code
    )


@router.get("/")
def searches_page(request: Request, _: Viewer, state: StateDep) -> HTMLResponse:
    """The list of searches."""
    return _page(request, state, "searches.html", searches=_recent(state))


@router.get("/fragments/searches")
def searches_fragment(request: Request, _: Viewer, state: StateDep) -> HTMLResponse:
    """The rows of the list, for its refresh."""
    return _page(request, state, "_searches.html", searches=_recent(state))


def _recent(state: State) -> list[Any]:
    with state.database.read() as session:
        rows = session.scalars(sa.select(Search).order_by(Search.id.desc()).limit(RECENT))
        return [search_view(session, row) for row in rows]


@router.get("/searches/new")
def new_page(
    request: Request, _: Viewer, state: StateDep, like: Annotated[str | None, Query(max_length=32)] = None
) -> HTMLResponse:
    """The form for a new search, filled in from an earlier one where ``like`` names it."""
    given: dict[str, Any] = {}
    if like:
        with state.database.read() as session:
            given = status.find_search(session, like).request
    usual = SearchRequest(dataset=DatasetSpec(name="any"), space={"name": "any"})
    template = {"given": given, "usual": {"strategy": usual.strategy["name"]}}
    return _page(request, state, "new.html", template=json.dumps(template).replace("<", "\\u003c"))


@router.get("/searches/{search_id}")
def search_page(request: Request, search_id: str, _: Viewer, state: StateDep) -> HTMLResponse:
    """One search, live."""
    with state.database.read() as session:
        return _page(request, state, "search.html", **_search_values(session, search_id))


@router.get("/searches/{search_id}/report")
def report_page(request: Request, search_id: str, _: Viewer, state: StateDep) -> HTMLResponse:
    """How much to believe of a search."""
    with state.database.read() as session:
        search = status.find_search(session, search_id)
        found = report(session, search)
        return _page(request, state, "report.html", search=search, report=found, sentences=sentences(found))


@router.get("/fragments/searches/{search_id}")
def search_fragment(request: Request, search_id: str, _: Viewer, state: StateDep) -> HTMLResponse:
    """The changing parts of a search's page."""
    with state.database.read() as session:
        return _page(request, state, "_search.html", **_search_values(session, search_id))


@router.get("/fragments/searches/{search_id}/figures", response_class=Response)
def search_figures(search_id: str, _: Viewer, state: StateDep) -> Response:
    """Data and layout of the figures."""
    with state.database.read() as session:
        found = figures(session, status.find_search(session, search_id))
    return Response(json.dumps(found, allow_nan=False), media_type="application/json")


def _search_values(session: Session, search_id: str) -> dict[str, Any]:
    search = status.find_search(session, search_id)
    trials = session.scalars(sa.select(Trial).where(Trial.search_id == search_id).order_by(Trial.number))
    finalists = session.scalars(
        sa.select(Finalist).where(Finalist.search_id == search_id).order_by(Finalist.number, Finalist.seed)
    )
    exports = session.scalars(sa.select(Export).where(Export.search_id == search_id).order_by(Export.id.desc()))
    view = search_view(session, search)
    shown = view.winner["trial"] if view.winner else view.best.number if view.best else None
    drawn = session.get(Trial, (search_id, shown)) if shown is not None else None
    return {
        "search": view,
        "ended": search.state in SEARCH_ENDED,
        "trials": [trial_view(trial) for trial in trials],
        "finalists": [finalist_view(row) for row in finalists],
        "exports": [export_view(row) for row in exports],
        "drawn": trial_view(drawn) if drawn else None,
        "front": {trial.number for trial in status.front(session, search)},
    }


@router.get("/searches/{search_id}/trials/{number}")
def trial_page(request: Request, search_id: str, number: int, _: Viewer, state: StateDep) -> HTMLResponse:
    """One trial: graph, costs, curve, log, code."""
    with state.database.read() as session:
        search = status.find_search(session, search_id)
        trial = status.find_trial(session, search_id, number)
        measured = sa.select(Measurement).where(Measurement.search_id == search_id, Measurement.number == number)
        points = list(session.scalars(measured.order_by(Measurement.epoch)))
        row = session.get(ArchitectureRow, trial.fingerprint) if trial.fingerprint else None
        architecture = Architecture.from_json(row.architecture) if row else None
        curve = trial_curve(points, status.score_of(search, [trial]))
    place = trial.reused_from or [search_id, number]
    drawn = _picture(state, str(place[0]), int(place[1])) is not None
    log = state.settings.searches_dir / str(place[0]) / "trials" / str(place[1]) / "log.txt"
    return _page(
        request,
        state,
        "trial.html",
        search=search,
        trial=trial_view(trial),
        curve=json.dumps(curve) if curve["data"] else "",
        predictions=f"/searches/{place[0]}/trials/{place[1]}/predictions.png" if drawn else "",
        drawing=svg(architecture) if architecture else "",
        code=source(without_auxiliary(architecture), f"{search.name}, trial {number}") if architecture else "",
        log=log.read_text(errors="replace")[-MAX_LOG:] if log.exists() else "",
    )


@router.get("/searches/{search_id}/trials/{number}/predictions.png")
def predictions_png(search_id: str, number: int, _: Viewer, state: StateDep) -> FileResponse:
    """What a trial's network says about a few validation images."""
    with state.database.read() as session:
        status.find_trial(session, search_id, number)
    found = _picture(state, search_id, number)
    if found is None:
        raise NotFound(f"trial {number} of search {search_id} has no picture of its predictions")
    return FileResponse(found, media_type="image/png")


def _picture(state: State, search_id: str, number: int) -> Path | None:
    """The picture of a trial's full training, else of its own; None where there is none."""
    folder = state.settings.searches_dir / search_id
    places = [*sorted((folder / "finalists").glob(f"{number}-*")), folder / "trials" / str(number)]
    return next((place / PICTURE for place in places if (place / PICTURE).is_file()), None)


# -- signing in ----------------------------------------------------------------------------------------------------


@router.get("/login")
def login_page(request: Request, state: StateDep, next: str = "/") -> HTMLResponse:
    """Where a browser gives its token."""
    return _page(
        request, state, "login.html", next=_inside(next), wrong=False, place=state.settings.data_dir / "admin.token"
    )


@router.post("/login", response_model=None)
def login(
    request: Request,
    state: StateDep,
    token: Annotated[str, Form(max_length=200)],
    next: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """Keep a valid token in a cookie that only this site's own pages send."""
    with state.database.read() as session:
        known = find_token(session, token.strip()) is not None
    if not known:
        place = state.settings.data_dir / "admin.token"
        return _page(request, state, "login.html", 401, next=_inside(next), wrong=True, place=place)
    answer = RedirectResponse(_inside(next), 303)
    answer.set_cookie(
        COOKIE,
        token.strip(),
        max_age=30 * 86400,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/logout", response_model=None)
def logout() -> Response:
    """Forget the cookie."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


def _inside(path: str) -> str:
    """Only a path of this site, so that nobody is led elsewhere after signing in."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"


def page_for_error(request: Request, error: NasError) -> Response:
    """The sign-in page for whoever is not signed in, else a page that says what is wrong."""
    if error.status == 401:
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(wanted)}", 303)
    state: State = request.app.state.nas
    return _page(request, state, "error.html", error.status, title=error.title, detail=error.detail)


# -- assets --------------------------------------------------------------------------------------------------------


@router.get("/static/plotly.min.js", response_class=FileResponse)
def plotly_js() -> FileResponse:
    """plotly.js from the Python package."""
    return FileResponse(PLOTLY, media_type="text/javascript", headers=FOREVER)


@router.get("/docs")
def docs_page() -> HTMLResponse:
    """The API's interactive description, from local files."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="NAS service API",
        swagger_js_url="/static/swagger/swagger-ui-bundle.js",
        swagger_css_url="/static/swagger/swagger-ui.css",
        swagger_favicon_url="/static/icon.svg",
    )


@router.get("/static/swagger/{name}", response_class=FileResponse)
def swagger_file(name: str) -> FileResponse:
    """Swagger UI from its Python package."""
    if name not in ("swagger-ui-bundle.js", "swagger-ui.css"):
        raise NotFound(f"no file {name!r}")
    return FileResponse(SWAGGER / name, headers=FOREVER)
