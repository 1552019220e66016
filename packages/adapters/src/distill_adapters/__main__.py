"""``python -m distill_adapters merge FOLDER OUT``."""

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Merge an adapter; exit code 0, or 1 with one line that says why not."""
    parser = argparse.ArgumentParser(prog="python -m distill_adapters", description="Work with adapters.")
    commands = parser.add_subparsers(dest="command", required=True)
    merging = commands.add_parser("merge", help="merge an adapter into its base model")
    merging.add_argument("folder", help="the folder with the adapter")
    merging.add_argument("out", help="where the merged model goes")
    options = parser.parse_args(arguments)

    from distill_adapters import merge

    try:
        written = merge(options.folder, options.out)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{written}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
