"""A person at the pages, in a real browser: from signing in to the downloaded package."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.end_to_end.conftest import Service

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAME = "Digits, by hand"
SOON, LATER, LAST = 15_000, 90_000, 180_000
"""Milliseconds: for an answer of the server, for the first candidate, for a whole search."""


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    if not CHROMIUM.exists():
        reason = f"no Chromium at {CHROMIUM} (Debian's package chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield found
        found.close()


@pytest.mark.timeout(600)  # a whole search, an export and two dashboards, where other tests run too
def test_a_person_finds_a_network_and_takes_it_home(service: Service, browser: Browser, tmp_path: Path) -> None:
    service.start()
    page = browser.new_page(base_url=service.url, viewport={"width": 1280, "height": 900})
    errors: list[str] = []

    def keep(message: ConsoleMessage) -> None:
        if message.type == "error" and "/ray/" not in page.url and page.url.startswith(service.url):
            errors.append(f"{page.url}: {message.text}")

    page.on("console", keep)
    page.on("pageerror", lambda error: errors.append(f"{page.url}: {error}"))

    sign_in(page, (service.data / "admin.token").read_text())
    first = fill_in_and_start(page)
    trial = watch(page)
    read_trial(page, trial)
    expect(page.locator("#part-head .state")).to_have_text("succeeded", timeout=LAST)
    take_home(page, tmp_path / "package.zip")
    see_dashboards(page, service, first)
    start_another_and_cancel(page, first)

    page.goto("/docs")
    expect(page.locator("#operations-searches-create_search_v1_searches_post")).to_be_visible(timeout=SOON)
    told = [re.findall(r"status of (\d+)", error) or error for error in errors]
    assert told == [["401"], ["422"]], "besides the wrong token and the wrong number of trials"

    phone = browser.new_page(
        base_url=service.url, viewport={"width": 390, "height": 844}, storage_state=page.context.storage_state()
    )
    for path in ("/", "/searches/new", f"/searches/{first}", f"/searches/{first}/trials/{trial}", "/login", "/nowhere"):
        fits_a_phone(phone, path)
    expect(phone.get_by_role("heading", name="Not found")).to_be_visible()
    sign_out(page)


def sign_in(page: Page, token: str) -> None:
    page.goto("/searches/new?like=")
    expect(page).to_have_url(re.compile(r"/login\?next="))
    page.get_by_label("Token").fill("wrong")
    with page.expect_response("**/login") as refused:
        page.get_by_role("button", name="Sign in").click()
    assert refused.value.status == 401
    expect(page.get_by_text("not known here")).to_be_visible()
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile("/searches/new"))  # where the person wanted to go
    cookie = page.context.cookies()[0]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"


def fill_in_and_start(page: Page) -> str:
    """The search's id. A wrong value is told at its field first."""
    expect(page.locator("#new")).to_have_attribute("data-ready", "true", timeout=SOON)
    assert "drill" not in (page.locator("#new").text_content() or "")
    page.get_by_label("Data set", exact=True).select_option("digits")
    page.get_by_label("Name", exact=True).fill(NAME)
    page.get_by_label("Space", exact=True).select_option("residual")
    page.locator("#form-space summary").click()
    page.get_by_label("Depths", exact=True).fill("1")
    page.get_by_label("Widths", exact=True).fill("16, 32")
    page.get_by_label("Strategy", exact=True).select_option("evolution")
    page.get_by_label("Early stopping", exact=True).select_option("none")
    page.get_by_label("Epochs, at most", exact=True).fill("2")
    page.get_by_label("Finalists", exact=True).fill("1")
    page.get_by_label("Schedule", exact=True).select_option("linear")
    page.get_by_label("Trials", exact=True).fill("0")

    page.get_by_role("button", name="Preview").click()
    wrong = page.locator("[data-pointer='/budget/max_trials'].bad")
    expect(wrong.locator(".told")).to_contain_text("greater than or equal to 1", timeout=SOON)
    page.get_by_label("Trials", exact=True).fill("4")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#outlook")).to_contain_text("different samples", timeout=SOON)
    expect(wrong).to_have_count(0)
    expect(page.locator("#json")).to_contain_text('"name": "linear"')

    page.get_by_role("button", name="Start search").click()
    page.wait_for_url(re.compile(r"/searches/(?!new)\w+$"), timeout=SOON)
    return page.url.rsplit("/", 1)[1]


def watch(page: Page) -> int:
    """The page changes by itself; the answer is the number of a completed trial."""
    page.evaluate("window.loadedOnce = true")
    done = page.locator("#part-trials tbody tr", has=page.locator(".state.completed"))
    expect(done.first).to_be_visible(timeout=LATER)
    expect(page.locator("[data-figure=best] .plot .main-svg").first).to_be_visible(timeout=SOON)
    expect(done.nth(1)).to_be_visible(timeout=LATER)
    expect(page.locator("#part-head")).to_contain_text(re.compile("[2-4] of 4 trials"))
    assert page.evaluate("window.loadedOnce") is True, "the page was loaded again"
    return int(done.last.locator("td").first.inner_text())


def read_trial(page: Page, number: int) -> None:
    page.locator("#part-trials").get_by_role("link", name=str(number), exact=True).click()
    expect(page.locator("#curve .main-svg").first).to_be_visible(timeout=SOON)
    expect(page.locator(".drawing svg")).to_be_visible()
    page.get_by_text("model.py", exact=True).click()
    expect(page.locator("#code")).to_contain_text("class Model")
    expect(page.locator("main")).to_contain_text("Stage1 depth", ignore_case=True)
    page.go_back()
    expect(page.get_by_role("heading", name=NAME)).to_be_visible(timeout=SOON)


def take_home(page: Page, place: Path) -> None:
    page.get_by_role("button", name="Export the winner").click()
    link = page.get_by_role("link", name="Download package.zip")
    expect(link).to_be_visible(timeout=LAST)
    expect(page.locator("#part-winner")).to_contain_text("Certified")
    with page.expect_download() as download:
        link.click()
    download.value.save_as(place)
    with zipfile.ZipFile(place) as package:
        assert package.testzip() is None
        (model,) = [name for name in package.namelist() if Path(name).name == "model.py"]
        compile(package.read(model), "model.py", "exec")


def see_dashboards(page: Page, service: Service, search_id: str) -> None:
    page.get_by_role("link", name="Optuna").click()
    expect(page).to_have_url(re.compile(f":{service.optuna_port}/"))
    page.get_by_text(f"{NAME} ({search_id})").click(timeout=SOON)
    expect(page.get_by_text("Best Trial")).to_be_visible(timeout=SOON)
    page.goto(page.url.rstrip("/") + "/trials")
    expect(page.get_by_text("Intermediate Values")).to_be_visible(timeout=SOON)
    page.goto(service.url)
    page.get_by_role("link", name="Ray").click()
    expect(page.get_by_text(f"search-{search_id}-").first).to_be_visible(timeout=LATER)
    page.goto(f"{service.url}/searches/{search_id}")


def start_another_and_cancel(page: Page, search_id: str) -> None:
    page.get_by_role("link", name="New like this").click()
    expect(page.get_by_label("Trials", exact=True)).to_have_value("4", timeout=SOON)
    expect(page.get_by_label("Schedule", exact=True)).to_have_value("linear")
    page.locator("#form-space summary").click()
    expect(page.get_by_label("Widths", exact=True)).to_have_value("16, 32")
    page.get_by_label("Trials", exact=True).fill("500")
    page.get_by_label("Epochs, at most", exact=True).fill("200")
    page.get_by_role("button", name="Start search").click()
    page.wait_for_url(re.compile(rf"/searches/(?!new|{search_id})\w+$"), timeout=SOON)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#part-head .state")).to_have_text("cancelled", timeout=LATER)
    page.goto("/")
    expect(page.locator(".list .state")).to_have_text(["cancelled", "succeeded"])


def fits_a_phone(page: Page, path: str) -> None:
    page.goto(path)
    if path == "/searches/new":
        expect(page.locator("#new")).to_have_attribute("data-ready", "true", timeout=SOON)
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    expect(page.locator("main")).to_be_visible()
    wide, there = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= there, f"{path} is {wide} pixels wide on a screen of {there}"


def sign_out(page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/login"))
    page.goto("/")
    expect(page).to_have_url(re.compile("/login"))
