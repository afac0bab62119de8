"""Does `sficonv.convert` work on every convolutional backbone of timm and torchvision?

Counts, of every architecture that timm can build, the share of multiply-accumulates that are convolutions
(on tensors without storage, at the model's own input size). Of those with at least 90 % it measures, with
two classes and random weights, at the smallest input that the model accepts:

- `equal`: at beta = 1 and with MCSConv bypassed the outputs are the original's to 1e-4 relative. Parameters
  that are born constant (scales of 1, last scales of 0, layer scales of 1e-6) are drawn at random first:
  where a branch is multiplied by 0, any error in it would go unseen;
- `beta_1`, `beta_05`: forward and backward in training mode at that beta give finite outputs and gradients;
- `parameters`: relative difference of the parameter count.

One JSON line per model goes to `--out`; a second run goes on where the first stopped, the smallest model of
each architecture file first. `--report` writes the table for `docs/convert.md` from that file.

    python benchmarks/convert_timm.py --out convert.jsonl --report docs/convert.md

A model of n parameters needs about 20 n bytes; --max-params keeps larger ones out, --seconds those that take
too long. Both are named in the report.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import statistics
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sficonv.conversion.convert import convert

CONV_SHARE = 0.9
TOLERANCE = 1e-4
SIZES = (64, 96, 128, 160, 192, 224, 240, 256, 288, 299, 320, 384, 448)
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


class OutOfTimeError(BaseException):
    """A model took too long; no `except Exception` on the way may take this for an error of its own."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise `OutOfTimeError` in the block after so many seconds of processor time."""

    def stop(*_: object) -> None:
        raise OutOfTimeError(f"took more than {seconds} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def build(name: str) -> nn.Module:
    """A model by name; torchvision's carry the prefix `torchvision/`."""
    if name.startswith("torchvision/"):
        options: dict[str, Any] = {"weights": None, "num_classes": 2}
        if name.endswith(("googlenet", "inception_v3")):
            options["init_weights"] = False  # theirs takes half a minute
        return torchvision.models.get_model(name.removeprefix("torchvision/"), **options)
    return timm.create_model(name, pretrained=False, num_classes=2)


def module_name(name: str) -> str:
    """The file an architecture is defined in."""
    if name.startswith("torchvision/"):
        return torchvision.models.get_model_builder(name.removeprefix("torchvision/")).__module__
    return f"timm.{timm.models.model_entrypoint(name).__module__.rsplit('.', 1)[-1]}"


def all_names() -> list[str]:
    """Every architecture of timm, and the classification models of torchvision."""
    theirs = torchvision.models.list_models(module=torchvision.models)
    return [*timm.list_models(), *(f"torchvision/{name}" for name in theirs)]


def count(name: str) -> dict[str, Any]:
    """Parameters, and the share of multiply-accumulates that are convolutions."""
    try:
        with torch.device("meta"):
            model = build(name)
    except NotImplementedError:  # some compute their widths with tensors
        model = build(name).to("meta")
    model.eval().requires_grad_(False)
    size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, *size, device="meta"))
    flops = counter.get_flop_counts()["Global"]
    convolutions = sum(n for op, n in flops.items() if "conv" in str(op))
    params = sum(p.numel() for p in model.parameters())
    return {"params": params, "share": convolutions / max(1, sum(flops.values()))}


@torch.no_grad()
def draw_constants(model: nn.Module) -> None:
    """Draw anew what was born constant, so that no part of the network is multiplied by (nearly) nothing."""
    for p in model.parameters():
        if p.numel() > 1 and p.min() == p.max():
            nn.init.uniform_(p, 0.5, 1.0) if p.max() > 0 else nn.init.normal_(p, std=0.1)
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None:
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 0.5, 2.0)


@torch.no_grad()
def smallest_input(model: nn.Module) -> torch.Tensor:
    """The smallest square input that the model accepts, in training (batch statistics) and out of it."""
    for size in SIZES:
        x = torch.randn(2, 3, size, size)
        try:
            model.eval()(x)
            model.train()(x)  # auxiliary classifiers may need more
        except (RuntimeError, AssertionError, ValueError, TypeError, IndexError):
            continue
        return x
    raise ValueError(f"the original runs at none of the sizes {SIZES}")


def logits(output: Any) -> torch.Tensor:
    """All outputs, auxiliary ones too, as one tensor."""
    return output if isinstance(output, torch.Tensor) else torch.cat([logits(o) for o in output], 1)


def trains(model: nn.Module, x: torch.Tensor, beta: float) -> dict[str, Any]:
    """Convert, run forward and backward."""
    converted = convert(model, 0.5, beta, input_size=tuple(x.shape[1:])).train()
    out = logits(converted(x))
    out.square().mean().backward()
    grads = [p.grad for p in converted.parameters() if p.grad is not None]
    finite = bool(out.isfinite().all()) and all(bool(g.isfinite().all()) for g in grads)
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, converted))
    if not finite:
        raise ArithmeticError("outputs or gradients are not finite")
    return {"sfi": round(converted.report.share, 4), "parameters": after / before - 1}


def measure(name: str) -> dict[str, Any]:
    """Everything that is asked of one model; errors become text."""
    torch.manual_seed(0)
    model = build(name)
    draw_constants(model)
    x = smallest_input(model)
    found: dict[str, Any] = {"size": x.shape[-1]}
    try:
        converted = convert(model.eval(), 0.5, 1.0, mcs_mode="none", input_size=tuple(x.shape[1:]))
        with torch.no_grad():
            want, got = logits(model(x)), logits(converted.eval()(x))
        found["difference"] = float((got - want).abs().max() / want.abs().max())
        same_keys = converted.state_dict().keys() == model.state_dict().keys()
        found["equal"] = found["difference"] <= TOLERANCE and same_keys
        if not same_keys:
            found["equal_error"] = "other state-dict keys"
        del converted
    except Exception as error:  # whatever it is, it is the finding
        found |= {"equal": False, "equal_error": text(error)}
    for key, beta in (("beta_1", 1.0), ("beta_05", 0.5)):
        try:
            found |= {**trains(model.train(), x, beta), key: True}
        except Exception as error:
            found |= {key: False, f"{key}_error": text(error)}
    return found


def text(error: BaseException) -> str:
    """The first line of an error, with its kind."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"


def ordered(known: dict[str, dict[str, Any]]) -> list[str]:
    """Names of the convolutional models: the smallest of each file first, then the second smallest, ..."""
    by_file = defaultdict(list)
    for name, row in known.items():
        if row.get("share", 0) >= CONV_SHARE:
            by_file[row["file"]].append(name)
    ranked = []
    for names in by_file.values():
        names.sort(key=lambda n: known[n]["params"])
        ranked += [(rank, known[n]["params"], n) for rank, n in enumerate(names)]
    return [name for *_, name in sorted(ranked)]


def add(known: dict[str, dict[str, Any]], row: dict[str, Any]) -> None:
    """Add what was found of a model to what is known of it; a skip is overruled by what comes later."""
    known.setdefault(row["model"], {}).pop("skipped", None)
    known[row["model"]].update(row)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """What earlier runs found, per model."""
    known: dict[str, dict[str, Any]] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            add(known, json.loads(line))
    return known


def run(path: Path, *, first: int, seconds: int, max_params: float, again: str) -> None:
    """Count what is not counted yet, then measure what is not measured yet."""
    known = read(path)
    started = time.time()

    def note(row: dict[str, Any]) -> None:
        add(known, row)
        with path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    for name in all_names():
        if "share" in known.get(name, {}):
            continue
        row: dict[str, Any] = {"model": name, "file": module_name(name)}
        try:
            with time_limit(seconds):
                row |= count(name)
        except (Exception, OutOfTimeError) as error:
            row["count_error"] = text(error)
        note(row)
    names = ordered(known)
    ranks: dict[str, int] = defaultdict(int)
    for position, name in enumerate(names):
        ranks[known[name]["file"]] += 1
        done = "seconds" in known[name]
        if ranks[known[name]["file"]] > first or (done and not (again and matches(known[name], again))):
            continue
        row = {"model": name}
        if known[name]["params"] > max_params * 1e6:
            note({**row, "skipped": f"more than {max_params:g} million parameters"})
            continue
        begun = time.process_time()
        try:
            with time_limit(seconds):
                row |= measure(name)
        except OutOfTimeError as error:
            row["skipped"] = str(error)
        except Exception as error:
            row["error"] = text(error)
        row["seconds"] = round(time.process_time() - begun, 1)
        note(row)
        state = " ".join(f"{k}={row.get(k)}" for k in ("equal", "beta_1", "beta_05", "sfi", "seconds"))
        errors = "; ".join(str(v) for k, v in row.items() if k.endswith("error"))
        print(
            f"{time.time() - started:6.0f} s {position + 1}/{len(names)} {name} {state} {errors}", flush=True
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.1f} GiB")


def matches(row: dict[str, Any], again: str) -> bool:
    """Whether a model is to be measured again: its name is given, or it failed."""
    failed = not all(row.get(key) for key in KEYS)
    return row["model"] in again.split(",") or (again == "failed" and failed)


KEYS = ("equal", "beta_1", "beta_05")


def report(path: Path) -> str:
    """Summary, table by architecture file, and what failed or was left out, as Markdown."""
    known = read(path)
    convolutional = [row for row in known.values() if row.get("share", 0) >= CONV_SHARE]
    measured = [row for row in convolutional if "seconds" in row and "skipped" not in row]
    versions = f"timm {timm.__version__}, torchvision {torchvision.__version__}, torch {torch.__version__}"
    uncounted = sum("share" not in row for row in known.values())
    lines = [
        f"Of {len(known)} architectures ({versions}), {len(convolutional)} have at least {CONV_SHARE:.0%} "
        f"of their multiply-accumulates in convolutions"
        + (f" ({uncounted} could not be counted)" if uncounted else "")
        + f". {len(measured)} of these were measured, the smallest of every architecture file first.",
        "",
        "| | models | share of those measured |",
        "|---|---|---|",
    ]
    for key, label in (
        ("equal", "equal to the original at beta = 1, MCSConv bypassed"),
        ("beta_1", "forward and backward at beta = 1"),
        ("beta_05", "forward and backward at beta = 0.5"),
    ):
        good = sum(bool(row.get(key)) for row in measured)
        lines.append(f"| {label} | {good} | {good / max(1, len(measured)):.1%} |")
    within = sum(abs(row.get("parameters", 1)) <= 0.01 for row in measured)
    lines.append(f"| parameters within 1 % | {within} | {within / max(1, len(measured)):.1%} |")
    differences = [row["difference"] for row in measured if "difference" in row]
    lines += ["", f"Largest relative difference at beta = 1: {max(differences, default=0):.1e}.", ""]
    lines += _table(convolutional, measured) + _exceptions(convolutional, measured)
    return "\n".join(lines)


def _table(convolutional: list[dict[str, Any]], measured: list[dict[str, Any]]) -> list[str]:
    """The architecture files of which least runs as SFIConv; the rest in one sentence."""
    counts = Counter(row["file"] for row in convolutional)
    shares = {
        file: statistics.median(found)
        for file in sorted(counts)
        if (found := [row["sfi"] for row in measured if row["file"] == file and "sfi" in row])
    }
    low = [file for file, share in shares.items() if share < CONV_SHARE]
    return [
        f"Of {len(shares) - len(low)} of the {len(shares)} architecture files at least {CONV_SHARE:.0%} runs "
        "as SFIConv; the others are",
        "",
        "| architecture file | models | run as SFIConv |",
        "|---|---|---|",
        *(f"| `{file}` | {counts[file]} | {shares[file]:.0%} |" for file in low),
    ]


def _exceptions(convolutional: list[dict[str, Any]], measured: list[dict[str, Any]]) -> list[str]:
    """The models that failed, and those that were left out, with the reason."""
    failed = [row for row in measured if not all(row.get(key) for key in KEYS)]
    lines = ["", "Failures:", ""] if failed else ["", "Failures: none."]
    for row in failed:
        reasons = sorted({str(v) for k, v in row.items() if k.endswith("error")})
        wrong = f"difference {row.get('difference', 0):.1e}"
        lines.append(f"- `{row['model']}`: {'; '.join(reasons) or wrong}")
    reasons = Counter(row["skipped"] for row in convolutional if "skipped" in row)
    left_out = len(convolutional) - len(measured) - sum(reasons.values())
    if left_out:
        reasons["not run for lack of time"] = left_out
    lines += [""] + [f"Left out: {number} models, {reason}." for reason, number in reasons.items()]
    return lines


def write_report(path: Path, document: Path) -> None:
    """Put the report between the two marks of a Markdown file."""
    before, _, rest = document.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n\n{report(path)}\n\n{END}{after}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("convert.jsonl"))
    parser.add_argument("--report", type=Path, help="Markdown file whose measured part is rewritten")
    parser.add_argument("--first", type=int, default=10**6, help="only so many models of each file")
    parser.add_argument("--seconds", type=int, default=180, help="processor time for one model")
    parser.add_argument("--max-params", type=float, default=250, help="skip larger models, in millions")
    parser.add_argument("--only-report", action="store_true", help="measure nothing")
    parser.add_argument("--again", default="", help="names to measure again, or 'failed'")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(1)
    if not args.only_report:
        run(args.out, first=args.first, seconds=args.seconds, max_params=args.max_params, again=args.again)
    if args.report:
        write_report(args.out, args.report)
