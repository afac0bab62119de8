"""The command line: one verb per public function.

Nothing heavy is imported before the arguments are known to be right. `sficonv --help` imports no part of the
library; `sficonv VERB --help`, a mistyped option or a missing file load no module of a verb either.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from sficonv.cli.verbs import MEANT, VERBS
from sficonv.errors import SficonvError
from sficonv.version import __version__

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        The exit code: 0 = done, 1 = failed, also when one input of several failed, 2 = bad usage,
        130 = interrupted, 143 = ended by SIGTERM, 129 = its terminal was closed.

    Example:
        >>> main(["models", "sfic_resnet2*"])
        sfic_resnet26
        0
    """
    try:
        with _ended_in_order():
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


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Whoever ends the process from outside ends it as Ctrl-C does: nothing half written stays behind."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    in_main = threading.current_thread() is threading.main_thread()
    names = ("SIGTERM", "SIGHUP") if in_main else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # one that is ignored, as under nohup, stays ignored
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _complain(what: object, code: int) -> int:
    if os.environ.get("SFICONV_TRACEBACK") and isinstance(what, Exception):
        raise what
    from sficonv.pages import printable

    print(f"sficonv: {printable(what)}", file=sys.stderr)
    return code


def _run(argv: list[str]) -> int:
    name, *words = argv or [""]
    if name in ("", "-h", "--help"):
        print(_help(), file=sys.stdout if name else sys.stderr)
        return DONE if name else BAD_USAGE
    if name == "--version":
        print(f"sficonv {__version__}")
        return DONE
    if name not in VERBS:
        return _complain(_unknown(name), BAD_USAGE)
    verb = VERBS[name]

    from sficonv.cli.checks import check
    from sficonv.cli.parser import arguments, make_parser, parse
    from sficonv.cli.signature import read_signature

    signature = read_signature(verb.function)
    parser = make_parser(name, verb, signature)
    given = parse(parser, words)
    as_json = given.pop("json")
    check(verb, given)
    called_with = arguments(given, signature)
    module, _, attribute = verb.function.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), attribute)
    # Standard output belongs to the answer: whatever a dependency prints must not mix with it.
    with redirect_stdout(sys.stderr):
        answer = function(**called_with)
    if verb.together and not _is_first():
        return DONE
    return _show(answer, as_json=as_json, options=given)


def _is_first() -> bool:
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


def _show(answer: Any, *, as_json: bool, options: dict[str, Any]) -> int:
    from sficonv.cli import output

    if as_json:
        print(output.to_json(answer))
    else:
        output.show(answer, options)
    return FAILED if output.failed(answer) else DONE


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items())
    return f"""usage: sficonv VERB [ARGUMENTS]

Deepfake detection with Space-Frequency Interactive Convolution.

verbs:
{verbs}

options:
  -h, --help  show this help
  --version   show the version

examples:
  sficonv demo
  {VERBS["scan"].example}

'sficonv VERB --help' explains a verb. Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted."""


def _unknown(name: str) -> str:
    meant = [MEANT[name]] if name in MEANT else get_close_matches(name, VERBS, n=2)
    hint = f"did you mean {' or '.join(meant)}? " if meant else ""
    what = "option" if name.startswith("-") else "verb"
    return f"unknown {what} {name!r}; {hint}'sficonv --help' lists the verbs"


if __name__ == "__main__":
    sys.exit(main())
