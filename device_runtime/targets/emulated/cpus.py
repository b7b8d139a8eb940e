"""The CPUs that can be emulated, and what /proc/cpuinfo says on the boards that have them."""

from typing import NamedTuple


class Cpu(NamedTuple):
    """A CPU as qemu's `-cpu` names it. The numbers are those that an ARM core tells about itself (MIDR_EL1)."""

    board: str
    features: str
    variant: int
    part: int
    revision: int


CPUS = {
    "cortex-a72": Cpu("Raspberry Pi 4 Model B Rev 1.4", "fp asimd evtstrm crc32 cpuid", 0x0, 0xD08, 3),
    "cortex-a76": Cpu(
        "Raspberry Pi 5 Model B Rev 1.0",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
        *(0x4, 0xD0B, 1),
    ),
}


def cpuinfo(name: str) -> str:
    """/proc/cpuinfo of the board: four cores of this CPU."""
    cpu = CPUS[name]
    core = (
        "processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: " + cpu.features + "\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: {cpu.variant:#x}\nCPU part\t: {cpu.part:#x}\n"
        f"CPU revision\t: {cpu.revision}\n\n"
    )
    return "".join(core.format(number) for number in range(4)) + f"Model\t\t: {cpu.board}\n"
