"""Where run files and what they name lie on disk."""

from pathlib import Path

from distill_adapters import is_hub_name
from distill_app_trainer.errors import ReplaceWord, RunFileError
from distill_app_trainer.spelling import did_you_mean, nearest

PACKAGED = "packaged:"


def examples_folder() -> Path:
    """The folder of the run files that ship with this app."""
    return Path(__file__).parent.parent / "examples"


def example_names() -> tuple[str, ...]:
    """Names that ``distill-train run`` takes instead of a path."""
    return tuple(sorted(path.stem for path in examples_folder().glob("*.toml")))


def find_run_file(name: str) -> Path:
    """The run file that a path, or the name of a shipped example, means.

    Raises:
        RunFileError: There is neither; the nearest example is named.
    """
    path = Path(name)
    if path.is_file():
        return path
    example = examples_folder() / f"{name.replace('_', '-')}.toml"
    for candidate in (examples_folder() / f"{name}.toml", example):
        if path.name == name and candidate.is_file():
            return candidate
    if path.is_dir():
        inside = sorted([*path.glob("*.toml"), *path.parent.glob("*.toml")])
        raise RunFileError(
            f"{name} is a folder; the path of a run file (.toml) is needed.",
            fix=ReplaceWord(name, str(inside[0])) if inside else None,
        )
    others = [str(other) for other in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    known = [*others, *example_names()]
    right = nearest(name, known)
    raise RunFileError(
        f"There is no run file {name}.{did_you_mean(name, known)} Shipped examples: "
        f"{', '.join(example_names()) or 'none'}.",
        fix=ReplaceWord(name, right or "quickstart"),
    )


def resolve(path: str, base: Path) -> str:
    """The absolute path of what a run file in ``base`` names; ``packaged:NAME`` lies among the examples.

    A name on the hub stays as it is. What is not beside the run file is looked for in the working directory.
    """
    if path.startswith(PACKAGED):
        return str((examples_folder() / path.removeprefix(PACKAGED)).resolve())
    beside = base / Path(path).expanduser()
    if not beside.exists() and Path(path).exists():
        return str(Path(path).resolve())
    return path if is_hub_name(path, base) else str(beside.resolve())
