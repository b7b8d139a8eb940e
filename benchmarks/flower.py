"""What a federation over Flower costs: bytes on the wire, seconds a round on a bad link, and many nodes at once.

wire     each node in a network namespace of its own: bytes that its interface counted, to those in metrics.jsonl
link     the same over links of a rate, a delay and a loss: seconds a round, to the simulated clock's, which is told
         the speed that nodes had in `wire`
many     nodes as threads of one process: seconds a round, to the local engine's in one process

wire and link need root, for `ip netns` and TUN devices (see links.py). All on digits with the default network.

    sudo python benchmarks/flower.py wire link many --nodes 2 --json flower.json
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import click
from result_file import json_option, write_result

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/pipeline"))
from flower_processes import FEDGATE, Processes

TRAINING = ["--partition", "iid", "--data", "digits", "--density", "0.5"]
IDLE = 15.0  # seconds in which nodes wait for work


@contextlib.contextmanager
def namespaces(names, rate, delay, loss):
    """Namespaces of a server (the first name) and of nodes, each node with a link to the server."""
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            subprocess.run(["ip", "netns", "exec", name, "ip", "link", "set", "lo", "up"], check=True)
        words = [str(Path(__file__).with_name("links.py")), str(rate), str(delay), str(loss), *names]
        with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE) as links:
            assert links.stdout.readline() == b"ready\n"
            try:
                yield
            finally:
                links.kill()
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def counted(node, i):
    """Bytes that a node's interface has sent and received."""
    path = f"/sys/class/net/fn{i}/statistics"
    command = ["ip", "netns", "exec", node, "cat", f"{path}/tx_bytes", f"{path}/rx_bytes"]
    return [int(word) for word in subprocess.run(command, check=True, capture_output=True).stdout.split()]


def federated(nodes, rounds, options, rate=0.0, delay=0.0, loss=0.0):
    """A run over links: (rows of metrics.jsonl, bytes (up, down) while it ran, bytes a second while nodes waited)."""
    names = ["fg-server", *[f"fg-{client}" for client in range(nodes)]]

    def prefix(name):
        number = name.removeprefix("client-")
        return ["ip", "netns", "exec", f"fg-{number}" if number.isdigit() else "fg-server"]

    hosts = [f"10.9.{client}.1" for client in range(nodes)]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(namespaces(names, rate, delay, loss))
        with Processes(folder, nodes, "0.0.0.0", prefix, hosts) as federation:
            federation.superlink()
            for client in range(nodes):
                federation.address = f"{hosts[client]}:{federation.port}"
                federation.node(client)
            for client in range(nodes):
                federation.wait_for(f"client-{client}", "connected")
            before, started = total(names), time.monotonic()
            time.sleep(IDLE)
            idle = (sum(total(names)) - sum(before)) / (time.monotonic() - started) / nodes
            before = total(names)
            federation.address = f"127.0.0.1:{federation.port}"
            words = [*TRAINING, *options, "--clients", str(nodes), "--rounds", str(rounds)]
            federation.train(*words, "--engine", "flower", "--out", "run")
            federation.finish("train")
            after = total(names)
            rows = read(Path(folder) / "run")
    return rows, [end - start for start, end in zip(before, after, strict=True)], idle


def total(names):
    return [sum(pair) for pair in zip(*(counted(name, i) for i, name in enumerate(names[1:])), strict=True)]


def read(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def round_seconds(rows, key="seconds"):
    """Median over the rounds but the first, in which nodes import and read data."""
    return statistics.median(row[key] for row in rows if row["client"] is None and row["round"] > 1)


def measure_wire(nodes, rounds, epochs):
    rows, wire, idle = federated(nodes, rounds, ["--local-epochs", str(epochs)])
    told = [sum(row[key] for row in rows if row["client"] is None) for key in ("bytes_up", "bytes_down")]
    seconds = sum(row["seconds"] for row in rows if row["client"] is None)
    extra = (sum(wire) - sum(told) - idle * nodes * seconds) / (nodes * rounds)
    trained = statistics.median(row["seconds"] for row in rows if row["client"] is not None and row["round"] > 1)
    return {
        "what": "wire",
        "nodes": nodes,
        "rounds": rounds,
        "local_epochs": epochs,
        "bytes_up": told[0],
        "bytes_down": told[1],
        "wire_up": wire[0],
        "wire_down": wire[1],
        "ratio": sum(wire) / sum(told),
        "idle_bytes_per_node_second": idle,
        "overhead_bytes_per_node_round": extra,
        "training_seconds": trained,
        "seconds_per_round": round_seconds(rows),
    }


def measure_link(nodes, rounds, epochs, rate, delay, loss, trained):
    """trained: seconds of a client's local training, by which the simulated clock is set."""
    slow = 1e-3  # a speed; the time is inverse to it
    links = ["--uplink", "1000Gbit", "--downlink", "1000Gbit"]
    with tempfile.TemporaryDirectory() as folder:
        words = [*TRAINING, *links, "--clients", str(nodes), "--rounds", "2", "--local-epochs", "1", "--quiet"]
        words += ["--client-speed", str(slow), "--out", f"{folder}/run"]
        subprocess.run([*FEDGATE, "train", *words], check=True)
        epoch = round_seconds(read(Path(folder) / "run"), "simulated_seconds")
    speed = slow * epochs * epoch / trained
    link = f"{rate / 1e6:g}Mbit"
    options = ["--uplink", link, "--downlink", link, "--client-speed", f"{speed:.6f}", "--local-epochs", str(epochs)]
    rows, wire, _ = federated(nodes, rounds, options, rate, delay, loss)
    measured, simulated = round_seconds(rows), round_seconds(rows, "simulated_seconds")
    return {
        "what": "link",
        "nodes": nodes,
        "local_epochs": epochs,
        "rate": rate,
        "delay": delay,
        "loss": loss,
        "congestion": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "client_speed": speed,
        "wire_up": wire[0],
        "wire_down": wire[1],
        "seconds_per_round": measured,
        "simulated_seconds": simulated,
        "assumed_training_seconds": trained,
        "training_seconds": statistics.median(row["seconds"] for row in rows if row["client"] is not None),
        "ratio": measured / simulated,
    }


def measure_many(nodes, rounds):
    """Nodes as threads that train one at a time, since what they measure is Flower."""
    from fedgate.train.engines.flower.fleet import Fleet
    from fedgate.train.engines.flower.keys import private_key
    from fedgate.train.engines.flower.torch_learner import TorchLearner
    from fedgate.train.engines.flower.worker import Worker

    turn, words = threading.Lock(), [*TRAINING, "--clients", str(nodes), "--rounds", str(rounds)]
    with tempfile.TemporaryDirectory() as folder, Processes(folder, nodes) as federation:
        federation.superlink()
        keys, fleets = Path(folder) / "keys", []
        for client in range(nodes):
            worker = Worker(client, Path(folder) / f"client-{client}", "torch", TorchLearner)

            def answer(text, blobs, worker=worker):
                with turn:
                    return worker.answer(text, blobs)

            key = private_key(keys / f"nodes/client-{client}.key")
            place = Path(folder) / f"client-{client}/place.json"
            fleets.append(Fleet(federation.address, (keys / "ca.crt").read_bytes(), key, place))
            threading.Thread(target=fleets[-1].serve, args=(answer,), daemon=True).start()
        federation.train(*words, "--engine", "flower", "--out", "flower")
        federation.finish("train")
        federation.train(*words, "--out", "local", superlink=False, name="local")
        federation.finish("local")
        rows, local = (read(Path(folder) / name) for name in ("flower", "local"))
        for fleet in fleets:
            fleet.close()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    used = [row["updates"] for row in rows if row["client"] is None]
    return {
        "what": "many",
        "nodes": nodes,
        "updates": min(used),
        "seconds_per_round": round_seconds(rows),
        "local_seconds": round_seconds(local),
        "overhead_seconds": round_seconds(rows) - round_seconds(local),
        "resident_bytes": resident,
    }


@click.command()
@click.argument("what", nargs=-1, required=True, type=click.Choice(["wire", "link", "many"]))
@click.option("--nodes", type=click.IntRange(1, 250), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(2), default=6, show_default=True)
@click.option("--local-epochs", "epochs", type=click.IntRange(1), default=2, show_default=True)
@click.option("--rate", type=float, default=10e6, show_default=True, help="Of a link, bits a second each way.")
@click.option("--delay", type=float, default=0.05, show_default=True, help="Of a link, seconds each way.")
@click.option("--loss", type=float, default=0.02, show_default=True, help="Of a link's packets.")
@click.option("--trained", type=float, help="For link without wire: seconds of a client's training.")
@json_option
@click.option("--quick", is_flag=True, help="Three rounds.")
def main(what, nodes, rounds, epochs, rate, delay, loss, trained, json_path, quick):
    rows, rounds = [], 3 if quick else rounds
    if "wire" in what:
        rows.append(measure_wire(nodes, rounds, epochs))
        trained = rows[-1]["training_seconds"]
    if "link" in what:
        if trained is None:
            raise click.UsageError("link needs wire before it, or --trained SECONDS")
        rows.append(measure_link(nodes, rounds, epochs, rate, delay, loss, trained))
    if "many" in what:
        rows.append(measure_many(nodes, rounds))
    for row in rows:
        print(json.dumps(row))
    write_result(json_path, rows)


if __name__ == "__main__":
    main()
