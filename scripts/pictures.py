"""The pictures of the documentation, taken of a real search: python scripts/pictures.py [FOLDER].

Starts a server of its own in a temporary folder, searches the digits, and takes its pages with Chromium.
"""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from nas_service.client import Client

ROOT = Path(__file__).parent.parent
CHROMIUM = "/usr/bin/chromium"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
COLOURS = 128
"""Colours of a picture: few, so that its file is small."""
REQUEST = {
    "name": "Small residual networks for digits",
    "dataset": {"name": "digits"},
    "space": {"name": "residual"},
    "strategy": {"name": "evolution", "population": 12, "sample": 4},
    "objectives": [{"metric": "val_accuracy"}, {"metric": "macs"}],
    "scheduler": {"name": "asha", "min_epochs": 1, "max_epochs": 9, "reduction_factor": 3},
    "budget": {"max_trials": 24},
    "finalists": {"top_k": 2, "epochs": 9},
}


def main(folder: Path) -> None:
    """Write search.png, new.png and trial.png into ``folder``."""
    with tempfile.TemporaryDirectory(prefix="nas-pictures-") as place:
        data = Path(place) / "data"
        command = [
            sys.executable,
            "-m",
            "nas_service",
            "serve",
            "--port",
            "0",
            "--optuna-port",
            "0",
            "--data",
            str(data),
        ]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            url = _address(server)
            token = (data / "admin.token").read_text().strip()
            with Client(url, token) as client:
                search = client.wait(client.submit(REQUEST)["id"], 3600)
            if search["state"] != "succeeded":
                raise SystemExit(f"the search is {search['state']}: {search['reason']}")
            folder.mkdir(parents=True, exist_ok=True)
            _take(url, token, search, folder)
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=120)


def _address(server: subprocess.Popen[str]) -> str:
    """The server's URL, once it says that it is ready."""
    url, deadline = "", time.monotonic() + 180
    for line in server.stdout or ():
        if line.startswith("NAS service"):
            url = line.split()[3]
        if line.strip() == "ready":
            return url
        if time.monotonic() > deadline:
            break
    raise SystemExit("the server did not become ready")


def _take(url: str, token: str, search: dict[str, object], folder: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(base_url=url, viewport={"width": 1280, "height": 1000})
        page.goto("/login")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        winner = search["winner"]
        number = winner["trial"] if isinstance(winner, dict) else 0
        page.goto(f"/searches/{search['id']}")
        page.locator("[data-figure=finalists] .main-svg").first.wait_for()
        _save(page, folder / "search.png", 1330)
        page.goto(f"/searches/new?like={search['id']}")
        page.locator("#new[data-ready]").wait_for()
        page.get_by_role("button", name="Preview").click()
        page.locator("#outlook table").wait_for()
        _save(page, folder / "new.png", 1100)
        page.goto(f"/searches/{search['id']}/trials/{number}")
        page.locator("#curve .main-svg").first.wait_for()
        _save(page, folder / "trial.png", 1500)
        browser.close()


def _save(page: Page, place: Path, height: int) -> None:
    """The upper ``height`` pixels of the page."""
    page.set_viewport_size({"width": 1280, "height": height})
    page.evaluate("window.scrollTo(0, 0)")
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(place, optimize=True)
    print(f"{place}: {place.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures")
