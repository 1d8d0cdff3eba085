"""Training of sparring models: reproducible, resumable, refused for another recipe. Runs where the `train` extra is installed."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stretto.errors import ConfigError


def test_learning_loads_nothing_heavy() -> None:
    """Importing the package does not import torch, and the recipes' package is not on the serving path."""
    code = "import sys, stretto.learning, stretto.sparring; print(sorted({'torch', 'transformers', 'gguf'} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def _interrupt(name: str, step: int, steps: int, loss: float) -> None:
    raise InterruptedError


def test_stopped_and_resumed_equals_straight(tmp_path: Path) -> None:
    """A training that is stopped and resumed ends with the weights of one that is not; another recipe is refused."""
    torch = pytest.importorskip("torch")
    from stretto.learning.sparring import load, recipe, state, train

    small = replace(recipe("general-xs"), steps=6, batch=4, width=16, layers=1, inner=16)
    train(small, tmp_path / "straight")
    with pytest.raises(InterruptedError):
        train(small, tmp_path / "resumed", progress=_interrupt, checkpoint=1)
    assert state(small, tmp_path / "resumed").step == 1
    assert train(small, tmp_path / "resumed").done
    straight, resumed = (load(small, tmp_path / name).state_dict() for name in ("straight", "resumed"))
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    with pytest.raises(ConfigError, match="another recipe"):
        train(replace(small, seed=99), tmp_path / "straight")
    with pytest.raises(ConfigError, match="number-s"):
        recipe("nobody")
