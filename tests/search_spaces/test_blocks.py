"""What single blocks compute, where shapes and counts do not tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from search_spaces.blocks.convolution import ConvNormAct, LocalResponseNorm, NormAct, Order, Pool
from search_spaces.blocks.dense import DenseBlock, DenseTransition
from search_spaces.blocks.drop_path import DropPath
from search_spaces.blocks.enet import EnetBottleneck
from search_spaces.blocks.fire import Fire
from search_spaces.blocks.fractal import FractalBlock
from search_spaces.blocks.inception import FlattenedConv
from search_spaces.blocks.inception_resnet import InceptionResnetA, InceptionResnetB, InceptionResnetC
from search_spaces.blocks.lenet import RadialBasisClassifier, SparseConv, Subsample
from search_spaces.blocks.mbconv import FusedInvertedResidual, InvertedResidual
from search_spaces.blocks.nasnet import NasnetCell
from search_spaces.blocks.pooling import StochasticPool
from search_spaces.blocks.residual import BasicBlock, BottleneckBlock, PreActBlock, PreActBottleneck
from search_spaces.blocks.separable import XceptionBlock
from search_spaces.signature import arguments


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "order", ["conv-norm-act", "conv-act-norm", "norm-act-conv", "norm-conv-act", "act-conv-norm", "act-norm-conv"]
)
def test_the_three_parts_act_in_the_order_that_is_asked_for(order: Order) -> None:
    module = ConvNormAct(3, 5, activation="tanh", order=order)
    parts = {"conv": module.conv, "norm": module.norm, "act": module.activation}
    x = expected = torch.randn(4, 3, 6, 6)
    for name in order.split("-"):
        expected = parts[name](expected)
    assert torch.equal(module(x), expected)
    assert {tuple(name for name, _ in module.named_children())} == {("conv", "norm", "activation")}


@pytest.mark.parametrize("norm", ["batch", "group", "local_response", "none"])
@pytest.mark.parametrize(
    "activation", list(arguments(ConvNormAct).model_json_schema()["properties"]["activation"]["enum"])
)
def test_every_norm_goes_with_every_activation(norm: str, activation: str) -> None:
    args = arguments(ConvNormAct).model_validate({"out_channels": 6, "norm": norm, "activation": activation})
    module = ConvNormAct(3, args.out_channels, norm=args.norm, activation=args.activation)  # type: ignore[attr-defined]
    y = module(torch.randn(2, 3, 5, 5))
    assert y.shape == (2, 6, 5, 5)
    assert torch.isfinite(y).all()


def test_group_norm_makes_equal_groups() -> None:
    norm = NormAct(48, norm="group").norm
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == 16


def test_a_sum_pool_is_maximum_and_mean() -> None:
    x = torch.randn(2, 3, 7, 7)
    expected = Pool(3, "max")(x) + Pool(3, "average")(x)
    assert torch.equal(Pool(3, "sum")(x), expected)


def test_stochastic_pooling_draws_pixels_and_expects_them_in_evaluation() -> None:
    pool = StochasticPool(1, kernel=2, stride=2, padding="valid")
    x = torch.tensor([[1.0, 0.0], [3.0, -5.0]]).view(1, 1, 2, 2)
    drawn = torch.cat([pool(x.expand(500, 1, 2, 2)) for _ in range(4)])
    assert set(drawn.flatten().tolist()) == {1.0, 3.0}, "never the zeros"
    assert (drawn == 3).float().mean().item() == pytest.approx(0.75, abs=0.05)
    assert pool.eval()(x).item() == pytest.approx(0.25 * 1 + 0.75 * 3)
    assert pool(torch.zeros(1, 1, 2, 2)).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_stochastic_pooling_in_half_precision_is_that_of_floats(dtype: torch.dtype) -> None:
    """A window of zeros has no probabilities, the squares of large values no room."""
    pool = StochasticPool(1, kernel=2, stride=2, padding="valid").eval()
    x = torch.tensor([[0.0, 0.0, 300.0, 100.0], [0.0, 0.0, 0.0, 400.0]]).view(1, 1, 2, 4)
    found = pool(x.to(dtype))
    assert found.dtype == dtype
    assert found.flatten().tolist() == pytest.approx(pool(x).flatten().tolist(), rel=0.01)
    drawn = torch.cat([pool.train()(x.to(dtype)) for _ in range(20)])
    assert set(drawn[..., 0].flatten().tolist()) == {0.0}
    assert set(drawn[..., 1].flatten().tolist()) <= {100.0, 300.0, 400.0}


def test_a_sparse_map_reads_only_the_maps_of_its_row() -> None:
    conv = SparseConv(3, table=((0, 2), (1,)), kernel=3)
    x = torch.randn(1, 3, 5, 5)
    changed = x.clone()
    changed[:, 1] += 1
    same = torch.isclose(conv(x), conv(changed)).flatten(2).all(2)
    assert same.tolist() == [[True, False]]
    with pytest.raises(ValueError, match=r"a map reads \(3,\); allowed: some of 0 to 2"):
        SparseConv(3, table=((3,),))


def test_subsampling_starts_as_a_mean() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(Subsample(3, activation="none")(x), nn.functional.avg_pool2d(x, 2))


def test_codes_are_far_apart_and_not_trained() -> None:
    head = RadialBasisClassifier(4, (1, 1), 10)
    apart = (head.codes[:, None] != head.codes[None]).sum(2) + 84 * torch.eye(10, dtype=torch.int64)
    assert apart.min() >= 36
    assert {name for name, _ in head.named_parameters()} == {"linear.weight", "linear.bias"}
    assert (head(torch.randn(3, 4, 1, 1)) <= 0).all()


def drop_rates(module: nn.Module) -> set[float]:
    return {m.rate for m in module.modules() if isinstance(m, DropPath)}


@pytest.mark.parametrize(
    "make",
    [
        lambda rate: BasicBlock(32, 32, drop_path=rate),
        lambda rate: BottleneckBlock(32, 32, drop_path=rate),
        lambda rate: PreActBlock(32, 32, drop_path=rate),
        lambda rate: PreActBottleneck(32, 32, drop_path=rate),
        lambda rate: InvertedResidual(32, 32, drop_path=rate),
        lambda rate: FusedInvertedResidual(32, 32, drop_path=rate),
        lambda rate: Fire(32, 8, 16, 16, bypass="simple", drop_path=rate),
        lambda rate: XceptionBlock(32, (32, 32), drop_path=rate),
        lambda rate: InceptionResnetA(32, 8, (8, 8), (8, 8, 8), drop_path=rate),
        lambda rate: InceptionResnetB(32, 8, (8, 8, 8), drop_path=rate),
        lambda rate: InceptionResnetC(32, 8, (8, 8, 8), drop_path=rate),
    ],
)
def test_stochastic_depth_leaves_the_shortcut(make: Callable[[float], nn.Module]) -> None:
    module = make(1 - 1e-9)
    assert drop_rates(module) == {1 - 1e-9}
    x = torch.rand(4, 32, 5, 5)
    assert torch.equal(module.train()(x), x)
    assert not torch.equal(module.eval()(x), x)


@pytest.mark.parametrize(
    "make",
    [
        lambda scale: InceptionResnetA(8, 8, (8, 8), (8, 8, 8), scale=scale),
        lambda scale: InceptionResnetB(8, 8, (8, 8, 8), scale=scale),
        lambda scale: InceptionResnetC(8, 8, (8, 8, 8), scale=scale),
    ],
)
def test_the_scale_of_a_residual_is_that_of_its_branch(make: Callable[[float], nn.Module]) -> None:
    small, large = make(0.1).eval(), make(0.2).eval()
    large.load_state_dict(small.state_dict())
    x = torch.rand(2, 8, 5, 5) + 10  # far from the ReLU
    assert torch.allclose(2 * (small(x) - x), large(x) - x, atol=1e-4)
    assert (large(x) - x).abs().max() > 1e-3


def test_a_dilated_bottleneck_looks_at_distant_pixels() -> None:
    for dilation in (1, 2, 4):
        block = EnetBottleneck(8, dilation=dilation).eval()
        x = torch.rand(1, 8, 17, 17, requires_grad=True)
        (block(x) - x)[0, :, 8, 8].sum().backward()
        seen = {abs(place - 8) for place in x.grad.abs().sum((0, 1)).nonzero()[:, 0].tolist()}  # type: ignore[union-attr]
        assert seen == {0, dilation}


def test_padding_never_enters_a_mean() -> None:
    ones = torch.ones(1, 2, 7, 7)
    for padding in ("same", "ceil", "valid"):
        assert (Pool(2, kind="average", padding=padding)(ones) == 1).all()
        assert (Pool(2, kind="sum", padding=padding)(ones) == 2).all()


def test_local_response_norm_follows_its_formula() -> None:
    x = torch.randn(2, 7, 3, 3) * 30
    squares = torch.stack([x[:, max(0, c - 2) : c + 3].square().sum(1) for c in range(7)], dim=1)
    expected = x / (1 + 0.01 / 5 * squares) ** 0.75
    assert torch.allclose(LocalResponseNorm(7, size=5, alpha=0.01, beta=0.75)(x), expected, rtol=1e-4)


def test_a_cell_drops_all_operations_but_identities() -> None:
    nodes = ((0, "conv1x1", 1, "separable3x3", "concat"), (0, "identity", 1, "max3x3", "concat"))
    cell = NasnetCell((8, 8), 8, nodes, drop_path=1 - 1e-9)  # type: ignore[arg-type]  # spelled as a space would
    before, current = torch.rand(2, 8, 6, 6), torch.rand(2, 8, 6, 6)
    dropped, whole = cell.train()(before, current), cell.eval()(before, current)
    kept = slice(16, 24)  # the identity of state 0, which has the channels already
    assert torch.equal(dropped[:, kept], before)
    assert not dropped[:, :16].any()
    assert not dropped[:, 24:].any()
    assert whole[:, :16].any()
    assert whole[:, 24:].any()


@pytest.mark.parametrize("block", [BasicBlock, BottleneckBlock, PreActBlock, PreActBottleneck])
def test_every_residual_block_can_squeeze(block: type[nn.Module]) -> None:
    plain, squeezed = block(32, out_channels=32), block(32, out_channels=32, squeeze=16)
    extra = sum(p.numel() for p in squeezed.parameters()) - sum(p.numel() for p in plain.parameters())
    assert extra == 32 * 2 + 2 + 2 * 32 + 32


def test_dense_layers_keep_what_was_before_them() -> None:
    block = DenseBlock(4, layers=3, growth=2).eval()
    x = torch.randn(2, 4, 5, 5)
    y = block(x)
    assert y.shape == (2, 10, 5, 5)
    assert torch.equal(y[:, :4], x)
    assert DenseTransition(10, (5, 5), 0.5)(y).shape == (2, 5, 2, 2)
    assert DenseTransition(10, (1, 5), 0.5)(y[:, :, :1]).shape == (2, 5, 1, 2)


def test_a_flattened_convolution_of_an_outer_product_is_the_square_one() -> None:
    flat = FlattenedConv(1, 1, kernel=3, norm="none", activation="none")
    square = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    row, column = flat.horizontal.conv.weight, flat.vertical.conv.weight
    square.weight.data = column @ row
    for conv in (flat.horizontal.conv, flat.vertical.conv):
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    x = torch.randn(1, 1, 6, 6)
    assert torch.allclose(flat(x), square(x), atol=1e-6)


class Fractal:
    """A block whose convolutions multiply by primes, so that a result tells the paths that it came by."""

    def __init__(self, **options: float) -> None:
        self.block = FractalBlock(1, 1, columns=3, **options)  # type: ignore[arg-type]  # floats all
        self.primes = (2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0)
        for i, prime in enumerate(self.primes):
            self.block.convs[i] = Times(prime)

    def results(self, images: int) -> Tensor:
        return self.block(torch.ones(images, 1, 1, 1)).flatten()


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def test_a_fractal_is_the_mean_of_its_columns_again_and_again() -> None:
    fractal = Fractal(drop_path=0.5)
    fractal.block.eval()
    half = (3 + 7 * 11) / 2
    assert fractal.results(2).tolist() == pytest.approx([(2 + 5 * half + 17 * 13 * half) / 3] * 2)


def test_global_drop_path_is_one_column() -> None:
    fractal = Fractal(drop_path=0.5, global_share=1.0)
    assert set(fractal.results(200).tolist()) == {2.0, 3.0 * 5.0, 7.0 * 11.0 * 13.0 * 17.0}


def test_local_drop_path_keeps_at_least_one_input_of_a_join() -> None:
    fractal = Fractal(drop_path=0.9, global_share=0.0)
    found = set(fractal.results(500).tolist())
    assert len(found) > 3
    assert min(found) >= 2.0, "never nothing"
