"""The examples, and what README.md shows, run as a reader would run them: the real command, on the models that ship."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
STRETTO = [sys.executable, "-c", "from stretto.cli import main; main()"]
README_URL = "http://127.0.0.1:8700/v1"


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")


def run(command: list[str], home: Path, **environ: str) -> str:
    """What a command prints, run in an empty home. It must succeed."""
    base = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=home, env=base | environ, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with nothing in it but that no model server is looked for."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "stretto.toml").write_text("[pool]\ndiscover = false\n")
    return folder


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    """The address of a gateway on a free port."""
    process = subprocess.Popen(
        [*STRETTO, "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=home,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
    )
    try:
        assert process.stdout is not None
        head = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/v1", head)
        assert found, head
        yield found[0]
    finally:
        process.kill()
        process.communicate()


def readme(language: str, holding: str) -> str:
    """The first code block of README.md in this language that holds this text."""
    blocks = re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )
    return next(block for block in blocks if holding in block)


def receipt(url: str, home: Path, run_id: str) -> Any:
    """The receipt of a run, over HTTP."""
    return json.loads(run(["curl", "-sS", f"{url}/runs/{run_id}"], home))


@needs_curl
def test_the_curl_of_the_readme_gets_the_answer_it_shows(url: str, home: Path) -> None:
    """The README's command, with this gateway's address, gives `tenalp` and names a run whose receipt can be read."""
    command = readme("sh", "curl").replace(README_URL, url)
    answer = json.loads(run(["sh", "-c", command], home))
    assert answer["choices"][0]["message"]["content"] == "tenalp"
    assert set(json.loads(readme("json", "run_id"))["stretto"]) == set(answer["stretto"])
    assert receipt(url, home, answer["stretto"]["run_id"])["served_by"] == "string-north"


def test_the_python_of_the_readme_runs_as_it_stands(url: str, home: Path) -> None:
    """The README's OpenAI SDK snippet gets a right answer from a panel."""
    told = run([sys.executable, "-c", readme("python", "OpenAI").replace(README_URL, url)], home)
    assert "= 101101" in told
    assert "agree" in told


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("ask.py", "= 101101"),
        ("stream.py", "tenalp\n 7 tokens"),
        ("limits.py", "2 calls made; calls: all 2 are"),
    ],
)
def test_a_script_that_asks_a_gateway_prints_the_right_answer(
    script: str, expected: str, url: str, home: Path
) -> None:
    """The SDK examples work against a gateway that knows nothing but the shipped models."""
    assert expected in run([sys.executable, str(EXAMPLES / script)], home, STRETTO_URL=url)


@needs_curl
def test_the_shell_example_shows_an_answer_and_its_receipt(url: str, home: Path) -> None:
    """ask.sh prints two JSON objects that speak of the same run."""
    answer, told = map(
        json.loads, run(["sh", str(EXAMPLES / "ask.sh")], home, STRETTO_URL=url).strip().splitlines()
    )
    assert answer["choices"][0]["message"]["content"].endswith("= 42")
    assert told["run_id"] == answer["stretto"]["run_id"]
    assert sum(attempt["cost_pico"] for attempt in told["attempts"]) == told["cost_pico"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [("by_hand.py", "the two answers of cheap differ"), ("in_process.py", "True 3 asks in all")],
)
def test_a_script_without_a_gateway_runs(script: str, expected: str, home: Path) -> None:
    """Policies can be tried by hand and in process, with no model."""
    assert expected in run([sys.executable, str(EXAMPLES / script)], home)


def test_the_example_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    """Installed (here: as its metadata say it would be), the policy is a type that `stretto.toml` may name."""
    package = tomllib.loads((EXAMPLES / "own-policy" / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / "stretto_twice-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {package['name']}\nVersion: {package['version']}\n")
    (group, points), *_ = package["entry-points"].items()
    lines = "\n".join(f"{name} = {target}" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{lines}\n")
    (tmp_path / "stretto.toml").write_text(
        '[pool]\ndiscover = false\n[policy.second-opinion]\ntype = "twice"\n'
        'worker = "general-small"\nreferee = "number-north"\n'
    )
    path = os.pathsep.join((str(info.parent), str(EXAMPLES / "own-policy")))
    question = ["ask", "-m", "second-opinion", "--json", "How much is 17 plus 25?"]
    told = json.loads(run([*STRETTO, *question], tmp_path, PYTHONPATH=path))
    assert told["calls"] in (2, 3)
    assert told["why"] in ("both answers are the same", "the two answers of general-small differ")


def test_the_example_configuration_is_valid(home: Path) -> None:
    """stretto.toml loads, and its rule sends what it speaks of to the worker it names."""
    config = ["--config", str(EXAMPLES / "stretto.toml"), "--data", str(home / "other"), "--json"]
    told = json.loads(
        run(
            [*STRETTO, "plan", "-m", "route", "--max-tokens", "100", "Please translate this.", *config],
            home,
            OPENAI_API_KEY="sk-none",
        )
    )
    assert [ask["worker"] for ask in told["first"]] == ["llama"]
