"""The verbs of the command line. What each takes is read from the signature of its function."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """One command.

    Args:
        function: What it calls, as `"module:name"`; its signature gives the options, its docstring the help.
        help: One line for the list of verbs.
        example: A command to copy.
        positional: Argument that is given without a name, or "" for none.
        nargs: How many of it, as in `argparse`; `None` for exactly one.
        metavar: What its help calls it.
        first: Option whose values may also stand first, without its name.
        reads: Arguments that name files or folders which have to exist.
        weights: Arguments that name weights: a file, "default", or a repository of the Hugging Face Hub.
        models: Arguments that name a built-in detector.
        needs: Extras it cannot do without; `"engine=ray: ray"` is one that the value of an option asks for.
        prepared: Whether its `data` is a folder that `prepare` wrote.
        together: Whether several processes may do it together; only the first of them then prints the answer.
    """

    function: str
    help: str
    example: str
    positional: str = ""
    nargs: str | None = None
    metavar: str = ""
    first: str = ""
    reads: tuple[str, ...] = ()
    weights: tuple[str, ...] = ("weights",)
    models: tuple[str, ...] = ()
    needs: tuple[str, ...] = ("torch",)
    prepared: bool = False
    together: bool = False


VERBS = {
    "scan": Verb(
        "sficonv.detect.command:scan_command",
        "judge whether the faces in images, videos and folders look forged",
        "sficonv scan photo.jpg clip.mp4 folder/ --report report.html",
        positional="paths",
        nargs="+",
        metavar="PATH",
        reads=("paths",),
        needs=("parquet=*.parquet: tables", "engine=ray: ray"),
    ),
    "serve": Verb(
        "sficonv.service.command:serve",
        "start the scanner's web page and REST interface on this machine",
        "sficonv serve --port 8080",
        needs=("serve",),
    ),
    "explain": Verb(
        "sficonv.detect.explain:explain",
        "draw where the detector looks in a face",
        "sficonv explain photo.jpg --out maps",
        positional="images",
        nargs="+",
        metavar="PATH",
        reads=("images",),
    ),
    "attention": Verb(
        "sficonv.paper.attention.compare:compare_attention",
        "measure where one or two detectors look in the fakes of a dataset",
        "sficonv attention faces --weights sfic.safetensors --against vanilla.safetensors",
        positional="data",
        metavar="DIR",
        reads=("data",),
        weights=("weights", "against"),
        prepared=True,
    ),
    "demo": Verb(
        "sficonv.detect.demo:demo",
        "forge a photo and a video, scan them and write a report; needs no data",
        "sficonv demo",
        needs=(),
    ),
    "doctor": Verb(
        "sficonv.detect.doctor:doctor",
        "test this installation: decoders, face search, weights, scores, processors",
        "sficonv doctor",
        needs=(),
    ),
    "models": Verb(
        "sficonv.cli.describe:models",
        "list the detectors that can be trained",
        "sficonv models 'sfic_*'",
        positional="pattern",
        nargs="?",
        metavar="PATTERN",
        needs=(),
    ),
    "complexity": Verb(
        "sficonv.cli.describe:complexity_of",
        "count the parameters and multiply-accumulates of a detector",
        "sficonv complexity sfic_resnet26 --alpha 0.5 --beta 0.5",
        positional="model",
        metavar="MODEL",
        models=("model",),
    ),
    "convert-report": Verb(
        "sficonv.models.conversion_report:conversion_of",
        "show which layer of a network becomes which stage of SFIConv",
        "sficonv convert-report densenet121 --alpha 0.5 --beta 0.5",
        positional="model",
        metavar="MODEL",
    ),
    "bench": Verb(
        "sficonv.paper.bench:bench",
        "measure the speed of SFIC networks against the vanilla ones",
        "sficonv bench --model resnet26 --alpha 0.5 --beta 1,0.5 --batch 1,16",
        models=("model",),
    ),
    "inspect": Verb(
        "sficonv.datasets.inspection:inspect_source",
        "show what a dataset's folder holds, what is missing and how it is split",
        "sficonv inspect Celeb-DF-v2",
        positional="source",
        metavar="SOURCE",
        reads=("source",),
    ),
    "prepare": Verb(
        "sficonv.preparation.prepare:prepare",
        "cut the faces out of a dataset of images or videos",
        "sficonv prepare FaceForensics++ --out faces",
        positional="source",
        metavar="SOURCE",
        reads=("source",),
        needs=("torch", "engine=ray: ray", "detector=dlib: dlib", "self_blend_points=68: dlib"),
    ),
    "split": Verb(
        "sficonv.splits.split:split",
        "split prepared faces again by a named protocol",
        "sficonv split faces --protocol leave-one-out --leave-out Deepfakes",
        positional="data",
        metavar="DIR",
        reads=("data",),
        prepared=True,
    ),
    "check": Verb(
        "sficonv.splits.check:check",
        "check prepared faces for leaks between splits and damaged crops",
        "sficonv check faces",
        positional="data",
        metavar="DIR",
        reads=("data",),
        prepared=True,
    ),
    "train": Verb(
        "sficonv.training.train:train",
        "train a detector on prepared faces",
        "sficonv train faces --out run",
        first="data",
        reads=("data", "extra_data"),
        needs=("torch", "tensorboard=True: tensorboard"),
        together=True,
        models=("model",),
        prepared=True,
    ),
    "evaluate": Verb(
        "sficonv.evaluation.evaluate:evaluate",
        "measure a detector on prepared faces, with confidence intervals",
        "sficonv evaluate --weights run/weights.safetensors --data faces --split test",
        reads=("data", "predictor", "predictions"),
        prepared=True,
    ),
    "robustness": Verb(
        "sficonv.evaluation.robustness:robustness",
        "measure how compression, blur, noise and so on affect a detector",
        "sficonv robustness --data faces --weights run/weights.safetensors --levels 1,3,5 --out robust",
        reads=("data",),
        weights=("weights", "weights_b"),
        prepared=True,
    ),
    "compare": Verb(
        "sficonv.evaluation.compare:compare_files",
        "compare two detectors on the same videos, with the interval of the difference",
        "sficonv compare run1/test run2/test",
        positional="scores",
        nargs="+",
        metavar="SCORES",
        reads=("data",),
        weights=("scores",),
    ),
    "calibrate": Verb(
        "sficonv.evaluation.calibrate:calibrate",
        "set a detector's threshold and uncertain band, on validation data of one or many sources",
        "sficonv calibrate --weights run/weights.safetensors --data faces --false-alarm-rate 0.05",
        reads=("data",),
        prepared=True,
    ),
    "export": Verb(
        "sficonv.deploy.export:export",
        "write a detector as an ONNX or OpenVINO file: image in, P(fake) out",
        "sficonv export --out detector.onnx",
        reads=("calibration_data",),
        needs=(
            "torch",
            "format=onnx: onnx",
            "out=*.onnx: onnx",
            "format=openvino: openvino",
            "out=*.xml: openvino",
        ),
    ),
    "reproduce": Verb(
        "sficonv.paper.tables.reproduce:reproduce",
        "train and test what a table of the paper needs, and show its figures beside ours",
        "sficonv reproduce complexity",
        positional="table",
        nargs="?",
        metavar="TABLE",
        reads=("data",),
    ),
}

MEANT = {
    "convert": "convert-report",
    "predict": "scan",
    "detect": "scan",
    "infer": "scan",
    "web": "serve",
    "test": "evaluate",
    "eval": "evaluate",
    "validate": "evaluate",
    "val": "evaluate",
    "fit": "train",
    "finetune": "train",
    "extract": "prepare",
    "preprocess": "prepare",
    "benchmark": "bench",
    "flops": "complexity",
    "list": "models",
}
"""What other tools call it."""
