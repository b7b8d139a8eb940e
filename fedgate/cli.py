"""The command line: one click group whose commands are imported only when they are asked for."""

import importlib
import os
import signal
import sys
import threading
import traceback

import click

from fedgate import __version__

# name -> (module that holds it, attribute, one line of help). The help stands here so that `fedgate --help`
# imports no stage.
COMMANDS = {
    "demo": ("fedgate.demo", "demo", "Run the whole pipeline, on digits or on your images."),
    "train": ("fedgate.train.cli", "train", "Train a network federatedly, gated or not."),
    "evaluate": ("fedgate.train.evaluate_cli", "evaluate", "Accuracy by density and by client, and MACs, of a run."),
    "report": ("fedgate.train.report.cli", "report", "Compare runs on one HTML page."),
    "export": ("fedgate.export.cli", "export", "Export a run as a bundle of verified programs."),
    "inspect": ("fedgate.device_runtime.cli", "inspect", "Show what is inside a bundle."),
    "verify": ("fedgate.device_runtime.cli", "verify", "Run every program of a bundle against its references."),
    "predict": ("fedgate.device_runtime.cli", "predict", "Classify images, and show which channels ran."),
    "bench": ("fedgate.device_runtime.cli", "bench", "Measure the latency of a bundle's programs."),
    "deploy": ("fedgate.device_runtime.targets.cli", "deploy", "Bring a bundle, and what runs it, to a device."),
    "finetune": ("fedgate.device_runtime.tuning.cli", "finetune", "Train a bundle's tail on this device's images."),
    "key": ("fedgate.train.senders_cli", "key", "Make a client's key, for updates that come as files."),
    "kernels": ("fedgate.device_runtime.kernels.cli", "kernels", "Build the channel-skipping kernel, or show it."),
    "client": ("fedgate.train.engines.flower.cli", "client", "Train as a client of a run on another machine."),
    "flower": ("fedgate.train.engines.flower.cli", "flower", "Keys and the SuperLink for clients on other machines."),
}


class LazyGroup(click.Group):
    """A group that lists its commands from `COMMANDS` and imports a command's module when it is used."""

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, name):
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(self, ctx, args):
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"unknown command '{args[0]}'; known: {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fedgate")
@click.option("--debug", is_flag=True, envvar="FEDGATE_DEBUG", help="Show tracebacks.")
def cli(debug):
    """Train channel-gated CNNs federatedly, export them, and measure them on the device.

    A gate decides for each input which channels of a layer are computed. Every command has a --help of its own.

    \b
    Example:
      fedgate train --out runs/digits
      fedgate export runs/digits --to litert --out digits.fedgate
      fedgate bench digits.fedgate
    """


def main(args=None):
    """Run the command line; every error ends as one line on stderr and an exit status (2 usage, 1 failure)."""
    args = (sys.argv[1:] if args is None else list(args)) or ["--help"]
    sys.unraisablehook = repeat_interrupt
    print_anything()
    debug = bool(os.environ.get("FEDGATE_DEBUG")) or "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    try:
        sys.exit(cli.main(args, prog_name="fedgate", standalone_mode=False) or 0)
    except (KeyboardInterrupt, click.Abort) as error:  # click turns the first into the second
        cause = error.__cause__ if isinstance(error, click.Abort) else error
        fail(str(cause or "") or "interrupted", 130)
    except click.ClickException as error:
        fail(error.format_message(), error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone (`fedgate ... | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            show_traceback(error)
            sys.exit(1)
        status = getattr(error, "exit_status", None)
        text = str(error) or type(error).__name__
        if status is None:  # not one of our own: say what it was, and how to see more
            fail(f"{type(error).__name__}: {' '.join(text.split())} (--debug shows where)", 1)
        fail(text, status)


def print_anything():
    """Escape what a terminal or pipe cannot encode: a label or a file's name is no reason to end a command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's has not
            stream.reconfigure(errors="backslashreplace")


def repeat_interrupt(unraisable):
    """Raise a Ctrl-C again that came while Python was in a destructor or a weak reference's callback.

    There it would be printed and forgotten, and torch spends enough time in them for that to happen.
    """
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    again = signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)
    while True:
        try:  # on a busy machine the timer may be over before this is, and here too the Ctrl-C would be lost
            threading.Timer(0.1, *again).start()
            return
        except KeyboardInterrupt:
            pass


def show_traceback(error):
    """Print it; what an error says stays one line."""
    from fedgate.device_runtime.text import say

    for part in traceback.TracebackException.from_exception(error).format():
        part = part.strip("\n")
        for line in part.splitlines() if part.startswith("  File ") else [part]:
            say(line, err=True)


def fail(message, status):
    """End with one line, in which nothing that somebody else wrote acts on the terminal."""
    from fedgate.device_runtime.text import say

    say(f"fedgate: {message}", err=True)
    sys.exit(status)
