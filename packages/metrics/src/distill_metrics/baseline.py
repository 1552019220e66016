"""BERTScore baselines: what unrelated texts score, by encoder and layer."""

import csv
import importlib.util
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from distill_metrics.encoder import Encoder
from distill_metrics.errors import FileFormatError, SettingError, ShapeError
from distill_metrics.matching import Scores, match, token_weights

_CHUNK = 512


def compute_baseline(
    encoder: str | Path,
    texts: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    pairs: int = 10_000,
    seed: int = 0,
    device: str | None = None,
) -> dict[int, Scores]:
    """Compute the mean BERTScore of unrelated texts.

    Args:
        encoder: Folder or hub name of the model.
        texts: Sentences of the language that will be scored; equal and blank ones are left out.
        layers: For which layers; None takes the one that :class:`Encoder` takes. ``0`` stands for all.
        pairs: Number of pairs at most; a text takes part in several if there are fewer texts.
        seed: Seed of the pairing.
        device: A torch device.

    Returns:
        Precision, recall and F1 for each layer. Precision and recall differ by chance only.

    Raises:
        ShapeError: Fewer than two different texts.
        SettingError: No such encoder or layer.

    Source:
        Zhang et al. 2020, arXiv:1904.09675, section 3, "Baseline Rescaling", with one million pairs.
    """
    different = [text for text in dict.fromkeys(text.strip() for text in texts) if text]
    if len(different) < 2:
        raise ShapeError(
            f"{len(different)} different texts were given; a baseline needs pairs of them.",
            field="texts",
            found=len(different),
        )
    random.Random(seed).shuffle(different)  # noqa: S311 - no secret
    first = Encoder(encoder, layer=layers[0] if layers and layers[0] else None, device=device)
    wanted = [first.layer] if not layers else list(layers)
    if 0 in wanted:
        wanted = list(range(1, first.depth + 1))
    found = {}
    for layer in wanted:
        chosen = first if layer == first.layer else Encoder(encoder, layer=layer, device=device)
        found[layer] = _mean(chosen, different, pairs)
    return found


def _mean(encoder: Encoder, texts: Sequence[str], pairs: int) -> Scores:
    sums, count = [0.0, 0.0, 0.0], 0
    for said, right in _chunks(texts, pairs):
        vectors = encoder.encode([*said, *right])
        weights = {text: token_weights(encoded, encoder, None) for text, encoded in vectors.items()}
        for one, other in zip(said, right, strict=True):
            first, second = weights[one], weights[other]
            if first is not None and second is not None:
                scores = match(vectors[one], vectors[other], first, second)
                sums, count = [a + b for a, b in zip(sums, scores, strict=True)], count + 1
    if not count:
        raise ShapeError(
            "The encoder's tokenizer reduces every text to nothing; other texts are needed.", field="texts"
        )
    return sums[0] / count, sums[1] / count, sums[2] / count


def _chunks(texts: Sequence[str], pairs: int) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Pairs of different texts: each with its neighbour, then with the one after that, and so on."""
    n, left = len(texts), pairs
    for shift in range(1, n):
        for start in range(0, n, _CHUNK):
            said = texts[start : start + min(_CHUNK, left)]
            if not said:
                return
            right = [texts[(start + i + shift) % n] for i in range(len(said))]
            left -= len(said)
            yield said, right


def write_baseline(path: str | Path, baseline: dict[int, Scores]) -> None:
    """Write ``LAYER,P,R,F`` and a line a layer: the form of bert-score's own files."""
    lines = ["LAYER,P,R,F", *(f"{layer},{p},{r},{f}" for layer, (p, r, f) in sorted(baseline.items()))]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_baseline(path: str | Path, layer: int) -> Scores:
    """The line of a layer in a baseline file.

    Raises:
        FileFormatError: There is no such file, or it is not a baseline; the line is named.
        SettingError: It has no line for the layer.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(
            f"The baseline {path} cannot be read: {error}.", field="baseline", found=str(path)
        ) from error
    if not rows or [cell.strip() for cell in rows[0]] != ["LAYER", "P", "R", "F"]:
        raise FileFormatError(
            f"{path} is not a baseline: its first line is not LAYER,P,R,F.", field="baseline", found=str(path)
        )
    found: dict[int, Scores] = {}
    for number, row in enumerate(rows[1:], start=2):
        try:
            key, p, r, f = row
            found[int(key)] = float(p), float(r), float(f)
            if not max(found[int(key)]) < 1.0:
                raise ValueError("values below 1 are needed")
        except ValueError as error:
            raise FileFormatError(
                f"{path}, line {number} is not a layer and three numbers: {error}.",
                field="baseline",
                found=str(path),
            ) from error
    if layer not in found:
        layers = ", ".join(map(str, found)) or "none"
        raise SettingError(
            f"{path} has no line for layer {layer}; it has: {layers}. Compute it with --layer.",
            field="layer",
            found=layer,
            allowed=tuple(found),
        )
    return found[layer]


def shipped_baseline(encoder: Encoder, lang: str) -> Scores:
    """The baseline that bert-score's wheel ships for a language and the encoder's name.

    Raises:
        SettingError: It ships none; the languages that it has for this encoder are named.
    """
    spec = importlib.util.find_spec("bert_score")
    folders = [Path(place) / "rescale_baseline" for place in (spec and spec.submodule_search_locations) or ()]
    names = (encoder.table_name, Path(encoder.table_name).name)
    for folder in folders:
        for name in names:
            if (folder / lang / f"{name}.tsv").is_file():
                return read_baseline(folder / lang / f"{name}.tsv", encoder.layer)
    languages = {
        file.relative_to(folder).parts[0]
        for folder in folders
        for name in names
        for file in folder.glob(f"*/{name}.tsv")
    }
    has = f"it has: {', '.join(sorted(languages))}" if languages else "it has none of it at all"
    raise SettingError(
        f"bert-score ships no baseline of {names[1]} for lang={lang!r}; {has}. Compute one with "
        f"`distill-metrics baseline --encoder {encoder.name} --text FILE --out BASELINE` and name it as "
        "baseline, or leave rescale out.",
        field="lang",
        found=lang,
        allowed=tuple(sorted(languages)),
    )
