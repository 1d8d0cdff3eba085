"""TRINITY's reference backbone, Qwen3-0.6B, and others of its kind: what of it is trained, and its states, from the user's files.

The paper trains a head of (workers + 3) x width numbers and the singular values of nine matrices: the embedding, the seven of the
last layer but one, and the output (arXiv 2512.04695). A folder as Hugging Face has them is read with torch and
transformers, on a GPU if there is one; a GGUF file is asked through llama.cpp, where the scales cannot change between two texts.
The output matrix is counted and has scales, as in the paper, yet no state passes it: its scales drift freely.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from stretto.errors import ConfigError
from stretto.learning.trinity.backbone_export import scaled, spectrum
from stretto.learning.trinity.evolution import Candidate, Space
from stretto.policies.coordinator import ROLES

__all__ = [
    "AskedStates",
    "Matrix",
    "ScaledSpace",
    "Shape",
    "TorchStates",
    "bake",
    "shape_of_config",
    "shape_of_gguf",
]

Array = Any

_LAYER: Final = (
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
)
_EMBEDDING: Final = "embed_tokens.weight"
_OUTPUT: Final = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix with scales: its name in a state dict (without `model.`), in a GGUF file, its rows (outputs) and columns."""

    name: str
    tensor: str
    rows: int
    columns: int

    @property
    def scales(self) -> int:
        """How many singular values it has."""
        return min(self.rows, self.columns)


@dataclass(frozen=True, slots=True)
class Shape:
    """What is trained of a backbone: states of `width` numbers, and the scales of `matrices`, in the order of the state dict."""

    width: int
    layers: int
    matrices: tuple[Matrix, ...]

    @property
    def scales(self) -> int:
        """The scales of all matrices."""
        return sum(matrix.scales for matrix in self.matrices)

    def parameters(self, workers: int) -> int:
        """How many numbers are trained for so many workers, with a linear head: 19,456 for seven over Qwen3-0.6B."""
        return (workers + len(ROLES)) * self.width + self.scales


def shape_of_config(config: Mapping[str, Any]) -> Shape:
    """From the `config.json` of a Qwen3, Llama or another model with their names. Raises `ConfigError` if it tells too little."""
    try:
        width, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        heads, vocabulary = int(config["num_attention_heads"]), int(config["vocab_size"])
        inner = int(config["intermediate_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"this is no configuration of a causal language model: {error!r}") from None
    size = int(config.get("head_dim") or width // heads)
    queries, keys = heads * size, int(config.get("num_key_value_heads") or heads) * size
    return _shape(
        width,
        layers,
        vocabulary,
        (
            *((queries, width), (keys, width), (keys, width), (width, queries)),
            *((inner, width), (inner, width), (width, inner)),
        ),
    )


def shape_of_gguf(path: Path) -> Shape:
    """From the tensors of a GGUF file. Raises `ConfigError` for a file without the seven matrices of a layer."""
    import gguf

    tensors = {t.name: tuple(int(n) for n in reversed(t.shape)) for t in gguf.GGUFReader(path).tensors}
    layers = 1 + max((int(name.split(".")[1]) for name in tensors if name.startswith("blk.")), default=-1)
    try:
        vocabulary, width = tensors["token_embd.weight"]
        own: list[tuple[int, ...]] = [
            tensors[f"blk.{max(0, layers - 2)}.{name}.weight"] for _, name in _LAYER
        ]
    except (KeyError, ValueError):
        raise ConfigError(
            f"{path}: has not the matrices of a causal language model of the Llama kind"
        ) from None
    return _shape(width, layers, vocabulary, own)


def _shape(width: int, layers: int, vocabulary: int, seven: Sequence[tuple[int, ...]]) -> Shape:
    at = max(0, layers - 2)
    own = (
        Matrix(f"layers.{at}.{name}.weight", f"blk.{at}.{tensor}.weight", rows, columns)
        for (name, tensor), (rows, columns) in zip(_LAYER, seven, strict=True)
    )
    embedding = Matrix(_EMBEDDING, "token_embd.weight", vocabulary, width)
    output = Matrix(_OUTPUT, "", vocabulary, width)
    return Shape(width, layers, (embedding, *own, output))


def bake(source: Path, scales: Mapping[str, Array], target: Path) -> Path:
    """A GGUF file with the scales of its matrices (by their names in the state dict); otherwise as `backbone_export.scaled`."""
    tensors = {matrix.name: matrix.tensor for matrix in shape_of_gguf(source).matrices}
    return scaled(source, {tensors[name]: delta for name, delta in scales.items() if tensors[name]}, target)


class ScaledSpace(Space):
    """Genomes over a backbone that scales its matrices itself: a candidate holds the scales by name, not whole matrices."""

    def __init__(self, rows: int, width: int, matrices: Sequence[Matrix], **head: Any) -> None:
        super().__init__(
            rows, width, scaled={m.name: (None, np.ones(m.scales), None) for m in matrices}, **head
        )

    def candidate(self, genome: Array) -> Candidate:
        """The coordinator of a genome."""
        bare = Space(self.rows, self.width, self.shape, rank=self.rank, blocks=len(self._blocks))
        return Candidate(bare.candidate(genome[: self.head_size]).head, self.deltas(genome))


class TorchStates:
    """The states of a model in a folder: `config.json`, weights, tokeniser. Nothing is ever downloaded. Needs the `train` extra.

    Raises `ConfigError` when the folder cannot be read. `device`: a GPU if there is one.
    """

    def __init__(self, folder: Path, pooling: str = "penultimate", *, device: str = "") -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(folder, local_files_only=True, dtype="auto")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{folder}: is not a folder with a model and its tokeniser: {error}") from None
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._begin(model.to(place), lambda text: list(tokenizer(text)["input_ids"]), config, pooling)

    @classmethod
    def of(
        cls,
        model: Any,
        tokens: Callable[[str], list[int]],
        config: Mapping[str, Any],
        pooling: str = "penultimate",
    ) -> "TorchStates":
        """The states of a model (without its output matrix) that is in memory already."""
        made = cls.__new__(cls)
        made._begin(model, tokens, config, pooling)
        return made

    def _begin(
        self, model: Any, tokens: Callable[[str], list[int]], config: Mapping[str, Any], pooling: str
    ) -> None:
        self.shape = shape_of_config(config)
        self.pooling = pooling
        self.model = model.eval()
        self._tokens = tokens
        self._known: dict[str, tuple[Any, Any]] = {}
        self._rows: dict[str, Array] = {}
        self._weights = dict(model.named_parameters())

    def rows(self, texts: Sequence[str]) -> Array:
        """A row a text, by the model as it is; each is computed once."""
        for text in texts:
            if text not in self._rows:
                self._rows[text] = self._state(text, {})
        return np.stack([self._rows[text] for text in texts])

    def scaled(self, texts: Sequence[str], scales: Mapping[str, Array]) -> Array:
        """A row a text, with the singular values of these matrices times 1 + their scales, nuclear norms kept."""
        own = {name: self._rescaled(name, delta) for name, delta in scales.items() if name in self._weights}
        return np.stack([self._state(text, own) for text in texts])

    def keep(self) -> None:
        """States of general models are not kept on disk."""

    def _state(self, text: str, weights: Mapping[str, Any]) -> Array:
        import torch

        ids = self._tokens(text)
        read = torch.tensor([ids], device=self.model.device)
        with torch.inference_mode():
            found = torch.func.functional_call(self.model, dict(weights), (read,)).last_hidden_state[0]
        found = found.float()
        if self.pooling == "mean":
            return found.mean(0).cpu().numpy()
        return found[-2 if self.pooling == "penultimate" and len(ids) > 1 else -1].cpu().numpy()

    def _rescaled(self, name: str, delta: Array) -> Any:
        """As `backbone_export.rescaled`, on the model's device."""
        import torch

        weight = self._weights[name].detach()
        if name not in self._known:
            self._known[name] = self._spectrum(weight)
        values, vectors = self._known[name]
        scale = 1 + torch.as_tensor(np.asarray(delta), dtype=torch.float64, device=weight.device)
        norm = (scale * values).abs().sum()
        turn = ((vectors * (scale * (values.sum() / norm))) @ vectors.T).to(torch.float32)
        plain = weight.float()
        return (turn @ plain if weight.shape[0] < weight.shape[1] else plain @ turn).to(weight.dtype)

    @staticmethod
    def _spectrum(weight: Any) -> tuple[Any, Any]:
        import torch

        if weight.device.type == "cpu":
            values, vectors = spectrum(weight.float().numpy())
            return torch.from_numpy(values.copy()), torch.from_numpy(vectors.copy())
        short = weight if weight.shape[0] >= weight.shape[1] else weight.T
        squares, vectors = torch.linalg.eigh(short.double().T @ short.double())
        return squares.clamp(min=0).sqrt().flip(0), vectors.flip(1)


class AskedStates:
    """The states of a GGUF file through llama.cpp: `ask` gives a vector a text. Each text is asked once."""

    def __init__(self, path: Path, ask: Callable[[Sequence[str]], Sequence[Sequence[float]]]) -> None:
        self.path, self.shape = path, shape_of_gguf(path)
        self._ask = ask
        self._rows: dict[str, Array] = {}

    def rows(self, texts: Sequence[str]) -> Array:
        """A row a text."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if fresh:
            found = self._ask(fresh)
            self._rows |= {text: np.array(row, np.float32) for text, row in zip(fresh, found, strict=True)}
        return np.stack([self._rows[text] for text in texts])

    def keep(self) -> None:
        """States of general models are not kept on disk."""

    def scaled(self, texts: Sequence[str], scales: Mapping[str, Array]) -> Array:
        """Raises `ConfigError`: a file's matrices cannot be changed between two texts."""
        raise ConfigError(
            f"{self.path}: scales are trained from a folder with the weights, not from a GGUF file"
        )
