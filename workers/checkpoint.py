"""Weights and checkpoints as safetensors files, each with its SHA-256. Never a pickle.

A checkpoint is two files: ``checkpoint-<epoch>.safetensors`` and, written last, ``checkpoint.json``, which names it.
Whenever the process dies, the JSON file names a complete checkpoint or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialise
from torch import Tensor, nn

from workers.training import EpochReport, Progress

POINTER = "checkpoint.json"


class CheckpointError(ValueError):
    """A checkpoint or weights file that is not what was written, or does not fit its network."""


@dataclass(frozen=True)
class SavedFile:
    """A file that is safely on disk."""

    path: str
    sha256: str
    bytes: int


def write_atomically(path: Path, data: bytes) -> SavedFile:
    """Write beside, fsync, rename, fsync the folder: ``path`` is the old file or the whole new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return SavedFile(str(path), hashlib.sha256(data).hexdigest(), len(data))


def read_verified(path: Path, sha256: str) -> bytes:
    """The bytes of a file. Raises CheckpointError when they are not those that were written."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise CheckpointError(f"{path} has SHA-256 {found}; allowed: {sha256}, as it was written")
    return data


def save_weights(state: dict[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> SavedFile:
    """A state dict made by ``cpu_state``. Raises OSError.

    Metadata goes under one key, because safetensors writes several in an order that changes from call to call.
    """
    return write_atomically(path, serialise(state, {"about": json.dumps(dict(metadata or {}), sort_keys=True)}))


def load_weights(network: nn.Module, path: Path, sha256: str) -> None:
    """Load what ``save_weights`` wrote; every name and shape must fit. Raises CheckpointError."""
    tensors = _parsed(path, read_verified(path, sha256))
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit its network: {error}") from error


def save_checkpoint(network: nn.Module, progress: Progress, folder: Path, run: str) -> SavedFile:
    """Weights, their average, optimiser, loss scaler and reports after the last epoch; ``run`` says of what.

    The checkpoint before it is removed. Raises OSError.
    """
    tensors = {f"model.{name}": tensor for name, tensor in cpu_state(network).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    if progress.average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in cpu_state(progress.average).items()}
    state = progress.optimizer.state_dict()
    plain: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value.detach().cpu().contiguous()
            else:
                plain.setdefault(str(index), {})[name] = value
    body = {
        "run": run,
        "history": [report.flat() for report in progress.history],
        "optimizer": {"groups": state["param_groups"], "plain": plain},
        "scaler": progress.scaler.state_dict(),
        "best_epoch": progress.best_epoch,
    }
    old = _pointer(folder)
    path = folder / f"checkpoint-{len(progress.history)}.safetensors"
    saved = write_atomically(path, serialise(tensors, {"progress": json.dumps(body)}))
    pointer = {"file": path.name, "sha256": saved.sha256, "epoch": len(progress.history)}
    write_atomically(folder / POINTER, json.dumps(pointer).encode())
    if old is not None and old["file"] != path.name:
        (folder / old["file"]).unlink(missing_ok=True)
    return saved


def load_checkpoint(network: nn.Module, progress: Progress, folder: Path, run: str) -> int:
    """Bring ``network`` and ``progress`` to where ``save_checkpoint`` left them; the epoch, 0 where there is none.

    Raises CheckpointError when the file is not what was written or belongs to another run; then start with a new
    network and a new Progress, because these may be changed in part.
    """
    pointer = _pointer(folder)
    if pointer is None:
        return 0
    path = folder / pointer["file"]
    data = read_verified(path, pointer["sha256"])
    tensors = _parsed(path, data)
    size = int.from_bytes(data[:8], "little")
    try:
        body = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["progress"])
        if body["run"] != run:
            raise CheckpointError(f"{path} belongs to another run: {body['run']!r}; allowed: {run!r}")
        history = [EpochReport.from_flat(report) for report in body["history"]]
        optimizer_state = _optimizer_state(progress.optimizer, tensors, body["optimizer"])
        network.load_state_dict(_under("model.", tensors), strict=True)
        if progress.average is not None:
            progress.average.load_state_dict(_under("average.", tensors), strict=True)
        progress.optimizer.load_state_dict(optimizer_state)
        if body["scaler"]:
            progress.scaler.load_state_dict(body["scaler"])
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} does not fit its run: {type(error).__name__}: {error}") from error
    progress.history[:] = history
    progress.best_epoch = body["best_epoch"]
    progress.best = _under("best.", tensors)
    return len(history)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def remove_checkpoint(folder: Path) -> None:
    """Forget the checkpoint of a folder, the pointer first."""
    (folder / POINTER).unlink(missing_ok=True)
    for path in folder.glob("checkpoint-*.safetensors"):
        path.unlink(missing_ok=True)
    for path in folder.glob(".checkpoint*.tmp"):
        path.unlink(missing_ok=True)


def _optimizer_state(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], saved: Mapping[str, Any]
) -> dict[str, Any]:
    """The optimiser's state dict, tensors laid out like their parameters so that they are as fast as before."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in saved["plain"].items()}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            like = parameters[int(index)]
            value = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.shape == like.shape else tensor
            state.setdefault(int(index), {})[name] = value.detach()
    groups = [{**group, "betas": tuple(group["betas"])} if "betas" in group else group for group in saved["groups"]]
    return {"state": state, "param_groups": groups}


def cpu_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict on the CPU, contiguous; tensors that share memory are copied, so that each name has its own."""
    seen: set[int] = set()
    state = {}
    for name, tensor in network.state_dict().items():
        value = tensor.detach().cpu().contiguous()
        state[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return state


def _parsed(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        return parse(data)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def _pointer(folder: Path) -> dict[str, Any] | None:
    """What ``checkpoint.json`` says; None where there is none. Raises CheckpointError when it is broken."""
    with contextlib.suppress(FileNotFoundError):
        text = (folder / POINTER).read_bytes()
        try:
            pointer = json.loads(text)
            name, sha256 = pointer["file"], pointer["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder / POINTER} is broken: {error}") from error
        if not isinstance(name, str) or Path(name).name != name or not isinstance(sha256, str):
            raise CheckpointError(f"{folder / POINTER} names {name!r}; allowed: a file of the same folder")
        return {"file": name, "sha256": sha256}
    return None
