"""Python code of a model, run apart: its own process and session, its own folder, no environment, hard limits.

On Linux it also gets its own user and network namespace where the kernel lets it, so it reaches no network, and (by Landlock,
from Linux 5.13 on) it writes nowhere but in its folder. That keeps out accidents and casual mischief. It is no jail for hostile
code: it may read what its user may, and the limit on processes does not bind root. Evaluate code that you do not trust in a
container or a machine of its own.
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
import ctypes, os, struct, sys, types
try:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.unshare(0x10000000 | 0x40000000)  # a user and a network namespace of its own; refused on some kernels
    libc.prctl(38, 1, 0, 0, 0)  # no new privileges
    newest = libc.syscall(444, None, 0, 1)  # landlock_create_ruleset: which version of it there is
    if newest > 0:
        # to write, remove and make files of every kind; from version 2 on also to move them, from 3 on to cut them
        deeds = 0x1FF2 | 0x2000 * (newest > 1) | 0x4000 * (newest > 2)
        rules = libc.syscall(444, struct.pack("Q", deeds), 8, 0)
        for place, allowed in ((".", deeds), ("/dev/null", deeds & 0x4002)):
            there = os.open(place, os.O_PATH)
            libc.syscall(445, rules, 1, struct.pack("=Qi", allowed, there), 0)  # landlock_add_rule
            os.close(there)
        libc.syscall(446, rules, 0)  # landlock_restrict_self
        os.close(rules)
except (OSError, AttributeError):
    pass
import resource
resource.setrlimit(resource.RLIMIT_NPROC, ({processes}, {processes}))
source = open("program.py", encoding="utf-8").read()
checks = open("tests.py", encoding="utf-8").read()
sys.argv = ["program.py"]
ours, main = sys.modules["__main__"], types.ModuleType("__main__")
sys.modules["__main__"] = main  # where unittest.main() looks for tests
names = main.__dict__
try:
    exec(compile(source, "program.py", "exec"), names)
except SystemExit as left:
    if left.code or not checks:
        raise
os.remove("tests.py")  # how the parent knows that it came to them
try:
    exec(compile(checks, "tests.py", "exec"), names)
except SystemExit as left:
    last = left.__traceback__
    while last.tb_next:
        last = last.tb_next
    if last.tb_frame.f_code.co_filename == "program.py":  # not the tests, such as unittest.main()
        raise RuntimeError("the program ended itself while it was tested") from None
    raise
"""


async def run_python(program: str, bounds: Bounds = USUAL, *, tests: str = "") -> Ran:
    """Run a program to its end or its limit, then `tests` with all that it has defined. Never raises for what it does.

    A program that ends itself with status 0 is tested none the less; one that ends without its tests has not passed.
    """
    with tempfile.TemporaryDirectory(prefix="stretto-code-", ignore_cleanup_errors=True) as folder:
        _write(Path(folder, "program.py"), program)
        _write(Path(folder, "tests.py"), tests)
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
        tested = not tests or "tests.py" not in os.listdir(folder)
    if status == 0 and not tested:
        return Ran(False, "ended itself before its tests", output)
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
