"""Batched image operations beside the libraries that do the same for one image."""

import cv2
import numpy as np
import pytest
import torch

from sficonv.media.batches import (
    Draw,
    affine,
    change_colours,
    from_ycc,
    gaussian_blur,
    grow_matrix,
    jpeg,
    lower_resolution,
    shrink_matrix,
    to_ycc,
    warp,
)


def batch(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()


def image(tensor: torch.Tensor) -> np.ndarray:
    return tensor.permute(1, 2, 0).numpy()


@pytest.fixture(scope="module")
def faces(astronaut: np.ndarray) -> torch.Tensor:
    return batch(astronaut[:256, 100:356], astronaut[100:356, 200:456])


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 98])
@pytest.mark.parametrize("halve_colours", [True, False])
def test_jpeg_is_what_libjpeg_writes(faces: torch.Tensor, quality: int, halve_colours: bool) -> None:
    factor = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if halve_colours else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    ours = jpeg(faces, torch.full((len(faces),), float(quality)), halve_colours=halve_colours)
    for face, result in zip(faces, ours, strict=True):
        pixels = image(face).astype(np.uint8)
        coded = cv2.imdecode(cv2.imencode(".jpg", pixels[..., ::-1], options)[1], cv2.IMREAD_COLOR)
        theirs = coded[..., ::-1].astype(np.float32)
        # libjpeg's whole-number transform and its way of enlarging the colours differ by about one grey level
        assert np.abs(image(result) - theirs).mean() < 1.0
        if quality <= 90:  # what is lost is far more than that
            assert np.abs(image(result) - theirs).mean() < 0.35 * np.abs(pixels - theirs).mean() + 0.5


def test_jpeg_has_a_quality_for_each_image(faces: torch.Tensor) -> None:
    both = jpeg(faces[:1].expand(2, -1, -1, -1), torch.tensor([20.0, 95.0]))
    low, high = (float((x - faces[0]).abs().mean()) for x in both)
    assert low > 2 * high


def test_blur_is_opencvs(faces: torch.Tensor) -> None:
    sigma = torch.tensor([0.8, 3.0])
    for face, result, s in zip(faces, gaussian_blur(faces, sigma, largest=3), sigma.tolist(), strict=True):
        expected = cv2.GaussianBlur(image(face), (0, 0), s, borderType=cv2.BORDER_REFLECT_101)
        assert np.abs(image(result) - expected).mean() < 0.3


def test_no_blur_changes_nothing(faces: torch.Tensor) -> None:
    torch.testing.assert_close(gaussian_blur(faces, torch.zeros(2), largest=1), faces, atol=1e-3, rtol=0)


def test_colours_there_and_back(faces: torch.Tensor) -> None:
    torch.testing.assert_close(from_ycc(to_ycc(faces)), faces, atol=1e-2, rtol=0)
    one, zero = torch.ones(2), torch.zeros(2)
    same = change_colours(faces, gain=one, offset=zero, saturation=one, hue=zero)
    torch.testing.assert_close(same, faces, atol=1e-2, rtol=0)


def test_without_saturation_all_is_grey(faces: torch.Tensor) -> None:
    one, zero = torch.ones(2), torch.zeros(2)
    grey = change_colours(faces, gain=one, offset=zero, saturation=zero, hue=zero)
    assert float((grey[:, 0] - grey[:, 2]).abs().max()) < 0.01


def test_warp_by_the_identity_and_by_a_mirror(faces: torch.Tensor) -> None:
    one, zero = torch.ones(2), torch.zeros(2)
    torch.testing.assert_close(warp(faces, affine(one, one, zero, zero)), faces, atol=0.05, rtol=0)
    torch.testing.assert_close(warp(faces, affine(-one, one, zero, zero)), faces.flip(-1), atol=0.05, rtol=0)


def test_a_picture_shrunk_into_the_corner_is_a_resized_picture(faces: torch.Tensor) -> None:
    share = torch.tensor([0.5, 0.5])
    one, zero = torch.ones(2), torch.zeros(2)
    small = warp(faces, shrink_matrix(affine(one, one, zero, zero), share))[..., :128, :128]
    expected = cv2.resize(image(faces[0]), (128, 128), interpolation=cv2.INTER_LINEAR)
    assert np.abs(image(small[0]) - expected).mean() < 0.01
    whole = warp(torch.nn.functional.pad(small, (0, 128, 0, 128), mode="replicate"), grow_matrix(share))
    again = cv2.resize(expected, (256, 256), interpolation=cv2.INTER_LINEAR)
    assert np.abs(image(whole[0])[:250, :250] - again[:250, :250]).mean() < 0.1


def test_lower_resolution_takes_detail_and_keeps_the_mean(faces: torch.Tensor) -> None:
    low = lower_resolution(faces, torch.tensor([0.25, 1.0]))
    detail = [float((x[..., 1:] - x[..., :-1]).abs().mean()) for x in (faces[0], low[0])]
    assert detail[1] < 0.6 * detail[0]
    assert abs(float(low[0].mean() - faces[0].mean())) < 1.5
    torch.testing.assert_close(low[1], faces[1], atol=0.1, rtol=0)


def test_draws_repeat_with_their_seed_and_differ_without() -> None:
    first, again, other = (Draw(seed, "cpu").uniform((4, 3)) for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_weighted_draws_follow_their_weights_and_skip_what_weighs_nothing() -> None:
    drawn = Draw(1, "cpu").weighted(torch.tensor([1.0, 0.0, 3.0]), 4000)
    share = torch.bincount(drawn, minlength=3) / 4000
    assert share[1] == 0 and abs(float(share[2]) - 0.75) < 0.03
