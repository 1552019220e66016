"""``python -m distill_adapters merge FOLDER OUT``."""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Merge an adapter; exit code 0, or 1 with one line that says why not."""
    parser = argparse.ArgumentParser(prog="python -m distill_adapters", description="Work with adapters.")
    commands = parser.add_subparsers(dest="command", required=True)
    merging = commands.add_parser("merge", help="merge an adapter into its base model")
    merging.add_argument("folder", help="the folder with the adapter")
    merging.add_argument("out", help="where the merged model goes")
    merging.add_argument("--base", help="where the base lies, if not where the adapter says")
    merging.add_argument("--into", default="auto", help="auto, original or dequantized weights")
    merging.add_argument("--texts", help="a file with a text a line, to measure the drift on")
    merging.add_argument("--bound", type=float, help="largest drift of logits, as a share of the largest")
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
