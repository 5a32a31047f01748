"""Segmentation and localisation: output shapes, heads, max-unpooling, and every classifier in another form."""

from __future__ import annotations

import random
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.architecture import Architecture, ArchitectureError, Node, Task
from search_spaces.blocks.enet import EnetUpsampling
from search_spaces.build import build, walk
from search_spaces.catalogue import SPACES, reference
from search_spaces.choose import SpaceError, first, replay, sample
from search_spaces.cost import costs
from search_spaces.source import source
from search_spaces.tasks import with_task

CANVASES = [(32, 32), (33, 47), (8, 8), (128, 256)]


def segmenter(size: tuple[int, int], seed: int = 0) -> Architecture:
    return SPACES["segmentation"].bound(Task((1, *size), 5, "segmentation"))(sample(random.Random(seed)))


@pytest.mark.parametrize("size", CANVASES, ids=str)
def test_the_segmentation_space_labels_every_pixel_of_any_canvas(size: tuple[int, int]) -> None:
    decoders = set()
    for seed in range(12):
        architecture = segmenter(size, seed)
        decoders |= {(node.block, node.args.get("unpool", "max")) for node in architecture.nodes}
        assert walk(architecture).shapes[-1] == (5, *size)
    assert {("enet_upsampling", "max"), ("enet_upsampling", "none"), ("upsampled_classifier", "max")} <= decoders


@pytest.mark.parametrize("seed", range(4))
def test_a_segmenter_trains_leaves_as_model_py_and_costs_what_torch_counts(seed: int) -> None:
    architecture = segmenter((17, 22), seed)
    torch.manual_seed(seed)
    network = build(architecture)
    images, labels = torch.randn(2, 1, 17, 22), torch.randint(0, 5, (2, 17, 22))
    F.cross_entropy(network(images), labels).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())

    text = source(architecture)
    assert "Output: [batch, 5, 17, 22], one logit a class for each pixel." in text
    namespace: dict[str, type[nn.Module]] = {"__name__": "model"}
    exec(compile(text, "model.py", "exec"), namespace)
    model = namespace["Model"]()
    model.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(model.eval()(images), network.eval()(images))
    with FlopCounterMode(display=False) as counter:
        network(images[:1])
    assert costs(architecture).macs == counter.get_total_flops() // 2


def test_unpooling_puts_values_where_the_encoder_had_its_maxima() -> None:
    block = EnetUpsampling((1, 4)).eval()
    nn.init.ones_(block.main[0].weight)
    nn.init.zeros_(block.project[1].weight)  # the branch adds nothing
    encoder = torch.zeros(1, 4, 3, 4)
    encoder[:, :, 1, 0] = encoder[:, :, 0, 3] = encoder[:, :, 2, 2] = 1.0
    encoder[:, :, 2, 1] = 0.5
    y = block(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), encoder)
    expected = torch.tensor([[0.0, 0.0, 0.0, 2.0], [1.0, 0.0, 0.0, 0.0], [0.0, 3.0, 4.0, 0.0]])
    assert torch.allclose(y, expected.expand(1, 4, 3, 4), atol=1e-4)


def test_max_unpooling_leaves_as_onnx() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    ask = SPACES["segmentation"].bound(Task((1, 9, 10), 3, "segmentation"))
    network = build(ask(replay({"decoder": "unpool", "stem": "conv", "downsamplings": 1}, first))).eval()
    images = torch.randn(3, 1, 9, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, (images,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False
        )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: images[:2].numpy()})[0]
    assert torch.allclose(torch.from_numpy(found), network(images[:2]), atol=1e-5)


@pytest.mark.parametrize("kind", ["segmentation", "localisation"])
@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_space_serves_every_task(name: str, kind: str) -> None:
    task = Task((1, 16, 20), 4, kind)
    architecture = SPACES[name].bound(task)(sample(random.Random(1)))
    assert architecture.task.kind == kind
    network = build(architecture).eval()
    images = torch.randn(2, *architecture.task.input_shape)
    assert network(images).shape == (2, *architecture.task.output_shape)


def test_a_space_without_classifiers_serves_its_own_task_alone() -> None:
    from dataclasses import replace

    alone = replace(SPACES["segmentation"], tasks=("segmentation",))
    with pytest.raises(SpaceError, match="space 'segmentation' is for segmentation; the task is localisation"):
        alone.bound(Task((1, 8, 8), 3, "localisation"))


def test_the_body_stays_as_it_is() -> None:
    plain = reference("resnet18").build()
    found = with_task(plain, "localisation", widths=(4096, 1024), reduction=0)
    assert found.nodes[:-2] == plain.nodes
    box = 512 * 49 * 4096 + 4096 + 4096 * 1024 + 1024 + 1024 * 4 + 4
    assert costs(found).params == costs(plain).params + box
    assert walk(found).shapes[-1] == (1004,)
    assert with_task(plain, "segmentation").nodes[:-1] == plain.nodes[:-1]
    with pytest.raises(ArchitectureError, match="upsampled_classifier ends a network for segmentation"):
        with_task(with_task(plain, "segmentation"), "localisation")


@pytest.mark.parametrize(("kind", "shape"), [("segmentation", r"\(3, 8, 8\)"), ("localisation", r"\(7,\)")])
def test_a_network_with_the_wrong_output_is_refused(kind: str, shape: str) -> None:
    nodes = (Node("classifier", (0,), {"classes": 3}),)
    with pytest.raises(ArchitectureError, match=rf"the output has shape \(3,\); allowed: {shape}"):
        walk(Architecture(Task((1, 8, 8), 3, kind), nodes))


def test_the_task_goes_through_json_and_into_the_fingerprint() -> None:
    one = segmenter((8, 8))
    assert Architecture.from_json(one.to_json()) == one
    other = with_task(reference("resnet20_cifar").build(), "localisation")
    assert Architecture.from_json(other.to_json()).fingerprint() == other.fingerprint()
    with pytest.raises(ArchitectureError, match="task kind 'detection'; allowed: classification, segmentation"):
        Task((1, 8, 8), 3, "detection")


def test_enet_blocks_refuse_what_they_cannot_be() -> None:
    image = Task((3, 8, 8), 2, "segmentation")
    conv = Node("conv_norm_act", (0,), {"out_channels": 8})
    for node, message in (
        (Node("enet_downsampling", (0,), {"out_channels": 2}), "out_channels 2; allowed: at least 3"),
        (Node("enet_bottleneck", (0,), {"asymmetric": 4}), "asymmetric 4; allowed: 0 or an odd number"),
        (Node("max_unpool", (1, 0)), "8 and 3 channels; allowed: as many"),
    ):
        with pytest.raises(ArchitectureError, match=message):
            walk(Architecture(image, (conv, node)))
