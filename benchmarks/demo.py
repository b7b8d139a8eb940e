"""What `fedgate demo` ends with: accuracy, MACs and latency of every program of the digits, and what training sent.

Rows are read from what the demo prints: one for each program, and one for each of the two runs.

    python benchmarks/demo.py --json demo.json
"""

import re
import subprocess
import sys
import tempfile

import click
from result_file import json_option, write_result

PROGRAM = re.compile(r" (\w+) +(\w+) +([\d.]+) % +([\d,]+) +([\d,]+) +([\d.]+) +([\d.]+) *")
SENT = re.compile(r"(\w+) training sent ([\d.]+) MB up and ([\d.]+) MB down")


def read_rows(output):
    """Flat rows, in the order of the printed table, of the output of `fedgate demo`."""
    rows = []
    for line in output.splitlines():
        if found := PROGRAM.fullmatch(line):
            runtime, role, accuracy, asked, executed, p50, ratio = found.groups()
            macs = {"asked_macs": int(asked.replace(",", "")), "executed_macs": int(executed.replace(",", ""))}
            row = {"runtime": runtime, "program": role, "accuracy_percent": float(accuracy), **macs}
            rows.append(row | {"p50_ms": float(p50), "ratio_to_dense": float(ratio)})
        elif found := SENT.match(line):
            rows.append({"training": found[1], "mb_up": float(found[2]), "mb_down": float(found[3])})
    return rows


@click.command()
@click.option("--quick", is_flag=True, help="Two rounds of training.")
@json_option
def main(quick, json_path):
    """Run the demo and keep its closing table."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fedgate", "demo", "--out", f"{folder}/demo", *(["--rounds", "2"] * quick)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
            lines = []
            for line in demo.stdout:
                print(line, end="", flush=True)
                lines.append(line)
    if demo.returncode != 0:
        raise click.ClickException(f"the demo ended with status {demo.returncode}")
    write_result(json_path, read_rows("".join(lines)))


if __name__ == "__main__":
    main()
