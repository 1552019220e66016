"""What is freed is given back."""

import os
import subprocess
import sys

import pytest

# 64 blocks of 2 MiB after the threshold has moved above them; every other one goes.
HOLES = """
import platform, sys
from distill_adapters.malloc import return_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def freed():
    big = bytearray(24 << 20)
    del big
    kept = [bytearray(b"x") * (2 << 20) for _ in range(64)]
    before = resident()
    del kept[::2]
    return (before - resident()) >> 20

without = freed()
answer = return_freed_memory()
print(without, freed(), answer, "torch" in sys.modules)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is asked")
@pytest.mark.parametrize("variable", ["", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_holes_between_tensors_are_given_back(variable: str) -> None:
    """Of 64 MiB most come back, and none otherwise; what the user has set stays."""
    value = "glibc.malloc.mmap_threshold=33554432" if variable == "GLIBC_TUNABLES" else str(2**25)
    given = {variable: value} if variable else {}
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, check=True, env=kept | given
    )
    without, after, answer, heavy = done.stdout.split()
    assert int(without) < 8
    assert (int(after) > 32) == (answer == "True") == (not variable)
    assert heavy == "False"
