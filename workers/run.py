"""Evaluate one assignment in this process: a generator of reports, one an epoch, that never raises."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import json
import math
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from search_spaces.architecture import Architecture, Task
from search_spaces.build import Network, build
from search_spaces.growth import inherit
from workers import checkpoint, drill, latency
from workers.assignment import Assignment, Kind, Member
from workers.checkpoint import CheckpointError
from workers.containment import data_bytes, memory_limit
from workers.datasets import DataError, Dataset, load, load_test
from workers.ending import LOG, EvaluationError, failure_of, is_out_of_memory
from workers.pictures import picture
from workers.scores import own_score
from workers.tables import TableError, load_table
from workers.training import (
    EpochReport,
    Progress,
    evaluate_split,
    initialise,
    loss_options,
    mean_scores,
    prepare,
    train,
)

WEIGHTS = "weights.safetensors"
PICTURE = "predictions.png"
"""What the network says about a few validation images; not for classification."""
CHECKPOINT_SHARE = 0.002
"""Checkpoints take at most about this share of the time: those of a large network come less often."""
Report = dict[str, Any]


def run(assignment: Assignment) -> Iterator[Report]:
    """Reports of one candidate, flat and JSON-able: the fields of EpochReport, ``done``, and what else was measured.

    The last has ``done``: true; that of a failure is ``{"done": true, "failure": {kind, message, traceback}}``.
    A run that goes on from a checkpoint first repeats the reports before it, with ``replayed``: true.
    """
    folder = Path(assignment.directory)
    limit = None if assignment.memory_mb is None else data_bytes() + assignment.memory_mb * 2**20
    worked = 0.0
    reports: Iterator[Report] | None = None
    last: Report = {}
    while not last.get("done"):
        started = time.perf_counter()
        try:
            with memory_limit(limit):
                if reports is None:
                    folder.mkdir(parents=True, exist_ok=True)
                    reports = EVALUATORS[assignment.evaluator](assignment, folder)
                report = next(reports, None)
            if report is None:
                raise EvaluationError("crash", "ended without a report of its last epoch")
            last = finite(report)
            if last["done"]:
                checkpoint.remove_checkpoint(folder)
            worked += time.perf_counter() - started
            if assignment.timeout_seconds is not None and worked > assignment.timeout_seconds and not last["done"]:
                raise EvaluationError("timeout", f"worked {worked:.1f} s; allowed: {assignment.timeout_seconds} s")
        except (Exception, SystemExit) as error:
            last = _failed(error, folder)
        yield last


def finite(report: Report) -> Report:
    """The report. Raises EvaluationError(nan) where a number in it is not finite."""
    for name, value in report.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise EvaluationError("nan", f"{name} is {value}")
    return report


def _failed(error: BaseException, folder: Path) -> Report:
    """The report of a failure; its traceback goes to the log, and memory is given back."""
    failure = failure_of(error)
    if isinstance(error, SystemExit):
        failure = failure.model_copy(update={"message": f"called sys.exit({error.code!r})"})
    with contextlib.suppress(OSError):  # on a full disk the report still carries the traceback
        note(folder, failure.traceback)
    if failure.kind == "oom":
        error.__traceback__ = None  # its frames hold the tensors
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return {"done": True, "failure": failure.model_dump()}


@contextlib.contextmanager
def blamed(kind: Kind) -> Iterator[None]:
    """What goes wrong within is of this kind, unless memory ran out."""
    try:
        yield
    except EvaluationError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        where = f" (on {socket.gethostname()})" if kind == "data" else ""
        raise EvaluationError(kind, f"{type(error).__name__}: {' '.join(str(error).split())}{where}") from error


def _trained(assignment: Assignment, folder: Path) -> Iterator[Report]:
    device = choose_device(assignment.gpus, folder)
    with blamed("build"):
        architecture = Architecture.from_json(assignment.architecture)
    with blamed("data"):
        data = _load(assignment, device)
    with blamed("build"):
        data = matching(data, architecture.task)
    identity = identity_of(assignment, data)
    network, progress, inherited = _start(assignment, architecture, device)
    extra: Report = {"data_hash": data.content_hash, "device": latency.device_name(device), **inherited}
    if assignment.latency is not None:
        wanted = assignment.latency
        measured = latency.measure(
            network, architecture.task.input_shape, device, wanted.batch_size, wanted.repeats, wanted.budget_seconds
        )
        extra |= {"latency_ms": measured.median_ms, "latency_iqr_ms": measured.iqr_ms, "latency_runs": measured.runs}
    if assignment.resume:
        try:
            done = checkpoint.load_checkpoint(network, progress, folder, identity)
        except CheckpointError as error:
            _start_over(folder, error)
            network, progress, _ = _start(assignment, architecture, device)
            done = 0
        if done:
            note(folder, f"going on from the checkpoint of epoch {done}")
        for past in progress.history[:done]:
            last = past.epoch == assignment.epochs
            yield {
                **past.flat(),
                **extra,
                **(_kept(assignment, progress, folder, network, data, device) if last else {}),
                "replayed": True,
                "done": last,
            }
    saved_at, pause = time.perf_counter(), assignment.checkpoint_seconds
    for report in train(network, data, assignment.recipe, assignment.epochs, assignment.seed, device, progress):
        last = report.epoch == assignment.epochs
        if assignment.keep_weights or assignment.final:
            keep_best(progress, network, report, data.task)
        started = time.perf_counter()
        if not last and started - saved_at >= pause:
            checkpoint.save_checkpoint(network, progress, folder, identity)
            saved_at = time.perf_counter()
            if assignment.checkpoint_seconds > 0:
                pause = max(assignment.checkpoint_seconds, (saved_at - started) / CHECKPOINT_SHARE)
        kept = _kept(assignment, progress, folder, network, data, device) if last else {}
        yield {**report.flat(), **extra, **kept, "done": last}


def _load(assignment: Assignment, device: torch.device) -> Dataset:
    assert assignment.dataset is not None, "Assignment checks it"
    data = load(assignment.dataset, assignment.data_roots, assignment.source, device)
    if assignment.train_hash not in (None, data.train_hash):
        raise DataError(f"data set {data.name!r} is another than the search began with")
    return data


def _start(
    assignment: Assignment, architecture: Architecture, device: torch.device
) -> tuple[nn.Module, Progress, Report]:
    """A network whose weights depend on the seed and on those of its parent alone, its optimiser, what it inherited."""
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(assignment.seed)
    with blamed("build"):
        network = build(architecture)
    initialise(network, assignment.recipe.init)
    inherited = _inherit(assignment, architecture, network)
    return network, prepare(network, assignment.recipe, device), inherited


def _inherit(assignment: Assignment, architecture: Architecture, network: Network) -> Report:
    """Start from the parent's weights where there are some; a parent whose file is gone is none."""
    parent = assignment.parent
    if parent is None:
        return {}
    own = Architecture.from_json(parent.architecture)
    original = build(own)
    try:
        checkpoint.load_weights(original, Path(parent.path), parent.sha256)
    except CheckpointError as error:
        note(Path(assignment.directory), f"fresh weights, those of trial {parent.trial} cannot be read: {error}")
        return {"parent_trial": parent.trial, "inherited_share": 0.0}
    torch.manual_seed(assignment.seed)
    taken = inherit(own, original.state_dict(), network, architecture)
    return {
        "parent_trial": parent.trial,
        "inherited_share": taken.share,
        "function_preserving": int(taken.preserving),
    }


def matching(data: Dataset, task: Task) -> Dataset:
    """The data set for networks of ``task``, resized where height or width differ. Raises DataError."""
    if data.input_shape[0] != task.input_shape[0]:
        raise DataError(f"{data.name} has {data.input_shape[0]} channels; the architecture wants {task.input_shape[0]}")
    if data.task != task.kind:
        raise DataError(f"{data.name} is for {data.task}; the architecture is for {task.kind}")
    if data.classes != task.classes:
        raise DataError(f"{data.name} has {data.classes} classes; the architecture has {task.classes} outputs")
    return data if data.input_shape == task.input_shape else data.resized(task.input_shape[1:])


def identity_of(assignment: Assignment, data: Dataset) -> str:
    """SHA-256 of everything that decides what is trained: a checkpoint of another run is never taken up."""
    parts = {
        "architecture": assignment.architecture,
        "recipe": assignment.recipe.identity(),
        "epochs": assignment.epochs,
        "seed": assignment.seed,
        "data": data.content_hash,
    }
    if assignment.parent is not None:
        parts["parent"] = assignment.parent.sha256
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def keep_best(progress: Progress, network: nn.Module, report: EpochReport, task: str) -> None:
    """Keep the weights of the epoch with the best validation score of the task, of equals the lowest loss."""
    score = own_score(task)
    if progress.best_epoch:
        best = progress.history[progress.best_epoch - 1]
        if (report.scores[score], -report.val_loss) <= (best.scores[score], -best.val_loss):
            return
    progress.best_epoch = report.epoch
    state = checkpoint.cpu_state(progress.evaluated(network))
    progress.best = {name: tensor.clone() for name, tensor in state.items()}


def _kept(
    assignment: Assignment,
    progress: Progress,
    folder: Path,
    network: nn.Module,
    data: Dataset,
    device: torch.device,
) -> Report:
    """Save the best epoch's weights where they are wanted, with a picture of what they do; say where they are."""
    if not (assignment.keep_weights or assignment.final):
        return {}
    metadata = {"search": assignment.search_id, "trial": str(assignment.trial), "epoch": str(progress.best_epoch)}
    saved = checkpoint.save_weights(progress.best, folder / WEIGHTS, metadata)
    if data.task != "classification":
        network.load_state_dict(progress.best)
        drawn = picture(network, data.validation, assignment.recipe, data.label_names)
        checkpoint.write_atomically(folder / PICTURE, drawn)
    viewed: Report = {}
    if assignment.final and assignment.recipe.test_views != "one":
        network.load_state_dict(progress.best)
        alone = [(network, data.validation.size)]
        found = mean_scores(alone, data.validation, assignment.recipe, device, assignment.recipe.test_views)
        viewed = {f"val_{name}_views": value for name, value in found.items()}
    return {
        "weights_path": saved.path,
        "weights_sha256": saved.sha256,
        "weights_bytes": saved.bytes,
        "weights_epoch": progress.best_epoch,
        **viewed,
    }


def scores_on_test(
    assignment: Assignment, weights_path: str | Path, sha256: str, ensemble: Sequence[Member] = ()
) -> dict[str, float]:
    """``test_loss`` and the task's scores (``test_accuracy``, …) of saved weights: nothing else opens the test part.

    Where the recipe asks for several views, ``test_accuracy_views`` and so on are those of the mean over them. With an
    ``ensemble``, ``ensemble_val_accuracy``, ``ensemble_test_accuracy`` and so on are those of the mean of its members'
    probabilities. Raises CheckpointError, DataError, ArchitectureError.
    """
    device = choose_device(assignment.gpus, Path(assignment.directory))
    recipe = assignment.recipe
    network, size = _trained_network(
        assignment, Member(architecture=assignment.architecture, weights_path=str(weights_path), sha256=sha256), device
    )
    data = matching(_load(assignment, device), Architecture.from_json(assignment.architecture).task)
    assert assignment.dataset is not None, "Assignment checks it"
    test = load_test(assignment.dataset, assignment.data_roots, assignment.source, device, size)
    loss, scores = evaluate_split(network, test, recipe, device, loss_options(recipe, data))
    figures = {f"test_{name}": value for name, value in scores.items()}
    if recipe.test_views != "one":
        found = mean_scores([(network, size)], test, recipe, device, recipe.test_views)
        figures |= {f"test_{name}_views": value for name, value in found.items()}
    if ensemble:
        members = [_trained_network(assignment, member, device) for member in ensemble]
        for part, split in (("val", data.validation), ("test", test)):
            together = mean_scores(members, split, recipe, device)
            figures |= {f"ensemble_{part}_{name}": value for name, value in together.items()}
    return {"test_loss": loss, **figures, "test_images": float(len(test.labels))}


def _trained_network(assignment: Assignment, member: Member, device: torch.device) -> tuple[nn.Module, tuple[int, int]]:
    """A network with its trained weights, and the height and width it wants."""
    architecture = Architecture.from_json(member.architecture)
    network, _, _ = _start(assignment, architecture, device)
    checkpoint.load_weights(network, Path(member.weights_path), member.sha256)
    return network, architecture.task.input_shape[1:]


def _drilled(assignment: Assignment, folder: Path) -> Iterator[Report]:
    ending = assignment.drill.ending(assignment.trial, assignment.attempt)
    if ending == "corrupt-checkpoint" or (folder / checkpoint.POINTER).exists():
        _rehearse_checkpoint(assignment, folder, write=ending == "corrupt-checkpoint")
    fingerprint = hashlib.sha256(json.dumps(assignment.architecture, sort_keys=True).encode()).hexdigest()
    for report in drill.drill(assignment.drill, ending, fingerprint, assignment.seed, assignment.epochs, folder):
        yield {**report, "done": report["epoch"] == assignment.epochs}


def _looked_up(assignment: Assignment, folder: Path) -> Iterator[Report]:
    """What training would have given, by a table: its whole training is ``assignment.epochs`` long here."""
    asked = assignment.table
    assert asked is not None, "Assignment checks it"
    with blamed("data"):
        table = load_table(Path(asked.path))
        row = table.row(asked.decisions)
        if row is None:
            raise TableError(f"table {table.name!r} has no network of the decisions {asked.decisions}")
    for epoch in range(1, assignment.epochs + 1):
        done = epoch == assignment.epochs
        so_far = None if done else max(1, epoch * table.epochs // assignment.epochs)
        accuracy = table.value(row, seed=assignment.seed if asked.noisy else None, epochs=so_far)
        yield {
            "epoch": epoch,
            "val_accuracy": accuracy,
            "val_loss": 1.0 - accuracy,
            "seconds": table.cost(row) / assignment.epochs,
            "done": done,
        }


def _rehearse_checkpoint(assignment: Assignment, folder: Path, write: bool) -> None:
    """Write the checkpoint that a drill is about to corrupt, or find out that an earlier attempt did."""
    network = nn.Linear(1, 1)
    progress = prepare(network, assignment.recipe, torch.device("cpu"))
    identity = f"drill {assignment.search_id} {assignment.trial}"
    if write:
        checkpoint.save_checkpoint(network, progress, folder, identity)
        return
    try:
        checkpoint.load_checkpoint(network, progress, folder, identity)
    except CheckpointError as error:
        _start_over(folder, error)


def _start_over(folder: Path, error: CheckpointError) -> None:
    note(folder, f"checkpoint refused, starting over: {error}")
    checkpoint.remove_checkpoint(folder)


def warm_up() -> None:
    """Import what torch imports by itself with the first optimiser (about 3 s), before a candidate's clock runs."""
    importlib.import_module("torch._dynamo")


def choose_device(gpus: float, folder: Path) -> torch.device:
    """The first visible GPU where the assignment has a share of one, which bounds its memory; else the CPU."""
    if gpus <= 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        note(folder, f"assigned {gpus} GPU, but CUDA is not available: training on the CPU")
        return torch.device("cpu")
    device = torch.device("cuda", 0)
    torch.cuda.set_per_process_memory_fraction(min(gpus, 1.0), device)
    return device


def gpu_is_broken() -> bool:
    """Whether this process can run nothing on its GPU any more: most errors of the CUDA driver stay with it."""
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def note(folder: Path, text: str) -> None:
    """Append to the candidate's log."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(text if text.endswith("\n") else text + "\n")


EVALUATORS: dict[str, Callable[[Assignment, Path], Iterator[Report]]] = {
    "train": _trained,
    "drill": _drilled,
    "table": _looked_up,
}
