"""An environment of its own for an exporter whose releases fit no other, made by uv from pinned packages."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from distill_deploy.errors import ExportError, MissingExtraError

_PINS = Path(__file__).parent / "environments"


def isolated_python(package: str) -> Path:
    """The Python of the environment for ``package``, made if it is not there yet.

    Its packages are those of ``environments/PACKAGE.txt``, with their hashes, from the index that uv is set
    up with. It lies under the user's cache, named by the hash of that file and this Python's version.

    Raises:
        MissingExtraError: There is no uv.
        ExportError: uv could not make the environment.
    """
    pins = _PINS / f"{package}.txt"
    named = pins.read_bytes() + sys.version.encode() + sys.base_prefix.encode()
    home = cache() / f"{package}-{hashlib.sha256(named).hexdigest()[:16]}"
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        partial = home.with_name(f".{home.name}.{secrets.token_hex(4)}")
        try:
            _uv("venv", "--relocatable", "--python", sys.executable, str(partial))
            _uv(
                "pip", "install", "--no-deps", "--require-hashes",
                "--python", str(_python(partial)), "--requirements", str(pins),
            )  # fmt: skip
            if not home.exists():  # another process may have been faster
                partial.rename(home)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return _python(home)


def cache() -> Path:
    """Where such environments lie: under ``$XDG_CACHE_HOME``, else where the system keeps a user's cache."""
    system = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else None
    base = os.environ.get("XDG_CACHE_HOME") or system or Path.home() / ".cache"
    return Path(base) / "distill-deploy"


def _python(home: Path) -> Path:
    return home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _uv(*arguments: str) -> None:
    found = shutil.which("uv")
    if found is None and importlib.util.find_spec("uv") is None:
        raise MissingExtraError("an environment of its own needs uv: python -m pip install uv")
    command = [found] if found is not None else [sys.executable, "-m", "uv"]
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(
        [*command, *arguments, "--quiet"], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise ExportError(f"uv could not make the exporter's environment: {done.stderr.strip()}")
