"""Drop path leaves whole samples out, keeps the mean, and is the identity where nothing may be dropped."""

import pytest
import torch

from search_spaces.blocks.drop_path import DropPath


def test_samples_are_dropped_whole_at_the_rate_and_scaled():
    torch.manual_seed(0)
    y = DropPath(0.25)(torch.ones(4000, 3, 2, 2)).flatten(1)
    assert torch.equal(y.amin(1), y.amax(1))  # a sample is kept whole or dropped whole
    assert y.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert y.mean().item() == pytest.approx(1, abs=0.05)


def test_evaluation_and_rate_zero_are_the_identity_without_a_random_number():
    x = torch.randn(8, 3, 2, 2)
    before = torch.get_rng_state()
    assert DropPath(0.0)(x) is x
    assert DropPath(0.5).eval()(x) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_a_rate_that_drops_everything_is_refused():
    with pytest.raises(ValueError, match=r"drop path rate 1\.0; allowed: 0 to below 1"):
        DropPath(1.0)
