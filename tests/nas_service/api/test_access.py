"""Who gets in: every route without a token, with a bad or revoked one, by role; hosts, origins, cookies, readiness."""

from __future__ import annotations

import re

import httpx
import pytest

from nas_service.api.auth import check_binding, create_token, revoke_token
from nas_service.database.session import Database
from nas_service.errors import Misconfigured
from nas_service.settings import Settings
from tests.nas_service.api.test_requests import problem
from tests.nas_service.conftest import LocalServer

PUBLIC = {"GET /healthz", "GET /readyz", "GET /docs", "GET /login", "POST /login", "POST /logout"}
"""Routes that need no token."""
NOT_READING = ("POST", "PATCH", "DELETE")
READS_BY_POST = {"/v1/spaces/{name}/samples"}
ADMIN = {"GET /v1/tokens", "POST /v1/tokens", "DELETE /v1/tokens/{token_id}"} | {
    "POST /v1/datasets",
    "DELETE /v1/datasets/{name}",
}


def routes(server: LocalServer) -> list[tuple[str, str]]:
    """(method, path) of everything that /openapi.json tells of."""
    paths = server.http(None).get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def ask(http: httpx.Client, method: str, path: str) -> httpx.Response:
    filled = re.sub(r"\{(number)\}", "0", path)
    return http.request(method, re.sub(r"\{\w+(:path)?\}", "nowhere", filled), json={} if method != "GET" else None)


def test_nothing_answers_without_a_valid_token(server: LocalServer) -> None:
    revoked, row = create_token(server.state.database, "gone", "admin")
    revoke_token(server.state.database, row.id)
    found = routes(server)
    assert len(found) > 40
    for token in (None, server.token[:-1], revoked):
        http = server.http(token)
        for method, path in found:
            if f"{method} {path}" not in PUBLIC:
                answer = ask(http, method, path)
                body = problem(answer, 401)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert set(body) == {"type", "title", "status", "detail", "instance"}, f"{method} {path} tells more"


def test_roles(server: LocalServer) -> None:
    viewer, runner = server.http(server.token_for("viewer")), server.http(server.token_for("runner"))
    for method, path in routes(server):
        name = f"{method} {path}"
        if name in PUBLIC:
            continue
        for role, http in (("viewer", viewer), ("runner", runner)):
            reads = method == "GET" or path in READS_BY_POST
            allowed = name not in ADMIN and (reads or role == "runner")
            answer = ask(http, method, path)
            assert (answer.status_code != 403) == allowed, f"{role}: {name} answers {answer.status_code}"
            assert answer.status_code not in (401, 500), f"{role}: {name} answers {answer.status_code}"
            if not allowed:
                assert role in problem(answer, 403)["detail"]


def test_tokens_are_shown_once_and_stored_as_hashes(server: LocalServer) -> None:
    http = server.http()
    made = http.post("/v1/tokens", json={"name": " ann ", "role": "viewer"})
    assert made.status_code == 201
    text = made.json()["token"]
    assert len(text) > 40
    listed = http.get("/v1/tokens").json()
    assert text not in str(listed)
    assert [t["token"] for t in listed if t["name"] == "ann"] == [None]
    files = [p for p in server.settings.data_dir.rglob("nas.db*") if p.is_file()]
    assert files
    assert all(text.encode() not in p.read_bytes() for p in files), "the database holds a token's text"
    assert server.http(text).get("/v1/searches").status_code == 200
    assert http.delete(f"/v1/tokens/{made.json()['id']}").status_code == 204
    problem(server.http(text).get("/v1/searches"), 401)
    problem(http.delete("/v1/tokens/nowhere"), 404)
    assert "viewer" in problem(http.post("/v1/tokens", json={"name": "x", "role": "root"}), 422)["detail"]


def test_the_first_token_is_for_its_owner_alone(server: LocalServer) -> None:
    path = server.settings.data_dir / "admin.token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().strip() == server.token


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:80"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "LOCALHOST:99"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Origin": "http://evil.example"}, 200),
    ],
)
def test_foreign_hosts_are_turned_away(server: LocalServer, headers: dict[str, str], status: int) -> None:
    assert server.http().get("/v1/searches", headers=headers).status_code == status


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1:x"])
def test_foreign_pages_change_nothing(server: LocalServer, origin: str) -> None:
    problem(server.http().post("/v1/tokens", json={"name": "x", "role": "admin"}, headers={"Origin": origin}), 403)
    assert "x" not in [t["name"] for t in server.http().get("/v1/tokens").json()]


def test_its_own_pages_may(server: LocalServer) -> None:
    made = server.http().post("/v1/tokens", json={"name": "own", "role": "viewer"}, headers={"Origin": server.url})
    assert made.status_code == 201


def test_signing_in_gives_a_cookie_that_signs_in(server: LocalServer) -> None:
    browser = server.http(None)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    wrong = browser.post("/login", content="token=nas_wrong", headers=form)
    assert wrong.status_code in (401, 403)
    assert not browser.cookies
    right = browser.post("/login", content=f"token={server.token}&next=https://evil.example/", headers=form)
    assert right.status_code == 303
    assert right.headers["location"].startswith("/")
    assert not right.headers["location"].startswith("//")
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert browser.get("/v1/searches").status_code == 200
    browser.post("/logout")
    assert browser.get("/v1/searches").status_code == 401


def test_answers_carry_the_headers_that_browsers_obey(server: LocalServer) -> None:
    for path in ("/healthz", "/v1/searches", "/login"):
        headers = server.http(None).get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]


def test_health_and_readiness(own_server: LocalServer) -> None:
    http = own_server.http(None)
    assert http.get("/healthz").json()["status"] == "alive"
    assert http.get("/readyz").json() == {"ready": True, "reason": ""}
    own_server.state.not_ready = "Ray is starting"
    answer = http.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "Ray is starting")


def test_a_server_whose_database_is_away_says_so(own_server: LocalServer) -> None:
    http = own_server.http()
    working = own_server.state.database
    gone = "postgresql://nas@127.0.0.1:1/nas" if not working.sqlite else "sqlite:////nowhere/nas.db"
    own_server.state.database = Database(gone)
    try:
        assert http.get("/healthz").status_code == 200
        answer = http.get("/readyz")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert "the database does not answer" in answer.json()["reason"]
        refused = http.get("/v1/searches")
        problem(refused, 503)
        assert refused.headers["retry-after"] == "5"
    finally:
        own_server.state.database.close()
        own_server.state.database = working
    assert http.get("/v1/searches").status_code == 200


def test_no_token_is_needed_on_loopback_only_when_asked_for() -> None:
    with pytest.raises(Misconfigured, match=r"0\.0\.0\.0"):
        check_binding(Settings(insecure_loopback=True, host="0.0.0.0"))
    check_binding(Settings(insecure_loopback=True, host="127.0.0.1"))
