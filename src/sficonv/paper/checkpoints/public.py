"""Import of the public checkpoints of Meso-Inception-4 and of the multi-task network.

Both were trained on folders of images whose classes are the folders in alphabetical order, so that real
faces are the higher class (`df` < `real`, `altered` < `original`). Here 1 = fake: the importers swap the
classes in the weights and say so in the card's `translated`.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sficonv.errors import WeightsError
from sficonv.models.checkpoint import fill, read_state_dict
from sficonv.models.registry import create_model

logger = logging.getLogger(__name__)

Imported = tuple[nn.Module, dict[str, Any]]
"""The model in eval mode, and entries for its card: `source`, `translated`."""


def import_meso(path: str | Path) -> Imported:
    """Load a public Meso-Inception-4 checkpoint.

    Args:
        path: `.h5`: the authors' Keras weights (needs the extra `[keras]`), which fit `variant="keras"`;
            otherwise a state dict of the PyTorch port, which fits `variant="port"`.

    Returns:
        The model in eval mode, and entries for its card.

    Raises:
        WeightsError: If the file is missing, unreadable, holds anything but tensors, or is another model's.

    Example:
        >>> model, card = import_meso("MesoInception_DF.h5")           # doctest: +SKIP
        >>> save_weights("meso", model, card)                          # doctest: +SKIP
        >>> sficonv.scan("photo.jpg", detector="meso.safetensors")      # doctest: +SKIP
    """
    path = Path(path)
    if path.suffix in (".h5", ".hdf5"):
        model = create_model("meso_inception4", variant="keras")
        state = _from_keras(_read_keras(path), path)
        order = "'real' as the higher class of its sigmoid (folders df, real)"
    else:
        model = create_model("meso_inception4")
        state = _from_port(read_state_dict(path))
        order = "0 = fake, 1 = real (folders df, real)"
    fill(model, state, path)
    return model.eval(), _card(path.name, f"classes swapped: the checkpoint has {order}, here 1 = fake")


def import_multitask(encoder: str | Path, decoder: str | Path | None = None) -> Imported:
    """Load a public checkpoint of the multi-task network (ClassNSeg).

    Args:
        encoder: State dict of the encoder; enough for verdicts.
        decoder: State dict of the decoder. Default: the decoder stays as initialised.

    Returns:
        The model in eval mode, and entries for its card.

    Raises:
        WeightsError: If a file is missing, unreadable, holds anything but tensors, or is another model's.

    Example:
        >>> model, card = import_multitask("encoder_46.pt", "decoder_46.pt")  # doctest: +SKIP
    """
    model = create_model("multitask")
    state: dict[str, Tensor] = dict(read_state_dict(encoder))
    for key in [k for k in state if k.startswith(("encoder.24.", "encoder.25.")) and state[k].ndim]:
        state[key] = _swap_halves(state[key])  # the last layer's outputs are the two halves
    names = [Path(encoder).name]
    if decoder is None:
        state |= {k: v for k, v in model.state_dict().items() if not k.startswith("encoder.")}
    else:
        state |= read_state_dict(decoder)
        if "shared.0.weight" in state:
            state["shared.0.weight"] = _swap_halves(state["shared.0.weight"])
        names.append(Path(decoder).name)
    fill(model, state, Path(encoder))
    order = "0 = altered, 1 = original"
    note = f"halves of the latent swapped: the checkpoint has {order}, here 0 = real, 1 = fake"
    return model.eval(), _card(" and ".join(names), note)


def _card(source: str, translated: str) -> dict[str, Any]:
    logger.info("%s: %s", source, translated)
    return {"source": source, "translated": [translated]}


def _swap_halves(tensor: Tensor) -> Tensor:
    return torch.cat(tensor.chunk(2)[::-1])


def _from_port(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    made = {}
    for key, value in given.items():
        name, _, rest = key.partition(".")
        if name.startswith("Incption"):  # sic
            block, part = name[len("Incption")], name.partition("_")[2]
            if part == "bn":
                name = f"norm{block}"
            else:  # conv1 is the 1x1 branch, conv2_1 and conv2_2 the layers of the second one, ...
                number, _, layer = part.removeprefix("conv").partition("_")
                name = f"inception{block}.branches.{int(number) - 1}.{int(layer or 1) - 1}"
        elif name == "bn1":
            name = "norm"
        made[f"{name}.{rest}"] = value.flip(0) if name == "fc2" else value
    return made


def _from_keras(given: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Keras keeps kernels as `(h, w, in, out)`, matrices as `(in, out)`, and flattens `(h, w, c)`."""
    norms = (1, 4, 8, 12)
    modules = {"conv2d_15": "features.6", "conv2d_16": "features.10"}
    modules |= {"dense_1": "classifier.2", "dense_2": "classifier.5"}
    modules |= {f"batch_normalization_{i + 1}": f"features.{norm}" for i, norm in enumerate(norms)}
    for block, first in ((0, 1), (3, 8)):
        modules[f"conv2d_{first}"] = f"features.{block}.branches.0.0"
        for branch, depth in itertools.product((1, 2, 3), (0, 1)):
            number = first + 2 * branch - 1 + depth
            modules[f"conv2d_{number}"] = f"features.{block}.branches.{branch}.{2 * depth}"
    names = {
        "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias",
        "moving_mean": "running_mean", "moving_variance": "running_var",
    }  # fmt: skip
    made = {}
    for key, value in given.items():
        layer, _, rest = key.partition("/")
        if layer not in modules or rest not in names:
            raise WeightsError(f"{path}: holds {key}, which Meso-Inception-4 does not have")
        if value.ndim == 4:
            value = value.permute(3, 2, 0, 1)
        elif value.ndim == 2:
            value = value.T
        if layer == "dense_1" and rest == "kernel":
            side = int((value.shape[1] / 16) ** 0.5)
            value = value.unflatten(1, (side, side, 16)).permute(0, 3, 1, 2).flatten(1)
        if layer == "dense_2":
            value = -value  # sigmoid(-z) = 1 - sigmoid(z)
        made[f"{modules[layer]}.{names[rest]}"] = value.contiguous()
    for norm in norms:  # a count of batches, which nothing reads
        made[f"features.{norm}.num_batches_tracked"] = torch.tensor(0)
    return made


def _read_keras(path: Path) -> dict[str, Tensor]:
    """Tensors of a Keras weights file by `layer/kind`, such as `conv2d_1/kernel`."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"{path}: reading Keras weights needs h5py: pip install 'sficonv[keras]'"
        ) from error
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint")
    found: dict[str, Tensor] = {}

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            layer, *_, kind = name.split("/")
            found[f"{layer}/{kind.partition(':')[0]}"] = torch.from_numpy(item[()])

    try:
        with h5py.File(path, "r") as file:
            file.get("model_weights", file).visititems(take)
    except (OSError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable file of Keras weights ({error})") from error
    return found
