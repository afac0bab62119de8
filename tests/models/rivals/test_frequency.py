"""Spectra against scipy and against what they must add up to."""

import numpy as np
import pytest
import scipy.fft
import torch

from sficonv.models.rivals.frequency import band_masks, dct_matrix, full_precision, irdft2, luma, rdft2


@pytest.mark.parametrize("size", [1, 2, 10, 33, 299])
def test_dct_matrix_is_scipys_orthonormal_dct(size):
    matrix = dct_matrix(size)
    expected = scipy.fft.dct(np.eye(size), norm="ortho", axis=0)
    assert np.abs(matrix.numpy() - expected).max() < 1e-6
    assert torch.allclose(matrix @ matrix.T, torch.eye(size), atol=1e-5)


def test_2d_transform_and_its_inverse():
    matrix, x = dct_matrix(24), torch.randn(2, 3, 24, 24)
    spectrum = matrix @ x @ matrix.T
    assert np.abs(spectrum.numpy() - scipy.fft.dctn(x.numpy(), norm="ortho", axes=(-2, -1))).max() < 1e-5
    assert torch.allclose(matrix.T @ spectrum @ matrix, x, atol=1e-5)


@pytest.mark.parametrize("size", [8, 10, 299])
@pytest.mark.parametrize("inner", [(), (3,), (10 / 3, 5.5, 7)])
def test_bands_partition_the_spectrum(size, inner):
    masks = band_masks(size, (0, *inner, 2 * size))
    assert masks.shape == (len(inner) + 1, size, size)
    assert (masks.sum(0) == 1).all()


def test_a_band_holds_the_diagonals_between_its_edges():
    (mask,) = band_masks(5, (2, 4))
    assert [(i, j) for i in range(5) for j in range(5) if mask[i, j]] == [
        (i, j) for i in range(5) for j in range(5) if i + j in (2, 3)
    ]


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (8, 6), (7, 5), (64, 64), (33, 75)])
def test_fourier_transform_and_its_inverse_against_torch(shape):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *shape)
    expected = torch.fft.rfft2(x.double(), norm="ortho")
    real, imaginary = rdft2(x)
    assert real.dtype == torch.float32
    assert (torch.complex(real, imaginary) - expected).abs().max() < 1e-5
    assert torch.allclose(irdft2(real, imaginary, shape[1]), x, atol=1e-5)
    other = torch.randn_like(expected)  # no real map has this one: both must drop the same part of it
    back = torch.fft.irfft2(other, s=shape, norm="ortho")
    assert (irdft2(other.real.float(), other.imag.float(), shape[1]) - back).abs().max() < 1e-5


def test_fourier_transform_of_a_large_image_is_precise():
    torch.manual_seed(0)
    x = torch.randn(1, 1, 299, 299)
    expected = torch.fft.rfft2(x.double(), norm="ortho")
    assert (torch.complex(*rdft2(x)) - expected).abs().square().mean().sqrt() < 1e-6


def test_luma():
    x = torch.rand(2, 3, 4, 5)
    assert luma(x).shape == (2, 1, 4, 5)
    assert torch.allclose(luma(x)[1, 0, 2, 3], x[1, :, 2, 3] @ torch.tensor([0.299, 0.587, 0.114]))


def test_full_precision_keeps_products_in_32_bits():
    x = torch.rand(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_precision(x):
            assert (x @ x).dtype == torch.float32
    with full_precision(x.to("meta")):
        pass
