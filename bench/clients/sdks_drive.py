"""Runs in a client's own environment: `python -m bench.clients.sdks_drive CLIENT` reads cases from standard input, one JSON
object a line with `feature` beside the fields of a `Case`, and writes one a line: what became of each.
"""

import importlib
import json
import sys
import time
import traceback
from typing import Any

from bench.clients.sdks_cases import Case

_VENDORS = {
    "openai-python": "OpenAIChat",
    "openai-python-responses": "OpenAIResponses",
    "anthropic-python": "AnthropicMessages",
}


def client_of(name: str) -> Any:
    """The class of a client."""
    if name in _VENDORS:
        return getattr(importlib.import_module("bench.clients.sdks_vendors"), _VENDORS[name])
    return importlib.import_module("bench.clients.sdks_frameworks").CLIENTS[name]


def main() -> None:
    """Every case, one after the other."""
    kind = client_of(sys.argv[1])
    for line in sys.stdin:
        given = json.loads(line)
        feature, usage = given.pop("feature"), given.pop("usage")
        begun, why = time.monotonic(), ""
        try:
            case = Case(**given, usage=None if usage is None else (usage[0], usage[1]))
            getattr(kind(case), feature)()
        except Exception as error:  # whatever a client raises is a finding
            why = f"{type(error).__name__}: {error}".replace("\n", " ")[:600]
            traceback.print_exc()
        told = {"ok": not why, "why": why, "seconds": round(time.monotonic() - begun, 3)}
        print(json.dumps({"cell": True, "feature": feature, "policy": given["policy"], **told}), flush=True)


main()
