"""Folders are written whole or not at all, and read only if nothing changed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from distill_deploy import (
    IntegrityError,
    NonFiniteWeightsError,
    load_tensors,
    save,
    staged,
    verify,
    write_manifest,
)


class Weights:
    """Saves one tensor the way a model does."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def save_pretrained(self, save_directory: str) -> None:
        save_file({"layer.weight": self.values}, Path(save_directory, "model.safetensors"))
        Path(save_directory, "config.json").write_text('{"model_type": "gpt2"}')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small folder with a manifest, with weights, a configuration and a file in a folder."""
    with staged(tmp_path / "model", metadata={"run": "r1"}) as staging:
        generator = np.random.default_rng(0)
        save_file({"w": generator.normal(size=(40, 8)).astype("f4")}, staging / "model.safetensors")
        (staging / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 2}))
        (staging / "sub").mkdir()
        (staging / "sub" / "tokenizer.json").write_text('{"model": {}}')
    return tmp_path / "model"


def test_a_staged_folder_verifies_and_carries_its_metadata(folder: Path) -> None:
    """What staged wrote verifies, lists its files and hands the metadata back."""
    found = verify(folder, require_manifest=True)
    assert found.has_manifest
    assert found.files == ("config.json", "model.safetensors", "sub/tokenizer.json")
    assert found.metadata == {"run": "r1"}


@pytest.mark.parametrize(
    ("change", "blamed"),
    [
        (lambda w: {}, "lacks the tensor 'w'"),
        (lambda w: {"w": w, "v": w}, "holds 'v'"),
        (lambda w: {"w": w.T.copy()}, "as F32 8x40, it was saved as F32 40x8"),
        (lambda w: {"w": w.astype("f2")}, "as F16 40x8, it was saved as F32 40x8"),
    ],
)
def test_sealing_again_does_not_bless_other_tensors(
    folder: Path, change: Callable[[np.ndarray], dict[str, np.ndarray]], blamed: str
) -> None:
    """A tensor missing, extra, of another shape or dtype is refused by load, though the hashes fit."""
    tensors = dict(load_tensors(folder).tensors)
    save_file(change(tensors["w"]), folder / "model.safetensors")
    write_manifest(folder)
    with pytest.raises(IntegrityError, match=f"model.safetensors.*{blamed}"):
        load_tensors(folder)


def test_cards_may_change_after_sealing(folder: Path) -> None:
    """README.md, .gitattributes and .cache/ are no part of the manifest."""
    (folder / "README.md").write_text("card")
    (folder / ".gitattributes").write_text("x")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.bin").write_text("x")
    assert verify(folder).has_manifest


def test_an_unsealed_folder_is_unverified_unless_a_manifest_is_required(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No manifest: accepted with one line "unverified"; require_manifest refuses it."""
    (folder / "MANIFEST.json").unlink()
    assert not verify(folder).has_manifest
    assert "unverified" in caplog.text
    with pytest.raises(IntegrityError, match=r"MANIFEST\.json is missing"):
        verify(folder, require_manifest=True)


def test_a_hub_snapshot_with_links_loads_unverified(folder: Path, tmp_path: Path) -> None:
    """Links are what a hub snapshot is made of, and are accepted where no manifest says otherwise."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "model.safetensors").symlink_to(folder / "model.safetensors")
    assert load_tensors(snapshot).tensors["w"].shape == (40, 8)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "x.pt", "training_args.bin", "a.pkl", "model.bin"])
def test_pickles_are_refused_even_without_a_manifest(folder: Path, name: str) -> None:
    """A pickle is never loaded, with a manifest or not."""
    (folder / name).write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(IntegrityError, match=name):
        verify(folder)
    write_manifest(folder)
    with pytest.raises(IntegrityError, match=f"{name} is a pickle"):
        verify(folder)
    (folder / "MANIFEST.json").unlink()
    with pytest.raises(IntegrityError, match=f"{name} is a pickle"):
        verify(folder)


def test_a_listed_optimizer_state_can_be_allowed(folder: Path) -> None:
    """A checkpoint names the optimizer state it reads with weights_only; unsealed it is refused."""
    (folder / "optimizer.pt").write_bytes(b"PK")
    write_manifest(folder)
    assert verify(folder, allow={"optimizer.pt"}).metadata == {"run": "r1"}
    (folder / "MANIFEST.json").unlink()
    with pytest.raises(IntegrityError, match=r"optimizer\.pt"):
        verify(folder, allow={"optimizer.pt"})


@pytest.mark.parametrize("part", ["../outside.safetensors", "/etc/passwd", "missing.safetensors"])
def test_an_index_that_leaves_the_folder_is_refused(folder: Path, part: str) -> None:
    """The parts that an index names are plain names of files that are there."""
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": part}}))
    write_manifest(folder)
    with pytest.raises(IntegrityError, match=part):
        load_tensors(folder)


def test_an_index_that_names_an_absent_tensor_is_refused(folder: Path) -> None:
    """A tensor that its file lacks is an error at load, not random weights later."""
    weight_map = {"w": "model.safetensors", "v": "model.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    write_manifest(folder)
    with pytest.raises(IntegrityError, match="'v'"):
        load_tensors(folder)


def test_a_manifest_that_leaves_the_folder_is_refused(folder: Path) -> None:
    """A manifest, however well signed by itself, names no path outside."""
    from distill_deploy.manifest import render

    (folder / "MANIFEST.json").write_bytes(render({"../x": {"size": 0, "sha256": ""}}, {}))
    with pytest.raises(IntegrityError, match=r"\.\./x"):
        verify(folder)


def test_an_existing_folder_is_kept_unless_overwrite(folder: Path) -> None:
    """FileExistsError without overwrite; with it the old files are gone and nothing is left beside."""
    with pytest.raises(FileExistsError, match="overwrite=True"), staged(folder):
        pass
    with staged(folder, overwrite=True) as staging:
        (staging / "new.json").write_text("{}")
    assert verify(folder).files == ("new.json",)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """Any exception removes the staging folder and leaves no target."""
    with pytest.raises(error), staged(tmp_path / "deep" / "model") as staging:  # noqa: PT012 - the body is the case
        assert staging.name.startswith(".")
        assert staging.name.endswith(".partial")
        (staging / "x").write_text("x")
        raise error
    assert list((tmp_path / "deep").iterdir()) == []


def test_an_exception_keeps_the_old_folder(folder: Path) -> None:
    """A failed overwrite leaves the old folder as it was."""
    with pytest.raises(ValueError, match="stop"), staged(folder, overwrite=True):
        raise ValueError("stop")
    assert verify(folder).metadata == {"run": "r1"}


def test_a_killed_writer_leaves_no_target_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    """After SIGKILL there is no target; the next staged removes what the dead process left."""
    code = """
        import os, signal, sys
        from distill_deploy import staged
        with staged(sys.argv[1]) as staging:
            (staging / "x").write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    target = tmp_path / "model"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    with staged(target) as staging:
        (staging / "y").write_text("y")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002, 0o077])
def test_modes_follow_the_umask(tmp_path: Path, umask: int) -> None:
    """Files get 0666 and folders 0777 less the umask, safetensors files (written 0600) among them."""
    before = os.umask(umask)
    try:
        with staged(tmp_path / "model") as staging:
            (staging / "sub").mkdir(mode=0o700)
            save_file({"w": np.zeros(1, "f4")}, staging / "sub" / "w.safetensors")
            (staging / "sub" / "w.safetensors").chmod(0o600)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "model").rglob("*")}
    assert modes == {"MANIFEST.json": 0o666 & ~umask, "sub": 0o777 & ~umask, "w.safetensors": 0o666 & ~umask}
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o777 & ~umask


def test_files_are_flushed_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file and its folder reach the disk while the target does not exist yet."""
    seen: list[tuple[int, bool]] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        seen.append((os.fstat(handle).st_ino, (tmp_path / "model").exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with staged(tmp_path / "model") as staging:
        (staging / "x").write_text("x")
    early = {inode for inode, renamed in seen if not renamed}
    for path in (tmp_path / "model", tmp_path / "model" / "x", tmp_path / "model" / "MANIFEST.json"):
        assert path.stat().st_ino in early
    assert (tmp_path.stat().st_ino, True) in seen


def test_save_and_load_round_trip_without_torch(tmp_path: Path) -> None:
    """What a model saved comes back as numpy arrays, verified."""
    values = np.arange(6, dtype="f4").reshape(2, 3)
    path = save(Weights(values), None, tmp_path / "m", metadata={"base": "b"})
    loaded = load_tensors(path, require_manifest=True)
    assert loaded.has_manifest
    assert list(loaded.tensors) == ["layer.weight"]
    np.testing.assert_array_equal(loaded.tensors["layer.weight"], values)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_weights_are_not_saved(tmp_path: Path, dtype: str, value: float) -> None:
    """NaN and infinity are refused by tensor name, and nothing is written."""
    values = np.ones((3, 4), dtype)
    values[1, 2] = value
    with pytest.raises(NonFiniteWeightsError, match=r"layer\.weight"):
        save(Weights(values), None, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_saving_nothing_is_an_error(tmp_path: Path) -> None:
    """At least one of model and tokenizer is needed."""
    with pytest.raises(ValueError, match="both are None"):
        save(None, None, tmp_path / "m")


def test_errors_survive_pickling() -> None:
    """Errors cross process borders."""
    error = pickle.loads(pickle.dumps(IntegrityError("x")))  # noqa: S301 - our own bytes
    assert str(error) == "x"


def test_importing_the_package_and_writing_folders_loads_nothing_heavy(tmp_path: Path) -> None:
    """Neither the package nor its functions for folders import torch, transformers or a backend."""
    code = """
        import sys
        import distill_deploy
        assert not {"torch", "transformers", "numpy"} & set(sys.modules)
        with distill_deploy.staged(sys.argv[1]) as s:
            (s / "a").write_text("a")
        distill_deploy.load_tensors(sys.argv[1])
        assert not {"torch", "transformers", "onnxruntime", "ctranslate2"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "m")], check=True)
