"""Counters since the start of this process, in the Prometheus text format. One dictionary update a call."""

from collections.abc import Callable

from stretto.engine.run import Run
from stretto.types import usd

__all__ = ["Meters"]


class Meters:
    """What GET /metrics tells: answers by route and status; runs by policy and outcome, with their calls, tokens and money.

    `shadows` gives the lines about runs that are made beside those.
    """

    def __init__(self) -> None:
        self.shadows: Callable[[], list[str]] = list
        self._answers: dict[tuple[str, int], int] = {}
        self._runs: dict[tuple[str, str], int] = {}
        self._calls = self._input = self._output = self._cost = 0
        self._own = self._seconds = 0.0

    def answered(self, route: str, status: int) -> None:
        """A call has been answered (499: its caller left)."""
        at = (route, status)
        self._answers[at] = self._answers.get(at, 0) + 1

    def count(self, run: Run) -> None:
        """A run has been settled."""
        error = run.answer.error
        at = (run.policy, "ok" if error is None else error.kind)
        self._runs[at] = self._runs.get(at, 0) + 1
        self._calls += run.calls
        self._input += run.usage.input
        self._output += run.usage.output
        self._cost += run.cost
        self._own += run.own
        self._seconds += run.seconds

    def text(self) -> str:
        """The exposition, format version 0.0.4."""
        lines = [
            "# HELP stretto_http_requests_total HTTP calls answered.",
            "# TYPE stretto_http_requests_total counter",
        ]
        for (route, status), n in sorted(self._answers.items()):
            lines.append(f'stretto_http_requests_total{{route="{_quoted(route)}",status="{status}"}} {n}')
        lines += ["# HELP stretto_runs_total Runs settled.", "# TYPE stretto_runs_total counter"]
        for (policy, outcome), n in sorted(self._runs.items()):
            lines.append(f'stretto_runs_total{{policy="{_quoted(policy)}",outcome="{outcome}"}} {n}')
        for name, told, value in (
            ("stretto_attempts_total", "Model calls made for settled runs.", self._calls),
            ("stretto_input_tokens_total", "Input tokens of settled runs.", self._input),
            ("stretto_output_tokens_total", "Output tokens of settled runs.", self._output),
            ("stretto_cost_usd_total", "Money spent by settled runs.", usd(self._cost)),
            ("stretto_run_seconds_total", "Time settled runs took.", round(self._seconds, 6)),
            (
                "stretto_own_seconds_total",
                "The part of it in which no attempt was under way.",
                round(self._own, 6),
            ),
        ):
            lines += [f"# HELP {name} {told}", f"# TYPE {name} counter", f"{name} {value}"]
        return "\n".join([*lines, *self.shadows()]) + "\n"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
