"""``README.md`` of a package: what the network is, how good and fast, from which data, its use and its limits."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from nas_service.export.content import DataDescription, FormatReport, PackageContent
from nas_service.markdown import table

NETWORKS = {
    "classification": "An image classifier for {} classes",
    "segmentation": "A network that gives each pixel of an image one of {} classes",
    "localisation": "An image classifier for {} classes that also finds the object's box",
}
OUTPUTS = {
    "classification": "The outputs are one logit a class.",
    "segmentation": "The outputs are one logit a class for each pixel.",
    "localisation": "The outputs are one logit a class, then the box: centre x, centre y, width and height as shares "
    "of the image's width and height.",
}
LIMITS = {
    "classification": "It knows {} classes and always names one of them, whatever the image shows.",
    "segmentation": "It knows {} classes and gives each pixel one of them, whatever the image shows.",
    "localisation": "It knows {} classes and always names one of them, with one box, whatever the image shows.",
}
METRICS = {
    "accuracy": "accuracy",
    "miou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "accuracy_at_iou50": "accuracy with an IoU of at least 0.5",
    "iou": "IoU of the boxes",
}
"""What people call a score."""


def card(content: PackageContent, fingerprint: str, formats: Sequence[FormatReport]) -> str:
    """The model card as Markdown. Holds no date: equal content gives equal text."""
    sections = [
        f"# {plain(content.title or content.search_name) or 'Network ' + fingerprint[:12]}",
        _summary(content),
        _use(content),
        _quality(content),
        _costs(content),
        _files(formats),
        _data(content),
        _making(content, fingerprint),
        _limits(content),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def plain(text: str) -> str:
    """One line of text that Markdown reads as text."""
    line = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in line)


def _summary(content: PackageContent) -> str:
    task = content.architecture.task
    shape = " x ".join(map(str, content.data.input_shape))
    return (
        f"{NETWORKS[task.kind].format(task.classes)}, images of {shape} (channels x height x width). Found by a "
        "neural architecture search and trained from scratch. It is plain PyTorch: `model.py` imports torch alone."
    )


def _use(content: PackageContent) -> str:
    shape = ", ".join(map(str, content.data.input_shape))
    code = (
        "import torch\n"
        "from model import load, predict\n\n"
        "model = load()  # reads model.safetensors\n"
        f"pixels = torch.zeros(1, {shape}, dtype=torch.{content.samples.dtype})  # images as they are stored\n"
        "print(predict(model, pixels))"
    )
    return (
        f"## Use\n\n```python\n{code}\n```\n\n{reading_a_photo(content.data, deep=content.samples.dtype != np.uint8)}"
        "Needs `torch` and `safetensors`. `predict` normalises the pixels as in training; if you call the model "
        "yourself, give it `preprocess(pixels)`, as the ONNX file and `model.pt2` want it too. "
        f"{OUTPUTS[content.architecture.task.kind]}\n\n"
        "`python check.py` (with `numpy` installed) verifies every file and the outputs for the sample images."
    )


def reading_a_photo(data: DataDescription, *, deep: bool) -> str:
    """How a photo becomes pixels as they were in training; empty where the images were no files. ``deep``: they were
    grey, with more than 8 bits.
    """
    if data.photos is None:
        return ""
    channels, height, width = data.input_shape
    mode = "F" if deep else "L" if channels == 1 else "RGB"
    draft = f"photo.draft(None, ({2 * width}, {2 * height}))  # a JPEG is read at a fraction of its size\n"
    fitted = (
        ("" if deep else draft) + f'photo = ImageOps.exif_transpose(photo).convert("{mode}")\n'
        f"photo = ImageOps.fit(photo, ({width}, {height}))  # scaled, and cut around its centre\n"
    )
    code = (
        "import numpy as np\n"
        "from PIL import Image, ImageOps\n\n"
        f'photo = Image.open("photo.{"png" if deep else "jpg"}")\n'
        + (fitted if data.photos == "fitted" else f'photo = photo.convert("{mode}")  # {width} x {height}\n')
        + f"pixels = torch.tensor(np.array(photo)).reshape({height}, {width}, {channels}).permute(2, 0, 1)[None]"
    )
    return f"A photo, with Pillow:\n\n```python\n{code}\n```\n\n"


def percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _quality(content: PackageContent) -> str:
    rows = []
    scores, metric = content.val_scores, METRICS.get(content.metric, content.metric)
    if scores:
        mean = sum(scores) / len(scores)
        spread = "one seed, so the spread is not known"
        if len(scores) > 1:
            deviation = (sum((s - mean) ** 2 for s in scores) / (len(scores) - 1)) ** 0.5
            spread = f"standard deviation {100 * deviation:.2f} points over {len(scores)} seeds: " + ", ".join(
                percent(s) for s in scores
            )
        rows.append([f"validation {metric}", percent(mean), spread])
    if content.test_score is not None:
        rows.append([f"test {metric}", percent(content.test_score), "measured once, after the search"])
    return "" if not rows else "## Quality\n\n" + table(["metric", "value", "remarks"], rows)


def _costs(content: PackageContent) -> str:
    rows = [[plain(name), number(value)] for name, value in content.costs.items() if value is not None]
    parts = [] if not rows else ["## Costs\n\n" + table(["cost", "value"], rows)]
    if content.latency:
        timed = [
            [
                plain(entry.device),
                str(entry.batch_size),
                f"{entry.latency_ms:.3f}",
                "" if entry.spread_ms is None else f"{entry.spread_ms:.3f}",
            ]
            for entry in content.latency
        ]
        head = ["device", "batch size", "median latency [ms]", "interquartile range [ms]"]
        parts.append("## Latency\n\n" + table(head, timed))
    return "\n\n".join(parts)


def number(value: float | int) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _files(formats: Sequence[FormatReport]) -> str:
    rows = [
        [
            f"`{report.file}`",
            "yes" if report.ok else "no",
            f"largest difference of the outputs {report.max_difference:.2g}"
            if report.ok and report.max_difference is not None
            else plain((report.reason or "").split("\n")[0][:300]),
        ]
        for report in formats
    ]
    return "## Formats\n\n" + table(["file", "there", "remarks"], rows)


def _data(content: PackageContent) -> str:
    data = content.data
    names = ", ".join(plain(name) for name in data.label_names[:50])
    more = f", and {len(data.label_names) - 50} more" if len(data.label_names) > 50 else ""
    return (
        f"## Data\n\nTrained on `{plain(data.name)}`, content hash `{data.content_hash}`.\n\n"
        f"- Classes: {names}{more}\n- Mean of the training pixels, each channel: {list(data.mean)}\n"
        f"- Standard deviation: {list(data.std)}"
    )


def _making(content: PackageContent, fingerprint: str) -> str:
    facts = [
        ("search", f"{plain(content.search_name)} ({content.search_id})" if content.search_id else ""),
        ("strategy", plain(content.strategy)),
        ("architecture", fingerprint),
        ("trained with", ", ".join(f"{name} {version}" for name, version in sorted(content.versions.items()))),
    ]
    lines = [f"- {name}: {value}" for name, value in facts if value]
    blocks = [
        f"{title}:\n\n```json\n{json.dumps(value, indent=2, sort_keys=True)}\n```"
        for title, value in (("Recipe", dict(content.recipe)), ("Decisions", dict(content.decisions)))
        if value
    ]
    return "\n\n".join(["## How it was made", "\n".join(lines), *blocks])


def _limits(content: PackageContent) -> str:
    metric = METRICS.get(content.metric, content.metric)
    return (
        "## Limits\n\n"
        f"- {LIMITS[content.architecture.task.kind].format(len(content.data.label_names))}\n"
        f"- Its {metric} was measured on data from the same source as the training data; elsewhere it may be lower.\n"
        f"- The architecture was chosen by its validation {metric}, which is therefore a little optimistic; the test "
        f"{metric} is not.\n"
        "- Latency depends on device, batch size and software; measure on yours."
    )
