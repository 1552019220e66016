"""Whatever happens to a file of a sealed folder, it is not read, and the refusal names the file."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from distill_deploy import IntegrityError, load_tensors, staged

EXTRA = (
    "tokenizer_config.json",
    "modeling.py",
    "sub/extra.json",
    "adapter.safetensors",
    "chat_template.jinja",
)


def flip(raw: bytearray, generator: random.Random) -> None:
    """One bit."""
    raw[generator.randrange(len(raw))] ^= 1 << generator.randrange(8)


def cut(raw: bytearray, generator: random.Random) -> None:
    """The end is missing."""
    del raw[generator.randrange(len(raw)) :]


def grow(raw: bytearray, generator: random.Random) -> None:
    """Something follows the end."""
    raw += generator.randbytes(generator.randint(1, 9))


def insert(raw: bytearray, generator: random.Random) -> None:
    """A byte more inside."""
    raw.insert(generator.randrange(len(raw)), generator.randrange(256))


def swap(raw: bytearray, generator: random.Random) -> None:
    """Two stretches change places: same size, same bytes, another file."""
    before, middle = bytes(raw), generator.randrange(1, len(raw))
    raw[:] = raw[middle:] + raw[:middle]
    if bytes(raw) == before:
        raw[0] ^= 1


EDITS = (flip, cut, grow, insert, swap)


def mutate(work: Path, generator: random.Random) -> str:
    """Change one thing and return the name of the file that must be blamed."""
    names = [path.relative_to(work).as_posix() for path in sorted(work.rglob("*")) if path.is_file()]
    name = generator.choice(names)
    path, kind = work / name, generator.choice(("edit", "edit", "edit", "delete", "link", "extra"))
    if kind == "edit":
        raw = bytearray(path.read_bytes())
        generator.choice(EDITS)(raw, generator)
        path.write_bytes(bytes(raw))
    elif kind == "extra" or (kind == "delete" and name == "MANIFEST.json"):  # without it, it is unsealed
        name = generator.choice([extra for extra in EXTRA if extra not in names])
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_bytes(path.read_bytes())
    elif kind == "delete":
        path.unlink()
    else:
        shutil.move(path, work.parent / "outside")
        path.symlink_to(work.parent / "outside")
    return name


def campaign(folders: list[Path], scratch: Path, count: int) -> Iterator[str]:
    """Mutate copies of the folders in turn; yields what went wrong, which is nothing."""
    generator = random.Random(7)
    for number in range(count):
        work = scratch / "work"
        shutil.copytree(folders[number % len(folders)], work)
        name = mutate(work, generator)
        try:
            load_tensors(work)
            yield f"mutation {number} of {name} was accepted"
        except IntegrityError as error:
            if name not in str(error) or "\n" in str(error):
                yield f"mutation {number} of {name}: {error}"
        shutil.rmtree(work)


@pytest.fixture(scope="session")
def real_folders(trained: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A saved Marian, a Llama in shards with their index, and an export."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from distill_deploy import export

    root = tmp_path_factory.mktemp("real")
    with staged(root / "shards") as staging:
        AutoModelForCausalLM.from_pretrained(trained("llama")).save_pretrained(staging, max_shard_size="50KB")
        AutoTokenizer.from_pretrained(trained("llama")).save_pretrained(staging)
    assert len(list((root / "shards").glob("*.safetensors"))) > 1
    export(trained("marian"), root / "export", precision="fp32", max_new_tokens=8)
    folders = [trained("marian"), root / "shards", root / "export"]
    assert all(sum(f.stat().st_size for f in folder.rglob("*")) < 20e6 for folder in folders)
    return folders


def test_a_made_folder_survives_no_mutation(tmp_path: Path) -> None:
    """100 mutations of a folder made without torch: each is refused and named."""
    with staged(tmp_path / "model") as staging:
        save_file({"w": np.arange(320, dtype="f4").reshape(40, 8)}, staging / "model.safetensors")
        (staging / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 2}))
        (staging / "sub").mkdir()
        (staging / "sub" / "tokenizer.json").write_text('{"model": {}}')
    assert list(campaign([tmp_path / "model"], tmp_path, 100)) == []


@pytest.mark.extra("export")  # noqa: S610
def test_real_folders_survive_no_mutation(real_folders: list[Path], tmp_path: Path) -> None:
    """300 mutations over three real folders: none accepted, each named in one line."""
    assert list(campaign(real_folders, tmp_path, 300)) == []


@pytest.mark.slow
@pytest.mark.extra("export")  # noqa: S610
def test_ten_thousand_mutations_of_real_folders(real_folders: list[Path], tmp_path: Path) -> None:
    """10,000 mutations over three real folders: none accepted, each named in one line."""
    assert list(campaign(real_folders, tmp_path, 10_000)) == []
