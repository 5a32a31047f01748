"""Pages of docs/ about the catalogue: one a block, reference and space, with pictures; and the coverage table."""

from __future__ import annotations

import hashlib
import inspect
import random
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn

from scripts.coverage import coverage_page
from search_spaces.architecture import Task
from search_spaces.build import walk
from search_spaces.catalogue import BLOCKS, REFERENCES, SPACES
from search_spaces.choose import Question, Recorder, estimated_size, first, sample
from search_spaces.cost import costs, costs_of
from search_spaces.drawing import INK, MUTED, PREAMBLE, condensed, dot
from search_spaces.profile import make
from search_spaces.signature import arguments, input_count
from search_spaces.space import Space
from tests.search_spaces.example_networks import around

SAMPLES = 12
IMAGES = (3, 32, 32)
MAX_DECISIONS = 40


def escaped(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(header: list[str], rows: list[list[object]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return [*lines, *("| " + " | ".join(map(escaped, row)) + " |" for row in rows), ""]


def linked(source: str) -> str:
    """arXiv numbers as links."""
    return re.sub(r"\b(\d{4}\.\d{4,5})\b", r"[arXiv \1](https://arxiv.org/abs/\1)", source)


def picture(name: str, graph: str, what: str) -> list[str]:
    """A reference to the picture, and the digest that says which graph it must show."""
    digest = hashlib.sha256(graph.encode()).hexdigest()[:12]
    return [f"![{what}]({name}.svg)", f"<!-- graph {digest} -->", ""]


# -- blocks ------------------------------------------------------------------------------------------------------------


class _Inside(fx.Tracer):
    """Looks into a block, into sequences and lists in it, and no further."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, nn.Sequential)


FUNCTIONS = {"cat": "concat", "add": "+", "mul": "×", "getitem": "select", "truediv": "÷", "sub": "−"}
SILENT = (nn.Identity, nn.Dropout)


def _label(module: nn.Module) -> tuple[str, str]:
    """Title and details of a module in a block's picture."""
    if isinstance(module, nn.Conv2d):
        return "conv " + "×".join(map(str, module.kernel_size)), _conv(module)
    if isinstance(module, nn.BatchNorm2d):
        return "batch norm", ""
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        kind = "max" if isinstance(module, nn.MaxPool2d) else "mean"
        return f"{kind} pool", f"{_side(module.kernel_size)}, stride {_side(module.stride)}"
    if isinstance(module, nn.Linear):
        return "linear", f"{module.out_features} units"
    conv, activation = getattr(module, "conv", None), getattr(module, "activation", None)
    if type(module).__name__ == "ConvNormAct" and isinstance(conv, nn.Conv2d):
        parts = {"norm": "norm", "activation": type(activation).__name__}
        silent = {name for name in parts if isinstance(getattr(module, name), nn.Identity)}
        steps = [parts.get(s, "conv " + "×".join(map(str, conv.kernel_size))) for s in module.steps if s not in silent]  # type: ignore[union-attr]
        return " → ".join(steps), _conv(conv)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", type(module).__name__), ""


def _conv(conv: nn.Conv2d) -> str:
    words = [f"{conv.out_channels} channels"]
    words += [f"stride {_side(conv.stride)}"] if _side(conv.stride) != "1" else []
    words += [f"{conv.groups} groups"] if conv.groups > 1 else []
    words += [f"dilation {_side(conv.dilation)}"] if _side(conv.dilation) != "1" else []
    return " · ".join(words)


def _side(value: object) -> str:
    sides = value if isinstance(value, tuple) else (value,)
    return "×".join(map(str, dict.fromkeys(sides)))


def inside(name: str) -> str:
    """What a block does, as DOT: its modules and functions, with numbers that are an example."""
    architecture = around(name)
    node = architecture.nodes[2]
    shapes = (IMAGES, *walk(architecture).shapes)
    with torch.device("meta"):
        block = make(BLOCKS[name], node.args, tuple(shapes[i] for i in node.inputs), input_count(BLOCKS[name])).eval()
    try:
        graph = _Inside().trace(block)
    except Exception:  # a block whose code fx cannot follow is shown in its place
        return dot(*condensed(architecture))
    return "\n".join([*PREAMBLE, *_boxes(graph, dict(block.named_modules())), "}"]) + "\n"


def _boxes(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> Iterator[str]:
    stands_for: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        reads = [stands_for.get(read, read) for read in node.all_input_nodes]
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if module is not None and (isinstance(module, SILENT) or type(module).__name__ == "DropPath"):
            stands_for[node] = reads[0]
            continue
        if node.op == "get_attr":
            title, details = str(node.target).replace("_", " "), ""
        elif module is not None:
            title, details = _label(module)
        elif node.op in ("placeholder", "output"):
            title, details = ("input" if node.op == "placeholder" else "output"), ""
        else:
            target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            title, details = FUNCTIONS.get(target.strip("_"), target.strip("_").replace("_", " ")), ""
        small = f'<br/><font point-size="10" color="{MUTED}">{details}</font>' if details else ""
        fill = "white" if node.op in ("placeholder", "output") else "#e3edf7" if module is not None else "#eef0f2"
        yield f'  {_name(node)} [label=<<b>{title}</b>{small}>, fillcolor="{fill}", color="{INK}"];'
        for read in reads:
            yield f"  {_name(read)} -> {_name(node)};"


def _name(node: fx.Node) -> str:
    return f"v_{node.name}"


def block_page(name: str) -> tuple[str, str]:
    """Page and graph."""
    block, graph = BLOCKS[name], inside(name)
    count = input_count(block)
    fields: list[list[object]] = [
        [f"`{key}`", f"`{_type(field.annotation)}`", "required" if field.is_required() else f"`{field.default!r}`"]
        for key, field in arguments(block).model_fields.items()
    ]
    families = sorted({r.family for r in REFERENCES.values() if any(n.block == name for n in r.build().nodes)})
    lines = [
        f"# {name}",
        "",
        inspect.cleandoc(block.__doc__ or ""),
        "",
        f"Reads {'any number of inputs' if count is None else '1 input' if count == 1 else f'{count} inputs'}."
        + (f" Used by the references of: {', '.join(families)}." if families else ""),
        f"Class `{block.__name__}` of `{block.__module__}`.",
        "",
        *picture(name, graph, f"What {name} does; numbers are an example"),
        *(table(["argument", "type", "default"], fields) if fields else []),
    ]
    return "\n".join(lines), graph


def _type(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
    text = text.replace("typing.", "")
    return re.sub(r"Literal\[(.*?)\]", lambda m: " or ".join(p.strip() for p in m.group(1).split(",")), text)


# -- references --------------------------------------------------------------------------------------------------------


def reference_page(name: str) -> tuple[str, str]:
    """Page and graph."""
    reference = REFERENCES[name]
    architecture = reference.build()
    price, task = costs(architecture), architecture.task
    short, times = condensed(architecture)
    graph = dot(short, times)
    looked_into = walk(short)
    nodes: list[list[object]] = [
        [
            number,
            f"[{node.block}](../blocks/{node.block}.md)" + (f" ({times[number]} times)" if number in times else ""),
            ", ".join(map(str, node.inputs)),
            "×".join(map(str, shape)),
            f"{profile.params * times.get(number, 1):,}",
            f"{profile.macs * times.get(number, 1):,}",
        ]
        for number, (node, shape, profile) in enumerate(
            zip(short.nodes, looked_into.shapes, looked_into.profiles, strict=True), 1
        )
    ]
    lines = [
        f"# {reference.summary}",
        "",
        f"`{name}`, family {reference.family}. Source: {linked(reference.source)}.",
        "",
        "```python",
        "from search_spaces import build, reference",
        "",
        f'network = build(reference("{name}"))',
        "```",
        "",
        *table(
            ["", "published", "counted"],
            [
                ["parameters", _published(reference.params), f"{price.params:,}"],
                ["multiply-accumulates", _published(reference.macs), f"{price.macs:,}"],
            ],
        ),
        f"Input {'×'.join(map(str, task.input_shape))}, {task.classes} classes; {len(architecture.nodes)} nodes,",
        f"{price.depth} layers on the longest path, receptive field {price.receptive_field or 'none'}.",
        "",
        *picture(name, graph, f"Graph of {reference.summary}"),
        *table(["node", "block", "reads", "output", "parameters", "multiply-accumulates"], nodes),
    ]
    return "\n".join(lines), graph


def _published(count: int | None) -> str:
    return "not told" if count is None else f"{count:,}"


# -- spaces ------------------------------------------------------------------------------------------------------------


def task_of(space: Space) -> Task:
    """Small colour images, for the first kind of task that a space is made for."""
    kinds: tuple[str, ...] = getattr(space, "tasks", ("classification",))
    return Task(IMAGES, 10, kinds[0])


def space_page(name: str) -> tuple[str, str]:
    """Page and graph."""
    space = SPACES[name]
    ask = space.bound(task_of(space))
    rng = random.Random(0)
    questions: dict[str, Question] = {}
    prices = []
    for choose in (first, *(sample(rng) for _ in range(SAMPLES))):
        recorder = Recorder(choose)
        prices.append(costs_of(walk(ask(recorder))))
        questions.update({q.name: q for q in recorder.questions if q.name not in questions})
    size = estimated_size(ask, random.Random(0), samples=50)
    graph = dot(*condensed(ask(first)))
    options: list[list[object]] = [
        [f"`{key}`", f"`{'' if field.is_required() else field.default!r}`", field.description or ""]
        for key, field in space.config.model_fields.items()
        if key != "name"
    ]
    asked = list(questions.values())[:MAX_DECISIONS]
    more = len(questions) - len(asked)
    params, macs = ([getattr(p, kind) for p in prices] for kind in ("params", "macs"))
    lines = [
        f"# {name}",
        "",
        space.summary,
        f"Source: {linked(space.source)}.",
        "",
        inspect.cleandoc(space.ask.__doc__ or ""),
        "",
        *(["## Options", "", *table(["option", "default", "meaning"], options)] if options else []),
        "## Decisions",
        "",
        f"With the defaults, for images of {'×'.join(map(str, IMAGES))}, as {SAMPLES + 1} samples asked them"
        + (f"; {more} more are left out here:" if more else ":"),
        "",
        *table(["decision", "options"], [[f"`{q.name}`", ", ".join(f"`{o}`" for o in q.options)] for q in asked]),
        f"{'Exactly' if size.exact else 'About'} {size.estimate:,.6g} different answers.",
        f"Parameters of those samples: {min(params):,} to {max(params):,};",
        f"multiply-accumulates: {min(macs):,} to {max(macs):,}.",
        "",
        *picture(name, graph, "The sample that takes every first option"),
    ]
    return "\n".join(lines), graph


# -- all ---------------------------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[Mapping[str, object], Callable[[str], tuple[str, str]]]] = {
    "blocks": (BLOCKS, block_page),
    "references": (REFERENCES, reference_page),
    "spaces": (SPACES, space_page),
}


def index_page(kind: str) -> str:
    """List of the pages of a kind."""
    lines = [f"# {kind.capitalize()}", "", "Made by `scripts/docs.py` from the catalogue.", ""]
    rows: list[list[object]] = []
    for name in sorted(KINDS[kind][0]):
        link = f"[{name}]({name}.md)"
        if kind == "references":
            found = REFERENCES[name]
            rows.append([link, found.summary, found.family, _published(found.params), _published(found.macs)])
        else:
            doc = SPACES[name].summary if kind == "spaces" else inspect.cleandoc(BLOCKS[name].__doc__ or "")
            rows.append([link, doc.split("\n\n", 1)[0].replace("\n", " ")])
    header = ["name", "network", "family", "parameters", "multiply-accumulates"]
    return "\n".join(lines + table(header if kind == "references" else ["name", "what it is"], rows))


def pages() -> tuple[dict[str, str], dict[str, str]]:
    """Text of every page by its path in docs/, and the graph of every picture by that of its page."""
    texts, graphs = {"coverage.md": coverage_page()}, {}
    for kind, (catalogue, page) in KINDS.items():
        texts[f"{kind}/README.md"] = index_page(kind)
        for name in catalogue:
            path = f"{kind}/{name}.md"
            texts[path], graphs[path] = page(name)
    return {path: text.rstrip() + "\n" for path, text in texts.items()}, graphs


def slim(svg: str) -> str:
    """A picture without tooltips, which take two thirds of it."""
    svg = re.sub(r'<g id="a_[^>]*>\s*<a [^>]*>\s*|</a>\s*</g>\s*', "", svg)
    return re.sub(r"[ \t]+\n", "\n", svg)
