#!/usr/bin/env bash
# Makes an arm64 Debian 12 root with Python, LiteRT and what fedgate needs on a device, to run under qemu-user:
#
#     benchmarks/arm/make_root.sh [FOLDER]        FOLDER: build/arm64-root below the repository by default
#
# No chroot, no binfmt, no mount. PYTHON names a Python with pip (python3). Does nothing where the root is complete.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
folder=${1:-$repository/build/arm64-root}
python=${PYTHON:-python3}

fail() {
    echo "make_root.sh: $*" >&2
    exit 1
}

need() { # COMMAND, what has it
    command -v "$1" >/dev/null || fail "$1 is missing: $2"
}

need qemu-aarch64 "install Debian 12's package qemu-user (7.2, the dynamic build)"
need mmdebstrap "install Debian's package mmdebstrap"
need aarch64-linux-gnu-gcc "install Debian's package gcc-aarch64-linux-gnu"
need aarch64-linux-gnu-g++ "install Debian's package g++-aarch64-linux-gnu"
"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip: set PYTHON to one that has, or install python3-pip"
# A static qemu cannot load plugins, and says so only by not listing the option.
help=$(qemu-aarch64 -help || true)
[[ $help == *-plugin* ]] || fail "this qemu-aarch64 takes no plugins: install the dynamic build, qemu-user of Debian 12"

# The recipe of a complete root stands in it, so that a changed script or other versions make a new one.
recipe=$(cat "${BASH_SOURCE[0]}" "$repository/constraints.txt" | sha256sum | cut -d ' ' -f 1)
if [[ -f $folder/.fedgate-root ]]; then
    [[ $(<"$folder/.fedgate-root") == "$recipe" ]] && exit 0
    rm -rf "$folder"
elif [[ -e $folder ]]; then
    fail "$folder exists and is no root of ours: remove it, or name another folder"
fi

# Everything is made beside the folder and moved at the end: an interrupted run leaves no half a root.
mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
log=$work/log

echo "make_root.sh: extracting Debian packages" >&2
mmdebstrap --variant=extract --arch=arm64 \
    --include=python3-minimal,libpython3.11-stdlib,python3.11-minimal,libstdc++6,libgomp1 \
    bookworm "$root" >"$log" 2>&1 || fail "mmdebstrap failed: $(tail -n 1 "$log")"

echo "make_root.sh: fetching aarch64 wheels" >&2
platforms=()
for glibc in 2_34 2_31 2_28 2_27 2_17; do
    platforms+=(--platform "manylinux_${glibc}_aarch64")
done
"$python" -m pip --disable-pip-version-check install -q --target "$root/wheels" --only-binary :all: \
    --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
    "${platforms[@]}" --platform manylinux2014_aarch64 --platform any -c "$repository/constraints.txt" \
    numpy ai-edge-litert safetensors click rich Pillow >"$log" 2>&1 || fail "pip failed: $(tail -n 1 "$log")"

# LiteRT chooses its kernels by what stands here, and crashes where nothing does. One file for each emulated CPU.
cpuinfo() { # FILE, features, variant, part, revision, model
    for processor in 0 1 2 3; do
        printf 'processor\t: %d\nBogoMIPS\t: 108.00\nFeatures\t: %s\n' "$processor" "$2"
        printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: %s\nCPU part\t: %s\nCPU revision\t: %s\n\n' \
            "$3" "$4" "$5"
    done >"$1"
    printf 'Model\t\t: %s\n' "$6" >>"$1"
}
mkdir -p "$root/proc" "$root/cpuinfo"
cpuinfo "$root/cpuinfo/cortex-a72" "fp asimd evtstrm crc32 cpuid" 0x0 0xd08 3 "Raspberry Pi 4 Model B Rev 1.4"
cpuinfo "$root/cpuinfo/cortex-a76" \
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp" \
    0x4 0xd0b 1 "Raspberry Pi 5 Model B Rev 1.0"
cp "$root/cpuinfo/cortex-a72" "$root/proc/cpuinfo"

echo "$recipe" >"$root/.fedgate-root"
mv "$root" "$folder"
