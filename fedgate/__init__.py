"""Federated training of channel-gated CNNs for phones and Raspberry Pis.

The stages are `fedgate.train`, `fedgate.export` and `fedgate.device_runtime`; this package itself is only
the door: the command line and the version. Importing it imports none of them.
"""

__version__ = "0.1.0"
