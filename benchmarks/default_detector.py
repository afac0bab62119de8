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
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps-per-epoch", type=int, default=300)
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    result = train(
        args.prepared / "ffpp",
        extra_data=[args.prepared / name for name in EXTRA],
        model="sfic_efficientnet_lite0",
        recipe="finetune",
        pretrained=True,
        alpha=0.5,
        beta=1.0,
        lr=4e-4,
        self_blend=0.6,
        cross_blend=0.15,
        ema_decay=0.995,
        epochs=args.epochs,
        steps_per_epoch=args.steps_per_epoch,
        seed=args.seed,
        image_size=args.image_size,
        channels_last=True,
        out=args.out,
    )
    print(result.history.to_string(index=False))
    print(result.weights)


if __name__ == "__main__":
    main()
