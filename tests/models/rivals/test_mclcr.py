"""MC-LCR: spectra of patches against numpy, style that does not depend on the place, the contrast."""

import numpy as np
import pytest
import torch

from sficonv.models import create_model
from sficonv.models.losses import training_losses
from sficonv.models.rivals.contrast import contrast
from sficonv.models.rivals.mclcr import BINS, PATCH, SpectralAttention, patch_spectra
from sficonv.models.rivals.style import Style, gram


def test_spectra_are_those_of_each_patch():
    torch.manual_seed(0)
    grey = torch.randn(2, 1, 27, 33)
    amplitude, phase = patch_spectra(grey)
    assert amplitude.shape == (2, BINS, 3, 4)
    patch = grey[1, 0, 8:16, 16:24].numpy()
    expected = np.fft.rfft2(patch, norm="ortho").ravel()
    assert np.allclose(amplitude[1, :, 1, 2], np.log1p(np.abs(expected)), atol=1e-4)
    found = phase[1, :BINS, 1, 2] + 1j * phase[1, BINS:, 1, 2]
    assert np.allclose(found, expected / np.abs(expected), atol=1e-3)


def test_a_flat_patch_has_no_phase_but_that_of_its_mean():
    amplitude, phase = patch_spectra(torch.full((1, 1, PATCH, PATCH), 0.5))
    assert amplitude[0, 1:].max() < 0.01
    assert phase[0, 0] == 1
    assert phase[0, 1:BINS].abs().max() < 0.1


def test_a_patch_is_moved_in_phase_and_not_in_amplitude():
    torch.manual_seed(0)
    grey = torch.randn(1, 1, PATCH, PATCH)
    (amplitude, phase), (moved, turned) = patch_spectra(grey), patch_spectra(grey.roll(3, 3))
    assert torch.allclose(amplitude, moved, atol=1e-4)
    assert not torch.allclose(phase, turned, atol=0.1)


def test_amplitude_and_phase_attend_to_each_other_once_it_is_learned():
    torch.manual_seed(0)
    layer, grey = SpectralAttention(16).eval(), torch.randn(1, 1, 32, 32)
    seen = []
    layer.attend.register_forward_hook(lambda module, args, out: seen.append((args, out)))
    layer(grey)
    assert torch.equal(seen[0][0][0], seen[0][1][0])  # its strength starts at 0
    layer.attend.gamma_a.data.fill_(1)
    layer(grey)
    assert not torch.equal(seen[1][0][0], seen[1][1][0])
    assert torch.equal(seen[1][0][1], seen[1][1][1])


def test_style_does_not_depend_on_the_place():
    torch.manual_seed(0)
    x, layer = torch.randn(1, 6, 8, 8), Style(6, 4, 5).eval()
    shuffled = x.flatten(2)[..., torch.randperm(64)].view_as(x)
    assert torch.allclose(layer(x), layer(shuffled), atol=1e-5)
    assert torch.allclose(gram(x)[0, 1], (x[0, 0] * x[0, 1]).mean(), atol=1e-6)


def test_the_contrast_gathers_a_class():
    torch.manual_seed(0)
    model = create_model("mc_lcr", image_size=32).eval()
    x, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])
    vectors = torch.nn.functional.normalize(model.project(model.features(x)), dim=1)
    alike, itself = labels[:, None] == labels, torch.eye(4).bool()
    expected = 0.5 * contrast(vectors @ vectors.T / 0.1, alike & ~itself, ~alike)
    assert training_losses(model, x, labels)["contrast"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert training_losses(model, x[:2], labels[:2])["contrast"] == 0  # nobody is alike
