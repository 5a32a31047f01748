"""Auxiliary heads: their published counts, putting them in and taking them out."""

from __future__ import annotations

import pytest

from search_spaces.architecture import ArchitectureError, Task
from search_spaces.auxiliary import with_auxiliary, without_auxiliary
from search_spaces.build import node_names
from search_spaces.catalogue import SPACES, reference
from search_spaces.choose import first
from search_spaces.cost import costs
from search_spaces.source import source


def test_the_trained_googlenet_is_googlenet_and_two_heads() -> None:
    trained, plain = reference("googlenet_auxiliary").build(), reference("googlenet").build()
    assert without_auxiliary(trained) == plain
    assert without_auxiliary(plain) is plain
    assert trained.fingerprint() != plain.fingerprint()
    assert costs(trained).macs == costs(plain).macs
    assert costs(trained).params - costs(plain).params == 3_188_840 + 3_188_840 + 16 * 128  # 528 channels for 512


@pytest.mark.parametrize("name", sorted(SPACES))
def test_heads_go_in_and_out_anywhere_and_leave_names_alone(name: str) -> None:
    plain = SPACES[name].bound(Task((1, 16, 16), 10))(first)
    for number in range(1, len(plain.nodes)):
        trained = with_auxiliary(plain, (number,), "nasnet" if number % 2 else "googlenet")
        assert without_auxiliary(trained) == plain
        kept = [
            n
            for n, node in zip(node_names(trained), trained.nodes, strict=True)
            if node.block != "auxiliary_classifier"
        ]
        assert tuple(kept) == node_names(plain)
        assert costs(trained).depth == costs(plain).depth
    assert "class AuxiliaryClassifier" in source(trained)
    assert "Auxiliary" not in source(without_auxiliary(trained))


def test_no_head_behind_the_last_node() -> None:
    plain = reference("resnet20_cifar").build()
    with pytest.raises(ArchitectureError, match=f"no head can follow node {len(plain.nodes)}; allowed: 1 to"):
        with_auxiliary(plain, (len(plain.nodes),))


@pytest.mark.parametrize(("name", "heads"), [("nasnet", 1), ("inception", 2)])
def test_spaces_put_heads_where_their_papers_have_them(name: str, heads: int) -> None:
    task = Task((1, 16, 16), 10)
    space = SPACES[name]
    plain = space.bound(task)(first)
    trained = space.bound(task, space.config.model_validate({"auxiliary": True}))(first)
    assert without_auxiliary(trained) == plain
    assert sum(node.block == "auxiliary_classifier" for node in trained.nodes) == heads
