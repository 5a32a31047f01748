"""What one block does to shapes, and what it costs: one forward pass on the meta device, remembered for the next time.

The pass is watched from below, operator by operator, so convolutions count alike as modules and as functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from search_spaces.architecture import Arg
from search_spaces.signature import remembered, wants_size

Shape = tuple[int, ...]
"""Shape of a node's output without the batch: (channels, height, width), or (classes,)."""

BATCH = 2
aten = torch.ops.aten
CONVOLUTIONS = {aten.convolution.default}
POOLS = {aten.max_pool2d_with_indices.default, aten.avg_pool2d.default, aten.max_pool2d.default}
PRODUCTS = {aten.mm.default: 0, aten.addmm.default: 1, aten.bmm.default: 0, aten.baddbmm.default: 1}
"""Matrix products, and the place of their first factor among the arguments."""

ELEMENTWISE = {
    aten.relu.default: 1,
    aten.hardtanh.default: 1,
    aten.silu.default: 1,
    aten.hardswish.default: 1,
    aten.gelu.default: 1,
    aten.sigmoid.default: 1,
    aten.hardsigmoid.default: 1,
    aten.add.Tensor: 2,
    aten.mul.Tensor: 2,
}
"""Operators whose output looks like their inputs, and how many: torch takes 0.3 ms each to find that out itself."""


FILLING = {
    Tensor.fill_,
    Tensor.zero_,
    Tensor.uniform_,
    Tensor.normal_,
    nn.init.kaiming_uniform_,
    nn.init.uniform_,
    nn.init.ones_,
    nn.init.zeros_,
}


class Path(NamedTuple):
    """The longest way from an input to an output.

    ``depth`` counts convolutions and products; ``jump`` is the distance of two output pixels and ``field`` the pixels
    that one of them sees beyond itself, (vertical, horizontal), both in pixels of the input.
    """

    depth: int = 0
    jump: tuple[float, float] = (1.0, 1.0)
    field: tuple[float, float] = (0.0, 0.0)

    def joined(self, other: Path) -> Path:
        return Path(
            max(self.depth, other.depth),
            (max(self.jump[0], other.jump[0]), max(self.jump[1], other.jump[1])),
            (max(self.field[0], other.field[0]), max(self.field[1], other.field[1])),
        )

    def through(self, reach: tuple[float, float], stride: tuple[float, float], layers: int) -> Path:
        """The path prolonged by a window that reaches ``reach`` pixels beyond its own."""
        return Path(
            self.depth + layers,
            (self.jump[0] * stride[0], self.jump[1] * stride[1]),
            (self.field[0] + reach[0] * self.jump[0], self.field[1] + reach[1] * self.jump[1]),
        )


@dataclass(frozen=True)
class Profile:
    """Costs of one block for one image: parameters, ``macs``, floats ``written``, operators, a path from each input."""

    out_shape: Shape
    params: int
    macs: int
    written: int
    operators: int
    paths: tuple[Path | None, ...]


class _Watch(TorchDispatchMode):
    """Counts macs and written floats, and follows the paths from ``inputs``."""

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.macs = 0
        self.written = 0
        self.operators = 0
        self._alive: list[Tensor] = list(inputs)  # an id is only good while its tensor lives
        self._paths: dict[int, dict[int, Path]] = {}
        for number, tensor in enumerate(inputs):
            self._paths.setdefault(id(tensor), {})[number] = Path()

    def paths(self, tensor: Tensor) -> dict[int, Path]:
        return self._paths.get(id(tensor), {})

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.operators += 1
        if func in ELEMENTWISE and all(
            getattr(arg, "shape", None) == args[0].shape for arg in args[: ELEMENTWISE[func]]
        ):
            result: Any = _like(args[0])
        elif func is aten.native_batch_norm.default:
            result = _like(args[0]), _like(args[3]), _like(args[4])
        else:
            result = func(*args, **(kwargs or {}))
        outputs = list(_tensors((result,)))
        joined: dict[int, Path] = {}
        for tensor in _tensors(args):
            for number, path in self.paths(tensor).items():
                joined[number] = path.joined(joined[number]) if number in joined else path
        if func in CONVOLUTIONS:
            joined = self._convolution(args, outputs[0], joined)
        elif func in PRODUCTS:
            first = args[PRODUCTS[func]]
            self.macs += outputs[0].numel() * first.shape[-1]
            joined = {number: path.through((0, 0), (1, 1), 1) for number, path in joined.items()}
        elif func is aten.max_unpool2d.default:
            sides = zip(args[0].shape[2:], outputs[0].shape[2:], strict=True)
            finer = [before / after for before, after in sides]
            joined = {n: path.through((0, 0), (finer[0], finer[1]), 0) for n, path in self.paths(args[0]).items()}
        elif func in POOLS:
            kernel, stride = _pair(args[1]), _pair(args[2] if len(args) > 2 and args[2] else args[1])
            reach = (kernel[0] - 1, kernel[1] - 1)
            joined = {number: path.through(reach, stride, 0) for number, path in joined.items()}
        if not any(item.alias_info for item in func._schema.returns):
            self.written += sum(tensor.numel() for tensor in outputs)
        for tensor in outputs:
            self._alive.append(tensor)
            self._paths[id(tensor)] = joined
        return result

    def _convolution(self, args: tuple[Any, ...], output: Tensor, joined: dict[int, Path]) -> dict[int, Path]:
        image, weight, stride, dilation, transposed = args[0], args[1], _pair(args[3]), _pair(args[5]), args[6]
        pixels = prod(image.shape[2:]) if transposed else prod(output.shape[2:])
        self.macs += output.shape[0] * pixels * weight.numel()
        kernel = weight.shape[2:]
        if transposed:
            return {n: path.through((0, 0), (1 / stride[0], 1 / stride[1]), 1) for n, path in joined.items()}
        reach = ((kernel[0] - 1) * dilation[0], (kernel[-1] - 1) * dilation[1])
        return {number: path.through(reach, stride, 1) for number, path in joined.items()}


class _Blank(TorchFunctionMode):
    """Leaves fresh weights as they are: on the meta device there is nothing to fill, and trying takes its time."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func in FILLING:
            return args[0] if args else options["tensor"]
        return func(*args, **options)


def _like(tensor: Tensor) -> Tensor:
    """``torch.empty_like``, which takes 0.1 ms on the meta device, in 5 us."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


def _pair(value: Any) -> tuple[float, float]:
    return (value[0], value[-1]) if isinstance(value, (list, tuple)) else (value, value)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def make(
    block: type[nn.Module], args: Mapping[str, Arg], in_shapes: tuple[Shape, ...], inputs: int | None
) -> nn.Module:
    """The block itself on the current device; ``inputs`` as of ``signature.input_count``."""
    channels = tuple(shape[0] for shape in in_shapes)
    extra: dict[str, Any] = {}
    if wants_size(block):
        sizes = tuple(shape[1:] for shape in in_shapes)
        extra["in_size"] = sizes[0] if inputs == 1 else sizes
    return block(channels[0] if inputs == 1 else channels, **extra, **args)


def profiled(
    block: type[nn.Module], args: Mapping[str, Arg], in_shapes: tuple[Shape, ...], inputs: int | None
) -> Profile:
    """Profile of a block for inputs of these shapes. Whatever the block raises comes through."""
    return _profiled(block, tuple(args.items()), repr(args), in_shapes, inputs)


@remembered
def _profiled(
    block: type[nn.Module],
    args: tuple[tuple[str, Arg], ...],
    typed_args: str,  # part of the key: 1, 1.0 and True are one key otherwise
    in_shapes: tuple[Shape, ...],
    inputs: int | None,
) -> Profile:
    with torch.device("meta"), _Blank():
        module = make(block, dict(args), in_shapes, inputs).eval()
        images = tuple(torch.empty(BATCH, *shape) for shape in in_shapes)
    with torch.no_grad(), _Watch(images) as watch:
        output = module(*images)
    if not isinstance(output, Tensor) or output.shape[:1] != (BATCH,):
        raise ValueError(f"{block.__name__} returns no tensor of the batch it was given")
    if output.shape[1] != getattr(module, "out_channels", None):
        raise ValueError(f"{block.__name__}.out_channels is not the {output.shape[1]} channels it returns")
    paths = watch.paths(output)
    return Profile(
        tuple(output.shape[1:]),
        sum(p.numel() for p in module.parameters() if p.requires_grad),
        watch.macs // BATCH,
        watch.written // BATCH,
        watch.operators,
        tuple(paths.get(number) for number in range(len(images))),
    )
