"""Keep ``uv.lock`` portable: names, versions and markers, and no address."""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

SOURCE = 'source = { registry = "." }'


def portable(text: str) -> str:
    """Return the lock ``text`` reduced to what uv takes as preferences.

    Args:
        text: A complete or already portable ``uv.lock``.

    Returns:
        The header without the workspace's own metadata, then each package from an index with its name,
        version, source ``.`` and resolution markers. Workspace members are left out.
    """
    header, *blocks = text.split("[[package]]\n")
    header = re.split(r"^\[(?:manifest|options)", header, maxsplit=1, flags=re.MULTILINE)[0].strip()
    kept = [header]
    for block in blocks:
        package = tomllib.loads("[[package]]\n" + block)["package"][0]
        if "registry" not in package["source"]:
            continue
        lines = ["[[package]]", f'name = "{package["name"]}"', f'version = "{package["version"]}"', SOURCE]
        markers = package.get("resolution-markers", [])
        if markers:
            lines += ["resolution-markers = [", *(f'    "{marker}",' for marker in markers), "]"]
        kept.append("\n".join(lines))
    return "\n\n".join(kept) + "\n"


def main() -> int:
    """Write the portable form in place, or with ``--check`` only compare it with a committed lock."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lock", type=Path, nargs="?", default=Path("uv.lock"))
    parser.add_argument("--check", type=Path, metavar="COMMITTED", help="compare with this committed lock")
    arguments = parser.parse_args()
    result = portable(arguments.lock.read_text(encoding="utf-8"))
    if arguments.check is None:
        arguments.lock.write_text(result, encoding="utf-8")
        return 0
    if result == arguments.check.read_text(encoding="utf-8"):
        return 0
    print("The portable form of uv.lock differs from the committed one. Run: nox -s lock", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
