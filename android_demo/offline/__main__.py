"""`python -m offline run CLASS ARGUMENTS...` in android_demo: a main of offline/harness on a desktop JVM."""

import argparse
import sys

from fedgate.device_runtime.errors import FedgateError

from . import harness


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m offline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a main of offline/harness on a desktop JVM, with Android's ExecuTorch")
    run.add_argument("main", help="its class, such as org.fedgate.harness.Forward")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    try:
        print(harness.run(given.main, *given.arguments), end="")
    except FedgateError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
