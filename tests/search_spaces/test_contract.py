"""What holds for every block and every reference, by being in the catalogue.

Every block: a small network around it (made from its signature, see example_networks.py) builds, runs forward and
backward, has the shapes that were inferred, goes through JSON, keeps its fingerprint when it is numbered anew, and is
printed as a model.py with the same keys. Each choice of each argument is built on the meta device. One child process
runs all those model.py without this package. A quarter of the blocks, side by side in one network, go through ONNX here
and the others in `make faults` (a conversion takes ten seconds).

Every reference: the same on the meta device, at its own size, but for running; one in four of them here, all in
`make faults`. The smallest of each family also runs, fitted to images of 8x8 pixels. Its parameters and products are
in test_references.py and test_oracles.py.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal, get_args, get_origin
from zlib import crc32

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor, nn

from search_spaces.architecture import Architecture, ArchitectureError
from search_spaces.build import build, fingerprint, walk
from search_spaces.catalogue import BLOCKS, REFERENCES
from search_spaces.cost import costs
from search_spaces.fitting import fitted
from search_spaces.signature import arguments
from search_spaces.source import source
from tests.search_spaces.example_networks import CHANNELS, TASK, around, renumbered, side_by_side


def smallest_of_each_family() -> list[str]:
    """Names of the references with the fewest published products, one a family."""
    found: dict[str, str] = {}
    for name, reference in REFERENCES.items():
        best = REFERENCES.get(found.get(reference.family, ""))
        if best is None or (reference.macs or 10**12) < (best.macs or 10**12):
            found[reference.family] = name
    return list(found.values())


SMALLEST = smallest_of_each_family()


@cache
def example(name: str) -> Architecture:
    """The network that is run: around a block, or a reference fitted to images of 8x8 pixels, or 32x32."""
    if name in BLOCKS:
        return around(name)
    published = REFERENCES[name].build()
    small = replace(TASK, kind=published.task.kind)
    try:
        return fitted(published, small)
    except ArchitectureError:
        return fitted(published, replace(small, input_shape=(3, 32, 32)))


def images(architecture: Architecture) -> Tensor:
    return torch.randn(4, *architecture.task.input_shape, generator=torch.Generator().manual_seed(0))


def check_as_data(architecture: Architecture) -> None:
    """JSON both ways, and one fingerprint in any order of the nodes."""
    assert Architecture.from_json(architecture.to_json()) == architecture
    assert fingerprint(renumbered(architecture, random.Random(1))) == fingerprint(architecture)


def printed(architecture: Architecture) -> nn.Module:
    """The Model of model.py on the current device."""
    namespace: dict[str, type[nn.Module]] = {"__name__": "model"}
    exec(compile(source(architecture), "model.py", "exec"), namespace)
    return namespace["Model"]()


@pytest.mark.parametrize("name", [*BLOCKS, *SMALLEST])
def test_runs_forward_and_backward_with_the_inferred_shapes(name: str) -> None:
    architecture = example(name)
    torch.manual_seed(0)
    network = build(architecture)
    seen: dict[str, tuple[int, ...]] = {}
    for child, module in network.named_children():
        module.register_forward_hook(lambda _, __, output, child=child: seen.update({child: tuple(output.shape[1:])}))
    loss = network(images(architecture)).square().mean()
    auxiliary = [getattr(module, "logits", None) for module in network.modules()]
    loss = loss + sum(logits.square().mean() for logits in auxiliary if isinstance(logits, Tensor))
    loss.backward()
    walked = walk(architecture)
    assert seen == {n: shape for n, shape in zip(walked.names, walked.shapes, strict=True) if n in seen}
    assert seen
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{parameter_name} is not used"
        assert torch.isfinite(parameter.grad).all(), parameter_name
    check_as_data(architecture)
    network = build(architecture).eval()
    model = printed(architecture).eval()
    model.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(model(images(architecture)), network(images(architecture)))


def chosen(name: str, key: str, choice: bool | int | str) -> Architecture:
    """A block with one argument chosen; where it does not go with the defaults, another one is 1."""
    numbers = [k for k, field in arguments(BLOCKS[name]).model_fields.items() if type(field.default) is int]
    for others in ({}, *({k: 1} for k in numbers if k != key)):
        with contextlib.suppress(ArchitectureError):
            return around(name, **{key: choice}, **others)
    return around(name, **{key: choice})


@pytest.mark.parametrize("name", list(BLOCKS))
def test_every_choice_of_every_argument_builds(name: str) -> None:
    for key, field in arguments(BLOCKS[name]).model_fields.items():
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        for choice in (False, True) if field.annotation is bool else choices:
            assert chosen(name, key, choice)


def some_or_slow(names: Iterable[str]) -> list[ParameterSet]:
    """All names; three of four run only in `make faults`, always the same ones: as the hash of the name says."""
    return [pytest.param(name, marks=[] if crc32(name.encode()) % 4 == 0 else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", some_or_slow(REFERENCES))
def test_a_reference_builds_and_is_printed_with_the_same_keys(name: str) -> None:
    architecture = REFERENCES[name].build()
    check_as_data(architecture)
    with torch.device("meta"):
        network, model = build(architecture), printed(architecture)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert {key: value.shape for key, value in model.state_dict().items()} == shapes
    assert sum(p.numel() for p in network.parameters()) == costs(architecture).params


ALONE = """
import importlib.util, sys, torch
torch.set_num_threads(1)
for name in sys.argv[2:]:
    spec = importlib.util.spec_from_file_location("model", f"{sys.argv[1]}/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    weights, images, outputs = torch.load(f"{sys.argv[1]}/{name}.pt")
    model = module.Model().eval()
    model.load_state_dict(weights)
    with torch.no_grad():
        assert torch.equal(model(images), outputs), name
assert not any(name.startswith("search_spaces") for name in sys.modules)
print(len(sys.argv) - 2)
"""


def test_every_model_runs_alone_with_equal_outputs(tmp_path: Path) -> None:
    """In a process that cannot import this package: blocks, and the references that need the fewest weights."""
    names = [*BLOCKS, *(name for name in SMALLEST if costs(example(name)).params < 3_000_000)]
    for name in names:
        torch.manual_seed(0)
        network = build(example(name)).eval()
        with torch.no_grad():
            outputs = network(images(example(name)))
        (tmp_path / f"{name}.py").write_text(source(example(name)), encoding="utf-8")
        torch.save((network.state_dict(), images(example(name)), outputs), tmp_path / f"{name}.pt")
    command = [sys.executable, "-I", "-c", ALONE, str(tmp_path), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, str(len(names))), done.stderr[-2000:]


def onnx_difference(architecture: Architecture, folder: Path) -> float:
    """Largest difference between a network and its ONNX form in onnxruntime, for more images than were traced."""
    import onnxruntime

    torch.manual_seed(0)
    network, pixels = build(architecture).eval(), images(architecture)
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (pixels[:2],), dynamic_shapes=({0: batch},), strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(program, dynamo=True, verbose=False)
    assert converted is not None
    converted.save(folder / "model.onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: pixels.numpy()})
    with torch.no_grad():
        expected = network(pixels).numpy()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("share", [0, *(pytest.param(share, marks=pytest.mark.slow) for share in (1, 2, 3))])
def test_blocks_have_the_same_outputs_in_onnx(share: int, tmp_path: Path) -> None:
    """A quarter of the blocks in one network; the three other quarters in `make faults`."""
    names = [name for name in BLOCKS if crc32(name.encode()) % 4 == share]
    assert names
    assert onnx_difference(side_by_side(names), tmp_path) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_a_family_has_the_same_outputs_in_onnx(name: str, tmp_path: Path) -> None:
    assert onnx_difference(example(name), tmp_path) < 1e-4


def test_examples_are_small_and_read_the_stem() -> None:
    for name in BLOCKS:
        assert costs(example(name)).params < 10**6, name
        assert example(name).nodes[0].args["out_channels"] == CHANNELS
