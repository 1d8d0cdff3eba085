"""Python code of a model, run apart: its own process and session, its own folder, no environment, hard limits.

On Linux it also gets its own user and network namespace where the kernel lets it, so it reaches no network. That keeps out
accidents and casual mischief. It is no jail for hostile code: evaluate code that you do not trust in a container or a machine of
its own.
"""

import asyncio
import os
import resource
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["USUAL", "Bounds", "Ran", "run_python"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a program may take: wall and CPU seconds, memory and file size in MiB, processes it may start."""

    seconds: float = 10.0
    cpu: int = 5
    memory: int = 512
    files: int = 16
    processes: int = 0


USUAL = Bounds()
"""Enough for a function and its tests."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended: `passed` if with status 0, else `why`. `output` is the end of what it wrote (2,000 characters)."""

    passed: bool
    why: str
    output: str


_START = """
import ctypes, os, sys
try:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.unshare(0x10000000 | 0x40000000)  # a user and a network namespace of its own; refused on some kernels
    libc.prctl(38, 1, 0, 0, 0)  # no new privileges
except (OSError, AttributeError):
    pass
import resource
resource.setrlimit(resource.RLIMIT_NPROC, ({processes}, {processes}))
source = open("program.py", encoding="utf-8").read()
sys.argv = ["program.py"]
exec(compile(source, "program.py", "exec"), {{"__name__": "__main__"}})
"""


async def run_python(program: str, bounds: Bounds = USUAL) -> Ran:
    """Run a program to its end or its limit. Never raises for what the program does."""
    with tempfile.TemporaryDirectory(prefix="stretto-code-", ignore_cleanup_errors=True) as folder:
        _write(Path(folder, "program.py"), program)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            "-c",
            _START.format(processes=bounds.processes),
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: _limit(bounds),
        )
        try:
            output = await asyncio.wait_for(_tail(process), bounds.seconds)
            status = await process.wait()
        except TimeoutError:
            return Ran(False, f"still running after {bounds.seconds:g} s", "")
        finally:
            _kill(process)
            await process.wait()
    if status == 0:
        return Ran(True, "", output)
    if status < 0:
        name = signal.Signals(-status).name
        return Ran(False, f"ended by {name}" + (" (CPU limit)" if name == "SIGXCPU" else ""), output)
    lines = [line for line in output.splitlines() if line.strip()]
    return Ran(False, f"status {status}: {lines[-1][:200] if lines else 'no output'}", output)


def _write(file: Path, program: str) -> None:
    file.write_text(program, encoding="utf-8", errors="replace")


async def _tail(process: asyncio.subprocess.Process) -> str:
    """Read all output, keep its end: a program that writes without end fills no memory of ours."""
    assert process.stdout is not None
    kept = b""
    while piece := await process.stdout.read(65536):
        kept = (kept + piece)[-8000:]
    return kept.decode("utf-8", "replace")[-2000:]


def _limit(bounds: Bounds) -> None:
    mib = 1 << 20
    resource.setrlimit(resource.RLIMIT_CPU, (bounds.cpu, bounds.cpu + 1))
    resource.setrlimit(resource.RLIMIT_AS, (bounds.memory * mib, bounds.memory * mib))
    resource.setrlimit(resource.RLIMIT_FSIZE, (bounds.files * mib, bounds.files * mib))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def _kill(process: asyncio.subprocess.Process) -> None:
    """End the whole session: children that the program left behind too."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
