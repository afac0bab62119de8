"""One of two processes that train a model with synchronised norms, started by `test_synchronise.py`."""

import sys

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sficonv.conversion.synchronise import synchronise_norms


def step(model: nn.Module, x: torch.Tensor, share: float) -> torch.Tensor:
    """Forward and backward of a part of the batch; the gradients of the parts add up."""
    y = model(x)
    (y.square().sum() * share).backward()
    return y


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    for name, (model, x) in torch.load(f"{folder}/given.pt", weights_only=False).items():
        part = x[:3] if rank == 0 else x[3:]  # parts of different sizes
        parallel = DistributedDataParallel(synchronise_norms(model))
        y = step(parallel, part, 2.0)  # DistributedDataParallel divides by the number of processes
        found[name] = {
            "y": y.detach(),
            "state": dict(model.state_dict()),
            "gradients": {n: p.grad for n, p in model.named_parameters()},
        }
    torch.save(found, f"{folder}/rank{rank}.pt")
    distributed.destroy_process_group()
