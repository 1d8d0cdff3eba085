"""`stretto train evidence --compare`: a comparer of free texts with its error, from a table to an artefact that serves."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("scipy")

from stretto import artifacts
from stretto.cli.train import train
from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence

ABOUT = (
    "The tides follow the moon, whose pull lifts the sea on both sides of the earth.",
    "The wind drives the waves, and a storm at sea piles the water up at the coast.",
    "Ships displace water, so a full harbour stands higher than an empty one does.",
    "Melting ice and warm currents raise the level of the whole ocean year by year.",
)


def table(folder: Path, n: int = 240, seed: int = 4) -> Path:
    """Three workers write long texts; the right ones are all about the same thing, the wrong ones about others."""
    rng = random.Random(seed)
    folder.mkdir()
    items, outcomes = [], []
    for k in range(n):
        items.append({"item_id": f"i{k}", "prompt": f"Write why the sea rises, case {k}.", "task": "sea"})
        for worker, skill, usd in (("cheap", 0.6, 0.001), ("middle", 0.7, 0.004), ("dear", 0.85, 0.02)):
            good = rng.random() < skill
            said = ABOUT[0] if good else rng.choice(ABOUT[1:])
            text = f"{said} {said} Case {rng.randrange(99)} is no other. " * 5
            row = {"item_id": f"i{k}", "model": worker, "score": float(good), "answer": text, "cost_usd": usd}
            outcomes.append(row)
    for name, rows in (("items", items), ("outcomes", outcomes)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


def trained(folder: Path, *options: str) -> tuple[Any, str]:
    out = folder / "evidence.json"
    args = ["evidence", str(folder / "essays"), "--no-prompt", "--out", str(out), *options]
    ran = CliRunner().invoke(train, args)
    assert ran.exit_code == 0, ran.output
    return artifacts.read(out, EVIDENCE_SCHEMA), ran.output


def test_the_shipped_embedding_learns_its_error_and_serves(tmp_path: Path) -> None:
    """Texts about different things: it tells them apart, says how well, and the artefact knows it with its threshold."""
    table(tmp_path / "essays")
    made, told = trained(tmp_path, "--compare", "static")
    assert 'static as an embedding: says "the same" of' in told
    comparer = Evidence(made).comparer
    assert comparer is not None
    assert comparer.sensitivity > 0.9
    assert comparer.specificity > 0.9
    assert comparer.usd == 0
    assert made.provenance["chosen"]["comparing"]["edge"] > 0.8


def test_with_a_comparer_more_is_won_than_without(tmp_path: Path) -> None:
    """Where agreement can be seen, what was learned is worth more than where every text stands alone."""
    table(tmp_path / "essays")
    with_, _ = trained(tmp_path, "--compare", "static")
    without, _ = trained(tmp_path)
    best, other = (
        max(float(v) for v in made.provenance["chosen"]["value"].values()) for made in (with_, without)
    )
    assert best > other
    assert without.data["free"] is True
    assert "free" not in with_.data


def test_who_is_to_compare_has_to_be_there(tmp_path: Path) -> None:
    """A worker that the pool does not have is named, with those that it has."""
    table(tmp_path / "essays", 60)
    config = tmp_path / "stretto.toml"
    config.write_text('[[worker]]\nid = "a"\nendpoints = [{ base_url = "http://127.0.0.1:1/v1" }]\n')
    args = ["evidence", str(tmp_path / "essays"), "--out", str(tmp_path / "e.json")]
    ran = CliRunner().invoke(train, [*args, "--compare", "nobody", "--config", str(config)])
    assert ran.exit_code != 0
    assert "--compare nobody: there is no such worker; there are static, a" in str(ran.output) + str(
        ran.exception
    )
