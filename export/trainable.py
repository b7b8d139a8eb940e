"""The part of a network that a device trains, and tail.safetensors."""

import dataclasses
from dataclasses import dataclass

from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.formats.ports import TailInfo
from fedgate.device_runtime.formats.tail import Tail
from fedgate.train.config.resolve import changed
from fedgate.train.ingredients import make_network
from fedgate.train.network.build import GatedNetwork, load_tensors, network_tensors
from fedgate.train.network.channels import update_spec
from fedgate.train.server.downloads import SERVER_STREAM, Broadcast

from .cut import Cut, cut_network, trunk_network
from .programs import interface

TRAINING_RUNTIMES = ("litert", "executorch")


@dataclass(frozen=True)
class Trainable:
    """What of a run's network a device trains.

    network: with the trunk frozen, in evaluation mode. trunk: it alone. adaptive: closed channels do not move.
    """

    network: GatedNetwork
    trunk: GatedNetwork
    cut: Cut
    tail: Tail
    batch_size: int
    adaptive: bool

    @property
    def info(self):
        """The manifest's "tail"."""
        return TailInfo(self.cut.trainable, self.cut.layers, self.cut.features, self.batch_size)

    @property
    def interface(self):
        """What the ports of its programs follow from."""
        classes = self.network.layers[-1].out_channels
        return dataclasses.replace(interface(self.network, classes), tail=self.info)


def make_trainable(directory, state, trainable, batch_size) -> Trainable:
    """What `--trainable` asks for of a run. Raises `UsageError` for a network that cannot be cut there.

    state: the `ServerState` of the run's newest checkpoint.
    """
    info, config = directory.info, directory.info.config
    same = trainable == config.trainable
    if not same:
        base = config.base or str(directory.path)
        info = dataclasses.replace(info, config=changed(config, trainable=trainable, base=base))
    network = make_network(info, tensors=state.tensors).eval()
    cut = cut_network(network, trainable)
    # What clients of the next round would be given, of a run that trains the same.
    seed = config.seed, state.round, SERVER_STREAM
    broadcast = Broadcast(state, update_spec(network, info.run), config.download_codec if same else "fp32", seed)
    load_tensors(network, broadcast.public, partly=True)
    prefixes = tuple(f"{name}." for name in cut.layers)
    own = {name: value for name, value in network_tensors(network).items() if name.startswith(prefixes)}
    tail = Tail(own, broadcast.spec)
    return Trainable(network, trunk_network(network, cut), cut, tail, batch_size, config.adaptive_gradient)


def check_runtimes(runtimes):
    """Those of some runtimes for which there are programs that train. Raises `UsageError` where there is none."""
    found = [runtime for runtime in runtimes if runtime in TRAINING_RUNTIMES]
    if not found:
        raise UsageError(f"programs that train are for {' and '.join(TRAINING_RUNTIMES)}: add one of them to --to")
    return found
