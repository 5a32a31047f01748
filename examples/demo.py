"""The whole way in a few minutes: start the service, search a network for digits, train it, take it home, use it.

``python examples/demo.py [--keep]``. Everything goes through the HTTP API, as it would from another machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nas_service.cli.searches import duration, figure
from nas_service.cli.watching import follow
from nas_service.client import Client

OUTPUT = Path("demo-output")
REQUEST: dict[str, Any] = {
    "name": "digits demo",
    "dataset": {"name": "digits", "validation_fraction": 0.2, "seed": 0},
    "space": {"name": "mbconv", "stages": 3, "widths": [16, 24, 32], "kernels": [3, 5], "expansions": [1, 3]},
    "objectives": [{"metric": "val_accuracy"}],
    "constraints": [{"metric": "params", "max": 200_000}],
    "strategy": {"name": "rl"},
    "scheduler": {"name": "asha", "min_epochs": 2, "max_epochs": 8, "reduction_factor": 2},
    "recipe": {
        "batch_size": 32,
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": True},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        "augmentation": "crop",
        "crop_padding": 1,
        "label_smoothing": 0.1,
    },
    "budget": {"max_trials": 24},
    "resources": {"cpus": 1, "max_parallel": 2, "trial_timeout_seconds": 300},
    "finalists": {"top_k": 3, "epochs": 40, "seeds": [0, 1]},
    "seed": 1,
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def service(data: Path, *, keep: bool) -> Iterator[Client]:
    """The service as a process on free ports, with SQLite and a Ray head of its own; stopped at the end unless kept."""
    port, optuna_port = free_port(), free_port()
    log = data.parent / "server.log"
    command = [
        sys.executable,
        "-m",
        "nas_service",
        "serve",
        "--port",
        str(port),
        "--optuna-port",
        str(optuna_port),
        "--data",
        str(data),
    ]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    client = Client(f"http://127.0.0.1:{port}", token="not known yet")
    try:
        wait_until_ready(client, process, log)
        token = (data / "admin.token").read_text().strip()
        yield Client(client.url, token)
        print(
            f"\n  pages    {client.url}/\n  optuna   http://127.0.0.1:{optuna_port}/\n"
            f"  ray      {client.url}/ray/\n  token    {data / 'admin.token'}"
        )
        if keep:
            print(f"\n  The service runs on. Stop it with: kill {process.pid}")
    finally:
        if not keep or sys.exc_info()[0]:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def wait_until_ready(client: Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while True:
        with contextlib.suppress(Exception):
            client.request("GET", "/readyz")
            return
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the service did not come up; its log:\n{log.read_text()[-3000:]}")
        time.sleep(0.3)


def classify_without_us(package: Path) -> str:
    """Use the package as its new owner would: in its folder, in a process that knows nothing of this project."""
    code = (
        "from safetensors.torch import load_file\n"
        "from model import load, predict\n"
        "samples = load_file('samples.safetensors')\n"
        "print(predict(load(), samples['pixels'][:8]), samples['labels'][:8].tolist())\n"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=package, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or done.stderr.strip()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--keep", action="store_true", help="leave the service running")
    keep = arguments.parse_args().keep
    started = time.monotonic()
    OUTPUT.mkdir(exist_ok=True)
    data = Path(tempfile.mkdtemp(prefix="service-", dir=OUTPUT)).resolve() / "data"
    package = OUTPUT.resolve() / "digits-network"
    shutil.rmtree(package, ignore_errors=True)
    with service(data, keep=keep) as client:
        print(
            f"service ready at {client.url} after {duration(time.monotonic() - started)}\n\n"
            f"POST /v1/searches\n{json.dumps(REQUEST, indent=2)}\n",
            flush=True,
        )
        search_id = client.submit(REQUEST)["id"]
        search = follow(client, search_id, plain=not sys.stderr.isatty())
        if search["state"] != "succeeded":
            sys.exit(f"the search {search['state']}: {search['reason']}")
        made = client.export(search_id)
        client.download(made["id"], package)
        checked = subprocess.run([sys.executable, "check.py"], cwd=package, capture_output=True, text=True, check=False)
        print("\n" + checked.stdout.strip() + checked.stderr.strip())
        print("predictions of model.py, and the truth:", classify_without_us(package))
        winner, costs = search["winner"], client.trial(search_id, search["winner"]["trial"])["metrics"]
        latency = next(row for row in (package / "README.md").read_text().splitlines() if row.startswith("| cpu | 1 "))
        accuracy = winner["test"]["test_accuracy"]
        print(
            f"\nThe winner: trial {winner['trial']} of {search['progress']['counted']}, "
            f"chosen among {search['progress']['finalists']} full trainings\n"
            f"  test accuracy   {accuracy:.4f}\n"
            f"  parameters      {figure(costs['params'])}\n"
            f"  MACs            {figure(costs['macs'])}\n"
            f"  latency         {latency.split('|')[3].strip()} ms (batch 1, one CPU thread, measured here)\n"
            f"  package         {package}\n"
            f"  took            {duration(time.monotonic() - started)}"
        )
    if checked.returncode != 0 or not made["certificate"]["passed"]:
        sys.exit("the package did not pass its check")
    if accuracy < 0.97:
        sys.exit(f"test accuracy {accuracy:.4f} is below 0.97")


if __name__ == "__main__":
    main()
