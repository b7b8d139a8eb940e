"""The state of a machine at one moment."""

from collections.abc import Sequence

from .cpus import SYSTEM, Cluster, spell
from .host import Host
from .power import watts
from .thermal import hottest, temperatures, throttling


def state(host: Host, clusters: Sequence[Cluster]) -> dict:
    """Governors, clocks, temperatures, throttling flags and power, as JSON; None or {} for what is not told.

    frequency_mhz and max_now_mhz (what cpufreq allows at the moment) are those of each cluster's fastest CPU.
    """
    zones = temperatures(host)
    return {
        "governor": _by_cluster(host, clusters, "scaling_governor"),
        "frequency_mhz": _by_cluster(host, clusters, "scaling_cur_freq"),
        "max_now_mhz": _by_cluster(host, clusters, "scaling_max_freq"),
        "temperature_c": hottest(zones),
        "temperatures_c": zones,
        "throttled": throttling(host),
        "power_w": watts(host),
    }


def _by_cluster(host: Host, clusters: Sequence[Cluster], file: str) -> dict:
    found = {}
    for cluster in clusters:
        paths = [f"{SYSTEM}/cpu{cpu}/cpufreq/{file}" for cpu in cluster.cpus]
        if file == "scaling_governor":
            governors = dict.fromkeys(text for text in map(host.text, paths) if text)
            found |= {spell(cluster.cpus): "/".join(governors)} if governors else {}
        else:
            khz = [number for number in map(host.number, paths) if number is not None]
            found |= {spell(cluster.cpus): max(khz) / 1e3} if khz else {}
    return found
