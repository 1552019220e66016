"""What doctor finds on recorded machines, and what a recording keeps and leaves out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_hwdetect import HardwareProfile, ModelFacts, RawObservations, Requirements, choose_policy
from distill_hwdetect.doctor import Finding, diagnose
from distill_hwdetect.interpretation import interpret
from distill_hwdetect.recording import record, without_identity

PROFILES = Path(__file__).parent / "profiles"


@pytest.mark.parametrize(
    ("name", "subject", "problem", "command"),
    [
        ("nvidia-p100-kaggle", "cuda:0", "no kernels", "'torch==2.14.*' --torch-backend=cu126"),
        ("nvidia-rtx5090-old-torch", "cuda:0", "no kernels", "--torch-backend=auto"),
        ("nvidia-k40c-with-k80", "cuda:0", "3.5", "nothing to install"),
        ("windows-cuda-driver-too-old", "cuda:0", "driver 528.49", "update NVIDIA's driver, or"),
        ("intel-core-igpu-no-xpu-torch", "xpu:0", "has no XPU", "--torch-backend=xpu"),
        ("no-torch-metrics-only", "torch", "not installed", "uv pip install"),
        ("cpu-container-512m-4cpu", "cgroup", "0.5 GiB of 1007.5 GiB", "docker update --memory"),
        ("cpu-container-512m-4cpu", "threads", "4 CPUs are usable", "export OMP_NUM_THREADS=4"),
        ("nvidia-rtx3060-12g-wsl2", "wsl", "half of what Windows has", ".wslconfig"),
        ("intel-core-igpu-no-xpu-torch", "xpu:0", "Intel GPU 8086:7d55", "uv pip install"),
    ],
)
def test_doctor_names_the_problem_and_the_command_that_mends_it(
    name: str, subject: str, problem: str, command: str, recorded: Callable[[str], HardwareProfile]
) -> None:
    """Each recorded machine with something wrong gets exactly that said."""
    found = [finding for finding in diagnose(recorded(name)) if finding.subject == subject]
    assert found
    assert problem in found[0].problem
    assert command in found[0].command


@pytest.mark.parametrize("name", ["nvidia-h100-80g", "apple-m4-max-128g", "amd-mi300x", "arm-graviton2-16c"])
def test_doctor_finds_nothing_on_a_sound_machine(
    name: str, recorded: Callable[[str], HardwareProfile]
) -> None:
    """No finding is invented."""
    assert diagnose(recorded(name)) == ()


def machine(**raw: object) -> HardwareProfile:
    """Return a small Linux machine with further observations."""
    base = {"cpuinfo": {"flags": "avx2 avx512_bf16"}, "os_cpu_count": 4, "torch": {"version": "2.15.0+cpu"}}
    return interpret(RawObservations.from_dict({**base, **raw}))


@pytest.mark.parametrize(
    ("packages", "subject", "broken", "command"),
    [
        ({"intel-extension-for-pytorch": "2.8.0"}, "intel-extension-for-pytorch", True, "pip uninstall"),
        ({}, "bitsandbytes", False, "pip install bitsandbytes"),
        ({"bitsandbytes": "0.45.5"}, "bitsandbytes", True, "bitsandbytes>=0.50"),
        ({"bitsandbytes": "0.50.2", "kernels": "0.11"}, "bitsandbytes", False, "HF_HUB_OFFLINE=1"),
    ],
)
def test_doctor_reads_the_installed_packages(
    packages: dict[str, str], subject: str, broken: bool, command: str
) -> None:
    """IPEX beside another torch, bitsandbytes missing, old, or reaching for the hub."""
    (found,) = (finding for finding in diagnose(machine(packages=packages)) if finding.subject == subject)
    assert found.broken == broken
    assert command in found.command


def test_doctor_reads_disk_threads_orders_and_hidden_devices() -> None:
    """Notes of the environment, each with its command."""
    gpus = [
        {"vendor": "nvidia", "name": "A", "major": 9, "minor": 0, "total_memory_bytes": 1},
        {"vendor": "nvidia", "name": "B", "major": 8, "minor": 0, "total_memory_bytes": 1},
    ]
    torch = {"version": "2.15.0+cu132"}
    profile = machine(
        gpus=gpus,
        torch=torch,
        env={"OMP_NUM_THREADS": "16"},
        disk={"free_bytes": 2**30, "total_bytes": 2**40},
    )
    commands = {finding.subject: finding.command for finding in diagnose(profile)}
    assert commands["CUDA_DEVICE_ORDER"] == "export CUDA_DEVICE_ORDER=PCI_BUS_ID"
    assert commands["threads"] == "export OMP_NUM_THREADS=4"
    assert "HF_HOME" in commands["disk"]
    hidden = machine(gpus=gpus, torch=torch, env={"CUDA_VISIBLE_DEVICES": ""})
    assert {finding.command for finding in diagnose(hidden) if finding.broken} == {
        "unset CUDA_VISIBLE_DEVICES"
    }
    one_hidden = machine(gpus=gpus, torch=torch, env={"CUDA_VISIBLE_DEVICES": "1"})
    assert not [finding for finding in diagnose(one_hidden) if finding.broken]


def test_broken_things_come_first() -> None:
    """A person reads from the top."""
    found = diagnose(machine(packages={"intel-extension-for-pytorch": "2.8.0"}))
    assert [finding.broken for finding in found] == sorted((one.broken for one in found), reverse=True)
    assert found[0].to_dict()["command"] == found[0].command
    assert isinstance(found[0], Finding)


OWNED = RawObservations(
    system="Linux",
    machine="x86_64",
    proc_version="Linux version 6.8.0-ada-laptop (ada@difference) #1 SMP",
    cpuinfo={"model_name": "A CPU", "flags": "avx2"},
    os_cpu_count=8,
    meminfo_kB={"MemTotal": 16777216, "MemAvailable": 12582912},
    gpus=[
        {"vendor": "nvidia", "name": "A", "uuid": "GPU-8932f937-d72c", "major": 9, "minor": 0},
        {"vendor": "nvidia", "name": "B MIG 1g", "uuid": "MIG-41b4-77aa", "major": 9, "minor": 0, "mig": 1},
    ],
    env={
        "CUDA_VISIBLE_DEVICES": "GPU-8932f9,MIG-41b4-77aa",
        "OMP_NUM_THREADS": "4",
        "CUDA_DEVICE_ORDER": "adas",
    },
    torch={"version": "2.15.0+lovelace.inc", "cuda": "13.2"},
    packages={"torch": "2.15.0+lovelace.inc", "peft": "0.21.2+ada"},
    notes=["torch cannot be imported: OSError: /srv/ada/libtorch.so: no such file."],
)


def test_a_recording_tells_nothing_of_its_owner() -> None:
    """Neither names in kernel and versions, nor identifiers, nor paths."""
    text = json.dumps(record(OWNED, version="0.1.0"))
    for secret in ("ada", "difference", "lovelace", "8932f937", "41b4", "srv"):
        assert secret not in text, secret


def test_a_recording_is_planned_as_its_machine() -> None:
    """Identifiers are replaced alike in devices and variables, so that the same device is seen."""
    facts = ModelFacts(parameters=1000, layers=1, hidden_size=8, vocab_size=16, intermediate_size=16)
    needs = Requirements(task="masked", model=facts)
    here, there = interpret(OWNED), interpret(without_identity(OWNED))
    assert choose_policy(here, needs) == choose_policy(there, needs)
    assert [device.hidden_by is None for device in there.accelerators] == [
        device.hidden_by is None for device in here.accelerators
    ]


def test_what_identifies_nobody_is_kept() -> None:
    """Builds of torch, WSL, numbers in variables."""
    raw = OWNED.replace(
        torch={"version": "2.15.0+cu132"},
        proc_version="Linux version 6.18.33.2-microsoft-standard-WSL2 (root@x)",
        env={"CUDA_VISIBLE_DEVICES": "1,0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "ZE_AFFINITY_MASK": "0.1"},
    )
    kept = without_identity(raw)
    assert kept.torch == raw.torch
    assert kept.env == raw.env
    assert interpret(kept).environment["wsl"] == "2"


def test_every_recorded_machine_survives_being_recorded_again() -> None:
    """Recording is idempotent on what has been recorded."""
    for path in PROFILES.glob("*.json"):
        raw = RawObservations.from_dict(json.loads(path.read_text(encoding="utf-8")))
        once = without_identity(raw)
        assert without_identity(once) == once, path.stem
        assert interpret(once).accelerators == interpret(raw).accelerators, path.stem
