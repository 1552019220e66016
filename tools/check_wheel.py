"""Check built wheels: licence, type marker, version and metadata are in each of them."""

from __future__ import annotations

import argparse
import email
import sys
import zipfile
from pathlib import Path


def faults(wheel: Path, licence: bytes) -> list[str]:
    """List the faults of one wheel.

    Args:
        wheel: A ``.whl`` file named by the packaging standard.
        licence: The text that every wheel must carry.

    Returns:
        One line per fault; empty when there is none.
    """
    distribution, version = wheel.name.split("-")[:2]
    info = f"{distribution}-{version}.dist-info"
    found = []
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        licence_name = f"{info}/licenses/LICENSE"
        if licence_name not in names or archive.read(licence_name) != licence:
            found.append(f"{licence_name} is missing or not the project's licence")
        if not any(name.endswith("/py.typed") for name in names):
            found.append("there is no py.typed")
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
    if metadata["License-Expression"] != "Apache-2.0":
        found.append(f"License-Expression is {metadata['License-Expression']!r}, not 'Apache-2.0'")
    if not str(metadata.get_payload()).strip():
        found.append("the README is not in the metadata")
    if any(name.startswith("tests/") or "/tests/" in name for name in names):
        found.append("tests are inside")
    return [f"{wheel.name}: {fault}" for fault in found]


def main() -> int:
    """Check the wheels given, print every fault, exit 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels", type=Path, nargs="+")
    arguments = parser.parse_args()
    licence = (Path(__file__).parents[1] / "LICENSE").read_bytes()
    found = [fault for wheel in arguments.wheels for fault in faults(wheel, licence)]
    for fault in found:
        print(fault, file=sys.stderr)
    print(f"{len(arguments.wheels)} wheels checked, {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
