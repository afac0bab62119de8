"""The command line: one verb per public function, its options read from the signature.

Nothing heavy is imported before it is needed: `sficonv --help` imports no part of the library, and
`sficonv VERB --help` only the module that holds the verb.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_type_hints

from sficonv.errors import SficonvError

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Verb:
    """One command.

    Args:
        function: What it calls, as `"module:name"`; its signature gives the options, its docstring the help.
        help: One line for the list of verbs.
        example: A command to copy.
        positional: Argument that is given without a name, or "" for none.
        nargs: How many of it, as in `argparse`; `None` for exactly one.
        metavar: How its help calls it.
        hidden: Arguments of the function that make no sense on a command line.
        csv: Whether `--csv FILE` is offered.
        together: Whether several processes may do it together; only the first of them then prints the answer.
    """

    function: str
    help: str
    example: str
    positional: str = ""
    nargs: str | None = None
    metavar: str = ""
    hidden: tuple[str, ...] = ()
    csv: bool = False
    together: bool = False


VERBS = {
    "scan": Verb(
        "sficonv.detect.command:scan_command",
        "say of images, videos and folders whether their faces look forged",
        "sficonv scan photo.jpg clip.mp4 folder/ --report report.html",
        positional="paths",
        nargs="+",
        metavar="PATH",
        csv=True,
    ),
    "serve": Verb(
        "sficonv.service.command:serve",
        "start the web page and the REST interface of the scanner on this machine",
        "sficonv serve --port 8080",
    ),
    "explain": Verb(
        "sficonv.detect.explain:explain",
        "draw where the detector looks in a face",
        "sficonv explain photo.jpg --out maps",
        positional="images",
        nargs="+",
        metavar="PATH",
    ),
    "attention": Verb(
        "sficonv.paper.attention.compare:compare_attention",
        "measure where a detector looks in the fakes of a data set, beside another detector",
        "sficonv attention faces --weights sfic.safetensors --against vanilla.safetensors",
        positional="data",
        metavar="DIR",
    ),
    "demo": Verb(
        "sficonv.detect.demo:demo",
        "forge a photograph and a video, scan both and write a report, without any data of yours",
        "sficonv demo",
    ),
    "models": Verb(
        "sficonv.models:list_models",
        "list the detectors that can be trained",
        "sficonv models 'sfic_*'",
        positional="pattern",
        nargs="?",
        metavar="PATTERN",
    ),
    "complexity": Verb(
        "sficonv.cli.app:complexity_of",
        "count the parameters and multiply-accumulates of a detector",
        "sficonv complexity sfic_resnet26 --alpha 0.5 --beta 0.5",
        positional="model",
        metavar="MODEL",
    ),
    "convert": Verb(
        "sficonv.models.conversion_report:conversion_of",
        "say which layer of a timm or registered network becomes which stage of SFIConv",
        "sficonv convert densenet121 --alpha 0.5 --beta 0.5",
        positional="model",
        metavar="MODEL",
    ),
    "bench": Verb(
        "sficonv.paper.bench:bench",
        "measure the speed of SFIC networks beside the vanilla ones",
        "sficonv bench --model resnet26 --alpha 0.5 --beta 1,0.5 --batch 1,16",
    ),
    "inspect": Verb(
        "sficonv.datasets.inspection:inspect_source",
        "list what the folder of a dataset holds, what it lacks and which split is which",
        "sficonv inspect Celeb-DF-v2",
        positional="source",
        metavar="SOURCE",
    ),
    "prepare": Verb(
        "sficonv.preparation.prepare:prepare",
        "cut the faces out of a dataset of images or videos",
        "sficonv prepare FaceForensics++ --out faces",
        positional="source",
        metavar="SOURCE",
    ),
    "split": Verb(
        "sficonv.splits.split:split",
        "split prepared faces again by a named protocol",
        "sficonv split faces --protocol leave-one-out --leave-out Deepfakes",
        positional="data",
        metavar="DIR",
    ),
    "check": Verb(
        "sficonv.splits.check:check",
        "look prepared faces over for leaks between splits and damaged crops",
        "sficonv check faces",
        positional="data",
        metavar="DIR",
    ),
    "train": Verb(
        "sficonv.training.train:train",
        "train a detector on prepared faces",
        "sficonv train --data faces --model sfic_efficientnet_lite0 --recipe finetune --out run",
        hidden=("callbacks",),
        together=True,
    ),
    "evaluate": Verb(
        "sficonv.evaluation.evaluate:evaluate",
        "measure a detector on prepared faces, with intervals",
        "sficonv evaluate --weights run/weights.safetensors --data faces --split test",
    ),
    "robustness": Verb(
        "sficonv.evaluation.robustness:robustness",
        "measure a detector, or two, on prepared faces that were compressed, blurred, shrunk and so on",
        "sficonv robustness --data faces --weights run/weights.safetensors --levels 1,3,5 --out robust",
    ),
    "compare": Verb(
        "sficonv.evaluation.compare:compare_files",
        "compare two detectors on the same videos, with the interval of their difference",
        "sficonv compare run1/test run2/test",
        positional="scores",
        nargs="+",
        metavar="SCORES",
    ),
    "calibrate": Verb(
        "sficonv.evaluation.calibrate:calibrate",
        "set temperature, uncertain band and threshold of a detector on the validation split",
        "sficonv calibrate --weights run/weights.safetensors --data faces --false-alarm-rate 0.01",
    ),
    "export": Verb(
        "sficonv.deploy.export:export",
        "write a detector as an ONNX or OpenVINO file: image in, P(fake) out",
        "sficonv export --out detector.onnx",
    ),
    "reproduce": Verb(
        "sficonv.paper.tables.reproduce:reproduce",
        "train and test what a table of the paper needs, and show its figures beside ours",
        "sficonv reproduce complexity",
        positional="table",
        nargs="?",
        metavar="TABLE",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        The exit code: 0 = done, 1 = failed, also when one input of several failed, 2 = bad usage,
        130 = interrupted.

    Example:
        >>> main(["models", "sfic_resnet2*"])
        sfic_resnet26
        0
    """
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else BAD_USAGE if stop.code else DONE
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output (head, less) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (SficonvError, OSError) as error:
        return _complain(error, FAILED)
    except ValueError as error:
        return _complain(error, BAD_USAGE)


def _complain(what: object, code: int) -> int:
    if os.environ.get("SFICONV_TRACEBACK") and isinstance(what, Exception):
        raise what
    from sficonv.pages import printable

    print(f"sficonv: {printable(what)}", file=sys.stderr)
    return code


def _run(argv: list[str]) -> int:
    argv = _spelled_out(argv)
    name = _top_level(argv)
    verb = VERBS[name]
    module, _, attribute = verb.function.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), attribute)
    parser = _verb_parser(name, verb, function)
    given = parser.parse_args(_with_underscores(argv[1:])).as_dict()
    given.pop("config", None)
    as_json, csv = given.pop("json"), given.pop("csv", None)
    if csv is not None and not str(csv).lower().endswith(".csv"):
        parser.error(f"--csv writes a CSV file: give it a name that ends in .csv, not {csv!r}")
    if csv is not None and given.get("parquet") is not None:
        parser.error("--csv and --parquet are two ways to write the same: give one of them")
    with ExitStack() as stack:
        if csv is not None:
            from sficonv.detect.results import reserved

            stack.enter_context(reserved(csv))
        # Standard output belongs to the answer: whatever a dependency prints must not mix with it.
        with redirect_stdout(sys.stderr):
            answer = function(**{k: v for k, v in given.items() if v is not None or k != verb.positional})
        if verb.together and not _is_first():
            return DONE
        return _show(answer, as_json=as_json, csv=csv, options={**given, "csv": csv})


def _is_first() -> bool:
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


def _spelled_out(argv: list[str]) -> list[str]:
    """`prepare --check DIR` is another spelling of `check DIR`, `explain --data DIR` of `attention DIR`."""
    if argv[:1] == ["explain"] and any(re.match("--data(=|$)", word) for word in argv):
        words = [word.removeprefix("--data=") for word in argv[1:] if word != "--data"]
        return ["attention", *words]
    if argv[:1] != ["prepare"] or not any(re.match("--check(=|$)", word) for word in argv):
        return argv
    words = [word.removeprefix("--check=") for word in argv[1:] if word != "--check"]
    return ["check", *words]


def _show(answer: Any, *, as_json: bool, csv: str | None, options: dict[str, Any]) -> int:
    from sficonv.cli import output

    if csv is not None:
        from sficonv.detect.results import write_csv

        write_csv(answer, csv)
    if as_json:
        print(output.to_json(answer))
    else:
        output.show(answer, options)
    return FAILED if output.failed(answer) else DONE


def _top_level(argv: list[str]) -> str:
    """The verb, or the help or version of the whole program."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="sficonv",
        usage="sficonv VERB [ARGUMENTS]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Deepfake detection with Space-Frequency Interactive Convolution.\n\nverbs:\n" + verbs,
        epilog="examples:\n  sficonv demo\n  "
        + VERBS["scan"].example
        + "\n\n'sficonv VERB --help' explains a verb. Exit codes: 0 done, 1 failed, 2 bad usage.",
    )
    parser.add_argument("verb", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    given = parser.parse_args(argv[:1])
    if given.version:
        import sficonv

        print(f"sficonv {sficonv.__version__}")
        raise SystemExit(DONE)
    if given.verb is None:
        parser.print_help(sys.stderr)
        raise SystemExit(BAD_USAGE)
    if given.verb not in VERBS:
        parser.error(f"unknown verb {given.verb!r}; choose from {', '.join(VERBS)}")
    return given.verb


def _verb_parser(name: str, verb: Verb, function: Callable[..., Any]) -> Any:
    """A parser whose options are the parameters of `function`: names, types, defaults and help."""
    from docstring_parser import parse
    from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        """Paragraphs as they are written, defaults without types."""

        def _get_help_string(self, action: argparse.Action) -> str:
            shown = action.default not in (None, argparse.SUPPRESS, False, (), "")
            shown &= bool(action.option_strings) and "default" not in (action.help or "")
            return (action.help or "") + (" (default: %(default)s)" if shown else "")

    class Parser(ArgumentParser):
        """Shows options with dashes, as people type them; underscores are understood too."""

        def format_help(self, *args: Any, **kwargs: Any) -> str:
            text = super().format_help(*args, **kwargs)
            return re.sub(r"--[a-z][a-z_]+", lambda m: m[0].replace("_", "-"), text)

    text = parse(function.__doc__ or "")
    helps = {
        key.strip(): " ".join((p.description or "").split()).replace("`", "").replace("%", "%%")
        for p in text.params
        for key in p.arg_name.split(",")  # several may be explained together
    }
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters
    needed = [p.name for p in parameters.values() if p.default is p.empty and p.name != verb.positional]
    positional = {"+": f"{verb.metavar}...", "?": f"[{verb.metavar}]"}.get(verb.nargs or "", verb.metavar)
    usage = [f"sficonv {name}", positional, *(f"--{key} {key.upper()}" for key in needed), "[OPTIONS]"]
    parser = Parser(
        prog=f"sficonv {name}",
        usage=" ".join(filter(None, usage)),
        formatter_class=Formatter,
        description="\n\n".join(filter(None, (text.short_description, text.long_description))).replace(
            "`", ""
        ),
        epilog=f"example:\n  {verb.example}",
    )
    for key, parameter in parameters.items():
        if key == verb.positional:
            default = {} if parameter.default is parameter.empty else {"default": parameter.default}
            parser.add_argument(key, nargs=verb.nargs, metavar=verb.metavar, help=helps.get(key), **default)
        elif isinstance(parameter.default, bool):
            parser.add_argument(
                f"--{key}", action=ActionYesNo, default=parameter.default, help=helps.get(key)
            )
        elif key not in verb.hidden:
            given = {"required": True} if key in needed else {"default": parameter.default}
            parser.add_argument(f"--{key}", type=hints[key], help=helps.get(key), **given)
    if verb.csv:
        parser.add_argument(
            "--csv", type=str | None, metavar="FILE", help="Write one row per file to this CSV."
        )
    parser.add_argument("--json", action="store_true", help="Print the answer as JSON, and nothing else.")
    parser.add_argument("--config", action="config", help="YAML file with options of the same names.")
    return parser


def _with_underscores(argv: list[str]) -> list[str]:
    """`--max-frames 8` and `--max-frames=8` as the names of the Python arguments."""
    end = argv.index("--") if "--" in argv else len(argv)
    options = [re.sub(r"^--[^=]+", lambda m: "--" + m[0][2:].replace("-", "_"), a) for a in argv[:end]]
    return options + argv[end:]


def complexity_of(
    model: str, *, alpha: float | None = None, beta: float | None = None, image_size: int | None = None
) -> dict[str, int]:
    """Count the parameters and multiply-accumulates of a detector for one image.

    Args:
        model: One of `sficonv models`.
        alpha: Share of the channels in the frequency branch; the model's own by default.
        beta: Resolution of the frequency branch relative to the spatial one; the model's own by default.
        image_size: Side of the input in pixels; the model's own by default.

    Returns:
        `params`; `macs`, what really runs; `paper_macs`, by the counting rule of the paper.
    """
    from dataclasses import asdict

    from sficonv.models import create_model
    from sficonv.nn import complexity

    made = create_model(model, alpha=alpha, beta=beta, image_size=image_size)
    return asdict(complexity(made, made.config.image_size))  # type: ignore[union-attr, arg-type]


if __name__ == "__main__":
    sys.exit(main())
