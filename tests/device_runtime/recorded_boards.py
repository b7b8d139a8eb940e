"""Three boards as folders, to be read instead of this machine's /proc and /sys. None of them was at hand.

- Pi 4: the layout of the kernel's documentation; cores and clocks of the BCM2711's devicetree (bcm2711.dtsi).
- Pi 5: the same with bcm2712.dtsi; what its PMIC says is the reading in the README of github.com/jfikar/RPi5-power.
- A phone with a Snapdragon 845 (4 + 4 CPUs): /proc/cpuinfo as `adb shell` shows it on a OnePlus 6 in published notes;
  capacities are those that sdm845.dtsi makes (611 of 1024 a megahertz, scaled by the clocks), trip points are its.
"""

from pathlib import Path

from fedgate.device_runtime.board.host import Host

PMIC = """\
 3V7_WL_SW_A current(0)=0.00000000A
   3V3_SYS_A current(1)=0.06245952A
   1V8_SYS_A current(2)=0.16102850A
  DDR_VDD2_A current(3)=0.00780744A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.17566740A
    0V8_SW_A current(6)=0.32791250A
  VDD_CORE_A current(7)=10.87674000A
   3V3_DAC_A current(17)=0.00036630A
   3V3_ADC_A current(18)=0.00042735A
   0V8_AON_A current(16)=0.00579975A
      HDMI_A current(22)=0.01367520A
 3V7_WL_SW_V volt(8)=3.79999600V
   3V3_SYS_V volt(9)=3.30632200V
   1V8_SYS_V volt(10)=1.79828900V
  DDR_VDD2_V volt(11)=1.10292900V
  DDR_VDDQ_V volt(12)=0.60476130V
   1V1_SYS_V volt(13)=1.10439400V
    0V8_SW_V volt(14)=0.80256330V
  VDD_CORE_V volt(15)=0.89745940V
   3V3_DAC_V volt(20)=3.30494200V
   3V3_ADC_V volt(21)=3.30219400V
   0V8_AON_V volt(19)=0.79736190V
      HDMI_V volt(23)=5.07056000V
     EXT5V_V volt(24)=5.06788000V
      BATT_V volt(25)=3.01110800V
"""


def processors(*kinds: tuple[int, str, str]) -> str:
    """/proc/cpuinfo of (count, implementer, part)."""
    each = [kind for kind in kinds for _ in range(kind[0])]
    return "".join(
        f"processor\t: {i}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: {maker}\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 3\n\n"
        for i, (_, maker, part) in enumerate(each)
    )


def cpu(number: int, max_khz: int, now_khz: int, governor: str = "ondemand", capacity: int | None = None) -> dict:
    base = f"sys/devices/system/cpu/cpu{number}"
    files = {
        f"{base}/cpufreq/cpuinfo_max_freq": max_khz,
        f"{base}/cpufreq/scaling_max_freq": max_khz,
        f"{base}/cpufreq/scaling_cur_freq": now_khz,
        f"{base}/cpufreq/scaling_governor": governor,
    }
    return files if capacity is None else {**files, f"{base}/cpu_capacity": capacity}


def zone(number: int, name: str, temp: int, *trips: tuple[str, int]) -> dict:
    base = f"sys/class/thermal/thermal_zone{number}"
    files = {f"{base}/type": name, f"{base}/temp": temp}
    for index, (kind, at) in enumerate(trips):
        files |= {f"{base}/trip_point_{index}_type": kind, f"{base}/trip_point_{index}_temp": at}
    return files


def pi4(khz: int = 1_800_000, temp: int = 52_582, governor: str = "performance") -> dict:
    files = {
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "proc/cpuinfo": processors((4, "0x41", "0xd08"))
        + "Hardware\t: BCM2835\nRevision\t: c03114\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
        "sys/devices/system/cpu/online": "0-3\n",
        "sys/class/hwmon/hwmon1/name": "rpi_volt",
        "sys/class/hwmon/hwmon1/in0_lcrit_alarm": 0,
    }
    for number in range(4):
        files |= cpu(number, 1_800_000, khz, governor)
    return files | zone(0, "cpu-thermal", temp, ("critical", 90_000))


def pi5(khz: int = 2_400_000, temp: int = 48_300) -> dict:
    files = {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/cpuinfo": processors((4, "0x41", "0xd0b")) + "Model\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
        "sys/devices/system/cpu/online": "0-3\n",
    }
    for number in range(4):
        files |= cpu(number, 2_400_000, khz)
    fan = (("active", 50_000), ("active", 60_000), ("active", 67_500), ("active", 75_000))
    return files | zone(0, "cpu-thermal", temp, ("critical", 110_000), *fan)


def phone(silver_khz: int = 1_766_400, gold_khz: int = 2_803_200, temp: int = 45_000) -> dict:
    files = {
        "proc/cpuinfo": "Processor\t: AArch64 Processor rev 12 (aarch64)\n"
        + processors((4, "0x51", "0x803"), (4, "0x51", "0x802"))
        + "Hardware\t: Qualcomm Technologies, Inc SDM845\n",
        "sys/devices/system/cpu/online": "0-7\n",
        "sys/class/power_supply/battery/type": "Battery",
        "sys/class/power_supply/battery/status": "Discharging",
        "sys/class/power_supply/battery/current_now": -412_000,
        "sys/class/power_supply/battery/voltage_now": 4_050_000,
        "sys/class/power_supply/usb/type": "USB",
        "sys/class/power_supply/usb/current_now": 900_000,
        "sys/class/power_supply/usb/voltage_now": 5_000_000,
    }
    for number in range(8):
        big = number >= 4
        clock = (2_803_200, gold_khz) if big else (1_766_400, silver_khz)
        files |= cpu(number, *clock, "schedutil", 1024 if big else 385)
    trips = ("passive", 90_000), ("passive", 95_000), ("critical", 110_000)
    for number in range(8):
        files |= zone(number, f"cpu{number}-thermal", temp + 100 * number, *trips)
    return files | zone(8, "battery", 31_000, ("passive", 30_000)) | zone(9, "skin", 55)


def host(folder: Path, files: dict, answers: dict | None = None) -> Host:
    """The files laid out in a folder, and the firmware that gives these answers."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n" if not isinstance(content, str) else content)
    return Host(folder, (answers or {}).get)
