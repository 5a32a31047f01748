"""The end of ``model.py``: what the pixels must look like, how to load the weights, and how to use the network."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence

from nas_service.export.content import DataDescription
from search_spaces.architecture import Task

TEXT = '''

# Images are given as they are stored: {pixels}, [batch, {shape}].
# The network sees (pixels - MEAN) / STD{resized}.
MEAN = {mean}
STD = {std}
CLASSES = {classes}


def preprocess(pixels: Tensor) -> Tensor:
    """(pixels - MEAN) / STD, each channel by itself{resized}: [batch, {shape}] -> [batch, {network_shape}] float32."""
    mean, std = (torch.tensor(v, device=pixels.device).reshape(1, -1, 1, 1) for v in (MEAN, STD))
    {last_step}


def load(weights: str = "model.safetensors") -> Model:
    """The trained network, ready to use."""
    from safetensors.torch import load_file

    model = Model()
    model.load_state_dict(load_file(weights))
    return model.eval()
'''
PREDICT = {
    "classification": '''

@torch.no_grad()
def predict(model: Model, pixels: Tensor) -> list[str]:
    """Name of the class of each image."""
    return [CLASSES[i] for i in model(preprocess(pixels)).argmax(1).tolist()]
''',
    "segmentation": '''

@torch.no_grad()
def predict(model: Model, pixels: Tensor) -> Tensor:
    """Class of each pixel, a place in CLASSES: [batch, height, width] int64, as large as the images."""
    logits = model(preprocess(pixels))
    if logits.shape[2:] != pixels.shape[2:]:
        logits = torch.nn.functional.interpolate(logits, size=pixels.shape[2:], mode="bilinear")
    return logits.argmax(1)
''',
    "localisation": '''

@torch.no_grad()
def predict(model: Model, pixels: Tensor) -> list[tuple[str, list[float]]]:
    """Class and box of each image: the box's left, top, right and bottom edge in pixels."""
    outputs = model(preprocess(pixels))
    names = [CLASSES[i] for i in outputs[:, :-4].argmax(1).tolist()]
    centre, size = outputs[:, -4:-2], outputs[:, -2:].clamp(min=0)
    sides = torch.tensor([pixels.shape[3], pixels.shape[2]], device=outputs.device)
    edges = torch.cat([(centre - size / 2) * sides, (centre + size / 2) * sides], dim=1)
    return list(zip(names, edges.tolist(), strict=True))
''',
}
"""The last function of model.py, by the kind of the task."""


def with_loading(source: str, data: DataDescription, task: Task, pixels: str) -> str:
    """``source`` of the network, then constants and functions for its user. ``pixels``: what an image holds."""
    size = task.input_shape[1:]
    same = size == data.input_shape[1:]
    normalised = "(pixels.float() - mean) / std"
    resize = (
        f"x = {normalised}\n    return torch.nn.functional.interpolate(\n"
        f'        x, size={size}, mode="bilinear", align_corners=False, antialias=True\n    )'
    )
    text = TEXT.format(
        pixels=pixels,
        shape=", ".join(map(str, data.input_shape)),
        network_shape=", ".join(map(str, task.input_shape)),
        mean=literal([repr(value) for value in data.mean]),
        std=literal([repr(value) for value in data.std]),
        classes=literal([json.dumps(name) for name in data.label_names]),
        resized="" if same else f", resized to {size[0]} x {size[1]}",
        last_step=f"return {normalised}" if same else resize,
    )
    whole = with_torch(source) + text + PREDICT[task.kind]
    check_constants(whole, data)
    return whole


def with_torch(source: str) -> str:
    """The source, with ``import torch`` among its imports."""
    lines = source.split("\n")
    if "import torch" in lines:
        return source
    first = next(i for i, line in enumerate(lines) if line.startswith(("from torch", "import torch")))
    return "\n".join([*lines[:first], "import torch", *lines[first:]])


def literal(items: Sequence[str]) -> str:
    """A tuple of literals: on one line where it fits, else filled lines of at most 100 characters."""
    one = f"({', '.join(items)}{',' if len(items) == 1 else ''})"
    if len(one) <= 85:
        return one
    lines = [""]
    for item in items:
        if len(lines[-1]) + len(item) + 2 > 94 and lines[-1]:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{item},"
    return "(\n" + "".join(f"    {line}\n" for line in lines) + ")"


def check_constants(text: str, data: DataDescription) -> None:
    """Raise ValueError unless the text is Python whose constants are those of ``data``, names of labels unharmed."""
    wanted = {"MEAN": data.mean, "STD": data.std, "CLASSES": data.label_names}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
            if name in wanted and ast.literal_eval(statement.value) != wanted.pop(name):
                raise ValueError(f"model.py would not hold {name} as it is in the data set")
    if wanted:
        raise ValueError(f"model.py lacks {sorted(wanted)}")
