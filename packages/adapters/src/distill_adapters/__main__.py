"""The command line: ``python -m distill_adapters merge FOLDER OUT``, and ``--version``."""

import argparse
import sys
from pathlib import Path

from distill_adapters._version import __version__


def main(arguments: list[str] | None = None) -> int:
    """Merge an adapter, or print the version. Returns 0, or 1 after an error message of one line."""
    parser = argparse.ArgumentParser(prog="python -m distill_adapters", description="Work with adapters.")
    parser.add_argument("--version", action="version", version=f"distill-adapters {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    merging = commands.add_parser("merge", help="merge an adapter into its base model")
    merging.add_argument("folder", help="folder of the adapter")
    merging.add_argument("out", help="folder to make for the merged model")
    merging.add_argument("--base", help="location of the base, if it is not where the adapter says")
    merging.add_argument(
        "--into",
        default="auto",
        help="weights to merge into: original, dequantized, or auto, which tries both (default)",
    )
    merging.add_argument("--texts", help="file with one text per line, on which the drift is measured")
    merging.add_argument(
        "--bound", type=float, help="largest drift of the logits that is accepted, as a share of the largest"
    )
    options = parser.parse_args(arguments)

    from distill_adapters import merge

    try:
        texts = Path(options.texts).read_text(encoding="utf-8").splitlines() if options.texts else []
        written = merge(
            options.folder,
            options.out,
            base=options.base,
            into=options.into,
            texts=[text for text in texts if text.strip()],
            bound=options.bound,
        )
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{written}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
