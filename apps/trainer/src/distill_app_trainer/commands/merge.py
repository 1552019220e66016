"""The command ``merge``."""

import argparse
from pathlib import Path

from distill_app_trainer.commands.command import Command
from distill_app_trainer.errors import UsageError


def merge(arguments: argparse.Namespace) -> None:
    """Merge a trained adapter into its base, and save the whole model."""
    source, target = Path(arguments.adapter), Path(arguments.out)
    if not (source / "adapter_config.json").is_file():
        raise UsageError(
            f"{source} is not an adapter: it holds no adapter_config.json. Name the folder of one."
        )
    if target.exists():
        raise UsageError(f"{target} exists and is not overwritten. Name a folder that is not there yet.")
    from distill_adapters.quiet import quieten_libraries, wait_passively

    wait_passively()
    quieten_libraries()
    from distill_adapters import merge as merge_adapter

    merge_adapter(source, target)
    print(target)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", metavar="ADAPTER", help="the folder of a trained adapter")
    parser.add_argument("out", metavar="OUT", help="the folder to write, which must not exist")


MERGE = Command(merge, _arguments)
