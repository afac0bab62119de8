"""F3-Net: its two looks at the spectrum against scipy, its mixing, its counts."""

import numpy as np
import pytest
import scipy.fft
import torch
import torch.nn.functional as F

from sficonv.models import create_model
from sficonv.models.rivals.cross_attention import CrossAttention
from sficonv.models.rivals.f3net import FAD, LFS
from sficonv.models.rivals.frequency import luma
from sficonv.nn import SFIConv2d, complexity


def without_learned_part(layer):
    torch.nn.init.zeros_(layer.weight)
    return layer


@pytest.mark.parametrize(
    ("mode", "params", "paper_macs"),
    [
        # The paper's row, 21.17M; the public port's 21,175,344 hold a second classifier that is never used.
        ("fad", 21_175_344 - (2048 * 2 + 2), 8.476e9),
        ("lfs", 20_812_514, 8.394e9),
        ("both", 45_542_968, 17.54e9),
    ],
)
def test_counts(mode, params, paper_macs):
    model = create_model("f3net", mode=mode)
    assert model.config.image_size == 299
    found = complexity(model, 299)
    assert found.params == params
    assert found.paper_macs == pytest.approx(paper_macs, rel=1e-3)


def test_fixed_tensors_are_not_saved():
    assert [key for key in create_model("f3net", image_size=64).state_dict() if "frequency" in key] == [
        "frequency.weight"
    ]


@pytest.mark.parametrize("size", [32, 45])
def test_fad_is_filtering_in_the_cosine_domain(size):
    fad, x = without_learned_part(FAD(size)), torch.rand(2, 3, size, size) * 2 - 1
    spectrum = scipy.fft.dctn(x.double().numpy(), norm="ortho", axes=(-2, -1))
    diagonal = np.add.outer(np.arange(size), np.arange(size))
    low, middle = int(size / 2.82), size // 2
    keeps = (diagonal < low, (diagonal >= low) & (diagonal < middle), diagonal >= middle, diagonal >= 0)
    expected = [scipy.fft.idctn(spectrum * keep, norm="ortho", axes=(-2, -1)) for keep in keeps]
    found = fad(x)
    assert np.abs(found.detach().numpy() - np.concatenate(expected, 1)).max() < 1e-5
    assert torch.allclose(found[:, :9].unflatten(1, (3, 3)).sum(1), x, atol=1e-5)  # the bands add up
    assert torch.allclose(found[:, 9:], x, atol=1e-5)


def test_fad_bands_hold_the_shares_that_the_paper_states():
    low, middle, high, everything = FAD(299).base.mean((1, 2))
    assert low == pytest.approx(1 / 16, rel=0.02)
    assert low + middle == pytest.approx(1 / 8, rel=0.02)
    assert high == pytest.approx(7 / 8, rel=0.02)
    assert everything == 1


def test_what_fad_learns_is_added_within_one():
    fad, x = without_learned_part(FAD(32)), torch.rand(1, 3, 32, 32)
    before = fad(x)
    with torch.no_grad():
        fad.weight[0] += 50  # 2 sigmoid - 1 = 1: the low band gains everything once
    assert torch.allclose(fad(x)[:, :3], before[:, :3] + x, atol=1e-5)


def test_lfs_is_a_window_by_window_transform():
    lfs, x = without_learned_part(LFS()), torch.rand(1, 3, 32, 33) * 2 - 1
    found = lfs(x)
    assert found.shape == (1, 6, 16, 16)
    grey = F.pad((luma(x) + 1) * 122.5, (4, 4, 4, 4))[0, 0].double().numpy()
    diagonal = np.add.outer(np.arange(10), np.arange(10))
    for row, column in ((0, 0), (5, 9), (15, 15)):
        window = grey[2 * row : 2 * row + 10, 2 * column : 2 * column + 10]
        spectrum = np.abs(scipy.fft.dctn(window, norm="ortho"))
        for band in range(6):
            inside = (diagonal >= 20 * band / 6) & (diagonal < 20 * (band + 1) / 6)
            expected = np.log10(spectrum[inside].mean() + 1e-3)
            assert found[0, band, row, column].item() == pytest.approx(expected, abs=1e-4)


def test_lfs_measures_149_windows_a_side_at_299_px():
    assert LFS()(torch.zeros(1, 3, 299, 299)).shape == (1, 6, 149, 149)


def test_lfs_of_a_flat_image_is_quiet_but_for_its_mean():
    found = LFS()(torch.zeros(1, 3, 40, 40))[0, :, 4:-4, 4:-4]
    assert found.isfinite().all()
    assert (found[1:] < found[0]).all()
    assert found.std(dim=(1, 2)).max() < 1e-4


def test_both_streams_are_mixed_once_gamma_is_not_zero():
    torch.manual_seed(0)
    model = create_model("f3net", mode="both", image_size=32).eval()
    x = torch.rand(1, 3, 32, 32)
    seen = {}
    model.fad_exit.register_forward_hook(lambda module, args, out: seen.setdefault(len(seen), out))
    with torch.no_grad():
        model(x)
        model.mix12.gamma_a.fill_(1)
        model(x)
    assert not torch.allclose(seen[0], seen[1])


def test_cross_attention_against_the_formula():
    torch.manual_seed(0)
    mix = CrossAttention(6, 4).eval()
    a, b = torch.randn(1, 6, 3, 2), torch.randn(1, 6, 2, 2)
    assert all(torch.equal(*pair) for pair in zip(mix(a, b), (a, b), strict=True))  # gamma = 0
    with torch.no_grad():
        mix.gamma_a.fill_(1)
        mix.gamma_b.fill_(2)
        found_a, found_b = mix(a, b)

        def rows(layer, x):
            bias = 0 if layer.bias is None else layer.bias
            return x[0].flatten(1).T @ layer.weight[:, :, 0, 0].T + bias

        affinity = rows(mix.query, a) @ rows(mix.key, b).T / 2
        from_b = affinity.softmax(1) @ rows(mix.value_b, b)
        from_a = affinity.softmax(0).T @ rows(mix.value_a, a)
    scale = (1 + mix.norm_a.eps) ** -0.5  # fresh running statistics
    assert torch.allclose(found_a[0].flatten(1).T, a[0].flatten(1).T + scale * from_b, atol=1e-5)
    assert torch.allclose(found_b[0].flatten(1).T, b[0].flatten(1).T + 2 * scale * from_a, atol=1e-5)


def test_sfic_form():
    model = create_model("sfic_f3net", image_size=64, alpha=0.5, beta=0.5)
    stages = [m for m in model.modules() if isinstance(m, SFIConv2d)]
    assert len(stages) > 50
    plain = create_model("f3net", image_size=64).state_dict()
    without = create_model("sfic_f3net", image_size=64, mcs_mode="none")
    without.load_state_dict(plain)
    vanilla = create_model("f3net", image_size=64)
    vanilla.load_state_dict(plain)
    x = torch.rand(1, 3, 64, 64)
    assert torch.allclose(without.eval()(x), vanilla.eval()(x), atol=1e-4)


def test_frequencies_stay_in_32_bits_under_autocast():
    x = torch.rand(1, 3, 32, 32)
    for layer in (FAD(32), LFS()):
        expected = layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(layer(x), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "dct"}, "mode must be one of"),
        ({"image_size": 31}, "f3net: image_size must be at least 32 px"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        create_model("f3net", **options)


def test_another_size_than_it_was_built_for():
    model = create_model("f3net", image_size=64)
    with pytest.raises(ValueError, match=r"f3net takes images \(B, 3, 64, 64\)"):
        model(torch.rand(1, 3, 96, 96))
