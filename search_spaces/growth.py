"""Weights of one network for another that was made of it: function-preserving where that is possible.

Source: Net2Net, Chen et al. 2016 (1511.05641). A wider layer repeats its channels, and what reads them shares out its
weights among the copies; a new block begins as the identity; a larger kernel begins with a border of zeros. Shares are
drawn at random, so that copies do not stay equal in training.

How channels hang together inside a block is not written down anywhere: both blocks run once on the meta device, and
their operators are followed side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from search_spaces import catalogue
from search_spaces.architecture import Architecture, Node
from search_spaces.build import Network, Walk, build, live_nodes, walk
from search_spaces.profile import Shape, make
from search_spaces.signature import input_count

Channels = tuple[int, ...]
"""For each channel of a tensor of the child, the channel of the parent's tensor that it repeats."""

SAME = 1e-4
"""Largest difference of outputs, as a share of the largest output, that still counts as the same function."""
AGREEMENTS = 8
"""How often a block is followed until its sums agree on their channels."""
aten = torch.ops.aten


@dataclass(frozen=True)
class Inheritance:
    """What a child took over.

    ``share``: of its parameters, those whose values come from the parent, 0 to 1. ``difference``: largest difference
    of the outputs of both in evaluation mode on random images. ``preserving``: the two compute the same function.
    """

    share: float
    difference: float
    preserving: bool


def inherit(parent: Architecture, state: Mapping[str, Tensor], network: Network, child: Architecture) -> Inheritance:
    """Fill ``network``, built of ``child``, with the weights ``state`` of ``parent`` where nodes correspond.

    What corresponds to nothing keeps its fresh weights, new blocks become the identity where they can. Random shares
    come from torch's global generator. Raises ArchitectureError, and RuntimeError where ``state`` is not of ``parent``.
    """
    old, new = walk(parent), walk(child)
    original = build(parent)
    original.load_state_dict(dict(state))
    partners = aligned(old, new)
    image = new.architecture.task.input_shape[0]
    channels: dict[int, Channels | None] = {0: tuple(range(image))}
    if old.architecture.task.input_shape[0] != image:
        channels[0] = None
    copied = 0
    for number in live_nodes(new.architecture):
        node = new.architecture.nodes[number - 1]
        inputs = [channels[i] for i in node.inputs]
        module: nn.Module = getattr(network, new.names[number - 1])
        partner = partners.get(number)
        if partner is not None:
            source: nn.Module = getattr(original, old.names[partner - 1])
            copy = _Copy(source, module)
            old_tape, new_tape = _tape(old, partner), _tape(new, number)
            channels[number] = copy.follow(old_tape, new_tape, inputs)
            copied += copy.copied
        else:
            same = len(node.inputs) == 1 and new.in_shapes(node)[0] == new.shapes[number - 1]
            channels[number] = inputs[0] if same and become_identity(module, new.shapes[number - 1]) else None
    total = sum(parameter.numel() for parameter in network.parameters())
    difference, largest = _compared(original, network, parent, child)
    return Inheritance(min(copied / max(total, 1), 1.0), difference, difference <= SAME * largest)


def _compared(one: nn.Module, two: nn.Module, parent: Architecture, child: Architecture) -> tuple[float, float]:
    """(largest difference, largest value) of the outputs in evaluation mode; infinite where the tasks differ."""
    if parent.task != child.task:
        return float("inf"), 0.0
    training = two.training
    images = torch.rand(2, *parent.task.input_shape) * 2 - 1
    with torch.no_grad():
        a, b = one.eval()(images), two.eval()(images)
    two.train(training)
    return float((a - b).abs().max()), float(a.abs().max())


# -- which node of the parent a node of the child was ------------------------------------------------------------------


def aligned(old: Walk, new: Walk) -> dict[int, int]:
    """For nodes of the child the node of the parent that it is, in order: the alignment with the most in common."""
    rows, columns = live_nodes(old.architecture), live_nodes(new.architecture)
    best = [[0.0] * (len(columns) + 1) for _ in range(len(rows) + 1)]
    alike = [[_alike(old, i, new, j) for j in columns] for i in rows]
    for i in reversed(range(len(rows))):
        for j in reversed(range(len(columns))):
            taken = alike[i][j] + best[i + 1][j + 1] if alike[i][j] else 0.0
            best[i][j] = max(taken, best[i + 1][j], best[i][j + 1])
    found: dict[int, int] = {}
    i = j = 0
    while i < len(rows) and j < len(columns):
        if alike[i][j] and alike[i][j] + best[i + 1][j + 1] >= max(best[i + 1][j], best[i][j + 1]):
            found[columns[j]] = rows[i]
            i, j = i + 1, j + 1
        elif best[i][j + 1] >= best[i + 1][j]:
            j += 1
        else:
            i += 1
    return found


def _alike(old: Walk, i: int, new: Walk, j: int) -> float:
    """How much two nodes have in common; 0 where they cannot be one."""
    one, two = old.architecture.nodes[i - 1], new.architecture.nodes[j - 1]
    if one.block != two.block or len(one.inputs) != len(two.inputs):
        return 0.0
    equal = sum(one.args[name] == two.args.get(name) for name in one.args) / max(len(one.args), 1)
    place = old.shapes[i - 1][1:] == new.shapes[j - 1][1:]
    before = [shape[1:] for shape in old.in_shapes(one)] == [shape[1:] for shape in new.in_shapes(two)]
    return 1.0 + 2.0 * place + 2.0 * before + equal


# -- a new block as the identity ---------------------------------------------------------------------------------------


def become_identity(module: nn.Module, shape: Shape) -> bool:
    """Give a block weights with which it hands on its input, if that is possible where inputs are not negative.

    A residual block gets a branch that ends in zeros, a convolution one that hands on each channel.
    """
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    last: list[nn.Module] = [*reversed(norms), *reversed(convolutions)]
    tries: list[Callable[[], None]] = [lambda part=part: _zero(part) for part in last]  # type: ignore[misc]
    if len(convolutions) == 1:
        tries.append(lambda: _hand_on(convolutions[0], norms))
    probe = torch.rand(2, *(shape if len(shape) == 1 else (shape[0], min(shape[1], 5), min(shape[2], 5)))) * 10
    training = module.training
    module.eval()
    done = not convolutions and not norms and bool(torch.equal(_run(module, probe), probe))
    for attempt in tries:
        attempt()
        if torch.allclose(_run(module, probe), probe, rtol=1e-5, atol=1e-5) and _can_learn(module, probe):
            done = True
            break
        module.load_state_dict(before)
    module.train(training)
    return done


def _run(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        found = module(x)
    return found if isinstance(found, Tensor) and found.shape == x.shape else torch.full_like(x, float("nan"))


def _can_learn(module: nn.Module, probe: Tensor) -> bool:
    """Whether a gradient reaches a weight: none passes a ReLU behind a norm of zeros, such a branch stays zero."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        y = module(probe)
        gradients = torch.autograd.grad((y * torch.rand_like(y)).sum(), parameters, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def _zero(part: nn.Module) -> None:
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.zero_()


def _hand_on(convolution: nn.Conv2d, norms: Sequence[nn.BatchNorm2d]) -> None:
    """y_c = x_c, with norms that undo the small number they add to the variance."""
    if convolution.in_channels != convolution.out_channels:
        return
    with torch.no_grad():
        nn.init.dirac_(convolution.weight, convolution.groups)
        if convolution.bias is not None:
            convolution.bias.zero_()
        for norm in norms:
            norm.weight.fill_((1.0 + norm.eps) ** 0.5)
            norm.bias.zero_()


# -- two blocks side by side -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Value:
    """A tensor that passes by: its place on the tape, its shape, and the parameter or buffer that it is."""

    number: int
    shape: tuple[int, ...]
    parameter: str | None


@dataclass(frozen=True)
class _Step:
    """One operator: its arguments with values in place of tensors, and its outputs."""

    operator: Any
    args: tuple[Any, ...]
    outputs: tuple[_Value, ...]


class _Recorder(TorchDispatchMode):
    """Writes down the operators of one pass."""

    def __init__(self, named: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.steps: list[_Step] = []
        self._named = dict(named)
        self._values: dict[int, _Value] = {}
        self._alive: list[Tensor] = []

    def value(self, tensor: Tensor) -> _Value:
        if id(tensor) not in self._values:
            self._alive.append(tensor)
            name = self._named.get(id(tensor))
            self._values[id(tensor)] = _Value(len(self._alive), tuple(tensor.shape), name)
        return self._values[id(tensor)]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = self._valued(args)
        result = func(*args, **(kwargs or {}))
        outputs = result if isinstance(result, (list, tuple)) else (result,)
        made = tuple(self.value(tensor) for tensor in outputs if isinstance(tensor, Tensor))
        source = next((arg for arg in given if isinstance(arg, _Value)), None)
        if func is aten.t.default and source is not None and source.parameter:  # the weight of a linear layer
            made = (_Value(made[0].number, made[0].shape, source.parameter),)
            self._values[id(outputs[0])] = made[0]
        self.steps.append(_Step(func, given, made))
        return result

    def _valued(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        def valued(arg: Any) -> Any:
            if isinstance(arg, Tensor):
                return self.value(arg)
            return tuple(map(valued, arg)) if isinstance(arg, (list, tuple)) else arg

        return tuple(map(valued, args))


@dataclass(frozen=True)
class _Tape:
    inputs: tuple[_Value, ...]
    steps: tuple[_Step, ...]
    output: _Value


def _tape(looked_into: Walk, number: int) -> _Tape:
    """The operators of a node in evaluation mode, on the meta device."""
    node: Node = looked_into.architecture.nodes[number - 1]
    block = catalogue.BLOCKS[node.block]
    shapes = looked_into.in_shapes(node)
    with torch.device("meta"):
        module = make(block, node.args, shapes, input_count(block)).eval()
        images = tuple(torch.empty(2, *shape) for shape in shapes)
    named = {id(tensor): name for name, tensor in [*module.named_parameters(), *module.named_buffers()]}
    with torch.no_grad(), _Recorder(named) as recorder:
        inputs = tuple(recorder.value(image) for image in images)
        output = module(*images)
    return _Tape(inputs, tuple(recorder.steps), recorder.value(output))


class _Copy:
    """Copies the weights of one block into another while it follows their operators."""

    def __init__(self, source: nn.Module, target: nn.Module) -> None:
        self._old = {**dict(source.named_parameters()), **dict(source.named_buffers())}
        self._new = {**dict(target.named_parameters()), **dict(target.named_buffers())}
        self._parameters = {name for name, _ in target.named_parameters()}
        self._filled: dict[str, int] = {}
        """Numbers that came from the parent, by the name of their tensor."""
        self._wanted: dict[int, Channels] = {}
        """Channels that a convolution must make, by the number of its output: those of what it is added to."""
        self._origins: dict[int, int | None] = {}
        """The convolution that decides the channels of a tensor; none where they come from outside."""

    @property
    def copied(self) -> int:
        """Parameters that came from the parent."""
        return sum(count for name, count in self._filled.items() if name in self._parameters)

    def follow(self, old: _Tape, new: _Tape, inputs: Sequence[Channels | None]) -> Channels | None:
        """Channels of the output. Blocks that do different things share what has the same name, cut or repeated."""
        if [step.operator for step in old.steps] != [step.operator for step in new.steps]:
            self._fill_the_rest()
            return None
        for _ in range(AGREEMENTS):
            self._filled = {}
            agreed = len(self._wanted)
            known: dict[int, Channels | None] = {v.number: c for v, c in zip(new.inputs, inputs, strict=True)}
            self._origins = {}
            for before, after in zip(old.steps, new.steps, strict=True):
                found = self._step(before, after, known)
                for value in after.outputs:
                    known[value.number] = found if len(value.shape) > 1 else None
            if len(self._wanted) == agreed:
                break
        self._fill_the_rest()
        return known.get(new.output.number)

    def _fill_the_rest(self) -> None:
        """Tensors that no operator filled take those of the same name, cut or repeated."""
        for name in self._new:
            if name not in self._filled and name in self._old and 0 < self._new[name].ndim == self._old[name].ndim:
                sizes = zip(self._old[name].shape, self._new[name].shape, strict=True)
                self._fill(name, *[grown(before, after) for before, after in sizes][:2])

    def _step(self, old: _Step, new: _Step, known: Mapping[int, Channels | None]) -> Channels | None:
        """Channels of the output of one operator; its weights are filled on the way."""
        name = new.operator.__name__.split(".")[0]
        if not new.outputs:
            return None
        if name == "convolution":
            return self._convolution(old, new, known)
        if name in ("addmm", "mm"):
            return self._linear(old, new, known)
        if name == "cat":
            return _joined(old, new, known)
        values = [arg for arg in new.args if isinstance(arg, _Value) and not arg.parameter]
        origins = [self._origins.get(value.number) for value in values]
        for value in new.outputs:
            self._origins[value.number] = origins[0] if origins else None
        if "batch_norm" in name:
            normed = self._of(new.args[0], old.args[0], known)
            for value in new.args[1:5]:
                if isinstance(value, _Value) and value.parameter:
                    self._fill(value.parameter, normed)
            return normed
        if not values:
            return None
        if len(values) == 2:
            self._agree(values, origins, known)
        channels = known.get(values[0].number)
        if channels is None:
            return None
        if name == "slice":
            return _cut(old, new, channels)
        if name == "constant_pad_nd":
            return _padded(old, new, channels)
        width, was = new.outputs[0].shape[1], len(channels)
        if len(new.outputs[0].shape) > 1 and width != was and width % was == 0:  # flattened
            pixels = width // was
            return tuple(channel * pixels + i for channel in channels for i in range(pixels))
        return channels if width == was else None

    def _agree(
        self, values: Sequence[_Value], origins: Sequence[int | None], known: Mapping[int, Channels | None]
    ) -> None:
        """Where two tensors meet whose channels differ, a convolution that made one of them is told what to make."""
        one, two = (known.get(value.number) for value in values)
        if one is None or two is None or one == two or len(one) != len(two):
            return
        first, second = origins
        if second is not None and second not in self._wanted:
            self._wanted[second] = one
        elif first is not None and first not in self._wanted:
            self._wanted[first] = two

    def _of(self, new: _Value, old: _Value, known: Mapping[int, Channels | None]) -> Channels:
        channels = known.get(new.number)
        return channels if channels is not None else grown(old.shape[1], new.shape[1])

    def _convolution(self, old: _Step, new: _Step, known: Mapping[int, Channels | None]) -> Channels:
        channels = self._of(new.args[0], old.args[0], known)
        weight, groups = new.args[1], (old.args[8], new.args[8])
        out = grown(old.outputs[0].shape[1], new.outputs[0].shape[1])
        made = new.outputs[0].number
        self._origins[made] = made
        if groups[0] == old.args[0].shape[1] > 1 and groups[1] == new.args[0].shape[1] and weight.shape[1] == 1:
            out = channels  # depthwise: a channel out for each one in
            inner: Channels = (0,)
            self._origins[made] = self._origins.get(new.args[0].number)
        elif groups != (1, 1):
            inner = grown(old.args[1].shape[1], weight.shape[1])
        else:
            inner = channels
            out = self._wanted.get(made, out)
        if weight.parameter and new.args[6]:  # transposed: a weight is [in, out]
            self._fill(weight.parameter, inner, out, shared=0 if groups == (1, 1) else None)
        elif weight.parameter:
            self._fill(weight.parameter, out, inner, shared=1 if groups == (1, 1) else None)
        bias = new.args[2]
        if isinstance(bias, _Value) and bias.parameter:
            self._fill(bias.parameter, out)
        return out

    def _linear(self, old: _Step, new: _Step, known: Mapping[int, Channels | None]) -> Channels:
        place = len(new.args) - 2
        channels = self._of(new.args[place], old.args[place], known)
        out = grown(old.outputs[0].shape[1], new.outputs[0].shape[1])
        weight = new.args[place + 1]
        if weight.parameter:
            self._fill(weight.parameter, out, channels, shared=1)
        if place and isinstance(new.args[0], _Value) and new.args[0].parameter:
            self._fill(new.args[0].parameter, out)
        return out

    def _fill(
        self, name: str, first: Channels, second: Channels | None = None, *rest: Channels, shared: int | None = None
    ) -> None:
        """new[i, j] = old[first[i], second[j]]; kernels grow from the middle.

        ``shared`` is the axis of the channels that are read: there each copy has a share.
        """
        old, new = self._old.get(name), self._new[name]
        if old is None or new.ndim == 0:
            return
        value = old.detach()[list(first)]
        if second is not None:
            value = value[:, list(second)]
        if shared is not None:
            sizes = [-1 if axis == shared else 1 for axis in range(value.ndim)]
            value = value * _shares((first, second or first)[shared]).view(sizes)
        filled = value.numel()
        if value.ndim > 2:
            value = _resized(value, new.shape[2:])
            filled = min(filled, value.numel())
        if value.shape == new.shape:
            with torch.no_grad():
                new.copy_(value)
            self._filled[name] = filled


def grown(before: int, after: int) -> Channels:
    """Channels of a layer that got wider: its own, then copies in turn; the first ones where it got narrower."""
    return tuple(i if i < before else (i - before) % before for i in range(after))


def _shares(channels: Channels) -> Tensor:
    """Positive numbers that add up to 1 over the copies of a channel."""
    index = torch.tensor(channels)
    drawn = torch.rand(len(channels)) + 0.5
    sums = torch.zeros(int(index.max()) + 1).index_add(0, index, drawn)
    return drawn / sums[index]


def _resized(value: Tensor, kernel: Sequence[int]) -> Tensor:
    """The kernel with a border of zeros, or without its border."""
    for axis, wanted in enumerate(kernel, 2):
        missing = wanted - value.shape[axis]
        if missing > 0:
            padding = [0, 0] * (value.ndim - 1 - axis) + [missing // 2, missing - missing // 2]
            value = nn.functional.pad(value, padding)
        elif missing < 0:
            value = value.narrow(axis, -missing // 2, wanted)
    return value


def _joined(old: _Step, new: _Step, known: Mapping[int, Channels | None]) -> Channels | None:
    """Channels of a concatenation."""
    if len(old.args[0]) != len(new.args[0]) or (new.args[1] if len(new.args) > 1 else 0) != 1:
        return None
    found: list[int] = []
    offset = 0
    for before, after in zip(old.args[0], new.args[0], strict=True):
        channels = known.get(after.number)
        if channels is None:
            channels = grown(before.shape[1], after.shape[1])
        found += [offset + channel for channel in channels]
        offset += before.shape[1]
    return tuple(found)


def _cut(old: _Step, new: _Step, channels: Channels) -> Channels | None:
    """Channels that a slice leaves; slices of other dimensions leave all."""
    if len(new.args) < 2 or new.args[1] != 1:
        return channels
    kept = channels[slice(*new.args[2:4])]
    width = old.outputs[0].shape[1]
    return tuple(min(channel, width - 1) for channel in kept)


def _padded(old: _Step, new: _Step, channels: Channels) -> Channels | None:
    """Channels with zeros appended, as a zero-padding shortcut does."""
    added = new.outputs[0].shape[1] - len(channels)
    before = old.outputs[0].shape[1] - old.args[0].shape[1]
    if added == 0:
        return channels
    if before == 0:
        return None
    return (*channels, *(old.args[0].shape[1] + i % before for i in range(added)))
