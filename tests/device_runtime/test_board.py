"""What boards tell of themselves, and when a measurement on them is not to be believed. See recorded_boards.py."""

import os
import subprocess
import sys

import numpy as np
import pytest
import recorded_boards as boards
from hypothesis import given, settings
from hypothesis import strategies as st

from fedgate.device_runtime.bench.latency import BenchOptions, bench
from fedgate.device_runtime.bench.sustained import cool_down, summarise
from fedgate.device_runtime.board.cpus import Cluster, choose, clusters, pinned, spell
from fedgate.device_runtime.board.doubts import emulated
from fedgate.device_runtime.board.host import Host
from fedgate.device_runtime.board.machine import cpu_name, machine_info
from fedgate.device_runtime.board.power import pmic_watts, watts
from fedgate.device_runtime.board.report import board_lines, sustained_lines
from fedgate.device_runtime.board.state import state
from fedgate.device_runtime.board.thermal import decode_throttled, hottest, limits, temperatures, throttling
from fedgate.device_runtime.board.watch import Watch
from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.selection import Selection

FINE = {"get_throttled": "throttled=0x0\n"}


def test_a_pi_4(tmp_path):
    host = boards.host(tmp_path, boards.pi4(), FINE)
    assert cpu_name(host) == "Raspberry Pi 4 Model B Rev 1.4"
    assert clusters(host) == [Cluster((0, 1, 2, 3), "Cortex-A72", 1800.0, None)]
    now = state(host, clusters(host))
    assert now["frequency_mhz"] == {"0-3": 1800.0} and now["governor"] == {"0-3": "performance"}
    assert now["temperatures_c"] == {"cpu-thermal": 52.582} and now["temperature_c"] == 52.582
    assert now["throttled"] == {"now": [], "since_boot": []}
    assert now["power_w"] == {}  # its only sensor is an alarm
    assert limits(host) == {"cpu-thermal": 80.0}  # the firmware's, below the kernel's critical 90


def test_a_pi_5(tmp_path):
    host = boards.host(tmp_path, boards.pi5(), {**FINE, "pmic_read_adc": boards.PMIC})
    assert clusters(host) == [Cluster((0, 1, 2, 3), "Cortex-A76", 2400.0, None)]
    assert limits(host) == {"cpu-thermal": 80.0}  # no fan's trip point
    # rail by rail, from 3V3_SYS to HDMI; EXT5V and BATT have no current
    rails = 0.206511, 0.289576, 0.008611, 0, 0.194006, 0.263171, 9.761434, 0.001211, 0.001411, 0.004624, 0.069341
    assert watts(host) == {"pmic": pytest.approx(sum(rails), abs=1e-5)}


def test_a_phone(tmp_path):
    host = boards.host(tmp_path, boards.phone())
    silver, gold = clusters(host)  # the slow ones first
    assert silver == Cluster((0, 1, 2, 3), "Kryo-3XX-Silver", 1766.4, 385)
    assert gold == Cluster((4, 5, 6, 7), "Kryo-3XX-Gold", 2803.2, 1024)
    assert cpu_name(host) == "Qualcomm Technologies, Inc SDM845"
    zones = temperatures(host)
    assert len(zones) == 9 and "skin" not in zones  # 55 is no number of millidegrees
    assert hottest(zones) == 45.7 and zones["battery"] == 31.0
    assert limits(host) == {f"cpu{i}-thermal": 90.0 for i in range(8)}
    assert throttling(host) is None
    assert watts(host) == {"battery": pytest.approx(0.412 * 4.05)}  # and not the charger's 4.5


def test_a_battery_that_is_charged_tells_nothing(tmp_path):
    files = boards.phone() | {"sys/class/power_supply/battery/status": "Charging"}
    assert watts(boards.host(tmp_path, files)) == {}


def test_sensors_of_power(tmp_path):
    """ina226 and ina3221 as Documentation/hwmon/ina2xx.rst and ina3221.rst of the kernel describe them."""
    base = "sys/class/hwmon/hwmon"
    files = {
        f"{base}2/name": "ina226",
        f"{base}2/in1_input": 5_080,
        f"{base}2/curr1_input": 900,
        f"{base}2/power1_input": 4_575_000,
        f"{base}3/name": "ina3221",
        f"{base}3/in1_input": 5_000,
        f"{base}3/in1_label": "VDD_IN",
        f"{base}3/curr1_input": 600,
        f"{base}3/in2_input": 5_000,
    }
    assert watts(boards.host(tmp_path, files)) == {"ina226 1": 4.575, "ina3221 VDD_IN": 3.0}


@pytest.mark.parametrize(
    "word, now, since",
    [
        (0x0, [], []),
        (0x50005, ["under-voltage", "throttled"], ["under-voltage", "throttled"]),
        (0x20002, ["frequency capped"], ["frequency capped"]),
        (0x80008, ["soft temperature limit"], ["soft temperature limit"]),
        (0xD0000, [], ["under-voltage", "throttled", "soft temperature limit"]),
    ],
)
def test_throttling_bit_by_bit(tmp_path, word, now, since):
    assert decode_throttled(word) == {"now": now, "since_boot": since}
    assert throttling(boards.host(tmp_path, {}, {"get_throttled": f"throttled={word:#x}\n"})) == decode_throttled(word)
    without_tool = {"sys/devices/platform/soc/soc:firmware/get_throttled": f"{word:x}\n"}
    assert throttling(boards.host(tmp_path / "sysfs", without_tool)) == decode_throttled(word)


@pytest.fixture(scope="module")
def some_board(tmp_path_factory):
    return boards.host(tmp_path_factory.mktemp("board"), boards.phone() | boards.pi4()).root


FILES = ("proc/cpuinfo", "sys/devices/system/cpu/online", "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq")


@settings(max_examples=50, deadline=None)
@given(st.text(), st.text() | st.sampled_from(["0-4", "processor : ²\n", "processor : 1\n\nprocessor : 1\n"]))
def test_answers_and_files_that_make_no_sense(some_board, answer, junk):
    for name in FILES:
        (some_board / name).write_bytes(junk.encode("utf-8", "surrogatepass"))
    host = Host(some_board, lambda question: answer)
    assert pmic_watts(answer) is None or pmic_watts(answer) >= 0
    assert state(host, clusters(host))["temperature_c"] == 52.582


def test_nothing_is_told(tmp_path):
    host = boards.host(tmp_path, {})
    assert len(clusters(host)) == 1 and clusters(host)[0].core is None
    assert state(host, clusters(host)) == {
        "governor": {},
        "frequency_mhz": {},
        "max_now_mhz": {},
        "temperature_c": None,
        "temperatures_c": {},
        "throttled": None,
        "power_w": {},
    }


# Doubts: a watch whose board changes between its looks.


def watched(folder, before, after, answers=(FINE, FINE), cpus=None, threads=1):
    told = dict(answers[0])
    host = Host(boards.host(folder, before).root, lambda question: told.get(question))
    watch = Watch(host, cpus, threads, every=0.0)
    boards.host(folder, after)
    told |= answers[1]
    watch()
    return watch.facts()


def test_a_quiet_board_raises_no_doubts(tmp_path):
    facts = watched(tmp_path, boards.pi4(600_000, governor="ondemand"), boards.pi4(governor="ondemand"))
    assert facts["doubts"] == [] and len(facts["during"]) == 1
    assert facts["before"]["frequency_mhz"] == {"0-3": 600.0}


def test_a_governor_that_keeps_the_clock_down(tmp_path):
    files = boards.pi4(600_000, governor="powersave")
    assert watched(tmp_path, files, files)["doubts"] == ["CPUs 0-3 ran at 600 of 1800 MHz (governor powersave)"]


def test_a_clock_that_the_kernel_lowers(tmp_path):
    capped = {f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_max_freq": 1_000_000 for i in range(4)}
    after = boards.pi4(1_000_000) | capped
    (doubt,) = watched(tmp_path, boards.pi4(), after)["doubts"]
    assert doubt == "CPUs 0-3 ran at 1000 of 1800 MHz (cpufreq allowed 1000)"


def test_throttled_while_it_ran(tmp_path):
    old, new = {"get_throttled": "throttled=0x50000"}, {"get_throttled": "throttled=0xd0000"}
    assert watched(tmp_path, boards.pi4(), boards.pi4(), (old, old))["doubts"] == []  # that was earlier
    facts = watched(tmp_path, boards.pi4(), boards.pi4(), (old, new))
    assert facts["doubts"] == ["the firmware reports while it ran: soft temperature limit"]
    low = {"get_throttled": "throttled=0x50005"}
    facts = watched(tmp_path, boards.pi4(), boards.pi4(), (low, low))
    assert facts["doubts"] == ["the firmware reports while it ran: under-voltage, throttled"]


def test_a_hot_board(tmp_path):
    facts = watched(tmp_path, boards.pi4(), boards.pi4(temp=78_000))
    assert facts["doubts"] == ["cpu-thermal reached 78 degrees, and the machine slows down from 80"]


def test_unlike_cpus_want_pinning(tmp_path):
    facts = watched(tmp_path, boards.phone(), boards.phone())
    assert facts["doubts"] == [
        "CPUs differ, 0-3 (Kryo-3XX-Silver) and 4-7 (Kryo-3XX-Gold), and nothing was pinned: --cpus 4-7"
    ]
    slow_gold = boards.phone(gold_khz=825_600)
    assert watched(tmp_path / "silver", slow_gold, slow_gold, cpus=[0, 1])["doubts"] == []  # gold was not used
    assert "ran at 826 of 2803 MHz" in watched(tmp_path / "gold", slow_gold, slow_gold, cpus=[4, 5])["doubts"][0]


def test_more_threads_than_cpus(tmp_path):
    facts = watched(tmp_path, boards.pi4(), boards.pi4(), cpus=[2, 3], threads=4)
    assert facts["cpus"] == "2-3" and facts["doubts"] == ["4 threads shared 2 CPUs"]


def test_more_threads_than_a_process_may_use(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 5})
    assert watched(tmp_path, boards.pi4(), boards.pi4(), threads=4)["doubts"] == []
    assert watched(tmp_path, boards.pi4(), boards.pi4(), threads=5)["doubts"] == ["5 threads shared 4 CPUs"]
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3})  # taskset, a container
    assert watched(tmp_path, boards.pi4(), boards.pi4(), threads=2)["doubts"] == ["2 threads shared 1 CPU"]


def test_emulated_cpus():
    pi = boards.processors((4, "0x41", "0xd08"))
    assert not emulated(pi, "aarch64") and not emulated("", "aarch64")
    x86 = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n"
    assert not emulated(x86, "x86_64") and emulated(x86, "aarch64")
    assert emulated("processor\t: 0\nmodel name\t: QEMU Virtual CPU version 2.5+\n", "x86_64")


# Pinning.


@settings(deadline=None)
@given(st.sets(st.integers(0, 200), min_size=1))
def test_lists_of_cpus(cpus):
    everywhere = Host(firmware=lambda question: None)
    ends = [(*part.split("-"), part)[:2] for part in spell(cpus).split(",")]
    assert {n for first, last in ends for n in range(int(first), int(last) + 1)} == cpus
    with pytest.raises(UsageError):
        choose("9999", everywhere, cpus)


def test_cpus_that_cannot_be_had(tmp_path):
    host = boards.host(tmp_path, boards.pi4())
    assert choose("0,2-3", host, range(4)) == [0, 2, 3]
    for text in ("", "a", "3-1", "1-", "-1", "0-99999999", "0;1"):
        with pytest.raises(UsageError, match="--cpus takes CPU numbers"):
            choose(text, host, range(4))
    with pytest.raises(UsageError, match="there is no CPU 4 to use: here are 0-3"):
        choose("2-5", host, range(8))
    with pytest.raises(UsageError, match="there is no CPU 3 to use: this process may use 0-1"):
        choose("1,3", host, [0, 1])


def test_pinning_reaches_processes_and_ends():
    everything = os.sched_getaffinity(0)
    first = min(everything)
    with pinned([first]):
        code = "import os; print(sorted(os.sched_getaffinity(0)))"
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert child.stdout.strip() == f"[{first}]"
    assert os.sched_getaffinity(0) == everything


# Sustained runs.


def test_the_summary_of_a_sustained_run():
    """8 windows: 2 ms at first, 3 ms in the last quarter; 4 W all the time."""
    p50 = [2.0, 2.0, 2.1, 2.4, 2.8, 3.0, 3.0, 3.0]
    rows = [{"p50_ms": ms, "runs": 100, "busy_s": 0.1 * ms, "power_w": {"pmic": 4.0}} for ms in p50]
    assert summarise(rows) == {
        "cold_ms": 2.0,
        "hot_ms": 3.0,
        "slowdown": 1.5,
        "energy_mj": {"pmic": pytest.approx(4.0 * np.mean(p50))},  # W x ms
    }


def test_cooling_down_waits_until_it_is_cool_and_not_for_ever():
    told = iter([60.0, 53.0, 51.9])
    assert 1.9 < cool_down(lambda: next(told), 50.0) < 30
    assert cool_down(lambda: 99.0, 50.0, longest=0.2) >= 0.2
    assert cool_down(lambda: None, None) < 0.1


def test_bench_tells_of_the_board_and_runs_on(bundle, tmp_path):
    """Real programs on this CPU, and a Pi 5's files beside them."""
    host = boards.host(tmp_path, boards.pi5(), {**FINE, "pmic_read_adc": boards.PMIC})
    first = min(os.sched_getaffinity(0))
    if first > 3:
        pytest.skip("this machine's CPUs begin beyond a Pi's four")
    result = bench(bundle, BenchOptions(Selection("litert", "masked"), rounds=12, sustained=2.0, cpus=str(first)), host)
    assert result["machine"]["cpu"].startswith("Raspberry Pi 5") and result["board"]["cpus"] == str(first)
    assert result["board"]["after"]["throttled"] == {"now": [], "since_boot": []}
    assert [entry["role"] for entry in result["sustained"]] == ["dense", "masked"]
    for entry in result["sustained"]:
        assert len(entry["windows"]) == 2 and entry["slowdown"] == entry["hot_ms"] / entry["cold_ms"]
        assert all(row["runs"] > 1 and row["frequency_mhz"] == {"0-3": 2400.0} for row in entry["windows"])
        mean = sum(row["busy_s"] for row in entry["windows"]) / sum(row["runs"] for row in entry["windows"])
        assert entry["energy_mj"]["pmic"] == pytest.approx(10.8 * mean * 1e3, rel=1e-3)
    text = "\n".join([*board_lines(result["machine"], result["board"]), *sustained_lines(result["sustained"][1])])
    assert "CPUs 0-3: Cortex-A76, 2400 MHz" in text and "mJ an inference (pmic" in text
    assert "2400 to 2400 MHz, governor ondemand" in text


def test_machine_info_of_a_phone_names_its_clusters(tmp_path):
    info = machine_info(boards.host(tmp_path, boards.phone()))
    assert [(c["cpus"], c["core"]) for c in info["clusters"]] == [("0-3", "Kryo-3XX-Silver"), ("4-7", "Kryo-3XX-Gold")]
