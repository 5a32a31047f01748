"""Published networks: what stands beside them is what is built. Rows of other tables: test_oracles.py."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from search_spaces.build import build
from search_spaces.catalogue import REFERENCES, UnknownNameError, reference, spelled
from search_spaces.cost import costs


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_own_table_is_what_is_built(name: str) -> None:
    """Also without the shared folder: the numbers beside a network are its own."""
    reference = REFERENCES[name]
    price = costs(reference.build())
    assert reference.params in (None, price.params)
    assert reference.macs in (None, price.macs)


@pytest.mark.parametrize(
    ("name", "field"), [("resnet50", 427), ("resnet50_paper", 483), ("mobilenet_v2", 491), ("efficientnet_b0", 851)]
)
def test_receptive_fields_follow_the_recurrence(name: str, field: int) -> None:
    """483 for the ResNet-50 of the paper is in Araujo et al., Distill 2019; the others are computed in the same way."""
    assert costs(REFERENCES[name].build()).receptive_field == field


def test_depth_counts_layers_on_the_longest_path() -> None:
    assert [costs(REFERENCES[name].build()).depth for name in ("resnet18", "resnet50", "googlenet")] == [18, 50, 22]


def test_nasnet_with_and_without_the_shift_have_the_same_weights() -> None:
    with torch.device("meta"):
        one, two = (build(REFERENCES[name].build()) for name in ("nasnet_a_mobile", "nasnet_a_mobile_shifted"))
    assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in two.state_dict().items()}


def test_a_name_may_be_spelled_as_papers_do() -> None:
    assert reference("resnet-50") is reference("ResNet 50") is REFERENCES["resnet50"]
    assert reference("MobileNet-V2-1.4") is REFERENCES["mobilenet_v2_1.4"]
    with pytest.raises(UnknownNameError, match="did you mean 'resnet50'"):
        reference("resnet55")


def test_no_two_names_are_spellings_of_one() -> None:
    assert len({spelled(name) for name in REFERENCES}) == len(REFERENCES)


@pytest.mark.parametrize("before", ["", "import search_spaces.build; "])
def test_three_words_build_a_network_without_the_service_and_ray(before: str) -> None:
    code = (
        f"import sys; {before}import search_spaces; from search_spaces import build, reference; "
        "import torch; torch.set_default_device('meta'); "
        "assert sum(p.numel() for p in build(reference('resnet-50')).parameters()) == 25_557_032; "
        "assert search_spaces.build(search_spaces.reference('lenet5')); "
        "sys.exit(any(name.split('.')[0] in ('nas_service', 'workers', 'ray', 'fastapi') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
