"""The recorded `adb` of the targets' tests, with the app's own core in it: python phone.py ROOT ARGUMENTS..."""

import json
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]
sys.path += [str(TOP / "android_demo"), str(TOP / "tests" / "device_runtime" / "targets")]

import fake_adb  # noqa: E402
from offline import harness  # noqa: E402


def app(files, request):
    """What the app's activity does: hands the request to the core, which writes its answer."""
    asked = files.parent / "request"
    asked.write_text(json.dumps(request))
    harness.run("org.fedgate.harness.Answer", asked, files)


if __name__ == "__main__":
    fake_adb.app = app
    sys.exit(fake_adb.main(Path(sys.argv[1]), sys.argv[2:]))
