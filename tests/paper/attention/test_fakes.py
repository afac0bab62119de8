import numpy as np
import pytest
import torch

from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.errors import DataError
from sficonv.paper.attention.fakes import draw_fakes, forged_pixels


def test_one_face_of_each_video_and_new_footage_first(make_faces):
    folder = make_faces()
    fakes, problems = draw_fakes(folder, 6)
    assert not problems
    assert len({fake.video for fake in fakes}) == 6
    assert {fake.footage for fake in fakes[:3]} == {"set/0", "set/1", "set/2"}
    assert all(fake.path.startswith("1_") for fake in fakes)
    assert len(draw_fakes(folder, 99)[0]) == 6


def test_the_seed_decides_and_the_order_of_the_manifest_does_not(make_faces):
    folder = make_faces()
    first = [fake.path for fake in draw_fakes(folder, 4, seed=3)[0]]
    write_manifest(folder, read_manifest(folder).iloc[::-1].reset_index(drop=True))
    assert [fake.path for fake in draw_fakes(folder, 4, seed=3)[0]] == first
    others = {tuple(fake.path for fake in draw_fakes(folder, 4, seed=seed)[0]) for seed in range(6)}
    assert len(others) > 1


def test_masks_of_the_manifest_are_known_and_missing_ones_are_not(make_faces):
    folder = make_faces()
    assert draw_fakes(folder, 1)[0][0].mask.float().mean() == pytest.approx(255 * (8 / 32) ** 2)
    write_manifest(folder, read_manifest(folder).drop(columns="mask"))
    assert draw_fakes(folder, 1)[0][0].mask is None


def test_self_blended_faces_differ_from_the_real_ones_inside_their_mask(make_faces):
    folder = make_faces()
    fakes, _ = draw_fakes(folder, 6, self_blend=True, seed=1)
    assert all(fake.path.startswith("0_") and fake.mask.any() for fake in fakes)
    assert not torch.stack([fake.mask for fake in fakes]).bool().all()
    again, _ = draw_fakes(folder, 6, self_blend=True, seed=1)
    assert all(torch.equal(a.image, b.image) for a, b in zip(fakes, again, strict=True))


def test_an_unreadable_crop_is_passed_over_and_named(make_faces):
    folder = make_faces()
    lost = draw_fakes(folder, 6)[0][0].path
    (folder / lost).write_bytes(b"no picture")
    fakes, problems = draw_fakes(folder, 6)
    assert len(fakes) == 5
    assert [lost in problem for problem in problems] == [True]
    for file in folder.glob("1_*.png"):
        file.unlink()
    with pytest.raises(DataError, match="none of 6 face crops can be read"):
        draw_fakes(folder, 6)


def test_a_split_without_fakes_names_the_splits_there_are(make_faces):
    folder = make_faces(split="val")
    with pytest.raises(DataError, match="no fake faces in split 'test'.*'val'"):
        draw_fakes(folder, 4)
    assert len(draw_fakes(folder, 4, split="all")[0]) == 4


def test_half_of_the_strongest_blend_counts_as_forged():
    soft = torch.from_numpy(np.tile(np.linspace(0, 60, 64), (64, 1))).byte()[None]
    assert forged_pixels(soft, 32).float().mean() == pytest.approx(0.5, abs=0.05)
    assert not forged_pixels(torch.zeros(1, 8, 8, dtype=torch.uint8), 8).any()
