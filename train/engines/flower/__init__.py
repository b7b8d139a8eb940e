"""The `flower` engine: the clients of a run on other machines, over Flower's SuperLink.

server: `link` (a Flower run and its messages) and `engine` (the rounds' clients through it); `superlink` starts one.
node: `fleet` (the connection) and `worker` (what a client does with a task), together `fedgate client`.
both: `transport`, `messages` and `keys`. Flower is imported by those that say so alone, and here it is told to be quiet
before it is: no telemetry, no look for newer versions, no installation of what an app asks for.
"""

import logging
import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] = "1"
os.environ.setdefault("FLWR_LOG_LEVEL", "WARNING")
for name in ("httpx", "httpcore"):
    logging.getLogger(name).setLevel(logging.WARNING)
