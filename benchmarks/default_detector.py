"""Train the detector that the package ships.

    python benchmarks/default_detector.py PREPARED --out runs/default

PREPARED holds prepared folders: `ffpp` gives training and validation by the official splits; `crops128` (more
identities of the official training split), `ffhq`, `celeba` and `london` give real faces for self-blended
training. The run can be interrupted and started again with the same command.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sficonv.training import train

EXTRA = ("crops128", "ffhq", "celeba", "london")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/default"))
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    common = {
        "extra_data": [args.prepared / name for name in EXTRA],
        "recipe": "finetune",
        "seed": args.seed,
        "channels_last": True,
    }
    # The first run does most of the learning at a size that a CPU can afford; the second one adds detail, and
    # more pasted faces: after the first, FaceSwap was the manipulation that it missed.
    small = train(
        args.prepared / "ffpp",
        model="sfic_efficientnet_lite0",
        pretrained=True,
        alpha=0.5,
        beta=1.0,
        image_size=192,
        epochs=3,
        steps_per_epoch=300,
        lr=4e-4,
        ema_decay=0.995,
        self_blend=0.6,
        cross_blend=0.15,
        out=args.out / "192px",
        **common,
    )
    large = train(
        args.prepared / "ffpp",
        weights=small.weights,
        image_size=224,
        epochs=2,
        steps_per_epoch=130,
        lr=3e-4,
        ema_decay=0.99,
        self_blend=0.5,
        cross_blend=0.4,
        out=args.out / "224px",
        **common,
    )
    for result in (small, large):
        print(result.history.to_string(index=False))
        print(result.weights)


if __name__ == "__main__":
    main()
