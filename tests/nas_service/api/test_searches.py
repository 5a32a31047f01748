"""Searches over HTTP on both databases: posting once, lists, versions, steering, events, streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.client import Client
from nas_service.database.tables import Export, Search
from nas_service.search.events import append_event, finish
from nas_service.search.ledger import Ledger
from nas_service.search.request import SearchRequest
from nas_service.search.status import create
from tests.conftest import drill, poll
from tests.nas_service.api.test_requests import problem
from tests.nas_service.conftest import LocalServer


def stored(server: LocalServer, count: int = 1) -> list[str]:
    """Ids of searches that are put into the database without the way over HTTP, oldest first."""
    request = SearchRequest.model_validate(drill(3))

    def work(session: Session) -> list[str]:
        return sorted(create(session, request, f"number {i}").id for i in range(count))

    return server.state.database.write(work)


def end(server: LocalServer, search_id: str, state: str = "succeeded") -> None:
    server.state.database.write(lambda session: finish(session, search_id, state, "a test says so"))


def put(server: LocalServer, search_id: str, **values: Any) -> None:
    """Change a search's row as a driver would."""
    change = sa.update(Search).where(Search.id == search_id).values(**values)
    server.state.database.write(lambda session: session.execute(change))


def test_a_key_makes_a_repeated_post_harmless(own_server: LocalServer) -> None:
    http = own_server.http()
    first = http.post("/v1/searches", json=drill(3), headers={"Idempotency-Key": "k"})
    again = http.post("/v1/searches", json=drill(3), headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["location"] == f"/v1/searches/{first.json()['id']}"
    assert "'k'" in problem(http.post("/v1/searches", json=drill(4), headers={"Idempotency-Key": "k"}), 409)["detail"]
    other = http.post("/v1/searches", json=drill(3), headers={"Idempotency-Key": "another"})
    assert other.json()["id"] != first.json()["id"]
    runner = own_server.http(own_server.token_for("runner"))
    theirs = runner.post("/v1/searches", json=drill(3), headers={"Idempotency-Key": "k"})
    assert theirs.status_code == 201, "keys belong to the caller"
    problem(http.post("/v1/searches", json=drill(3), headers={"Idempotency-Key": "x" * 201}), 422)


def test_twenty_posts_at_once_with_one_key_make_one_search(own_server: LocalServer) -> None:
    def post(_: int) -> httpx.Response:
        headers = {"Idempotency-Key": "once", "Authorization": f"Bearer {own_server.token}"}
        return httpx.post(f"{own_server.url}/v1/searches", json=drill(3), headers=headers, timeout=60, trust_env=False)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))
    assert sorted(a.status_code for a in answers) == [200] * 19 + [201]
    assert len({a.json()["id"] for a in answers}) == 1
    with own_server.state.database.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Search)) == 1


def test_a_list_is_walked_page_by_page(own_server: LocalServer) -> None:
    ids = stored(own_server, 7)
    http = own_server.http()
    seen: list[str] = []
    page = None
    sizes = []
    while True:
        answer = http.get("/v1/searches", params={"page_size": 3} | ({"page": page} if page else {})).json()
        sizes.append(len(answer["items"]))
        seen += [item["id"] for item in answer["items"]]
        page = answer["next_page"]
        if page is None:
            break
    assert (seen, sizes) == (ids[::-1], [3, 3, 1])
    with Client(own_server.url, own_server.token) as client:
        assert [s["id"] for s in client.searches()] == seen


def test_renaming_minds_the_version(own_server: LocalServer) -> None:
    (search_id,) = stored(own_server)
    http = own_server.http()
    tag = http.get(f"/v1/searches/{search_id}").headers["etag"]
    renamed = http.patch(f"/v1/searches/{search_id}", json={"name": " new "}, headers={"If-Match": tag})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "new")
    problem(http.patch(f"/v1/searches/{search_id}", json={"name": "newer"}, headers={"If-Match": tag}), 412)
    assert http.patch(f"/v1/searches/{search_id}", json={"name": "newest"}).status_code == 200
    problem(http.patch(f"/v1/searches/{search_id}", json={"name": ""}), 422)
    problem(http.patch(f"/v1/searches/{search_id}", json={"state": "succeeded"}), 422)
    problem(http.patch("/v1/searches/nowhere", json={"name": "x"}), 404)


def test_of_many_renamings_of_one_version_one_wins(own_server: LocalServer) -> None:
    (search_id,) = stored(own_server)
    tag = own_server.http().get(f"/v1/searches/{search_id}").headers["etag"]

    def rename(number: int) -> int:
        headers = {"If-Match": tag, "Authorization": f"Bearer {own_server.token}"}
        url = f"{own_server.url}/v1/searches/{search_id}"
        return httpx.patch(url, json={"name": str(number)}, headers=headers, timeout=60, trust_env=False).status_code

    with ThreadPoolExecutor(12) as pool:
        assert sorted(pool.map(rename, range(12))) == [200] + [412] * 11


LEASED = {"lease_until": 4e9, "owner": "a driver", "epoch": 1}


@pytest.mark.parametrize(
    ("state", "driven", "action", "expected"),
    [
        ("queued", False, "pause", "paused"),
        ("queued", True, "pause", "pausing"),
        ("running", True, "pause", "pausing"),
        ("pausing", True, "pause", "pausing"),
        ("paused", False, "pause", "paused"),
        ("cancelling", True, "pause", None),
        ("succeeded", False, "pause", None),
        ("failed", False, "pause", None),
        ("paused", False, "resume", "queued"),
        ("queued", False, "resume", "queued"),
        ("running", True, "resume", "running"),
        ("pausing", True, "resume", None),
        ("succeeded", False, "resume", None),
        ("cancelled", False, "resume", None),
        ("queued", False, "cancel", "cancelled"),
        ("paused", False, "cancel", "cancelled"),
        ("queued", True, "cancel", "cancelling"),
        ("running", True, "cancel", "cancelling"),
        ("pausing", True, "cancel", "cancelling"),
        ("cancelled", False, "cancel", "cancelled"),
        ("succeeded", False, "cancel", None),
        ("failed", False, "cancel", None),
    ],
)
def test_steering(server: LocalServer, state: str, driven: bool, action: str, expected: str | None) -> None:
    (search_id,) = stored(server)
    put(server, search_id, state=state, **(LEASED if driven else {}))
    answer = server.http().post(f"/v1/searches/{search_id}/{action}")
    if expected is None:
        assert state in problem(answer, 409)["detail"]
        expected = state
    else:
        assert answer.status_code == 202
    assert server.http().get(f"/v1/searches/{search_id}").json()["state"] == expected


def test_a_cancel_that_comes_while_pausing_is_not_forgotten(own_server: LocalServer) -> None:
    (search_id,) = stored(own_server)
    http = own_server.http()
    ledger = Ledger(own_server.state.database, search_id, "driver", 30)
    ledger.claim()
    http.post(f"/v1/searches/{search_id}/pause")
    assert http.post(f"/v1/searches/{search_id}/cancel").json()["state"] == "cancelling"
    ledger.end_search("paused", "paused by request")
    assert http.get(f"/v1/searches/{search_id}").json()["state"] == "cancelled"


def test_a_search_that_has_ended_stays_ended_whatever_is_asked_meanwhile(own_server: LocalServer) -> None:
    """The request reads 'running'; before it writes, the driver ends the search."""
    (search_id,) = stored(own_server)
    ledger = Ledger(own_server.state.database, search_id, "driver", 30)
    ledger.claim()
    http = own_server.http()
    with ThreadPoolExecutor(9) as pool:
        asked = [pool.submit(http.post, f"/v1/searches/{search_id}/{a}") for a in ("cancel", "pause") * 4]
        pool.submit(ledger.end_search, "succeeded", "").result()
        assert {a.result().status_code for a in asked} <= {202, 409}
    assert http.get(f"/v1/searches/{search_id}").json()["state"] == "succeeded"


def test_only_searches_at_rest_are_deleted(own_server: LocalServer) -> None:
    (search_id,) = stored(own_server)
    http = own_server.http()
    folder = own_server.settings.searches_dir / search_id
    folder.mkdir()
    problem(http.delete(f"/v1/searches/{search_id}"), 409)
    http.post(f"/v1/searches/{search_id}/cancel")
    export = Export(
        id="e", search_id=search_id, number=0, state="running", created_at=0.0, manifest=None, certificate=None
    )
    own_server.state.database.write(lambda session: session.add(export))
    assert "export" in problem(http.delete(f"/v1/searches/{search_id}"), 409)["detail"]
    done = sa.update(Export).values(state="failed")
    own_server.state.database.write(lambda session: session.execute(done))
    assert http.delete(f"/v1/searches/{search_id}").status_code == 204
    assert not folder.exists()
    problem(http.get(f"/v1/searches/{search_id}"), 404)
    problem(http.get(f"/v1/searches/{search_id}/events"), 404)
    problem(http.delete(f"/v1/searches/{search_id}"), 404)


def test_events_are_numbered_without_gaps_under_many_writers(own_server: LocalServer) -> None:
    (search_id,) = stored(own_server)
    database = own_server.state.database
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: database.write(lambda s: append_event(s, search_id, "epoch", {"x": 1})), range(40)))
    http = own_server.http()
    events = http.get(f"/v1/searches/{search_id}/events").json()
    assert [e["number"] for e in events] == list(range(1, 42))
    assert events[0]["kind"] == "search_created"
    part = http.get(f"/v1/searches/{search_id}/events", params={"after": 38, "limit": 2}).json()
    assert [e["number"] for e in part] == [39, 40]


def stream(http: httpx.Client, search_id: str, **headers: str) -> Iterator[dict[str, str]]:
    """The events of a stream as they come."""
    with http.stream("GET", f"/v1/searches/{search_id}/events/stream", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if not line and fields:
                yield fields
                fields = {}
            elif line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value


def test_a_stream_tells_what_happens_resumes_and_ends(own_server: LocalServer) -> None:
    (search_id,) = stored(own_server)
    http, database = own_server.http(), own_server.state.database
    live = stream(http, search_id)
    assert next(live)["event"] == "search_created"
    for number in range(3):
        database.write(lambda session, n=number: append_event(session, search_id, "epoch", {"n": n}))
    assert [json.loads(next(live)["data"])["n"] for _ in range(3)] == [0, 1, 2]
    resumed = stream(http, search_id, **{"Last-Event-ID": "3"})
    assert next(resumed)["id"] == "4"
    end(own_server, search_id)
    assert [e["event"] for e in live] == ["search_succeeded", "end"]
    assert [e["event"] for e in resumed] == ["search_succeeded", "end"]
    assert [e["event"] for e in stream(http, search_id, **{"Last-Event-ID": "5"})] == ["end"]
    with Client(own_server.url, own_server.token) as client:
        assert [e["id"] for e in client.events(search_id, after=2)] == [3, 4, 5]


def test_streams_end_when_the_server_stops(own_server: LocalServer) -> None:
    (search_id,) = stored(own_server)
    with ThreadPoolExecutor(5) as pool:
        streams = [pool.submit(lambda: list(stream(own_server.http(), search_id))) for _ in range(5)]
        own_server.state.stopping.set()
        assert poll(lambda: all(s.done() for s in streams), 10, "the streams end")
        assert all(s.result()[-1]["event"] != "end" for s in streams if s.result())


def test_reports_of_a_search_without_results(server: LocalServer) -> None:
    (search_id,) = stored(server)
    http = server.http()
    for part in ("pareto", "finalists", "strategy"):
        assert http.get(f"/v1/searches/{search_id}/{part}").json() == []
        problem(http.get(f"/v1/searches/nowhere/{part}"), 404)
    assert http.get(f"/v1/searches/{search_id}/trials").json() == {"items": [], "next_page": None}
    for part in ("", "/measurements", "/logs"):
        problem(http.get(f"/v1/searches/{search_id}/trials/0{part}"), 404)
    problem(http.post("/v1/exports", json={"search": search_id}), 409)
    problem(http.post("/v1/exports", json={"search": "nowhere"}), 404)
