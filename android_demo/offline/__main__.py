"""The offline build's commands: `python -m offline apk`, `run CLASS ARGUMENTS...` and `screens BUNDLE PICTURES OUT`."""

import argparse
import sys
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError

from . import apk, harness, screens
from .gradle import gradle
from .library import ABIS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m offline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a main of offline/harness on a desktop JVM, with Android's ExecuTorch")
    run.add_argument("--dex", action="store_true", help="with the app's classes as they come back from its dex")
    run.add_argument("--abi", choices=ABIS, default="x86_64", help="with the libraries of this one")
    run.add_argument("main", help="its class, such as org.fedgate.harness.Forward")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    build = commands.add_parser("apk", help="build, sign and verify one APK for each ABI")
    build.add_argument("--abi", action="append", help="only for this one")
    drawn = commands.add_parser("screens", help="draw the app's screens with what a bundle's programs really give")
    for name in ("bundle", "pictures", "out"):
        drawn.add_argument(name, type=Path)
    given = parser.parse_args()
    try:
        if given.command == "run":
            print(harness.run(given.main, *given.arguments, abi=given.abi, dex=given.dex), end="")
        elif given.command == "screens":
            print(*screens.draw(given.bundle, given.pictures, given.out), sep="\n")
        else:
            for abi in given.abi or gradle().abis:
                print(*described(*apk.build(abi)), sep="\n")
    except FedgateError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def described(file: Path, badging: apk.Badging) -> list[str]:
    return [
        f"{file}: {file.stat().st_size:,} bytes, signed with a throw-away key, verified",
        f"  package {badging.package}, starts {badging.activity}",
        f"  SDK {badging.min_sdk} to {badging.target_sdk}, native code for {', '.join(badging.abis)}",
    ]


if __name__ == "__main__":
    sys.exit(main())
