"""Corruptions on a real photograph: same shape, repeatable, stronger at each level."""

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from sficonv.media.corruptions import CORRUPTIONS, LEVELS, corrupt, corrupt_clip


@pytest.fixture(scope="module")
def crop(astronaut: np.ndarray) -> np.ndarray:
    """The face, 160 px, as sharp as it was photographed."""
    return np.ascontiguousarray(astronaut[30:190, 144:304])


def test_the_registry_names_seven_kinds_with_five_levels_each() -> None:
    assert set(CORRUPTIONS) == {"jpeg", "h264", "blur", "noise", "resize", "saturation", "contrast"}
    assert all(name == c.name and len(c.strengths) == 5 and c.unit for name, c in CORRUPTIONS.items())


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_levels_get_stronger(kind: str, crop: np.ndarray) -> None:
    damaged = [corrupt(crop, kind, level) for level in LEVELS]
    assert all(image.shape == crop.shape and image.dtype == np.uint8 for image in damaged)
    psnr = [peak_signal_noise_ratio(crop, image) for image in damaged]
    assert all(before > after + 0.5 for before, after in zip(psnr, psnr[1:], strict=False)), psnr
    assert 26 < psnr[0] < 50 and psnr[-1] < 30, psnr


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_only_image_kind_level_and_seed_decide(kind: str, crop: np.ndarray) -> None:
    original = crop.copy()
    first = corrupt(crop, kind, 3, seed=5)
    corrupt(crop[::-1].copy(), kind, 2, seed=1)
    assert np.array_equal(corrupt(crop, kind, 3, seed=5), first)
    assert np.array_equal(crop, original)
    assert np.array_equal(corrupt(crop, kind, 3, seed=6), first) == (kind != "noise")


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (33, 65)])
def test_any_size(kind: str, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    assert corrupt(image, kind, 5).shape == image.shape


def test_noise_has_the_strength_that_is_named() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    for level, sigma in zip(LEVELS, CORRUPTIONS["noise"].strengths, strict=True):
        noise = corrupt(grey, "noise", level).astype(float) - 128
        assert noise.std() == pytest.approx(sigma, rel=0.03) and abs(noise.mean()) < 0.3
    other = np.full((200, 200, 3), 127, np.uint8)
    noise = [corrupt(image, "noise", 3).astype(int) - image for image in (grey, other)]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_full_desaturation_is_grey_and_contrast_keeps_the_mean(crop: np.ndarray) -> None:
    assert np.ptp(corrupt(crop, "saturation", 5).astype(int), axis=2).max() == 0
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (crop, corrupt(crop, "contrast", 5))]
    assert grey[1].mean() == pytest.approx(grey[0].mean(), abs=1)
    assert grey[1].std() == pytest.approx(grey[0].std() / 4, rel=0.05)


def test_h264_of_a_clip_uses_what_the_frames_share(crop: np.ndarray) -> None:
    clip = [np.ascontiguousarray(np.roll(crop, 2 * i, axis=1)[:-1, 21:-22]) for i in range(8)]  # odd sides
    coded = corrupt_clip(clip, "h264", 4)
    assert len(coded) == 8 and all(a.shape == b.shape for a, b in zip(clip, coded, strict=True))
    for i, frame in enumerate(coded):  # in order: each is nearest to its own original
        distances = [np.abs(frame.astype(int) - other).mean() for other in clip]
        assert int(np.argmin(distances)) == i
    alone = [corrupt(frame, "h264", 4) for frame in clip]
    assert not np.array_equal(coded[5], alone[5])  # predicted from its neighbours, not a keyframe
    assert all(np.array_equal(a, b) for a, b in zip(coded, corrupt_clip(clip, "h264", 4), strict=True))


def test_frames_of_a_clip_get_noise_of_their_own(crop: np.ndarray) -> None:
    first, second = corrupt_clip([crop, crop], "noise", 3)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, corrupt(crop, "noise", 3))
    assert corrupt_clip([], "noise", 3) == []


def test_what_cannot_be_done_is_said(crop: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one of jpeg, h264"):
        corrupt(crop, "rain", 1)
    for level in (0, 6, 2.5):
        with pytest.raises(ValueError, match="level must be 1 to 5"):
            corrupt(crop, "jpeg", level)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="uint8"):
        corrupt(crop.astype(np.float32), "blur", 1)
    with pytest.raises(ValueError, match="one size"):
        corrupt_clip([crop, crop[1:]], "blur", 1)
