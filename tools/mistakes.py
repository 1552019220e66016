"""Documented mistakes: the change to a working run file or its files, and what the error must say."""

import json
import shutil
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Work = Callable[[Path], None]


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        edits: Old and new text of ``tiny.toml``; an empty old text appends.
        said: What the error has to hold.
        work: What is done to the workplace.
        command: What is typed.
        code: The exit code.
        offline: The printed fix can be applied without a network.
    """

    edits: tuple[tuple[str, str], ...] = ()
    said: tuple[str, ...] = ()
    work: Work | None = None
    command: str = "plan tiny.toml"
    code: int = 2
    offline: bool = True


def _change(name: str, change: Callable[[str], str]) -> Work:
    def work(place: Path) -> None:
        text = (place / name).read_text(encoding="utf-8")
        (place / name).write_text(change(text), encoding="utf-8")

    return work


def _line(number: int, new: str, name: str = "train.jsonl") -> Work:
    """Write something else in a line."""

    def change(text: str) -> str:
        lines = text.splitlines()
        lines[number - 1] = new
        return "\n".join(lines) + "\n"

    return _change(name, change)


def _keys(name: str, *new: str) -> Work:
    """Give the columns of a file other names."""

    def change(text: str) -> str:
        rows = [json.loads(line) for line in text.splitlines()]
        return "".join(json.dumps(dict(zip(new, row.values(), strict=True))) + "\n" for row in rows)

    return _change(name, change)


def _file(name: str, content: bytes) -> Work:
    def work(place: Path) -> None:
        (place / name).write_bytes(content)

    return work


def _instead_of_train(name: str, *said: str, content: str) -> Mistake:
    return Mistake((('"train.jsonl"', f'"{name}"'),), said, _file(name, content.encode()))


def _csv(header: str, *more: str) -> str:
    rows = [f"{word},{' '.join(word.upper())}" for word in ("ab", "cd", "da")]
    return "\n".join([header, *rows, *more]) + "\n"


def _saved(path: str, more: str = "") -> tuple[tuple[str, str], ...]:
    """A saved model that the evaluate stage scores too."""
    systems = '["teacher", "student", "baseline"'
    return (("", f'[models.saved]\npath = "{path}"\n{more}'), (f"{systems}]", f'{systems}, "saved"]'))


def _emptied(place: Path) -> None:
    (place / "train.jsonl").rename(place / "train2.jsonl")
    (place / "train.jsonl").write_bytes(b"")


def _moved(place: Path) -> None:
    (place / "material").mkdir()
    (place / "train.jsonl").rename(place / "material" / "train.jsonl")


def _nested(place: Path) -> None:
    shutil.copytree(place / "saved" / "seq2seq", place / "one" / "model")


def _notes(place: Path) -> None:
    _alone(place)
    shutil.copytree(place / "tokenizer", place / "saved" / "notes")


def _broken(place: Path) -> None:
    _alone(place)
    shutil.copytree(place / "saved" / "seq2seq", place / "saved" / "broken")
    (place / "saved" / "broken" / "config.json").write_text('{"model_type": "mar', encoding="utf-8")


def _lost(place: Path) -> None:
    _alone(place)
    (place / "saved" / "lost").mkdir()
    config = '{"base_model_name_or_path": "./gone"}'
    (place / "saved" / "lost" / "adapter_config.json").write_text(config, encoding="utf-8")


def _alone(place: Path) -> None:
    for task in ("causal", "masked"):
        shutil.rmtree(place / "saved" / task)


def _commented(place: Path) -> None:
    file = place / "tiny.toml"
    file.write_bytes(b"# caf\xe9\n" + file.read_bytes())


def _folder(name: str) -> Work:
    return lambda place: (place / name).mkdir()


def _until(mark: str, more: str = "") -> Work:
    return _change("tiny.toml", lambda text: text.partition(mark)[0] + more)


_SPLIT = ('validation = "validation.jsonl"\ntest = "test.jsonl"\n', "")
_OTHER = ('tokenizer = "big"\n[models.small', 'tokenizer = "letters"\n[models.small')

_BY_HAND: Mapping[str, Mistake] = {
    "no stages": Mistake((), ("[stages] is missing",), _until("[stages.teacher]")),
    "empty stages": Mistake((), ("[stages] is empty",), _until("[stages.teacher]", "[stages]\n")),
    "a misspelt adapter": Mistake(_saved("saved/seq2seq", 'adapter = "lorra"\n'), ("adapter", "'lora'")),
    "a reporter that is not installed": Mistake(
        (('name = "tiny"', 'name = "tiny"\nreport_to = ["swanlab"]'),), ("pip install",), offline=False
    ),
    "a misspelt folder": Mistake((('"train.jsonl"', '"materail/train.jsonl"'),), ("'material'",), _moved),
    "a CSV with other columns": _instead_of_train(
        "words.csv", "source and target", content=_csv("word,spoken")
    ),
    "a row with too many cells": _instead_of_train(
        "words.csv", "row 5", content=_csv("source,target", "ab,A,B")
    ),
    "a table of a spreadsheet": _instead_of_train("train.xlsx", ".jsonl", content="PK"),
    "a broken table": _instead_of_train("train.parquet", "Parquet", content="PAR1 and no more"),
    "lines with other keys": Mistake((), ("data.test",), _keys("test.jsonl", "src", "tgt")),
    "a key with a capital": Mistake((), ("data.train",), _keys("train.jsonl", "Source", "Target")),
    "a line that is cut off": Mistake((), ("row 5",), _line(5, '{"source": "ab", "targ')),
    "a line without target": Mistake((), ("row 3", "target"), _line(3, '{"source": "ab"}')),
    "a number for a text": Mistake((), ("row 4",), _line(4, '{"source": "ab", "target": 7}')),
    "an empty target": Mistake((), ("row 4",), _line(4, '{"source": "ab", "target": null}')),
    "a list as a line": Mistake((), ("row 2",), _line(2, '["ab", "A B"]')),
    "data in another encoding": Mistake((), ("UTF-8",), _file("spellings.txt", b"caf\xe9\n")),
    "an empty file": Mistake((), ("no row",), _emptied),
    "too few rows to part": Mistake(
        (_SPLIT,),
        ("exact=True",),
        _change("train.jsonl", lambda text: "".join(text.splitlines(keepends=True)[:8])),
    ),
    "a folder without tokenizer": Mistake(
        (('"tokenizer"', '"empty"'),), ("holds no tokenizer",), _folder("empty")
    ),
    "a misspelt model": Mistake(_saved("saved/seq2sek"), ("models.saved.path", "saved/seq2seq'")),
    "a folder above the model": Mistake(_saved("one"), ("models.saved.path", "config.json"), _nested),
    "a folder of something else": Mistake(_saved("saved/notes"), ("is not a model",), _notes),
    "a file of a model": Mistake(_saved("saved/seq2seq/config.json"), ("is a file",)),
    "a configuration that is cut off": Mistake(_saved("saved/broken"), ("is not valid JSON",), _broken),
    "an adapter whose base is gone": Mistake(_saved("saved/lost"), ("base", "./gone"), _lost),
    "a teacher of another task": Mistake(
        (*_saved("saved/causal"), ('teacher = "stored"', 'teacher = "saved"')), ("same task", "causal")
    ),
    "a scored model of another task": Mistake(_saved("saved/masked"), ("same task", "masked")),
    "a student with another tokenizer": Mistake(
        (_OTHER, ('teacher = "stored"', 'teacher = "teacher"')), ("different tokenizers",)
    ),
    "a misspelt name on the hub": Mistake(_saved("tiny/speler"), ("hub", "tiny/speller")),
    "a name that is not on this disk": Mistake(
        _saved("google/some-model"), ("hf download google/some-model",), offline=False
    ),
    "a run file in another encoding": Mistake((), ("UTF-8",), _commented),
    "more than there is memory": Mistake(
        (("encoder_layers = 1", "encoder_layers = 4000000"),), ("GB",), code=3
    ),
    "runs of nowhere": Mistake((), ("'runs'",), _folder("runs"), "list rusn"),
    "a teacher cache that is not there": Mistake(
        (), ("cache_teacher",), _until("[stages.labels]"), "cache tiny.toml"
    ),
}


def _read() -> Mapping[str, Mistake]:
    content = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    edits = {
        name: Mistake(((old, new),), tuple(said)) for name, (old, new, *said) in content["edits"].items()
    }
    typed = {name: Mistake((), tuple(said), None, line) for name, (line, *said) in content["typed"].items()}
    return {**edits, **_BY_HAND, **typed}


MISTAKES = _read()
