"""Detection compared with this machine's own tools, and with the installed torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from distill_hwdetect import HardwareProfile, detect
from distill_hwdetect.visibility import visible_order

LINUX = Path("/proc/meminfo").exists()


@pytest.fixture(scope="module")
def profile() -> HardwareProfile:
    """This machine, with the deep probe."""
    return detect(probe="deep")


def lscpu() -> dict[str, str]:
    """The output of lscpu."""
    done = subprocess.run(
        ["lscpu", "--json"], capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}
    )
    found: dict[str, str] = {}

    def walk(entries: list[dict[str, object]]) -> None:
        for entry in entries:
            found[str(entry["field"]).rstrip(":")] = str(entry["data"])
            children = entry.get("children")
            if isinstance(children, list):
                walk(children)

    walk(json.loads(done.stdout)["lscpu"])
    return found


@pytest.mark.skipif(shutil.which("lscpu") is None, reason="lscpu is the oracle")
def test_the_processor_is_lscpus(profile: HardwareProfile) -> None:
    """Architecture, threads, cores, nodes, vendor, and every flag that is read."""
    said, cpu = lscpu(), profile.cpu
    assert cpu.machine == said["Architecture"]
    assert cpu.logical_cores == int(said["CPU(s)"])
    assert cpu.vendor in (None, said["Vendor ID"])
    assert cpu.numa_nodes == int(said["NUMA node(s)"])
    assert set(cpu.flags) <= set(said["Flags"].split())
    if "Core(s) per socket" in said and cpu.physical_cores is not None:
        assert cpu.physical_cores == int(said["Core(s) per socket"]) * int(said["Socket(s)"])


@pytest.mark.skipif(not LINUX, reason="/proc and /sys are the oracle")
def test_memory_swap_and_caches_are_the_kernels(profile: HardwareProfile) -> None:
    """Installed memory to the kilobyte; caches as /sys writes them."""
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    kilobytes = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    assert profile.memory.host_bytes == kilobytes["MemTotal"] * 1024
    assert profile.memory.swap_bytes == kilobytes["SwapTotal"] * 1024
    sizes = {
        path.read_text(encoding="utf-8").strip()
        for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    }
    assert {f"{size // 1024}K" for size in (profile.cpu.caches or {}).values()} == sizes


def test_disk_is_the_file_systems(profile: HardwareProfile) -> None:
    """The total equals that of the standard library."""
    assert profile.disk_total_bytes == shutil.disk_usage(".").total


def test_the_deep_probe_says_what_torch_says(profile: HardwareProfile) -> None:
    """Version, CUDA, and a positive speed in each type that the processor can multiply."""
    import torch

    facts = profile.torch
    assert facts is not None
    assert facts.version == torch.__version__
    assert facts.cuda == (torch.version.cuda or "")
    assert facts.cuda_available == torch.cuda.is_available()
    assert facts.speeds is not None
    assert facts.speeds["cpu"]["float32"] > 0


def test_the_probe_agrees_with_the_flags(profile: HardwareProfile) -> None:
    """Where bfloat16 is not computed natively it is slower than float32, as the table of rules states."""
    assert profile.torch is not None
    assert profile.torch.speeds is not None
    speeds = profile.torch.speeds["cpu"]
    if not profile.cpu.computes_bfloat16:
        assert speeds["bfloat16"] < speeds["float32"]


@pytest.mark.parametrize(
    "value", ["0", "1,0", "", "-1", "0,-1,1", "0,0", "GPU-aa", "GPU-bb,GPU-aa", "none", " 1", "1,9"]
)
def test_cuda_visible_devices_is_read_as_torch_reads_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own parser, on numbers and on identifiers; one past the last device ends the list here."""
    import torch

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    theirs = torch.cuda._parse_visible_devices()
    known = ["GPU-aa", "GPU-bb"]
    expected = [known.index(one) if isinstance(one, str) else one for one in theirs]
    until = next((at for at, one in enumerate(expected) if one >= len(known)), len(expected))
    assert visible_order("cuda", known, {"CUDA_VISIBLE_DEVICES": value}) == expected[:until]
