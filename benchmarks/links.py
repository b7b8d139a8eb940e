"""Links between network namespaces for flower.py: a TUN device at each end, this program between them. Linux, root.

Packets wait for the link's rate, then for its delay, and a share of them is lost; each direction has its own. The
devices count bytes as any interface does.
"""

import contextlib
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
QUEUE = 0.5  # seconds of packets that wait for the link at most


def in_namespace(name, *command):
    return subprocess.run(["ip", "netns", "exec", name, *command], check=True, capture_output=True, text=True).stdout


def open_tun(namespace, device, address, peer):
    """A TUN device in a namespace, with an address and a route to its peer; returns its file descriptor."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", device, "netns", namespace], check=True)
    in_namespace(namespace, "ip", "addr", "add", address, "peer", peer, "dev", device)
    in_namespace(namespace, "ip", "link", "set", device, "mtu", "1500", "up")
    return tun


class Direction:
    def __init__(self, target, rate, delay, loss, seed):
        self.target, self.rate, self.delay, self.loss = target, rate, delay, loss
        self.free, self.random = 0.0, random.Random(seed)

    def arrival(self, now, size):
        """When a packet of `size` bytes comes out at the other end; None where it is lost or finds the queue full."""
        leaves = max(now, self.free)
        if leaves - now > QUEUE:
            return None
        self.free = leaves + (8 * size / self.rate if self.rate else 0.0)
        return None if self.random.random() < self.loss else self.free + self.delay


def forward(directions):
    """Move packets for ever. directions: descriptor to read from -> `Direction`."""
    on_the_way, number = [], 0
    while True:
        wait = max(0.0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
        for tun in select.select(list(directions), [], [], wait)[0]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet, direction = os.read(tun, 65536), directions[tun]
                    arrival = direction.arrival(time.monotonic(), len(packet))
                    if arrival is not None:
                        number += 1
                        heapq.heappush(on_the_way, (arrival, number, direction.target, packet))
        now = time.monotonic()
        while on_the_way and on_the_way[0][0] <= now:
            _, _, target, packet = heapq.heappop(on_the_way)
            with contextlib.suppress(BlockingIOError):
                os.write(target, packet)


def main(server, nodes, rate, delay, loss):
    """Link the namespace of each node to the server's: node I is 10.9.I.2, and reaches the server as 10.9.I.1."""
    directions = {}
    for i, node in enumerate(nodes):
        here = open_tun(server, f"fg{i}", f"10.9.{i}.1", f"10.9.{i}.2")
        there = open_tun(node, f"fn{i}", f"10.9.{i}.2", f"10.9.{i}.1")
        directions[here] = Direction(there, rate, delay, loss, 2 * i)
        directions[there] = Direction(here, rate, delay, loss, 2 * i + 1)
    print("ready", flush=True)
    forward(directions)


if __name__ == "__main__":
    main(sys.argv[4], sys.argv[5:], *(float(word) for word in sys.argv[1:4]))
