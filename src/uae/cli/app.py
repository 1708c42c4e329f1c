"""The command line: names, help, and the exit code of every error.

0 done | 1 failed while running | 2 usage or configuration | 3 environment | 4 some inputs left
out | 130, 143 stopped by SIGINT, SIGTERM. stdout holds data only.
"""

import errno
import io
import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from keyword import iskeyword
from pathlib import Path
from types import FrameType, TracebackType

from cyclopts import App, CycloptsError

from uae.cli.output import STDIN
from uae.core import errors
from uae.core.memory import OUT_OF_MEMORY, REMEDY, is_out_of_memory, wanted
from uae.core.ranks import current, leave, prefix
from uae.core.unicode import readable

log = logging.getLogger("uae")

_ENVIRONMENT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


SUMMARY = """Unified multimodal auto-encoders: image -> caption -> image, trained to make
the second image like the first.

Try:
    uae reconstruct photo.jpg
"""


VERBS = {
    "plan": "uae join, uae train --recipe RECIPE --model OUT",
    "train": "uae report RUN, uae reconstruct IMAGE --model RUN/model",
    "caption": 'uae draw "CAPTION", uae train --data FOLDER',
    "draw": "uae reconstruct IMAGE",
    "reconstruct": "uae train --recipe demo --data FOLDER --out RUN",
    "compare": "uae report RUN",
    "report": "uae reconstruct IMAGE --model RUN/model",
    "scenes": "uae eval unified-bench OUT/images, uae eval mmt-bench OUT/questions.tsv",
    "join": "uae reconstruct IMAGE --model OUT, uae train --model OUT --data FOLDER",
    "import": "uae reconstruct IMAGE --model OUT, uae export OUT --out FOLDER",
    "export": "uae serve --api --model OUT, vllm serve OUT/encoder",
    "serve": "uae doctor",
    "doctor": "uae reconstruct IMAGE",
}
"""The commands of `uae`, each with the next one that its help names."""
MODULES = {"caption": "pictures", "draw": "pictures"}
"""Where a verb lies in `uae.cli` if not in a module of its name; it is imported when typed."""
MOVED = {"bases": "python -m bases"}
"""Verbs of tools beside the package, each with the command that runs the tool in a checkout."""


def app_of(verbs: Mapping[Callable[..., int], str], name: str, summary: str) -> App:
    """Map verbs, each with what its help names as the next command, to their names."""
    app = App(
        name=name,
        help=summary,
        help_format="plaintext",
        version=lambda: metadata.version("uae"),
        version_flags=["--version"],
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for verb, after in verbs.items():
        app.command(verb, help_epilogue=f"Next: {after}")
    return app


def build_app() -> App:
    """Make `uae`, which shows its verbs and imports none."""
    app = app_of({}, "uae", SUMMARY)
    app.help_epilogue = "Next: uae doctor, uae VERB --help"
    for name, after in VERBS.items():
        app.command(
            ":".join(_place(name)), name=name, help=_summary(name), help_epilogue=f"Next: {after}"
        )
    app.command("uae.cli.app:benchmarks", name="eval", help="What a model scores.")
    app.register_install_completion_command(add_to_startup=False)
    return app


def _place(verb: str) -> tuple[str, str]:
    """Return the module of a verb and its function there; a word of Python's ends in "_"."""
    name = f"{verb}_" if iskeyword(verb) else verb
    return f"uae.cli.{MODULES.get(verb, name)}", name


def _summary(verb: str) -> str:
    """Return the first paragraph of a verb's docstring without importing it."""
    module, name = _place(verb)
    path = Path(__file__).with_name(f"{module.rpartition('.')[2]}.py")
    source = path.read_text(encoding="utf-8")
    [text] = re.findall(rf'^def {name}\(.*?"""(.+?)\n\n', source, re.DOTALL | re.MULTILINE)
    return " ".join(text.split())


def __getattr__(name: str) -> App:
    """Make `benchmarks`, which is `uae eval`, with what its table has when it is typed."""
    if name != "benchmarks":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from uae.cli.eval import evaluation

    return evaluation()


def app_for(tokens: Sequence[str]) -> App:
    """Make `uae` for a command line: with the whole help of its verb, for `train` of all keys."""
    verb = tokens[0] if tokens else ""
    if command := MOVED.get(verb):
        line = shlex.join([*command.split(), *tokens[1:]])
        raise errors.UsageError(
            f"uae {verb} has left the package: type `{line}` in a checkout of the repository"
        )
    app = build_app()
    if verb in VERBS and {"--help", "-h"} & set(tokens):
        app[verb].help = None  # its docstring takes the place of the summary
        if verb == "train":
            from uae.cli.train import keys_help

            app[verb].help_epilogue = f"{keys_help()}\n\nNext: {VERBS[verb]}"
    return app


def run(tokens: Sequence[str], app: App | None = None) -> int:
    """Run one command, of `uae` or another app, and return its exit code.

    Errors the user can act on are said, not raised. Any other one is a fault of ours and passes
    through, a `ValueError` too.
    """
    try:
        spelled = [STDIN if token == "-" else token for token in tokens]
        code = (app or app_for(tokens))(spelled, exit_on_error=False) or errors.EXIT_DONE
        # torchrun takes any other code for a crash, and would end rank 0 for it
        return code if code == errors.EXIT_DONE or current().is_first else errors.EXIT_DONE
    except CycloptsError:
        return errors.EXIT_USAGE
    except errors.UaeError as error:
        return _say(error, error.exit_code, is_fault=not isinstance(error, errors.Stopped))
    except KeyboardInterrupt:
        return _say("stopped", 128 + signal.SIGINT, is_fault=False)
    except BrokenPipeError:
        # the reader has left; the interpreter must not fail again when it flushes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
        code = errors.EXIT_ENVIRONMENT if error.errno in _ENVIRONMENT else errors.EXIT_FAILED
        where, why = error.filename, error.strerror
        said = f"{where}: {why.lower()}" if where is not None and why is not None else error
        return _say(said, errors.EXIT_USAGE if is_missing else code)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        said = filter(None, (OUT_OF_MEMORY, wanted(error), REMEDY))
        return _say(": ".join(said), errors.EXIT_ENVIRONMENT)


def _say(error: object, code: int, *, is_fault: bool = True) -> int:
    sys.stderr.write(readable(f"{prefix()}{'error: ' if is_fault else ''}{error}\n"))
    log.debug("raised here:", exc_info=True)
    return code


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """End at SIGTERM as at an error, so that files are closed; training has its own way."""
    raise SystemExit(128 + signal.SIGTERM)


def _say_bug(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if log.isEnabledFor(logging.DEBUG):
        sys.__excepthook__(kind, error, traceback)
    sys.stderr.write(
        f"error: {kind.__name__}: {error}\nThis is a fault of uae: -v shows where it is; "
        "please report it with the output of `uae doctor`\n"
    )


def main(app: App | None = None) -> None:
    """Run the command of this process, of `uae` or another app, and exit with its code."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.excepthook = _say_bug
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be Unicode
    code = run(sys.argv[1:], app)
    leave(is_done=code in {errors.EXIT_DONE, errors.EXIT_PARTIAL})
    sys.exit(code)
