"""The contract of a space, checked for every entry of SPACES: a new space is tested by being listed."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.architecture import Architecture, ArchitectureError, Task
from search_spaces.blocks.nasbench import Nasbench201Cell, vertex_channels
from search_spaces.build import build, fingerprint, resolved, shapes, walk
from search_spaces.catalogue import BLOCKS, REFERENCES, SPACES, configured
from search_spaces.choose import Choose, Options, Recorder, estimated_size, every, first, mutated, replay, sample
from search_spaces.cost import costs
from search_spaces.naming import KINDS
from search_spaces.signature import arguments, input_count
from search_spaces.source import source
from search_spaces.spaces.efficientnet import grid
from search_spaces.spaces.nasbench import EDGE_OPERATIONS, canonical_cell201

DIGITS, GARMENTS, CIFAR, IMAGENET = (
    Task((1, 8, 8), 10),
    Task((1, 28, 28), 10),
    Task((3, 32, 32), 10),
    Task((3, 224, 224), 7),
)
SAMPLES = 40
BUILT = 200


def last(name: str, options: Options) -> object:
    """Chooser that always takes the last option: the largest sample of most spaces."""
    return options[-1]


@pytest.fixture(params=sorted(SPACES))
def ask(request: pytest.FixtureRequest) -> Callable[[Choose], Architecture]:
    return SPACES[request.param].bound(DIGITS)


def model_of(text: str) -> nn.Module:
    """Model of the text of a model.py, run in a namespace of its own."""
    namespace: dict[str, type[nn.Module]] = {"__name__": "model"}
    exec(compile(text, "model.py", "exec"), namespace)
    return namespace["Model"]()


def test_questions_keep_the_rules(ask: Callable[[Choose], Architecture]) -> None:
    """Names once (Recorder), the same options each time, numbers ascending, no randomness of its own."""
    known: dict[str, Options] = {}
    for seed in range(SAMPLES):
        recorder = Recorder(sample(random.Random(seed)))
        architecture = ask(recorder)
        for question in recorder.questions:
            assert known.setdefault(question.name, question.options) == question.options
            numbers = [o for o in question.options if isinstance(o, (int, float))]
            assert numbers == sorted(numbers)
            assert len(question.options) > 1
        decisions = json.loads(json.dumps(recorder.decisions, allow_nan=False))
        assert ask(replay(decisions)) == architecture
        assert Architecture.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_question_can_change_the_result(name: str) -> None:
    """No dead decision: each name that a few samples ask has, somewhere, an answer that makes another network."""
    ask = SPACES[name].bound(CIFAR)
    open_names: dict[str, bool] = {}
    for seed in range(8):
        recorder = Recorder(sample(random.Random(seed)))
        before = fingerprint(ask(recorder))
        for question in recorder.questions:
            if open_names.get(question.name):
                continue
            others = [option for option in question.options if option != question.answer]
            for other in others:
                changed = {**recorder.decisions, question.name: other}
                after = ask(replay(changed, otherwise=sample(random.Random(seed))))
                open_names[question.name] = fingerprint(after) != before
                if open_names[question.name]:
                    break
    assert open_names
    assert [name for name, alive in open_names.items() if not alive] == []


def test_an_answer_changes_the_result(ask: Callable[[Choose], Architecture]) -> None:
    """Most changes of one decision are another network; rounding (efficientnet) and swapped halves (nasnet) are not."""
    rng = random.Random(0)
    different = 0
    for seed in range(SAMPLES):
        recorder = Recorder(sample(random.Random(seed)))
        before = ask(recorder)
        different += fingerprint(ask(mutated(recorder.questions, rng))) != fingerprint(before)
    assert different >= 0.8 * SAMPLES


@pytest.mark.parametrize("task", [DIGITS, GARMENTS, CIFAR, IMAGENET], ids=["digits", "garments", "cifar", "imagenet"])
@pytest.mark.parametrize("name", sorted(SPACES))
def test_smallest_and_largest_samples_build(name: str, task: Task) -> None:
    for choose in (first, last):
        architecture = SPACES[name].bound(task)(choose)  # type: ignore[arg-type]
        assert shapes(architecture)[-1] == (task.classes,)
        assert all(min(shape) >= 1 for shape in shapes(architecture))


def test_two_hundred_of_two_hundred_samples_build(ask: Callable[[Choose], Architecture]) -> None:
    """And what they cost is what torch counts, for some of them."""
    for seed in range(BUILT):
        architecture = ask(sample(random.Random(seed)))
        price = costs(architecture)
        if seed % 50:
            continue
        with torch.device("meta"):
            network = build(architecture).eval()
            image = torch.empty(1, *architecture.task.input_shape)
        with FlopCounterMode(display=False) as counter:
            network(image)
        assert price.macs == counter.get_total_flops() // 2
        assert price.params == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sample_trains_and_leaves_as_model_py(ask: Callable[[Choose], Architecture], seed: int) -> None:
    torch.manual_seed(seed)
    architecture = ask(sample(random.Random(seed)))
    network = build(architecture)
    images = torch.randn(2, *architecture.task.input_shape)
    nn.functional.cross_entropy(network(images), torch.tensor([0, 1])).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())

    model = model_of(source(architecture))
    assert list(model.state_dict()) == list(network.state_dict())
    model.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(model.eval()(images), network.eval()(images))


def test_config_is_a_form(ask: Callable[[Choose], Architecture]) -> None:
    for space in SPACES.values():
        schema = space.config.model_json_schema()
        for name, field in schema["properties"].items():
            assert "default" in field, (space.name, name)
            assert "description" in field or name == "name", (space.name, name)
        assert space.config.model_validate(json.loads(space.config().model_dump_json())) == space.config()


def test_the_config_of_the_design_works() -> None:
    space, config = configured({"name": "mbconv", "stages": 4, "kernels": [3, 5], "expansions": [3, 6]})
    recorder = Recorder(sample(random.Random(0)))
    space.bound(DIGITS, config)(recorder)
    assert {q.options for q in recorder.questions if q.name.endswith("kernel")} == {(3, 5)}
    assert any(q.name.startswith("stage4_") for q in recorder.questions)


@pytest.mark.parametrize(
    "data",
    [
        {"name": "mbconv", "kernels": [4]},
        {"name": "mbconv", "kernels": [3, 3]},
        {"name": "mbconv", "kernels": []},
        {"name": "mbconv", "kernels": [3.0]},
        {"name": "mbconv", "stages": True},
        {"name": "mbconv", "stages": 10**9},
        {"name": "mbconv", "growth": float("nan")},
        {"name": "mbconv", "unknown": 1},
        {"name": "residual", "widths": [10]},
        {"name": "residual", "depths": [10**6]},
        {"name": "residual", "blocks": ["basic", "basic"]},
        {"name": "nasnet", "operations": ["magic"]},
        {"name": "nasnet", "nodes": 10**6},
        {"name": "efficientnet", "alphas": [3.0]},
        {"name": "efficientnet", "phi": -1.0},
        {"name": "inception", "depths": [1000]},
        {"name": "chain", "kernels": [2]},
        {"name": "chain", "strides": [4]},
        {"name": "nasbench101", "vertices": 8},
        {"name": "nasbench101", "operations": ["conv5x5"]},
        {"name": "nasbench201", "operations": ["none"]},
        {"name": "macro", "depths": [2, 3]},
        {"name": "neighbourhood", "reference": "no_such_network"},
        {"name": "neighbourhood", "blocks": ["no_such_block"]},
        {"name": "neighbourhood", "architecture": {"version": 1}},
        {"name": "neighbourhood", "kernels": [1]},
    ],
)
def test_bad_configs_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        configured(data)


def test_efficientnet_keeps_to_its_grid_and_scales_the_resolution() -> None:
    space = SPACES["efficientnet"]
    found = set()
    for _, architecture in every(space.bound(IMAGENET, space.config(phi=2.0))):
        found.add(architecture.task.input_shape[1])
    combinations = grid(space.config())
    assert found == {round(224 * gamma**2) for _, _, gamma in combinations}
    assert all(abs(alpha * beta**2 * gamma**2 - 2) <= 0.1 + 1e-9 for alpha, beta, gamma in combinations)
    assert len(list(every(space.bound(DIGITS)))) == len(combinations)
    assert (1.2, 1.1, 1.15) in combinations


def test_the_base_of_efficientnet_is_b0() -> None:
    space = SPACES["efficientnet"]
    b0 = space.bound(Task((3, 224, 224), 1000), space.config(phi=0.0))(first)
    assert costs(b0).params == 5_288_548


def test_large_samples_stay_within_reason() -> None:
    for space in SPACES.values():
        for task in (DIGITS, GARMENTS):
            assert costs(space.bound(task)(last)).params < 20_000_000  # type: ignore[arg-type]


def test_walk_knows_a_block_again() -> None:
    """The second look at a network costs a fraction of the first, or a search would spend its time on counting."""
    architecture = SPACES["mbconv"].bound(GARMENTS)(first)
    profiles = walk(architecture).profiles
    assert all(a is b for a, b in zip(profiles, walk(architecture).profiles, strict=True))


def test_narrow_residual_networks_ask_only_for_cardinalities_that_fit() -> None:
    space, config = configured({"name": "residual", "widths": [8, 16], "blocks": ["bottleneck"]})
    asked = set()
    for questions, _ in every(lambda choose: space.ask(choose, Task((1, 8, 8), 10), config)):
        width = next(q.answer for q in questions if q.name == "width")
        asked |= {(width, q.options) for q in questions if q.name.startswith("cardinality")}
    assert asked == {(8, (1, 2)), (16, (1, 2, 4))}


# -- the tabular benchmarks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("vertices", "unique"), [(2, 1), (3, 1 + 6), (4, 1 + 6 + 84)])
def test_nasbench101_holds_as_many_cells_as_published(vertices: int, unique: int) -> None:
    """Unique cells of up to so many vertices; isomorphic ones are one architecture."""
    space = SPACES["nasbench101"]
    ask = space.bound(DIGITS, space.config(vertices=vertices))
    assert len({architecture.fingerprint() for _, architecture in every(ask)}) == unique


def test_nasbench101_keeps_to_nine_edges_and_leaves_no_vertex_alone() -> None:
    counts = set()
    for seed in range(BUILT):
        cell = SPACES["nasbench101"].bound(CIFAR)(sample(random.Random(seed))).nodes[1]
        edges, inner = cell.args["edges"], len(cell.args["operations"])  # type: ignore[arg-type]
        counts.add(len(edges))  # type: ignore[arg-type]
        assert {a for a, _ in edges} == set(range(inner + 1))  # type: ignore[union-attr, misc]
        assert {b for _, b in edges} == set(range(1, inner + 2))  # type: ignore[union-attr, misc]
    assert max(counts) == 9


def test_nasbench101_channels_are_the_authors() -> None:
    assert vertex_channels(8, 8, ((0, 1), (0, 2), (1, 3), (2, 3)), 4) == [8, 4, 4, 8]
    assert vertex_channels(8, 15, ((0, 1), (0, 2), (1, 3), (2, 3)), 4) == [8, 8, 7, 15]
    assert vertex_channels(8, 8, ((0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)), 5) == [8, 3, 3, 2, 8]


def test_nasbench201_has_the_parameters_of_its_table(shared: Path) -> None:
    """Ours are 73,306 + 243,040 a 3x3 + 28,000 a 1x1; so are the table's, but for 150 rows that are one step off."""
    table = np.load(shared / "benchmarks" / "nasbench201_cifar10.npz")["cifar10_params_M"]
    ask = SPACES["nasbench201"].bound(CIFAR)
    assert estimated_size(ask, random.Random(0)).estimate == len(table) == 15_625
    counted = [
        73_306 + 243_040 * cell.count(3) + 28_000 * cell.count(2)
        for cell in product(range(5), repeat=6)  # in the order of the table
    ]
    assert sum(round(float(row) * 1e6) == params for row, params in zip(table, counted, strict=True)) == 15_625 - 150
    for seed in range(60):
        recorder = Recorder(sample(random.Random(seed)))
        params = costs(ask(recorder)).params
        cell = canonical_cell201(tuple(str(question.answer) for question in recorder.questions))
        digits = [EDGE_OPERATIONS.index(operation) for operation in cell]
        assert params == counted[sum(digit * 5**place for place, digit in enumerate(reversed(digits)))]


def test_nasbench201_cells_that_compute_the_same_are_one() -> None:
    """9,445 without dead operations, as the literature counts; 8,765 where two inner nodes may change places too."""
    cells = {canonical_cell201(cell) for cell in product(EDGE_OPERATIONS, repeat=6)}
    assert len(cells) == 8_765
    assert all(canonical_cell201(cell) == cell for cell in cells)
    twice = {(a, b, "none", c, e, d) for b, a, middle, c, d, e in cells if middle == "none"}
    assert len(cells | twice) == 9_445
    x = torch.rand(2, 3, 5, 5)
    for cell in product(("none", "skip_connect", "avg_pool_3x3"), repeat=6):
        assert torch.allclose(Nasbench201Cell(3, cell)(x), Nasbench201Cell(3, canonical_cell201(cell))(x))  # type: ignore[arg-type]


def test_macro_has_the_codes_and_costs_of_its_table(shared: Path) -> None:
    with (shared / "benchmarks" / "nasbench_macro.csv").open() as file:
        table = {row["arch"]: row for row in csv.DictReader(file)}
    ask = SPACES["macro"].bound(CIFAR)
    fingerprints = set()
    for questions, architecture in every(ask):
        fingerprints.add(architecture.fingerprint())
        if len(fingerprints) % 40 == 1:
            row = table.pop("".join(str(q.options.index(q.answer)) for q in questions), None)
            price = costs(architecture)
            assert row is None or (price.params, price.macs) == (int(row["params"]), int(row["flops"]))
    assert len(fingerprints) == 3_969, "codes that are one network have one fingerprint"


# -- spaces made of the catalogue --------------------------------------------------------------------------------------


def test_chain_is_what_the_paper_says() -> None:
    """A layer without anchors reads the image, smaller inputs are padded, loose ends go to the classifier."""
    space = SPACES["chain"]
    config = space.config(layers=3, kernels=[1, 5], filters=[8, 16], strides=[1, 3])
    decisions = {"layer1_vertical_stride": 3, "layer1_height": 5, "layer3_reads_layer1": True}
    architecture = space.bound(DIGITS, config)(replay(decisions, otherwise=first))
    assert [node.inputs for node in architecture.nodes] == [(0,), (0,), (1,), (2, 3), (4,)]
    assert shapes(architecture)[:4] == ((8, 3, 8), (8, 8, 8), (8, 3, 8), (16, 8, 8))
    assert architecture.nodes[0].args["kernel"] == (5, 1)


def test_composed_is_the_product_of_what_is_listed() -> None:
    data = {
        "name": "composed",
        "stages": 2,
        "decide": "network",
        "blocks": [
            "preact_block",
            {"block": "inception_block", "args": {"branch1": 8, "reduce3": 4, "branch3": 8, "reduce5": 4, "branch5": 8,
             "pool_projection": 8}, "options": {"large": ["3x3", "5x5"]}},
        ],
        "depths": [1, 2],
        "widths": [16],
        "resolutions": [8, 12],
        "stems": [{"name": "narrow", "layers": [{"block": "conv_norm_act", "args": {"out_channels": 8}}]},
                  {"name": "wide", "layers": ["conv_norm_act"]}],
        "heads": [
            {"name": "mixed", "layers": [{"block": "conv_norm_act", "options": {"kernel": [1, 3]}}, "classifier"]}
        ],
    }  # fmt: skip
    space, config = configured(data)
    found = [(questions, architecture) for questions, architecture in every(space.bound(DIGITS, config))]
    assert len(found) == 2 * 2 * (1 + 2) * 2 * 2 * 2
    assert len({architecture.fingerprint() for _, architecture in found}) == len(found)
    assert {architecture.task.input_shape for _, architecture in found} == {(1, 8, 8), (1, 12, 12)}
    assert all(shapes(architecture)[-1] == (10,) for _, architecture in found)
    assert any(node.block == "pool" for _, architecture in found for node in architecture.nodes), "inception: no stride"


def test_composed_takes_every_block_that_fits_a_stage() -> None:
    """A block with one input and nothing to fill in but its channels can be listed by its name.

    Or the request is refused at once and says why, where a block cannot stand behind itself.
    """
    used: set[str] = set()
    refused: dict[str, str] = {}
    for name, block in BLOCKS.items():
        required = {key for key, field in arguments(block).model_fields.items() if field.is_required()}
        if input_count(block) == 1 and required <= {"out_channels"} and KINDS.get(name) != "box":
            try:
                space, config = configured({"name": "composed", "blocks": [name], "stages": 2})
            except ValidationError as error:
                refused[name] = str(error)
                continue
            used.add(name)
            for choose in (first, last):
                shapes(space.bound(DIGITS, config)(choose))  # type: ignore[arg-type]
    assert {"basic_block", "preact_bottleneck", "inverted_residual", "conv_norm_act"} <= used
    assert len(refused) < len(used)
    assert all(f"{name} with {{}} cannot be built on 16 channels: " in said for name, said in refused.items())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"blocks": ["no_such_block"]}, "no_such_block"),
        ({"blocks": ["add"]}, "add reads any number of inputs"),
        ({"blocks": ["nasnet_cell"]}, "nasnet_cell reads 2 inputs"),
        ({"blocks": ["inception_block"]}, "branch1"),
        ({"blocks": [{"block": "basic_block", "args": {"colour": 1}}]}, "colour"),
        ({"blocks": [{"block": "basic_block", "options": {"shortcut": ["projection", "magic"]}}]}, "magic"),
        ({"blocks": [{"block": "bottleneck_block", "options": {"groups": [1, 7]}}]}, "7"),
        ({"blocks": [{"block": "basic_block", "args": {"squeeze": 2}, "options": {"squeeze": [2]}}]}, "squeeze"),
        ({"heads": [{"name": "none", "layers": ["conv_norm_act"]}]}, "classes"),
        ({"resolutions": [16, 8]}, "ascending"),
    ],
)
def test_composed_refuses_what_cannot_be(data: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        configured({"name": "composed", **data})


def test_a_neighbourhood_without_edits_is_the_network_itself() -> None:
    space, config = configured({"name": "neighbourhood", "reference": "resnet20_cifar", "edits": []})
    found = list(every(space.bound(CIFAR, config)))
    assert [architecture.fingerprint() for _, architecture in found] == [
        fingerprint(REFERENCES["resnet20_cifar"].build())
    ]


@pytest.mark.parametrize(
    "reference", ["googlenet", "mobilenet_v2_0.35", "nasnet_a_cifar", "nasbench101_inception_like"]
)
def test_neighbours_of_any_reference_build(reference: str) -> None:
    space, config = configured({"name": "neighbourhood", "reference": reference, "own_size": True})
    ask = space.bound(CIFAR, config)
    own = ask(lambda name, options: 1.0 if 1.0 in options else 0 if 0 in options else options[0])
    assert own.task.input_shape == REFERENCES[reference].build().task.input_shape
    found = {fingerprint(ask(sample(random.Random(seed)))) for seed in range(10)}
    assert len(found) >= 9


def test_a_neighbourhood_of_a_found_architecture() -> None:
    found = SPACES["mbconv"].bound(DIGITS)(first)
    space, config = configured({"name": "neighbourhood", "architecture": found.to_json(), "edits": ["kernel", "depth"]})
    recorder = Recorder(sample(random.Random(0)))
    assert shapes(space.bound(GARMENTS, config)(recorder))[-1] == (10,)
    assert {q.name.split("_")[1] for q in recorder.questions} == {"kernel", "depth"}


@pytest.mark.parametrize("kind", ["segmentation", "localisation"])
def test_a_neighbourhood_of_what_a_search_for_another_task_found(kind: str) -> None:
    """The network itself to train alone, edits of it, and a plain error where its head is for another task."""
    task = Task((1, 32, 32), 11, kind)
    name = "segmentation" if kind == "segmentation" else "residual"
    found = resolved(SPACES[name].bound(task)(sample(random.Random(5))))
    space, config = configured({"name": "neighbourhood", "architecture": found.to_json(), "edits": []})
    assert space.bound(task, config)(first) == found
    space, config = configured({"name": "neighbourhood", "architecture": found.to_json()})
    made = {space.bound(task, config)(sample(random.Random(seed))).fingerprint() for seed in range(10)}
    assert len(made) > 5
    with pytest.raises(ArchitectureError, match=f"ends a network for {kind}; allowed: a classifier"):
        space.bound(replace(task, kind="classification"), config)(first)
