"""The writing of a cache may be killed at any point."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cache_kills.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes that are forked")
def test_five_kills_lose_nothing_and_leave_nothing_half(tmp_path: Path) -> None:
    """Whole shards survive, half ones are made again, the end is byte for byte that of a quiet writing."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "5"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("5 kills ")
