"""Whose hidden states a coordinator is trained on: a sparring model's, or those of a causal model that the user has as files."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from stretto.errors import ConfigError
from stretto.learning.trinity.backbone import Backbone, States, spectra
from stretto.learning.trinity.backbone_export import scaled
from stretto.learning.trinity.evolution import Head, Space
from stretto.learning.trinity.reference_backbone import AskedStates, ScaledSpace, TorchStates, bake
from stretto.policies.coordinator import Observation
from stretto.sparring import PoolEntry
from stretto.sparring.vocabulary import encode

__all__ = ["OBSERVATION", "General", "Read", "Source", "Sparring"]

Read = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""Gives the state of each text, through llama.cpp."""

OBSERVATION: Final = Observation(
    tells="forms",
    frame=" {text}<|answer|>",
    lower=True,
    spaced=(("\n", " \n "), ("+", " + "), ("-", " - "), ("  ", " "), ("  ", " ")),
)
"""What a small backbone can read: what its own kind was trained on, up to the mark behind which it would answer."""

_SYSTEM: Final = (
    "You are the dispatcher of {count} language models, numbered from 0. Read the task and what they have said so far, and "
    "decide who goes on, and in which role: worker, thinker or verifier."
)


class Source(Protocol):
    """A backbone in training: `states` has `rows(texts)` and `scaled(texts, what a candidate holds)`."""

    states: Any
    observation: Observation
    labels: Mapping[str, str]
    """What the served backbone's card says beside its role."""

    def space(self, rows: int, width: int, head: Head, *, scales: bool) -> Space:
        """The genomes over it."""
        ...

    def bake(self, deltas: Mapping[str, Any], target: Path) -> None:
        """The backbone as it is served, with these scales."""
        ...


class Sparring:
    """A sparring model, computed here: its last layer is scaled."""

    def __init__(self, entry: PoolEntry, pooling: str, kept: Path) -> None:
        self.observation = OBSERVATION
        self.labels: Mapping[str, str] = {
            name: said for name, said in entry.card.labels.items() if name != "role"
        }
        self.states = States(Backbone(entry.path), pooling, encode, kept)
        self._path, self._pooling = entry.path, pooling

    def space(self, rows: int, width: int, head: Head, *, scales: bool) -> Space:
        """Without scales where a mean over all tokens would need the whole last layer of each text anew for each candidate."""
        own = spectra(self.states.backbone) if scales and self._pooling != "mean" else None
        return Space(rows, width, head, scaled=own)

    def bake(self, deltas: Mapping[str, Any], target: Path) -> None:
        """Without scales it is copied byte by byte."""
        layer = self.states.backbone.layers - 1
        if deltas:
            scaled(
                self._path, {f"blk.{layer}.{name}.weight": delta for name, delta in deltas.items()}, target
            )
        else:
            shutil.copyfile(self._path, target)


class General:
    """A model of the user's: a GGUF file, asked through `read`, or a folder with its weights and its GGUF file beside them.

    Raises `ConfigError` for a path that is neither, and for scales over a file alone.
    """

    def __init__(self, path: Path, pooling: str, read: Read | None, *, workers: int) -> None:
        self.observation = Observation(system=_SYSTEM.format(count=workers))
        self.labels: Mapping[str, str] = {}
        self.states: AskedStates | TorchStates
        if path.is_dir():
            files = sorted(path.glob("*.gguf"))
            if len(files) != 1:
                raise ConfigError(
                    f"{path}: needs the model's one GGUF file beside its weights, which llama.cpp's "
                    f"convert_hf_to_gguf.py makes: that is what is served; there are {len(files)}"
                )
            self._file = files[0]
            self.states = TorchStates(path, pooling)
        elif path.suffix == ".gguf" and path.is_file() and read is not None:
            self._file = path
            self.states = AskedStates(path, read)
        else:
            raise ConfigError(f"{path}: is no sparring model, no GGUF file and no folder with a model")

    def space(self, rows: int, width: int, head: Head, *, scales: bool) -> Space:
        """With scales over the nine matrices of the paper."""
        if not scales:
            return Space(rows, width, head)
        if isinstance(self.states, AskedStates):
            raise ConfigError(
                f"{self._file}: scales are trained from a folder with the weights; with a GGUF file alone --no-scales"
            )
        return ScaledSpace(rows, width, self.states.shape.matrices, shape=head)

    def bake(self, deltas: Mapping[str, Any], target: Path) -> None:
        """Without scales it is copied byte by byte."""
        if deltas:
            bake(self._file, deltas, target)
        else:
            shutil.copyfile(self._file, target)
