"""Architecture -> the text of a stand-alone ``model.py``: the very code of the blocks, and one literal line a node.

Names and literals come only from the catalogue and from validated scalars, so an architecture can never inject code;
the result is checked with ``ast`` all the same before it is handed out.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Collection, Iterator

from search_spaces import catalogue
from search_spaces.architecture import Architecture, Arg
from search_spaces.build import Walk, live_nodes, walk
from search_spaces.cost import costs_of
from search_spaces.definitions import ALLOWED_IMPORTS, Definitions, SourceError
from search_spaces.signature import arguments, input_count, wants_size

WIDTH = 100
NETWORKS = {
    "classification": "An image classifier",
    "segmentation": "A network that labels each pixel of an image,",
    "localisation": "An image classifier that also finds the object's box,",
}
OUTPUTS = {
    "classification": "one logit a class",
    "segmentation": "one logit a class for each pixel",
    "localisation": "one logit a class, then the box: centre x, centre y, width and height as shares of the image",
}
"""How model.py calls a network and its output, by the kind of its task."""


def source(architecture: Architecture, title: str = "") -> str:
    """Text of ``model.py``: header, imports of torch alone, the blocks that are used, ``class Model``.

    ``Model().state_dict()`` has the keys of ``build(architecture).state_dict()``. Raises ArchitectureError where it
    cannot be built, and SourceError where a block's source cannot be printed.
    """
    looked_into = walk(architecture)
    live = live_nodes(looked_into.architecture)
    definitions = Definitions()
    for number in live:
        definitions.add(catalogue.BLOCKS[looked_into.architecture.nodes[number - 1].block])
    imports = definitions.imports({"from torch import Tensor", "from torch import nn"})
    top = "\n\n".join(["\n".join(lines) for lines in (imports, definitions.constants()) if lines])
    shared = _shared(looked_into, live)
    tables = ["\n".join(line for value, name in shared.items() for line in _table(name, value))] if shared else []
    parts = [f"{_header(looked_into, title)}\n\n{top}", *definitions.texts(), *tables]
    text = "\n\n\n".join([*parts, _model(looked_into, live, shared)]) + "\n"
    check_source(text, definitions.names | {"Model"}, set(shared.values()))
    return text


def _header(looked_into: Walk, title: str) -> str:
    task = looked_into.architecture.task
    price = costs_of(looked_into)
    plain = " ".join("".join(c if c.isprintable() and c not in "\"'\\" else " " for c in title[:200]).split())
    first = plain or f"{NETWORKS[task.kind]} of {len(live_nodes(looked_into.architecture))} blocks."
    shape, out = (", ".join(map(str, sizes)) for sizes in (task.input_shape, task.output_shape))
    body = (
        f"Input: [batch, {shape}], float32. Output: [batch, {out}], {OUTPUTS[task.kind]}. "
        f"{price.params:,} parameters, {price.macs:,} multiply-accumulates an image."
    )
    lines = [*textwrap.wrap(first, WIDTH - 3), "", *textwrap.wrap(body, WIDTH), ""]
    return '"""' + "\n".join([*lines, f"Architecture {looked_into.architecture.fingerprint()}"]) + '\n"""'


class _Constant(str):
    """Name of a table above the model."""


def _shared(looked_into: Walk, live: tuple[int, ...]) -> dict[Arg, str]:
    """Long tuples that several nodes have for an argument, and the names they get: NODES_1, NODES_2."""
    counts: dict[tuple[str, Arg], int] = {}
    for number in live:
        for name, value in looked_into.architecture.nodes[number - 1].args.items():
            if isinstance(value, tuple) and len(_literal(value)) > 40:
                counts[name, value] = counts.get((name, value), 0) + 1
    often = [key for key, count in counts.items() if count > 1]
    return {value: f"{name.upper()}_{i}" for i, (name, value) in enumerate(often, 1)}


def _table(name: str, value: Arg) -> Iterator[str]:
    items = value if isinstance(value, tuple) else (value,)
    return _broken(f"{name} = (", [("", item) for item in items], ")", 0)


def _model(looked_into: Walk, live: tuple[int, ...], shared: dict[Arg, str]) -> str:
    task = looked_into.architecture.task
    shape, out = (", ".join(map(str, sizes)) for sizes in (task.input_shape, task.output_shape))
    lines = [
        "class Model(nn.Module):",
        f'    """[batch, {shape}] -> [batch, {out}]."""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *(line for number in live for line in _constructor(looked_into, number, shared)),
        "",
        *_forward(looked_into, live),
    ]
    return "\n".join(lines)


def _constructor(looked_into: Walk, number: int, shared: dict[Arg, str]) -> Iterator[str]:
    """``self.stage1_block1 = BasicBlock(16, out_channels=32, stride=2)``, broken as a formatter would break it."""
    node = looked_into.architecture.nodes[number - 1]
    block = catalogue.BLOCKS[node.block]
    shapes = looked_into.in_shapes(node)
    single = input_count(block) == 1
    values: list[tuple[str, Arg]] = [("", shapes[0][0] if single else tuple(shape[0] for shape in shapes))]
    if wants_size(block):
        values.append(("in_size=", shapes[0][1:] if single else tuple(shape[1:] for shape in shapes)))
    fields = arguments(block).model_fields
    for name, value in node.args.items():
        if fields[name].is_required() or repr(value) != repr(fields[name].default):
            values.append((f"{name}=", _Constant(shared[value]) if value in shared else value))
    head = f"        self.{looked_into.names[number - 1]} = {block.__name__}("
    return _broken(head, values, ")", 8)


def _broken(head: str, values: list[tuple[str, Arg]], tail: str, indent: int) -> Iterator[str]:
    """``head`` + values + ``tail`` on one line, on three (calls only), or one line a value, whichever fits."""
    texts = [name + _literal(value) for name, value in values]
    one = head + ", ".join(texts) + ("," if head.endswith("(") and tail != ")" and len(texts) == 1 else "") + tail
    inner = " " * (indent + 4)
    if len(one) <= WIDTH:
        yield one
    elif len(inner + ", ".join(texts)) <= WIDTH and tail == ")" and not head.endswith(" = ("):
        yield from (head, inner + ", ".join(texts), " " * indent + tail)
    else:
        yield head
        for (name, value), text in zip(values, texts, strict=True):
            if len(inner + text) + 1 > WIDTH and isinstance(value, tuple):
                yield from _broken(f"{inner}{name}(", [("", item) for item in value], "),", indent + 4)
            else:
                yield f"{inner}{text},"
        yield " " * indent + tail


def _literal(value: Arg) -> str:
    if isinstance(value, _Constant):
        return str(value)
    if isinstance(value, tuple):
        inner = ", ".join(map(_literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, str):
        text = repr(value)
        return text if '"' in value else '"' + text[1:-1].replace("\\'", "'") + '"'
    return repr(value)


def _forward(looked_into: Walk, live: tuple[int, ...]) -> Iterator[str]:
    """One line a node: ``x`` where only the next line reads it, a name of its own where others do."""
    nodes = looked_into.architecture.nodes
    readers: dict[int, list[int]] = {}
    for number in live:
        for read in nodes[number - 1].inputs:
            readers.setdefault(read, []).append(number)
    following = dict(zip((0, *live), (*live, 0), strict=True))
    variables = {0: "x"}
    for number in live[:-1]:
        passing = set(readers[number]) == {following[number]}
        variables[number] = "x" if passing else looked_into.names[number - 1]
    if readers.get(0, []) != [live[0]]:
        variables[0] = "image"
    variables[live[-1]] = ""
    yield f"    def forward(self, {variables[0]}: Tensor) -> Tensor:"
    for number in live:
        call = f"self.{looked_into.names[number - 1]}({', '.join(variables[i] for i in nodes[number - 1].inputs)})"
        line = f"        {variables[number]} = {call}" if number != live[-1] else f"        return {call}"
        shape = f"  # [batch, {', '.join(map(str, looked_into.shapes[number - 1]))}]"
        yield line + shape if len(line + shape) <= WIDTH else line


def check_source(text: str, names: Collection[str], tables: Collection[str] = ()) -> None:
    """Raise SourceError unless ``text`` is imports of torch, definitions called ``names``, and a Model of literals.

    ``tables`` are names that stand for literals.
    """
    tree = ast.parse(text)
    compile(tree, "model.py", "exec")
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            modules = [statement.module or ""] if isinstance(statement, ast.ImportFrom) else []
            modules += [alias.name for alias in statement.names] if isinstance(statement, ast.Import) else []
            wrong = [module for module in modules if module.split(".")[0] not in ALLOWED_IMPORTS]
        elif isinstance(statement, ast.ClassDef | ast.FunctionDef):
            wrong = [] if statement.name in names else [statement.name]
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            assigned = [ast.unparse(target) for target in targets]
            wrong = [name for name in assigned if name not in names and name not in tables]
            if statement.value is not None and any(name in tables for name in assigned):
                _check_literal(statement.value)
        else:
            wrong = [] if isinstance(statement, ast.Expr) and statement is tree.body[0] else [ast.unparse(statement)]
        if wrong:
            raise SourceError(f"model.py line {statement.lineno}: {wrong[0][:80]!r} is not allowed")
    model = next(s for s in tree.body if isinstance(s, ast.ClassDef) and s.name == "Model")
    constructor = next(s for s in model.body if isinstance(s, ast.FunctionDef) and s.name == "__init__")
    for statement in constructor.body[1:]:
        _check_node_line(statement, names, tables)


def _check_node_line(statement: ast.stmt, names: Collection[str], tables: Collection[str]) -> None:
    """``self.name = Block(literals)`` and nothing else."""
    call = statement.value if isinstance(statement, ast.Assign) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in names:
        raise SourceError(f"model.py line {statement.lineno}: not a known block")
    for value in (*call.args, *(keyword.value for keyword in call.keywords)):
        if not (isinstance(value, ast.Name) and value.id in tables):
            _check_literal(value)


def _check_literal(value: ast.expr) -> None:
    try:
        ast.literal_eval(value)
    except ValueError as error:
        raise SourceError(f"model.py line {value.lineno}: {ast.unparse(value)[:80]} is no literal") from error
