import numpy as np
import pytest
import torch
from PIL import Image

from sficonv.detect.explain import explain
from sficonv.models import create_model
from sficonv.models.checkpoint import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    return save_weights(tmp_path_factory.mktemp("weights") / "w", create_model("sfic_efficientnet_lite0"))


def test_two_pictures_and_numbers_for_each_face(weights, media, tmp_path):
    evil = tmp_path / "a b;$(x).jpg"
    evil.write_bytes((media / "face.jpg").read_bytes())
    paths = [evil, media / "nothing.jpg", tmp_path / "missing.jpg"]
    face, nothing, missing = explain(paths, weights=weights, out=tmp_path / "maps")
    assert set(face.pictures) == {"attention", "grad_cam"}
    for picture in face.pictures.values():
        assert picture.parent == tmp_path / "maps"
        assert np.asarray(Image.open(picture)).shape == (256, 256, 3)
    assert 0 <= face.numbers["area_above_half"] <= 1
    assert (nothing.p_fake, nothing.error, nothing.pictures) == (None, None, {})
    assert "missing.jpg" in missing.error
    assert face.to_dict()["pictures"]["attention"].endswith("_attention.png")
