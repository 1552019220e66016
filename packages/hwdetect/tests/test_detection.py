"""Detection against folders that look like /proc and /sys, and on the machine at hand."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from distill_hwdetect import (
    ArgumentError,
    CpuFacts,
    HardwareProfile,
    ProfileError,
    RecordFieldError,
    detect,
    profile_from_recorded,
)

GIB = 2**30
V1 = "4:memory:/jobs/one\n1:cpu,cpuacct:/jobs/one\n0::/\n"
V1_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
V2_MOUNTS = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
CPUINFO = "".join(
    f"processor\t: {n}\nvendor_id\t: GenuineIntel\nmodel name\t: Test CPU\n"
    f"physical id\t: 0\ncore id\t\t: {n // 2}\n"
    "flags\t\t: fpu avx2 avx512f avx512_bf16\n\n"
    for n in range(8)
)


def tree(root: Path, files: Mapping[str, str]) -> str:
    """Write a machine of 8 CPUs on 4 cores with 16 GiB, 12 of them available, and further files."""
    base = {
        "proc/cpuinfo": CPUINFO,
        "proc/meminfo": f"MemTotal: {16 * 2**20} kB\nMemAvailable: {12 * 2**20} kB\nSwapTotal: 0 kB\n",
        "proc/version": "Linux version 6.1\n",
    }
    for name, text in {**base, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(root)


def test_cpuinfo_gives_cores_flags_and_name(tmp_path: Path) -> None:
    """Hardware threads and cores are distinguished; only flags that a rule reads are kept."""
    cpu = detect(root=tree(tmp_path, {})).cpu
    assert (cpu.logical_cores, cpu.physical_cores, cpu.usable_cores) == (8, 4, 8)
    assert cpu.flags == ("avx2", "avx512_bf16", "avx512f")
    assert (cpu.name, cpu.vendor, cpu.computes_bfloat16) == ("Test CPU", "GenuineIntel", True)


def test_without_cgroups_the_host_counts(tmp_path: Path) -> None:
    """No cgroup files: installed and available memory."""
    memory = detect(root=tree(tmp_path, {})).memory
    assert (memory.total_bytes, memory.available_bytes, memory.limit_bytes) == (16 * GIB, 12 * GIB, None)


def test_cgroup_v2_limits_are_walked_to_the_root(tmp_path: Path) -> None:
    """The tightest limit on the way up holds; file cache that can be dropped is not counted as used."""
    group = "sys/fs/cgroup/pod/app"
    files = {
        "proc/self/cgroup": "0::/pod/app\n",
        "proc/self/mountinfo": V2_MOUNTS,
        f"{group}/memory.max": "max\n",
        f"{group}/cpu.max": "max 100000\n",
        "sys/fs/cgroup/pod/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/pod/memory.current": f"{2 * GIB}\n",
        "sys/fs/cgroup/pod/memory.stat": f"anon 1\ninactive_file {GIB}\n",
        "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
    }
    profile = detect(root=tree(tmp_path, files))
    assert (profile.memory.total_bytes, profile.memory.available_bytes) == (4 * GIB, 3 * GIB)
    assert profile.memory.host_bytes == 16 * GIB
    assert profile.cpu.usable_cores == 2
    assert any("cgroup" in note for note in profile.notes)


def test_cgroup_v1_limits_are_read_beside_an_empty_v2_mount(tmp_path: Path) -> None:
    """On a hybrid system the v1 hierarchies hold the limits, each under its own mount."""
    files = {
        "proc/self/cgroup": V1,
        "proc/self/mountinfo": V1_MOUNTS,
        "sys/fs/cgroup/unified/cgroup.controllers": "",
        "sys/fs/cgroup/memory/jobs/memory.limit_in_bytes": f"{2 * GIB}\n",
        "sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes": f"{8 * GIB}\n",
        "sys/fs/cgroup/memory/jobs/memory.usage_in_bytes": f"{GIB}\n",
        "sys/fs/cgroup/memory/jobs/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB // 2}\n",
        "sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_quota_us": "300000\n",
        "sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_period_us": "100000\n",
    }
    profile = detect(root=tree(tmp_path, files))
    assert (profile.memory.limit_bytes, profile.memory.available_bytes) == (2 * GIB, GIB + GIB // 2)
    assert profile.cpu.usable_cores == 3


def test_no_limit_written_as_a_huge_number_is_no_limit(tmp_path: Path) -> None:
    """Version 1 writes 2**63 less a page; a quota of -1 is none either."""
    files = {
        "proc/self/cgroup": V1,
        "proc/self/mountinfo": V1_MOUNTS,
        "sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_quota_us": "-1\n",
    }
    profile = detect(root=tree(tmp_path, files))
    assert profile.memory.limit_bytes is None
    assert profile.memory.total_bytes == 16 * GIB
    assert profile.cpu.usable_cores == 8


def test_a_container_that_sees_only_its_own_subtree_is_read(tmp_path: Path) -> None:
    """The mount's root is the container's group: the path below it is empty."""
    files = {
        "proc/self/cgroup": "0::/docker/abc\n",
        "proc/self/mountinfo": "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
        "sys/fs/cgroup/memory.max": f"{GIB}\n",
    }
    assert detect(root=tree(tmp_path, files)).memory.limit_bytes == GIB


def test_arm_has_features_and_no_model_name(tmp_path: Path) -> None:
    """ARM's cpuinfo writes Features where x86 writes flags."""
    text = "processor : 0\nFeatures : fp asimd bf16 i8mm\n\nprocessor : 1\nFeatures : fp asimd bf16 i8mm\n"
    cpu = detect(root=tree(tmp_path, {"proc/cpuinfo": text})).cpu
    assert cpu.flags == ("asimd", "bf16", "i8mm")
    assert (cpu.name, cpu.logical_cores, cpu.physical_cores) == (None, 2, None)


def test_wsl_is_recognised(tmp_path: Path) -> None:
    """WSL's kernel names itself."""
    files = {"proc/version": "Linux version 5.15.167.4-microsoft-standard-WSL2\n"}
    assert detect(root=tree(tmp_path, files)).environment["wsl"] == "2"


def test_amd_targets_come_from_the_kernels_node(tmp_path: Path) -> None:
    """gfx_target_version 110000 is gfx1100; the CPU's node, 0, is none."""
    files = {
        "sys/class/kfd/kfd/topology/nodes/0/properties": "gfx_target_version 0\n",
        "sys/class/kfd/kfd/topology/nodes/1/properties": "gfx_target_version 110000\n",
        "sys/class/drm/card0/device/vendor": "0x1002\n",
        "sys/class/drm/card0/device/device": "0x744c\n",
        "sys/class/drm/card0/device/mem_info_vram_total": f"{24 * GIB}\n",
        "sys/class/drm/card0/device/mem_info_vram_used": f"{GIB}\n",
    }
    (device,) = detect(root=tree(tmp_path, files)).accelerators
    assert (device.kind, device.target, device.free_bytes) == ("rocm", "gfx1100", 23 * GIB)


def test_an_empty_root_gives_notes_and_no_crash(tmp_path: Path) -> None:
    """What cannot be read is noted."""
    profile = detect(root=str(tmp_path))
    assert profile.memory.total_bytes == 0
    assert len(profile.notes) == 3


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="compares with Linux's own files")
def test_this_machine_agrees_with_the_operating_system() -> None:
    """CPUs within the scheduler's affinity, memory as the kernel counts it, torch as it is installed."""
    profile = detect()
    assert 1 <= profile.cpu.usable_cores <= len(os.sched_getaffinity(0))
    assert 0 < profile.memory.available_bytes <= profile.memory.total_bytes
    assert profile.memory.host_bytes is not None
    assert profile.memory.total_bytes <= profile.memory.host_bytes
    assert profile.packages is not None
    assert ("torch" in profile.packages) == (profile.torch is not None)


def test_a_profile_survives_json() -> None:
    """``from_dict`` of the parsed text equals the profile, here and for every recorded machine."""
    paths = (Path(__file__).parent / "profiles").glob("*.json")
    profiles = [
        detect(),
        *(profile_from_recorded(json.loads(path.read_text(encoding="utf-8"))) for path in paths),
    ]
    for profile in profiles:
        assert HardwareProfile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "schema_version"),
        ({"schema_version": 2}, "schema_version"),
        ({"schema_version": 1}, None),
        ({"schema_version": 1, "cpu": 3, "memory": {}}, None),
        ({"schema_version": 1, "cpu": {}, "memory": {}}, "total_bytes"),
        ({"schema_version": 1, "cpu": {"core": 1}, "memory": {}}, "core"),
    ],
)
def test_what_is_not_a_profile_is_refused(data: Mapping[str, object], field: str | None) -> None:
    """The error is the package's own and says what to do."""
    with pytest.raises(ProfileError, match="distill-hwdetect --json") as caught:
        HardwareProfile.from_dict(data)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("raw", "field", "suggestion"),
    [
        ({}, "raw", None),
        ({"colour": "red"}, "raw", None),
        ({"gpus": ["one"]}, "gpus", None),
        ({"gpus": [{"vendor": "nvida"}]}, "gpus.vendor", "nvidia"),
        ({"gpus": "one"}, "gpus", None),
        ({"gpus": [], "os_cpu_count": "two"}, "os_cpu_count", None),
    ],
)
def test_what_is_not_a_recording_is_refused(
    raw: Mapping[str, object], field: str, suggestion: str | None
) -> None:
    """Nothing observed, a value of another type, or a GPU of an unknown vendor."""
    with pytest.raises(ProfileError) as caught:
        profile_from_recorded(raw)
    assert (caught.value.field, caught.value.suggestion) == (field, suggestion)


def test_a_record_refuses_a_field_that_it_does_not_have() -> None:
    """A ``TypeError``, like any call with a wrong keyword, that names the nearest field."""
    with pytest.raises(TypeError) as caught:
        CpuFacts(usable_core=1)  # type: ignore[call-arg]  # the mistake under test
    assert isinstance(caught.value, RecordFieldError)
    assert (caught.value.field, caught.value.suggestion) == ("usable_core", "usable_cores")


def test_another_probe_is_refused() -> None:
    """There is a fast and a deep one."""
    with pytest.raises(ValueError, match="fast") as caught:
        detect(probe="slow")  # type: ignore[arg-type]  # the mistake under test
    assert isinstance(caught.value, ArgumentError)
    assert (caught.value.field, caught.value.found) == ("probe", "slow")
    assert caught.value.allowed == ("fast", "deep")


def test_detecting_and_planning_import_nothing_heavy() -> None:
    """A fresh interpreter that detects, sizes a model and plans has no torch, numpy or transformers."""
    code = (
        "import sys\n"
        "from distill_hwdetect import Requirements, choose_policy, detect, read_model_facts\n"
        "facts = read_model_facts({'model_type': 'marian', 'd_model': 128})\n"
        "choose_policy(detect(), Requirements(task='seq2seq', model=facts, teacher=facts)).to_dict()\n"
        "heavy = {'torch', 'numpy', 'transformers', 'datasets'} & set(sys.modules)\n"
        "heavy |= {'psutil', 'importlib.metadata'} & set(sys.modules) if sys.platform == 'linux' else set()\n"
        "print(sorted(heavy))"
    )
    answer = subprocess.run(
        [sys.executable, "-S", "-c", _with_path(code)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def _with_path(code: str) -> str:
    """Run without site, whose .pth files may import anything, but with the same path."""
    return f"import sys; sys.path[:] = {sys.path!r}\n{code}"
