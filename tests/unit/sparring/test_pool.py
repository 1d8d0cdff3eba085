"""The shipped sparring pool: the list, the files, and one file through the real llama.cpp."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from stretto.errors import ConfigError
from stretto.sparring import FAMILIES, entries, grade, problems
from stretto.sparring.vocabulary import SIZE, encode, prompt_tokens
from stretto.sparring.wordings import VERSION
from stretto.types import Price


def test_the_shipped_pool() -> None:
    """Nine models, each file as listed, 20 MB in all; every family is known twice, by specialists of different vendors."""
    pool = entries()
    assert [entry.id for entry in pool] == [
        *("string-north", "number-north", "list-north", "words-south", "digits-south"),
        *("general-small", "general-large", "thinker-north", "checker-south"),
    ]
    assert sum(entry.path.stat().st_size for entry in pool) < 20_000_000
    for entry in pool:
        assert entry.path.is_absolute()
        assert hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.sha256
        assert set(entry.card.labels) == {"role", "vendor", "region", "licence", "retention"}
        assert entry.card.abilities == {"text", "logprobs"}
        assert entry.provenance["steps"] > 0
        assert entry.provenance["code"]["wordings"] == VERSION
    brought = {"coordinator.gguf", "planner.gguf"}  # by the artefacts of trinity and conductor
    assert {p.name for p in pool[0].path.parent.iterdir()} == brought | {entry.path.name for entry in pool}
    assert {entry.role for entry in pool} == {"solver", "thinker", "checker"}
    specialists = [e for e in pool if e.role == "solver" and len(e.families) < len(FAMILIES)]
    for family in FAMILIES:
        vendors = {entry.card.labels["vendor"] for entry in specialists if family in entry.families}
        assert len(vendors) == (1 if family in ("shift-letters", "gcd") else 2), family


def test_prices_go_by_size() -> None:
    """The small generalist is the cheapest and the large one the dearest, as their files are."""
    solvers = sorted((e for e in entries() if e.role == "solver"), key=lambda e: e.path.stat().st_size)
    prices = [entry.card.price.input for entry in solvers]
    assert prices == sorted(prices)
    assert [solvers[0].id, solvers[-1].id] == ["general-small", "general-large"]
    assert solvers[0].card.price == Price.per_million(0.2, 0.8)


def test_a_missing_or_broken_list_is_a_clear_error(tmp_path: Path) -> None:
    """The error names the file and how to get it back."""
    with pytest.raises(ConfigError, match=r"pool\.toml is not there.*sparring train"):
        entries(tmp_path)
    (tmp_path / "pool.toml").write_text('[[model]]\nid = "x"\n')
    with pytest.raises(ConfigError, match="not a list of sparring models"):
        entries(tmp_path)
    (tmp_path / "pool.toml").write_text("[[model\n")
    with pytest.raises(ConfigError, match="not a list of sparring models"):
        entries(tmp_path)


CHILD = """
import http.client, json, os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]; params.hostnames = ["127.0.0.1"]; params.port = 0
params.n_ctx = 2048; params.n_parallel = 1; params.warmup = False; params.use_jinja = True; params.verbosity = 0
params.cpuparams.n_threads = 1; params.n_threads_http = 2
server = xllamacpp.Server(params)
connection = http.client.HTTPConnection(server.listening_address.removeprefix("http://"), timeout=20)
def post(path, body):
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    return json.loads(response.read())
work = json.load(sys.stdin)
out = {"tokens": [post("/tokenize", {"content": text, "parse_special": True})["tokens"] for text in work["texts"]]}
out["prompts"] = [post("/apply-template", {"messages": messages})["prompt"] for messages in work["messages"]]
out["answers"] = [
    post("/v1/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 96})["choices"][0]["message"]["content"]
    for messages in work["messages"]
]
print(json.dumps(out), flush=True)
os._exit(0)
"""


def test_a_shipped_file_in_llama_cpp() -> None:
    """llama.cpp gives our tokens for any text, reads any message list, and solves held-out problems of its families."""
    entry = entries()[0]
    held_out = problems(entry.families, "test", 20, 77)
    odd = [
        "ÄÖ the ½² word",
        '"the" other bathe  the\n\n the',
        "😀 the 's the",
        "~~ the~~",
        "a<|answer|> the<|end|>",
        "日本 the",
    ]
    messages = [[{"role": "user", "content": problem.prompt}] for problem in held_out]
    messages += [
        [
            {"role": "system", "content": "Be brief. " * 50},
            {"role": "user", "content": "Spell the word Planet backward."},
        ],
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Spell the"},
                    {"type": "text", "text": "word planet backward."},
                ],
            }
        ],
        [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "y"},
            {"role": "user", "content": "Reverse the word planet."},
        ],
        [{"role": "user", "content": "日本語 😀 " * 20}],
        [{"role": "user", "content": "WHAT is\n 12+30 +4?"}],
    ]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(entry.path)],
        input=json.dumps({"texts": odd + [problem.prompt for problem in held_out], "messages": messages}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    out = json.loads(done.stdout.splitlines()[-1])
    assert out["tokens"] == [encode(text) for text in odd + [problem.prompt for problem in held_out]]
    assert [encode(text) for text in out["prompts"][:20]] == [
        prompt_tokens(problem.prompt) for problem in held_out
    ]
    assert encode(out["prompts"][-1]) == prompt_tokens("WHAT is\n 12+30 +4?")
    right = sum(grade(problem, text) for problem, text in zip(held_out, out["answers"], strict=False))
    assert right >= 15
    assert out["answers"][20:23] == ["tenalp"] * 3
    assert SIZE < 400
