"""SPSL: the phase image against numpy, what it ignores, and how shallow the trunk is."""

import numpy as np
import pytest
import torch
from torch import nn

from sficonv.models import create_model
from sficonv.models.rivals.spsl import AppendPhase, phase_image
from sficonv.nn import SFIConv2d, complexity


@pytest.mark.parametrize("shape", [(16, 16), (15, 22), (31, 31)])
def test_phase_image_against_numpy(shape):
    torch.manual_seed(0)
    grey = torch.randn(2, 1, *shape)
    spectrum = np.fft.fft2(grey.double().numpy())
    expected = np.fft.ifft2(spectrum / np.abs(spectrum), norm="ortho").real
    assert np.abs(phase_image(grey).numpy() - expected).max() < 1e-4


def test_amplitude_is_one_and_phase_is_kept():
    torch.manual_seed(0)
    grey = torch.randn(1, 1, 24, 24, dtype=torch.float64)
    before, after = (torch.fft.fft2(t.double(), norm="ortho") for t in (grey, phase_image(grey)))
    assert torch.allclose(after.abs(), torch.ones_like(after.abs()), atol=1e-3)
    assert (after / after.abs() - before / before.abs()).abs().max() < 1e-3


def test_contrast_does_not_matter():
    torch.manual_seed(0)
    grey = torch.randn(1, 1, 20, 20)
    assert torch.allclose(phase_image(grey), phase_image(3 * grey), atol=1e-4)


def test_an_image_without_structure_has_no_phase():
    assert phase_image(torch.zeros(1, 1, 16, 16)).abs().max() == 0
    flat = phase_image(torch.full((1, 1, 16, 16), 0.7))
    assert torch.allclose(flat, torch.full_like(flat, 1 / 16), atol=0.02)  # the mean alone has one


def test_the_colours_pass_unchanged():
    x = torch.rand(2, 3, 16, 16)
    found = AppendPhase()(x)
    assert found.shape == (2, 4, 16, 16)
    assert torch.equal(found[:, :3], x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(AppendPhase()(x), found)


@pytest.mark.parametrize(
    ("middle_blocks", "params"),
    # A middle block holds 3 x (9 x 728 + 728^2 + 2 x 728); the fourth channel takes 9 x 32 more.
    [(0, 20_811_050 + 288 - 8 * 1_613_976), (3, 20_811_050 + 288 - 5 * 1_613_976), (8, 20_811_050 + 288)],
)
def test_depth(middle_blocks, params):
    model = create_model("spsl", middle_blocks=middle_blocks)
    assert complexity(model, 299).params == params
    dropped = [isinstance(model.trunk.get_submodule(f"block{i}"), nn.Identity) for i in range(1, 13)]
    assert dropped == [3 + middle_blocks < i < 12 for i in range(1, 13)]


def test_sfic_form_computes_the_same_without_mcsconv():
    vanilla = create_model("spsl").eval()
    sfic = create_model("sfic_spsl", mcs_mode="none").eval()
    assert any(isinstance(m, SFIConv2d) for m in sfic.modules())
    sfic.load_state_dict(vanilla.state_dict())
    x = torch.rand(1, 3, 64, 64)
    assert torch.allclose(sfic(x), vanilla(x), atol=1e-4)


@pytest.mark.parametrize("middle_blocks", [-1, 9])
def test_bad_depth(middle_blocks):
    with pytest.raises(ValueError, match="middle_blocks must be from 0 to 8"):
        create_model("spsl", middle_blocks=middle_blocks)
