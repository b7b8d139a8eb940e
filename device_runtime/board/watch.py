"""A watch over the board while something is measured."""

import time
from collections.abc import Sequence

from .cpus import clusters, spell
from .doubts import doubts
from .host import Host
from .state import state
from .thermal import limits


class Watch:
    """Looks at the board when it is made, when it is called (at most once a second), and at the end.

    cpus: those that the measurement was pinned to, or None. threads: of each program.
    """

    def __init__(self, host: Host, cpus: Sequence[int] | None = None, threads: int = 1, every: float = 1.0):
        self._host, self._cpus, self._threads, self._every = host, cpus, threads, every
        self._clusters = clusters(host)
        self._during: list[dict] = []
        self._before = self.look()
        self._next = time.monotonic() + every

    def look(self) -> dict:
        """The board's state now."""
        return state(self._host, self._clusters)

    def __call__(self) -> None:
        if time.monotonic() >= self._next:
            self._during.append(self.look())
            self._next = time.monotonic() + self._every

    def facts(self) -> dict:
        """{"cpus", "before", "during", "after", "limits_c", "doubts"}: states, limits by zone, reasons for distrust."""
        after, limits_c = self.look(), limits(self._host)
        reasons = doubts(self._clusters, self._before, self._during, after, limits_c, self._cpus, self._threads)
        return {
            "cpus": None if self._cpus is None else spell(self._cpus),
            "before": self._before,
            "during": self._during,
            "after": after,
            "limits_c": limits_c,
            "doubts": reasons,
        }
