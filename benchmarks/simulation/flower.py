"""Flower's side, in an environment of its own: a ClientApp, a ServerApp, its Ray simulation.

Set up as Flower's documentation advises: the app is a module that the actors import, each client asks for one CPU, so
that every core has an actor; Ray, actors, network and data stay between rounds; updates travel as Flower's own records
of arrays, and its FedAvg averages them. `run_simulation` is the engine of `flwr run` without its daemons.

    PYTHONPATH=benchmarks python -m simulation.flower FOLDER SOCKET CORES
"""

import functools
import logging
import os
import sys
import time
from multiprocessing.connection import Client

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from simulation.workload import read

from fedgate.train.local.client import train_locally
from fedgate.train.network.build import load_tensors

client_app = ClientApp()


@functools.cache
def prepared(folder):
    """An actor's network and its view of the data, made once."""
    torch.set_num_threads(1)
    workload, *data = read(folder)
    return workload, workload.network(), *data


@client_app.train()
def train(message, context):
    """One client's round: load the arrays, train, send the arrays back."""
    config = message.content["config"]
    workload, network, images, labels, parts = prepared(config["folder"])
    load_tensors(network, {name: array.numpy() for name, array in message.content["arrays"].items()})
    client = context.node_config["partition-id"]
    chosen = parts[client]
    result = train_locally(
        network, images[chosen], labels[chosen], workload.statistics, workload.plan(config["turn"], client)
    )
    metrics = MetricRecord({"num-examples": len(chosen), "loss": result.loss, "accuracy": result.accuracy})
    arrays = ArrayRecord(network.body.state_dict())
    return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def serve(folder, address, cores):
    """Run rounds as they are asked for through the socket at `address`, until None is.

    Answers each turn's number with (seconds, weights by name).
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    workload = read(folder)[0]
    server_app = ServerApp()

    @server_app.main()
    def main(grid, context):
        strategy = FedAvg(
            fraction_evaluate=0.0,
            min_train_nodes=workload.clients,
            train_metrics_aggr_fn=lambda replies, key: MetricRecord({"clients": len(replies)}),
        )
        arrays = ArrayRecord(workload.network().body.state_dict())
        with Client(address) as asked:
            while (turn := asked.recv()) is not None:
                config = ConfigRecord({"turn": turn, "folder": folder})
                started = time.perf_counter()
                result = strategy.start(grid, arrays, num_rounds=1, train_config=config)
                seconds = time.perf_counter() - started
                trained = result.train_metrics_clientapp.get(1, {}).get("clients")
                if trained != workload.clients:
                    raise RuntimeError(f"{trained} of {workload.clients} clients trained")
                arrays = result.arrays
                asked.send((seconds, {name: array.numpy() for name, array in arrays.items()}))

    run_simulation(
        server_app,
        client_app,
        num_supernodes=workload.clients,
        backend_config={
            "init_args": {"num_cpus": cores, "logging_level": logging.ERROR, "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


if __name__ == "__main__":
    from simulation import flower  # the name by which the actors import it: as __main__ it would travel by value

    flower.serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
