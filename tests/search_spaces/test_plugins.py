"""Plug-ins: a third party's block, space and reference, installed and found by their entry points."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from search_spaces import catalogue
from search_spaces.architecture import Task
from search_spaces.build import build
from search_spaces.choose import first
from search_spaces.cost import costs
from search_spaces.drawing import dot
from search_spaces.source import source

BLOCKS = '''
import torch
from torch import Tensor, nn

from search_spaces.blocks.convolution import ConvNormAct

SHARE = 0.5


def gate(x: Tensor) -> Tensor:
    """How much of x goes on."""
    return torch.sigmoid(x) * SHARE


class GatedBlock(nn.Module):
    """y = conv(x) * gate(conv(x))."""

    def __init__(self, in_channels: int, out_channels: int, in_size: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.scale = nn.Parameter(torch.ones(in_size))
        self.conv = ConvNormAct(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y * gate(y) * self.scale
'''
SPACE = '''
from search_spaces.architecture import Architecture, Node
from search_spaces.references.reference import CIFAR10, Reference
from search_spaces.space import Space, SpaceConfig


class GatedConfig(SpaceConfig):
    """Settings of the gated space."""

    blocks: int = 2


def gated(choose, task, config):
    nodes = [Node("gated", (i,), {"out_channels": choose(f"width{i}", (4, 8))}) for i in range(config.blocks)]
    return Architecture(task, (*nodes, Node("classifier", (config.blocks,), {"classes": task.classes})))


SPACE = Space("gated", "Gated blocks.", "a test", GatedConfig, gated)

def network():
    return gated(lambda name, options: options[0], CIFAR10, GatedConfig())


NETWORK = Reference("gated_net", "gated", "Two blocks.", "a test", None, None, network)
'''
ENTRY_POINTS = """
[nas.blocks]
gated = gated_plugin.blocks:GatedBlock
pool = gated_plugin.blocks:GatedBlock
no_block = gated_plugin.blocks:gate
missing = gated_plugin.nowhere:Thing

[nas.spaces]
gated = gated_plugin.space:SPACE
not_a_space = gated_plugin.space:GatedConfig

[nas.references]
gated_net = gated_plugin.space:NETWORK
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package gated_plugin, installed as pip would do it."""
    package, info = tmp_path / "gated_plugin", tmp_path / "gated_plugin-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "blocks.py").write_text(BLOCKS, encoding="utf-8")
    (package / "space.py").write_text(SPACE, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gated-plugin\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    catalogue.reload_plugins()
    yield
    monkeypatch.undo()
    catalogue.reload_plugins()
    for name in [name for name in sys.modules if name.startswith("gated_plugin")]:
        del sys.modules[name]


@pytest.mark.usefixtures("plugin")
def test_a_plugin_is_used_like_our_own() -> None:
    space, config = catalogue.configured({"name": "gated", "blocks": 3})
    architecture = space.bound(Task((1, 8, 8), 10), config)(first)
    assert costs(architecture).params > 0
    assert catalogue.block_schema("gated")["arguments"]["required"] == ["out_channels"]
    assert "Gated Block" in dot(architecture)

    text = source(architecture)
    assert "in_size=(8, 8)" in text
    namespace: dict[str, type[torch.nn.Module]] = {}
    exec(compile(text, "model.py", "exec"), namespace)
    model, network = namespace["Model"]().eval(), build(architecture).eval()
    model.load_state_dict(network.state_dict(), strict=True)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(model(x), network(x))


@pytest.mark.usefixtures("plugin")
def test_a_plugin_may_bring_a_reference() -> None:
    assert costs(catalogue.reference("gated_net").build()).macs > 0


@pytest.mark.usefixtures("plugin")
def test_bad_plugins_are_left_out_and_reported() -> None:
    assert catalogue.BLOCKS["pool"].__module__ == "search_spaces.blocks.convolution"
    assert set(catalogue.SPACES) >= {"gated", "mbconv"}
    assert "not_a_space" not in catalogue.SPACES
    assert catalogue.PLUGIN_ERRORS == {
        "nas.blocks:missing": "ModuleNotFoundError: No module named 'gated_plugin.nowhere'",
        "nas.blocks:no_block": "a function; allowed: a class of torch.nn.Module",
        "nas.blocks:pool": "the name 'pool' is taken",
        "nas.spaces:not_a_space": "a ModelMetaclass; allowed: a search_spaces.space.Space",
    }


def test_without_plugins_there_is_none() -> None:
    assert "gated" not in catalogue.SPACES
    with pytest.raises(catalogue.UnknownNameError, match="allowed: chain, composed, efficientnet"):
        catalogue.space("gated")
