"""`stretto train evidence --verify`: a verifier with its error, from a table and a worker to an artefact that asks it."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("scipy")

from stretto import artifacts
from stretto.cli.train import train
from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence

WORDS = ("sea", "wind", "moon", "tide", "storm", "ship", "harbour", "wave", "coast", "sand", "rain", "cloud")


def table(folder: Path, n: int = 300, seed: int = 4) -> Path:
    """Three workers write long texts, each as it likes; only a right one says `because`."""
    rng = random.Random(seed)
    folder.mkdir()
    items, outcomes = [], []
    for k in range(n):
        items.append({"item_id": f"i{k}", "prompt": f"Write why the sea rises, case {k}.", "task": "sea"})
        for worker, skill, usd in (("cheap", 0.55, 0.001), ("middle", 0.6, 0.004), ("dear", 0.75, 0.02)):
            good = rng.random() < skill
            text = " ".join(rng.choices(WORDS, k=90)) + (" because" if good else " although") + " it is so."
            row = {"item_id": f"i{k}", "model": worker, "score": float(good), "answer": text, "cost_usd": usd}
            outcomes.append(row)
    for name, rows in (("items", items), ("outcomes", outcomes)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


@contextmanager
def verifying(folder: Path, right: float = 0.9) -> Iterator[tuple[Path, list[str]]]:
    """A worker `referee` on loopback that is right so often, the configuration that knows it, and what it was asked."""
    seen: list[str] = []
    rng = random.Random(7)

    class Verifies(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"][0]["content"]
            seen.append(asked)
            says = ("because" in asked) == (rng.random() < right)
            message = {"role": "assistant", "content": "yes" if says else "no"}
            usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage})
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Verifies)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    config = folder / "stretto.toml"
    address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    price = "price = { input = 1.0, output = 1.0 }"
    data = f'[server]\ndata = "{folder / "data"}"'
    config.write_text(
        f'{data}\n[[worker]]\nid = "referee"\n{price}\nendpoints = [{{ base_url = "{address}" }}]\n'
    )
    try:
        yield config, seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run(folder: Path, config: Path, *options: str) -> Any:
    args = ["evidence", str(folder / "essays"), "--no-prompt", "--out", str(folder / "evidence.json")]
    return CliRunner().invoke(train, [*args, "--verify", "referee", "--config", str(config), *options])


def test_a_good_verifier_learns_its_error_and_serves(tmp_path: Path) -> None:
    """It is shown right and wrong replies, one of each a prompt; what it says of them becomes its rates, and it pays."""
    table(tmp_path / "essays")
    with verifying(tmp_path) as (config, seen):
        ran = run(tmp_path, config, "--checks", "120")
    assert ran.exit_code == 0, ran.output
    assert len(seen) == 120
    assert sum("because" in asked for asked in seen) == 60
    assert "showing referee 120 replies, about 0.0" in ran.output
    assert "referee as a verifier: accepts" in ran.output
    assert "referee as a verifier pays at" in ran.output
    made = artifacts.read(tmp_path / "evidence.json", EVIDENCE_SCHEMA)
    verifier = Evidence(made).verifier
    assert verifier is not None
    assert all(0.8 < rate < 0.98 for rate in verifier.rates)
    assert any(verifier.serves)
    assert verifier.usd == pytest.approx(101e-6)
    assert verifier.certified is not None
    assert verifier.certified["u"] is not None
    assert made.provenance["chosen"]["verifying"]["items"] == 60
    assert verifier.certified["reason"] in ran.output
    shown = made.provenance["cross_fitted"]
    assert shown["u"] <= verifier.certified["u"]
    assert shown["difference"][1] > 0  # what `stretto promote` reads is what serves


def test_a_coin_is_worth_nothing(tmp_path: Path) -> None:
    """One that is right every other time is told from nobody, and no price of the dial asks it."""
    table(tmp_path / "essays")
    with verifying(tmp_path, 0.5) as (config, _):
        ran = run(tmp_path, config, "--checks", "120")
    assert ran.exit_code == 0, ran.output
    assert "referee as a verifier: cannot be told from a coin (60 prompts, 120 replies)" in ran.output
    assert "referee as a verifier is worth nothing, and will not be asked" in ran.output
    verifier = Evidence(artifacts.read(tmp_path / "evidence.json", EVIDENCE_SCHEMA)).verifier
    assert verifier is not None
    assert not verifier.informed
    assert not any(verifier.serves)


def test_the_money_ends_it_and_a_second_run_goes_on(tmp_path: Path) -> None:
    """What was said is kept beside the artefact: with more money only the rest is asked."""
    table(tmp_path / "essays")
    with verifying(tmp_path) as (config, seen):
        short = run(tmp_path, config, "--checks", "100", "--limit-usd", "0.005")
        first = len(seen)
        assert short.exit_code != 0
        assert "--limit-usd is reached" in str(short.exception)
        assert 0 < first < 100
        whole = run(tmp_path, config, "--checks", "100", "--limit-usd", "1")
        assert whole.exit_code == 0, whole.output
        assert f"showing referee {100 - first} replies" in whole.output
        assert f"{first} are known from before" in whole.output
        assert len(seen) == len(set(seen)) == 100
        again = run(tmp_path, config, "--checks", "100", "--limit-usd", "0")
        assert again.exit_code == 0, again.output
        assert len(seen) == 100


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    """A worker that is not in the pool is named with those that are; comparing and verifying are for the same replies."""
    table(tmp_path / "essays", 60)
    with verifying(tmp_path) as (config, _):
        other = run(tmp_path, config, "--verify", "nobody")
        assert "--verify nobody: there is no such worker; there are referee" in str(other.exception)
        both = run(tmp_path, config, "--compare", "static")
        assert "give one" in str(both.exception)
