"""Makes hostile calls of one runtime's operators and prints what became of them, as JSON.

python hostile_run.py RUNTIME FIRST COUNT PROGRESS

`test_hostile.py` starts it with sanitized operators and the sanitizer's library loaded first. A call that crashes, is
made though it is not lawful, or is refused though it is, ends the process; the file PROGRESS then holds its number.
"""

import collections
import importlib
import json
import os
import sys

from hostile import lawful
from hostile_draw import draw_call


def main(runtime, first, count, progress) -> None:
    driver = importlib.import_module(f"hostile_{runtime}")
    found = collections.Counter()
    # a runtime may tell of each refusal
    report = os.dup(1)
    with open(os.devnull, "w") as nowhere, open(progress, "wb", buffering=0) as file:
        log = os.dup(2)
        for number in range(first, first + count):
            os.pwrite(file.fileno(), b"%20d" % number, 0)
            call = draw_call(number, driver.TRICKS, driver.DECLARES)
            allowed = lawful(call)
            os.dup2(nowhere.fileno(), 2)
            try:
                refused = driver.run(call)
            except AssertionError as error:
                sys.exit(f"call {number} ({', '.join(call.changes) or 'unchanged'}): {error}")
            finally:
                os.dup2(log, 2)
            if refused and allowed:
                sys.exit(f"call {number} ({', '.join(call.changes) or 'unchanged'}): it was refused, and should not be")
            found["refused" if refused else "wild" if call.wild else "equal"] += 1
    with open(report, "w") as out:
        json.dump(found, out)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
