"""Your own data in a search: an .npz in the server's data folder, registered, searched, and the winner taken home.

``python examples/own_data.py`` with a server started by ``nas serve`` in the same folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from nas_service.client import Client

SEARCH: dict[str, Any] = {
    "dataset": {"name": "my-digits"},
    "space": {"name": "residual"},
    "strategy": {"name": "evolution"},
    "scheduler": {"name": "asha", "max_epochs": 4},
    "budget": {"max_trials": 8},
    "finalists": {"top_k": 1, "epochs": 8},
}


def own_data(client: Client, data_dir: Path, to: Path, search: dict[str, Any] = SEARCH) -> dict[str, Any]:
    """Save arrays, register them, search, export; the package's record. Files of the package lie in ``to``."""
    images, labels = load_digits(return_X_y=True)  # [1797, 64] with values 0 to 16, [1797]
    pixels = (images * 15).astype("uint8").reshape(-1, 1, 8, 8)  # [n, channels, height, width]
    np.savez(
        data_dir / "datasets" / "my-digits.npz",
        x_train=pixels[:1400], y_train=labels[:1400], x_test=pixels[1400:], y_test=labels[1400:],
    )  # fmt: skip
    client.request("POST", "/v1/datasets", body={"name": "my-digits", "format": "npz", "path": "my-digits.npz"})
    ended = client.wait(client.submit(search)["id"])
    if ended["state"] != "succeeded":
        raise RuntimeError(f"the search has {ended['state']}: {ended['reason']}")
    package = client.export(ended["id"])
    client.download(package["id"], to)
    return package


if __name__ == "__main__":
    with Client() as client:
        made = own_data(client, Path(os.environ.get("NAS_DATA_DIR", "nas-data")), Path("my-network"))
    print(f"certificate: {made['certificate']}\nthe package lies in my-network; try: cd my-network && python check.py")
