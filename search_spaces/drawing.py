"""Architecture -> a picture: DOT with shapes on its edges, and SVG with the same bytes on every machine."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Mapping
from html import escape
from itertools import groupby

from search_spaces import catalogue
from search_spaces.architecture import Architecture, Arg, Node
from search_spaces.build import Walk, live_nodes, walk
from search_spaces.naming import KINDS
from search_spaces.signature import arguments

TIMEOUT_SECONDS = 60
INK, MUTED, LINE, PANEL = "#26323d", "#66757f", "#a3afb8", "#f6f8f9"
FILLS = {
    "convolution": ("#e3edf7", "#8fb1d3"),
    "residual": ("#e4f1e7", "#8fbd9b"),
    "mbconv": ("#fbefd9", "#d9b36c"),
    "inception": ("#efe6f5", "#b193c6"),
    "nasnet": ("#fae4e1", "#d8938a"),
    "head": ("#dff1f1", "#7fb8b8"),
    "join": ("#eef0f2", "#a3afb8"),
}
"""Fill and border of a node, by the file its block comes from; other files take a colour of their own from the rest."""

OTHERS = (("#e8ecfa", "#98a5da"), ("#f3eddf", "#bfae83"), ("#e6f0ea", "#93b8a2"), ("#f8e6ee", "#cf94ae"))

ENDINGS = {"classification": "", "segmentation": " a pixel", "localisation": " and a box"}

PREAMBLE = (
    "digraph architecture {",
    '  graph [rankdir=TB, nodesep=0.3, ranksep=0.32, pad=0.3, bgcolor="transparent", fontname="Helvetica",',
    f'    fontcolor="{MUTED}", fontsize=11, labeljust=l];',
    '  node [shape=box, style="rounded,filled", penwidth=1.1, margin="0.18,0.09", fontname="Helvetica",',
    f'    fontsize=12, fontcolor="{INK}"];',
    f'  edge [color="{LINE}", arrowsize=0.6, penwidth=1.1, fontname="Helvetica", fontsize=9, fontcolor="{MUTED}"];',
)


class DrawingError(RuntimeError):
    """A picture that could not be drawn: says why."""


def condensed(architecture: Architecture) -> tuple[Architecture, dict[int, int]]:
    """The architecture with one node for each run of equal nodes that keep their shape, and how often it stood there.

    The second value says it by number of node, where that is more than once.
    """
    looked_into = walk(architecture)
    nodes, shapes = looked_into.architecture.nodes, looked_into.shapes
    readers = Counter(i for node in nodes for i in node.inputs)
    numbers, kept, times = {0: 0}, list[Node](), dict[int, int]()
    for number, node in enumerate(nodes, 1):
        before = nodes[number - 2] if number > 1 else node
        again = number > 1 and node.inputs == (number - 1,) and readers[number - 1] == 1 and node.block == before.block
        if (
            again
            and _apart_from_drop_path(node) == _apart_from_drop_path(before)
            and shapes[number - 1] == shapes[number - 2]
        ):
            times[len(kept)] = times.get(len(kept), 1) + 1
        else:
            kept.append(Node(node.block, tuple(numbers[i] for i in node.inputs), node.args))
        numbers[number] = len(kept)
    return Architecture(looked_into.architecture.task, tuple(kept)), times


def _apart_from_drop_path(node: Node) -> dict[str, Arg]:
    return {name: value for name, value in node.args.items() if name != "drop_path"}


def dot(architecture: Architecture, times: Mapping[int, int] | None = None) -> str:
    """The graph in DOT: a rounded box a node, stages as panels, "channels x height x width" on every edge.

    ``times`` says of nodes, by number, how often they stand there in a row.
    """
    looked_into = walk(architecture)
    live = live_nodes(looked_into.architecture)
    task = looked_into.architecture.task
    box = f'fillcolor="white", color="{LINE}"'
    lines = [*PREAMBLE, f"  n0 [label=<<b>image</b>>, {box}];"]
    for stage, members in groupby(live, key=lambda number: _stage(looked_into.names[number - 1])):
        numbers = list(members)
        boxes = [f"  {_box(looked_into, number, (times or {}).get(number, 1))}" for number in numbers]
        if stage:
            height_width = "×".join(map(str, looked_into.shapes[numbers[0] - 1][1:]))
            panel = f'label="{stage.replace("stage", "stage ")} · {height_width}", style="rounded,filled"'
            lines.append(f'  subgraph "cluster_{stage}" {{ graph [{panel}, color="{PANEL}", margin=14];')
            lines += [f"  {box}" for box in boxes]
            lines.append("  }")
        else:
            lines += boxes
    shapes = (task.input_shape, *looked_into.shapes)
    for number in live:
        for read in looked_into.architecture.nodes[number - 1].inputs:
            lines.append(f'  n{read} -> n{number} [label=" {"×".join(map(str, shapes[read]))}"];')
    what = f"{task.classes} classes{ENDINGS[task.kind]}"
    lines.append(f"  out [label=<<b>{what}</b>>, {box}];")
    lines.append(f'  n{live[-1]} -> out [label=" {"×".join(map(str, shapes[live[-1]]))}"];')
    return "\n".join([*lines, "}"]) + "\n"


def svg(architecture: Architecture) -> str:
    """The graph as SVG, readable by itself and as part of a page. Raises DrawingError where graphviz-pure fails."""
    return rendered(dot(architecture))


def rendered(graph: str) -> str:
    """DOT as SVG. Raises DrawingError where graphviz-pure fails."""
    program = shutil.which("graphviz-pure", path=sysconfig.get_path("scripts")) or shutil.which("graphviz-pure")
    if program is None:
        raise DrawingError("graphviz-pure is not installed: pip install graphviz-pure")
    try:
        done = subprocess.run(
            [program, "-Tsvg"],
            input=graph.encode(),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError, OSError) as error:
        detail = getattr(error, "stderr", None) or b""
        raise DrawingError(f"graphviz-pure: {error} {detail[:300].decode(errors='replace')}") from error
    text = done.stdout.decode()
    text = re.sub(r"<!--.*?-->\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<title>(?:architecture|n\d+|out|n\d+&#45;&gt;\w+)</title>\n", "", text)
    return text.replace('font-family="Helvetica,sans-Serif"', 'font-family="Helvetica, Arial, sans-serif"')


def _stage(name: str) -> str:
    match = re.match(r"(stage\d+)_", name)
    return match.group(1) if match else ""


def _box(looked_into: Walk, number: int, times: int = 1) -> str:
    node = looked_into.architecture.nodes[number - 1]
    block = catalogue.BLOCKS[node.block]
    fill, border = _colours(node)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", block.__name__)
    details = " · ".join([*_details(node), *([f"{times} times"] if times > 1 else [])])
    profile = looked_into.profiles[number - 1]
    lines = [f"<b>{escape(words)}</b>"]
    if details:
        lines.append(f'<font point-size="10" color="{MUTED}">{escape(details)}</font>')
    formula = inspect.cleandoc(block.__doc__ or "").split("\n", 1)[0]
    tip = f"{looked_into.names[number - 1]}: {formula} {profile.params:,} parameters, {profile.macs:,} MACs"
    return (
        f'n{number} [id="{looked_into.names[number - 1]}", label=<{"<br/>".join(lines)}>, fillcolor="{fill}", '
        f'color="{border}", tooltip="{_quoted(tip)}"];'
    )


def _details(node: Node) -> list[str]:
    """Arguments that are not at their defaults, in a few words each: "32 channels", "5×5", "stride 2"."""
    fields = arguments(catalogue.BLOCKS[node.block]).model_fields
    words = []
    for name, value in node.args.items():
        if fields[name].is_required() or repr(value) != repr(fields[name].default) or name == "kernel":
            words.append(_phrase(name, value))
    return words


def _phrase(name: str, value: Arg) -> str:
    if name == "out_channels":
        return f"{value} channels"
    if name == "kernel":
        sides = value if isinstance(value, tuple) else (value, value)
        return "×".join(map(str, sides))
    if isinstance(value, bool):
        return name.replace("_", " ") if value else f"no {name.replace('_', ' ')}"
    if isinstance(value, tuple):
        return f"{len(value)} {name.replace('_', ' ')}"
    if value == "none":
        return f"no {name}"
    if isinstance(value, str) and name in ("activation", "kind"):
        return value
    return f"{name} {value}".replace("_", " ")


def _colours(node: Node) -> tuple[str, str]:
    if node.block in ("add", "concat"):
        return FILLS["join"]
    if KINDS.get(node.block) == "head":
        return FILLS["head"]
    family = catalogue.BLOCKS[node.block].__module__.rsplit(".", 1)[-1]
    return FILLS.get(family) or OTHERS[sum(family.encode()) % len(OTHERS)]


def _quoted(text: str) -> str:
    return text.replace("\\", "/").replace('"', "'")
