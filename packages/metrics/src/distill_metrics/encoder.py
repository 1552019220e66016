"""A local or hub model as an encoder of texts into one vector a token, for BERTScore."""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_metrics.errors import MissingExtraError, SettingError

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger(__name__)

# Padded tokens of one forward pass: what fits the caches of a CPU is a fifth faster than four times as much.
_CPU_BATCH, _OTHER_BATCH = 1024, 16_384
_CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class Encoded:
    """A text as its encoder sees it.

    Attributes:
        ids: Token ids, special tokens included.
        vectors: float32 ``(tokens, width)``, each row of length 1.
    """

    ids: tuple[int, ...]
    vectors: "torch.Tensor"


class Encoder:
    """A model that gives each token of a text a vector, cut off after one of its layers.

    Vectors of references are kept up to 1 GiB, least recently used first out, so that a second evaluation
    against the same references encodes the predictions only.

    Args:
        name: Folder of a model with its tokenizer, or a model of the hub, which is then downloaded.
        layer: Number of layers that are used, from 1; None takes bert-score's table where it knows the model
            (by the last part of its name, or ``known_as``), else four fifths of all layers, rounded, which is
            about where that table stands for the models that it knows.
        known_as: The name under which bert-score's table and baselines know the model, where the folder is
            called otherwise: ``"bert-base-multilingual-cased"``.
        device: A torch device; None takes CUDA where there is one, else the CPU.

    Attributes:
        depth: Number of layers of the whole model.
        layer: Number of layers used.
        special_ids: Ids of CLS and SEP, which count for nothing.
        fingerprint: First 8 digits of the SHA-256 of the weights used.

    Raises:
        MissingExtraError: torch, transformers or, without ``layer``, bert-score are not installed.
        SettingError: The model cannot be loaded, has no such layer, or is of a kind that cannot be cut.
    """

    def __init__(
        self,
        name: str | Path,
        *,
        layer: int | None = None,
        known_as: str | None = None,
        device: str | None = None,
    ) -> None:
        torch = _torch()
        self.name, self.known_as = str(name), known_as
        self._tokenizer, model = _load(self.name)
        self.depth = _depth(model.config)
        self.layer = self._default_layer() if layer is None else layer
        if not 1 <= self.layer <= self.depth:
            raise SettingError(
                f"Layer {layer} of {name} was asked for; allowed: 1 to {self.depth}.",
                field="layer",
                found=layer,
                allowed=range(1, self.depth + 1),
                suggestion=self.depth,
            )
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._model = _cut(model, depth=self.depth, layer=self.layer).to(self.device).eval()
        self.fingerprint = _fingerprint(model)
        self._limit = _limit(self._tokenizer, model)
        self.special_ids = {self._tokenizer.cls_token_id, self._tokenizer.sep_token_id} - {None}
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._kept_bytes = 0
        self._check()

    @property
    def table_name(self) -> str:
        """The name under which bert-score may know the model."""
        return self.known_as or self.name

    def _default_layer(self) -> int:
        return _layer_in_table(self.table_name) or max(1, round(0.8 * self.depth))

    def _check(self) -> None:
        """That exactly the wanted layers run: models that cannot be cut so are refused, never misread."""
        import torch

        ids = torch.tensor([self.tokenize(["a"])[0]], device=self.device)
        with torch.inference_mode():
            states = self._model(input_ids=ids, output_hidden_states=True).hidden_states
        if states is None or len(states) != self.layer + 1:
            raise SettingError(
                f"{self.name} is of a kind whose layers cannot be chosen; use another encoder.", field="layer"
            )

    def tokenize(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of each text, stripped, with special tokens, cut at the longest that the model takes."""
        stripped = [text.strip() for text in texts]
        rows = self._tokenizer(stripped, truncation=False, verbose=False)["input_ids"]
        if self._limit is None or max(map(len, rows), default=0) <= self._limit:
            return [tuple(row) for row in rows]
        long = sum(len(row) > self._limit for row in rows)
        _LOG.warning("%d texts are cut to the %d tokens that %s takes.", long, self._limit, self.name)
        rows = self._tokenizer(stripped, truncation=True, max_length=self._limit)["input_ids"]
        return [tuple(row) for row in rows]

    def encode(self, texts: Sequence[str], *, keep: bool = False) -> dict[str, Encoded]:
        """Vectors of every different text.

        Args:
            texts: Any texts.
            keep: Whether the vectors are kept for a later call.
        """
        found = {text: self._kept[text] for text in texts if text in self._kept}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        fresh = dict(self._encode(new))
        if keep:
            for text, encoded in (found | fresh).items():
                self._keep(text, encoded)
        return found | fresh

    def forget(self) -> None:
        """Free the vectors that were kept."""
        self._kept.clear()
        self._kept_bytes = 0

    def _keep(self, text: str, encoded: Encoded) -> None:
        if text not in self._kept:
            self._kept_bytes += encoded.vectors.nbytes
        self._kept[text] = encoded
        self._kept.move_to_end(text)
        while self._kept_bytes > _CACHE_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.vectors.nbytes

    def _encode(self, texts: Sequence[str]) -> Iterator[tuple[str, Encoded]]:
        import torch

        rows = self.tokenize(texts) if texts else []
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]), reverse=True)
        budget = _CPU_BATCH if self.device.type == "cpu" else _OTHER_BATCH
        for batch in _batches(order, rows, budget):
            width = len(rows[batch[0]])
            ids = torch.full((len(batch), width), self._tokenizer.pad_token_id or 0)
            mask = torch.zeros((len(batch), width), dtype=torch.long)
            for line, index in enumerate(batch):
                size = len(rows[index])
                ids[line, :size], mask[line, :size] = torch.tensor(rows[index]), 1
            with torch.inference_mode():
                hidden = self._model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device))[0]
                vectors = hidden.float() / hidden.float().norm(dim=-1, keepdim=True)
            for line, index in enumerate(batch):
                # A copy, so that the padded batch is freed.
                yield texts[index], Encoded(rows[index], vectors[line, : len(rows[index])].clone())


def encoder_of(
    encoder: str | Path | Encoder,
    *,
    layer: int | None = None,
    known_as: str | None = None,
    device: str | None = None,
) -> Encoder:
    """The encoder itself, or the one of a folder or name; the last two loaded are kept for the next call.

    Raises:
        SettingError: An :class:`Encoder` was given together with settings that belong to its making.
        Exception: What :class:`Encoder` raises.
    """
    if isinstance(encoder, Encoder):
        if (layer, known_as, device) != (None, None, None):
            raise SettingError(
                "layer, known_as and device are settings of the Encoder; give them to it.", field="encoder"
            )
        return encoder
    return _loaded(str(encoder), _stamp(Path(encoder)), layer, known_as, device)


@lru_cache(maxsize=2)
def _loaded(  # the stamp is part of the key
    name: str, _stamp: object, layer: int | None, known_as: str | None, device: str | None
) -> Encoder:
    return Encoder(name, layer=layer, known_as=known_as, device=device)


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a folder is written again."""
    if not folder.is_dir():
        return ()
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def _torch() -> Any:
    try:
        import torch
        import transformers  # noqa: F401 - asked for together
    except ImportError as error:
        raise MissingExtraError(
            f"{error}. Run: pip install 'distill-metrics[bertscore]'.",
            field="encoder",
            suggestion="pip install 'distill-metrics[bertscore]'",
        ) from error
    return torch


def _load(name: str) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    folder = Path(name)
    if not folder.is_dir() and (folder.is_absolute() or name.startswith(".") or name.count("/") > 1):
        raise SettingError(f"There is no folder {name} to take as encoder.", field="encoder", found=name)
    try:
        config = AutoConfig.from_pretrained(name)
        # As bert-score does: a first word is tokenized as one inside a text.
        options = {"add_prefix_space": True} if config.model_type in ("gpt2", "roberta") else {}
        tokenizer: Any = AutoTokenizer.from_pretrained(name, **options)
        model: Any = AutoModel.from_pretrained(name, dtype="float32", use_safetensors=True)
    except (OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise SettingError(
            f"The encoder {name} cannot be loaded: {first}", field="encoder", found=name
        ) from error
    return tokenizer, model.get_encoder() if config.is_encoder_decoder else model


def _depth(config: Any) -> int:
    names = ("encoder_layers", "num_layers", "num_hidden_layers")
    return int(next(getattr(config, name) for name in names if getattr(config, name, None)))


def _cut(model: Any, *, depth: int, layer: int) -> Any:
    """The model without the layers above ``layer``."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            del module[layer:]
            break
    model.config.num_hidden_layers = layer
    return model


def _fingerprint(model: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy())
    return digest.hexdigest()[:8]


def _limit(tokenizer: Any, model: Any) -> int | None:
    """The longest text in tokens, or None where there is no limit."""
    import torch

    # transformers gives tokenizers without a limit 1e30.
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < 1 << 24 else []
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa counts positions from behind its padding index.
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - offset)
    return min(limits, default=None)


def _batches(order: Sequence[int], rows: Sequence[Sequence[int]], budget: int) -> Iterator[Sequence[int]]:
    """Parts of ``order``, which falls in length, of at most ``budget`` padded tokens."""
    start = 0
    while start < len(order):
        size = max(1, budget // len(rows[order[start]]))
        yield order[start : start + size]
        start += size


@lru_cache(maxsize=1)
def _table() -> dict[str, int]:
    try:
        from bert_score.utils import model2layers
    except ImportError as error:
        raise MissingExtraError(
            f"Without a layer, it is taken from bert-score's table, but: {error}. Name a layer, or run: "
            "pip install 'distill-metrics[bertscore]'.",
            field="layer",
            suggestion="pip install 'distill-metrics[bertscore]'",
        ) from error
    return dict(model2layers)


def _layer_in_table(name: str) -> int | None:
    table = _table()
    return table.get(name) or table.get(Path(name).name)
