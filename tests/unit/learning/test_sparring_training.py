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
    from stretto.learning.sparring import load, state, train
    from stretto.learning.sparring_recipes import recipe

    small = replace(recipe("general-small"), steps=6, batch=4, width=16, layers=1, inner=16)
    train(small, tmp_path / "straight")
    with pytest.raises(InterruptedError):
        train(small, tmp_path / "resumed", progress=_interrupt, checkpoint=1)
    assert state(small, tmp_path / "resumed").step == 1
    assert train(small, tmp_path / "resumed").done
    straight, resumed = (load(small, tmp_path / name).state_dict() for name in ("straight", "resumed"))
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    with pytest.raises(ConfigError, match="another recipe"):
        train(replace(small, seed=99), tmp_path / "straight")
    with pytest.raises(ConfigError, match="number-north"):
        recipe("nobody")


def test_a_trained_model_becomes_a_file_that_says_what_it_is(tmp_path: Path) -> None:
    """Equal weights give equal bytes; the header names the model, its size and its template. Any role is exported."""
    pytest.importorskip("torch")
    pytest.importorskip("gguf")
    from stretto.learning.sparring import train
    from stretto.learning.sparring_export import export
    from stretto.learning.sparring_recipes import recipe
    from stretto.pool.gguf import read_gguf_header
    from stretto.sparring.vocabulary import SIZE

    for name in ("general-small", "thinker-north", "checker-south"):
        small = replace(recipe(name), base="", steps=2, batch=4, width=16, layers=1, inner=16)
        train(small, tmp_path)
        one, two = (export(small, tmp_path, tmp_path / f"{place}.gguf").read_bytes() for place in "ab")
        found = read_gguf_header(tmp_path / "a.gguf")
        assert one == two
        assert (found.architecture, found.name, found.vocabulary) == ("llama", f"stretto {name}", SIZE)
        assert (found.width, found.layers, found.template) == (16, 1, True)


def test_what_is_not_finished_is_not_shipped(tmp_path: Path) -> None:
    """Shipping needs every training to be done; nothing is written before that is known."""
    pytest.importorskip("torch")
    pytest.importorskip("gguf")
    from stretto.learning.sparring_export import ship

    with pytest.raises(ConfigError, match="is not there; train it first"):
        ship(tmp_path, tmp_path / "pool")
    assert not (tmp_path / "pool").exists()
