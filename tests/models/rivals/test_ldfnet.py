"""LDFnet: what its branches can see, and weights that each face gets for itself."""

import torch

from sficonv.models import create_model
from sficonv.models.rivals.ldfnet import DynamicFusion, GlobalTexture, LocalArtifacts


def test_the_local_branch_sees_no_brightness():
    torch.manual_seed(0)
    branch, x = LocalArtifacts().eval(), torch.randn(1, 3, 64, 64)
    inside = (..., slice(2, -2), slice(2, -2))  # at the border the padding is seen
    found, brighter = branch.image(x)[inside], branch.image(x + 3)[inside]
    assert torch.allclose(found, brighter, atol=1e-3)


def test_texture_is_read_at_every_stage():
    branch = GlobalTexture()
    seen = []
    for style in branch.styles:
        style.register_forward_hook(lambda module, args, out: seen.append(args[0].shape[1:]))
    assert branch(torch.randn(2, 3, 64, 64)).shape == (2, 256)
    assert [tuple(shape) for shape in seen] == [(32, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4)]


def test_weights_add_up_to_one_and_depend_on_the_face():
    torch.manual_seed(0)
    fusion, a, b = DynamicFusion(8), torch.randn(2, 8), torch.randn(2, 8)
    weights = fusion.weights(a, b)
    assert torch.allclose(weights.sum(1), torch.ones(2, 8))
    assert not torch.allclose(weights[0], weights[1])
    mixed = fusion(a, b)
    assert ((mixed >= torch.minimum(a, b)) & (mixed <= torch.maximum(a, b))).all()
    assert torch.allclose(fusion(a, a), a, atol=1e-6)


def test_it_is_light():
    assert sum(p.numel() for p in create_model("ldfnet").parameters()) < 1_000_000
