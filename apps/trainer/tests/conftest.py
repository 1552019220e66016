"""A tiny run: words spelt out in capitals, a tokenizer, and a run file of every kind of stage."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

MODEL = """
model_type = "marian"
d_model = {size}
encoder_layers = 1
decoder_layers = 1
encoder_attention_heads = 2
decoder_attention_heads = 2
encoder_ffn_dim = 32
decoder_ffn_dim = 32
max_position_embeddings = 32
init_std = 0.2
scale_embedding = true
dropout = 0.0
"""

HEAD = f"""
[run]
name = "tiny"
[data]
train = "train.jsonl"
validation = "validation.jsonl"
test = "test.jsonl"
spellings = "spellings.txt"
[data.limits]
max_source_length = 16
max_target_length = 16
[models.big]
tokenizer = "tokenizer"
[models.big.config]{MODEL.format(size=32)}
[models.small]
tokenizer = "big"
[models.small.config]{MODEL.format(size=16)}
[hardware]
parallel_stages = 1
threads = 1
[stages.teacher]
kind = "finetune"
model = "big"
data = "train"
[stages.teacher.train]
steps = 12
batch_size = 16
learning_rate = 3e-3
"""

REST = """
[stages.labels]
kind = "pseudo_label"
model = "teacher"
data = "spellings"
max_new_tokens = 8
[stages.stored]
kind = "cache_teacher"
model = "teacher"
data = ["train", "labels"]
[stages.student]
kind = "distill"
model = "small"
teacher = "stored"
data = ["train", "labels"]
[stages.student.train]
steps = 4
batch_size = 16
[stages.student.objective]
kd_weight = 0.3
[stages.baseline]
kind = "finetune"
model = "small"
seeds = [1, 2]
[stages.baseline.train]
steps = 3
[stages.scores]
kind = "evaluate"
systems = ["teacher", "student", "baseline"]
metrics = ["per", "exact_match"]
compare = [["student", "baseline"], ["student", "teacher"]]
max_new_tokens = 8
[stages.edge]
kind = "export"
model = "student"
precision = "fp32"
data = "test"
metrics = ["per"]
max_new_tokens = 8
[stages.report]
kind = "report"
"""


def _rows(count: int, seed: int) -> list[dict[str, str]]:
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcd", k=draw.randint(2, 5))) for _ in range(count)]
    return [{"source": word, "target": " ".join(word.upper())} for word in words]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the heavy checks of this app out unless they are asked for: ``-m slow``."""
    if "slow" in str(config.option.markexpr):
        return
    here = Path(__file__).parent
    heavy = [item for item in items if item.path.is_relative_to(here) and item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=heavy)
    items[:] = [item for item in items if item not in heavy]


@pytest.fixture(scope="session")
def _material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from distill_datakit import train_tokenizer

    folder = tmp_path_factory.mktemp("material")
    for seed, (name, count) in enumerate({"train": 48, "validation": 8, "test": 24}.items()):
        lines = "".join(json.dumps(row) + "\n" for row in _rows(count, seed))
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    spellings = "".join(row["source"] + "\n" for row in _rows(20, 9))
    (folder / "spellings.txt").write_text(spellings, encoding="utf-8")
    rows = _rows(48, 0)
    tokenizer = train_tokenizer(
        [row["source"] for row in rows], kind="symbols", targets=[row["target"] for row in rows]
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture
def workplace(_material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the data, the tokenizer and ``tiny.toml`` of every kind of stage."""
    import shutil

    folder = tmp_path / "work"
    shutil.copytree(_material, folder)
    (folder / "tiny.toml").write_text(HEAD + REST, encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture
def head() -> str:
    """The part of ``tiny.toml`` that only trains a teacher."""
    return HEAD


@pytest.fixture
def edit(workplace: Path) -> Callable[[str, str], None]:
    """``edit(old, new)``: change ``tiny.toml`` in one place."""

    def change(old: str, new: str) -> None:
        path = workplace / "tiny.toml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change
