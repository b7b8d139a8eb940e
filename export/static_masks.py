"""Whose masks static programs have: those that all clients opened most, one client, or the images of a folder."""

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.train.data.unlabelled import load_unlabelled
from fedgate.train.network.salience import observe

from .reference import kept_by_record

CALIBRATED = "calibrated"  # the scope of a record that was made from images


def mask_records(directory, network, records, client=None, calibrate=None, console=None):
    """The salience records that a bundle gets, and which of them fixes its static masks: (scope, records by scope).

    records: of the run's newest checkpoint. client: a client's number, whose record it is then. calibrate: a folder of
    images, over which the network is run; they need no labels. Without either it is the record of all clients. A bundle
    made for one client holds no other client's record.
    Raises `FedgateError` for a client that has no record yet.
    """
    if client is None and calibrate is None:
        return "global", records
    kept = {scope: records[scope] for scope in ("global",) if scope in records}
    if calibrate is not None:
        data = directory.info.data
        images, warnings = load_unlabelled(calibrate, network.shape, directory.info.config.background)
        for warning in warnings:
            console.print(warning)
        record = observe(network, images, (data["mean"], data["std"]))
        return CALIBRATED, kept | {CALIBRATED: record}
    scope = f"client-{client}"
    if scope not in records:
        raise FedgateError(f"client {client} of {directory.path} has no salience record: it took part in no round")
    return scope, kept | {scope: records[scope]}


def check_client(directory, client):
    """Refuse a client that a run has not."""
    count = directory.info.config.clients
    if not 0 <= client < count:
        raise UsageError(f"{directory.path} has no client {client}: its clients are 0 to {count - 1}")


def kept_by_level(network, records, scope, console):
    """Level -> the channels by gated layer that the record of a scope keeps, for the levels that it has samples of.

    A client of one capacity has seen one level only. Raises `FedgateError` for a record of no samples at all.
    """
    if not network.gates:
        return {}
    kept, record = {}, records.get(scope)
    for level, density in enumerate(network.densities):
        if record is not None and record.samples[level]:
            kept[level] = kept_by_record(network, record, level)
        elif record is not None:
            console.print(f"no static program at density {density:g}: the record of {scope} has no samples there")
    if not kept:
        raise FedgateError(f"the salience record of {scope} has no samples: train the run for a round or more")
    return kept
