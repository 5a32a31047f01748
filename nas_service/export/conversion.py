"""Runs in the child: the network of a package, its outputs, and the same network as ONNX and as an ExportedProgram.

A conversion writes one file of the folder and returns the largest difference from the network's own outputs.
"""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nas_service.export.check import load_module
from search_spaces.architecture import Architecture
from search_spaces.build import build


def write_network(folder: Path, weights: Path, samples: Path, architecture: Architecture) -> dict[str, float | None]:
    """``model.safetensors`` and ``samples.safetensors``: the weights, sample pixels, and the outputs for them.

    The outputs are those of the network that was trained, ``build(architecture)``; ``model.py`` must give the same.
    ``model.fp16.safetensors`` are the weights at half the size. Returns how much the outputs differ with either, None
    where half precision gives none that are finite, and the largest magnitude of an output.
    """
    network = build(architecture)
    network.load_state_dict(load_file(weights))
    network.eval()
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    model_py = load_module(folder)
    with np.load(samples, allow_pickle=False) as file:
        pixels, labels = torch.from_numpy(file["pixels"]), torch.from_numpy(file["labels"])
    with torch.no_grad():
        outputs = network(model_py.preprocess(pixels))
    if not torch.isfinite(outputs).all():
        raise ValueError("the network's outputs for the sample images are not all finite")
    save_file({"pixels": pixels, "labels": labels, "outputs": outputs}, folder / "samples.safetensors")
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_file(halves, folder / "model.fp16.safetensors")
    for name in ("model.safetensors", "samples.safetensors", "model.fp16.safetensors"):
        (folder / name).chmod(0o644)  # safetensors writes 0600
    model, inputs, expected = loaded(folder)
    half = difference(model_py.load(str(folder / "model.fp16.safetensors"))(inputs), expected)
    return {
        "max_difference": difference(model(inputs), expected),
        "half_difference": half if math.isfinite(half) else None,
        "largest_output": float(outputs.abs().max()),
    }


def loaded(folder: Path) -> tuple[nn.Module, Tensor, Tensor]:
    """The model of ``model.py`` with its weights, the preprocessed sample inputs, and the outputs for them."""
    model_py = load_module(folder)
    samples = load_file(folder / "samples.safetensors")
    model: nn.Module = model_py.load(str(folder / "model.safetensors"))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model, model_py.preprocess(samples["pixels"]), samples["outputs"]


def difference(outputs: Tensor, expected: Tensor) -> float:
    """Largest absolute difference; infinite where shapes differ or a number is not finite."""
    if outputs.shape != expected.shape or not torch.isfinite(outputs).all():
        return float("inf")
    return float((outputs - expected).abs().max())


def traced(model: nn.Module, inputs: Tensor) -> torch.export.ExportedProgram:
    """The model as a graph for any batch size. Traced with two images: with one, torch would fix the batch to 1."""
    example = inputs[:1].expand(2, -1, -1, -1).contiguous()
    return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)


def write_pt2(folder: Path) -> float:
    """``model.pt2``: an ExportedProgram, for ``torch.export.load``."""
    model, inputs, expected = loaded(folder)
    program = traced(model, inputs)
    for node in program.graph.nodes:
        for key in ("stack_trace", "from_node", "nn_module_stack", "source_fn_stack", "torch_fn"):
            node.meta.pop(key, None)  # they name files and folders of the machine that exports
    path = folder / "model.pt2"
    torch.export.save(program, path)
    back = torch.export.load(path).module()
    return max(difference(back(inputs), expected), difference(back(inputs[:1]), expected[:1]))


def write_onnx(folder: Path) -> float:
    """``model.onnx``, with the batch left open; measured with onnxruntime."""
    import onnx
    import onnxruntime

    model, inputs, expected = loaded(folder)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        model,
        (inputs[:1].expand(2, -1, -1, -1).contiguous(),),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    proto = program.model_proto
    strip_onnx(proto)
    onnx.checker.check_model(proto)
    data = proto.SerializeToString(deterministic=True)
    (folder / "model.onnx").write_bytes(data)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    every, one = (torch.from_numpy(session.run(None, {"images": batch.numpy()})[0]) for batch in (inputs, inputs[:1]))
    return max(difference(every, expected), difference(one, expected[:1]))


def strip_onnx(proto: object) -> None:
    """Remove what names the exporting machine or differs between runs: stack traces, doc strings, metadata."""
    from onnx import ModelProto

    if not isinstance(proto, ModelProto):
        raise TypeError(f"{type(proto).__name__} is not an ONNX model")
    graphs = [proto.graph, *proto.functions]
    del proto.metadata_props[:]
    for graph in graphs:
        del graph.metadata_props[:]
        graph.ClearField("doc_string")
        parts = [*graph.node, *graph.value_info]
        if graph is proto.graph:
            parts += [*graph.input, *graph.output, *graph.initializer]
        for part in parts:
            del part.metadata_props[:]
            part.ClearField("doc_string")


def quiet() -> None:
    """One thread, and no warnings of the exporters on the console: what goes wrong is raised and reported."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
