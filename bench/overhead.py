"""What a call through Stretto costs, beside nginx and LiteLLM, on the mock upstream of this folder.

    make bench                      # about four minutes; needs gcc; nginx and LiteLLM join in where they are installed
    python bench/overhead.py --mode calls16 --rounds 3

Stretto runs as it is meant to be used: solo, a virtual key with a money ceiling, limits on every request, the ledger on, in
`process` and in `power` durability. LiteLLM is looked for in $BENCH_PEERS/v_lite (pip install 'litellm[proxy]').
Everything stays on loopback and stops by itself. The method is that of `side_by_side.py`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
STRETTO = Path(sys.executable).parent / "stretto"

CONFIG = """
[server]
port = {port}
data = "{data}"

[[worker]]
id = "mock-model"
model = "mock-model"
endpoints = [{{ base_url = "http://127.0.0.1:9001/v1" }}]
price = {{ input = 0.5, output = 1.5 }}

[pool]
discover = false
sparring = false

[limits]
usd = 1.0
calls = 20
seconds = 120

[ledger]
durability = "{durability}"
content = "{content}"
"""


def build() -> Path:
    """Compile the mock upstream and the load driver."""
    folder = HERE / "build"
    folder.mkdir(exist_ok=True)
    for name in ("mock_upstream", "load"):
        subprocess.run(["gcc", "-O2", "-o", folder / name, HERE / f"{name}.c"], check=True)
    return folder


def stretto(name: str, port: int, scratch: Path, durability: str, content: str) -> dict[str, object]:
    """A target: this gateway with a key that has a ceiling."""
    data = scratch / name
    config = scratch / f"{name}.toml"
    config.write_text(CONFIG.format(port=port, data=data, durability=durability, content=content))
    made = subprocess.run(
        [STRETTO, "keys", "create", "bench", "--total", "100000", "--config", config, "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    secret = json.loads(made.stdout)["key"]
    return {
        "name": name,
        "port": port,
        "cmd": f"{STRETTO} serve --config {config}",
        "headers": {"authorization": f"Bearer {secret}"},
    }


def targets(scratch: Path) -> list[dict[str, object]]:
    """Everything that can be measured on this machine."""
    found: list[dict[str, object]] = [{"name": "direct", "port": 9001}]
    if shutil.which("nginx"):
        found.append({"name": "nginx", "port": 8101, "cmd": "nginx -p /tmp -c $BENCH_HERE/conf/nginx.conf"})
    found.append(stretto("stretto", 8301, scratch, "process", "full"))
    found.append(stretto("stretto-digest", 8302, scratch, "process", "digest"))
    found.append(stretto("stretto-power", 8303, scratch, "power", "full"))
    litellm = Path(os.environ.get("BENCH_PEERS", "/nowhere")) / "v_lite" / "bin" / "litellm"
    if litellm.exists():
        switches = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MASTER_KEY": "sk-mock",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "NO_DOCS": "True",
        }
        command = (
            f"{litellm} --config $BENCH_HERE/conf/litellm.yaml --host 127.0.0.1 --port 8104 --num_workers 1"
        )
        found.append(
            {
                "name": "litellm",
                "port": 8104,
                "cmd": command,
                "env": switches,
                "headers": {"authorization": "Bearer sk-mock"},
            }
        )
    return found


def fdatasync_us(folder: Path, n: int = 200) -> tuple[float, float]:
    """The disk's own time for a 600-byte append and fdatasync: p50 and p99, in microseconds."""
    path = folder / "sync.probe"
    times = []
    with path.open("ab", buffering=0) as out:
        for _ in range(n):
            begun = time.perf_counter()
            out.write(b"x" * 600)
            os.fdatasync(out.fileno())
            times.append((time.perf_counter() - begun) * 1e6)
    times.sort()
    return statistics.median(times), times[int(0.99 * n)]


def main() -> int:
    """Measure, print tables, write the raw figures."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--mode", default="calls16,calls1,stream16")
    options.add_argument("--rounds", default="3")
    options.add_argument("--only", default="", help="names of targets, comma separated")
    options.add_argument("--out", default=str(HERE / "build" / "overhead.json"))
    asked = options.parse_args()
    binaries = build()
    with tempfile.TemporaryDirectory(prefix="stretto-bench-") as folder:
        scratch = Path(folder)
        listing = scratch / "targets.json"
        listing.write_text(json.dumps(targets(scratch)))
        p50, p99 = fdatasync_us(scratch)
        print(
            f"fdatasync of 600 bytes on this disk: p50 {p50:,.0f} us, p99 {p99:,.0f} us (n = 200)", flush=True
        )
        command = [
            sys.executable,
            HERE / "side_by_side.py",
            listing,
            "--mode",
            asked.mode,
            "--rounds",
            asked.rounds,
        ]
        command += ["--bin", binaries, "--out", asked.out, "--logs", scratch]
        if asked.only:
            command += ["--only", asked.only]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
