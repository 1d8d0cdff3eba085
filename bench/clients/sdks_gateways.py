"""The gateways that clients are put in front of: their configurations, and what each of their policies must answer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.clients.sdks_cases import Case
from bench.clients.sdks_gguf import SAYS, handmade_gguf
from stretto import sparring
from tests.acceptance.speakers import INPUT, OUTPUT

__all__ = ["LLAMA", "MODELS", "POLICIES", "SCRIPTED", "llama_config", "scripted_config", "wanted"]

LLAMA: Final = "llama.cpp"
SCRIPTED: Final = "scripted"

POLICIES: Final = {
    LLAMA: ("solo", "route", "cascade", "fuse", "synthesis"),
    SCRIPTED: ("solo chat", "solo messages", "solo responses", "route", "cascade", "fuse", "synthesis"),
}
"""`fuse` is a panel with a vote, `synthesis` one with a writer; `solo WIRE` is one worker of that wire."""

MODELS: Final = {"solo chat": "north", "solo messages": "south", "solo responses": "west"}


def scripted_config(url: str) -> str:
    """Workers of all three wires behind one tame upstream, and a critic that rejects prose and accepts JSON."""
    text = "[pool]\ndiscover = false\nsparring = false\n"
    for id, wire, price in (
        ("north", "chat", 1),
        ("south", "messages", 2),
        ("west", "responses", 3),
        ("critic", "chat", 1),
    ):
        abilities = '["text"]' if id == "critic" else '["text", "tools", "json", "vision"]'
        text += f"""
[[worker]]
id = "{id}"
wire = "{wire}"
model = "{id}-1"
endpoints = [{{ base_url = "{url}" }}]
price = {{ input = {price}, output = {4 * price} }}
abilities = {abilities}
"""
    return (
        text
        + """
[policy.route]
type = "route"
default = "south"

[policy.cascade]
type = "cascade"
rungs = ["north", "south"]
check = "verifier"
verifier = "critic"

[policy.fuse]
type = "fuse"
panel = ["north", "south", "west"]

[policy.synthesis]
type = "fuse"
how = "synthesise"
panel = ["north", "south"]
writer = "west"
"""
    )


def llama_config(folder: Path) -> str:
    """On the real llama.cpp: shipped models that know puzzles, and the handmade one that calls tools, written to `folder`."""
    models = Path(sparring.__file__).parent / "models"
    entries = {entry.id: entry.path for entry in sparring.entries()}
    handmade = handmade_gguf(folder / "handmade.gguf")
    speller, adder = (entries[name] for name in ("string-north", "number-north"))
    assert speller.is_relative_to(models)
    text = "[pool]\ndiscover = false\nsparring = false\n"
    for id, path, tools in (
        ("speller", speller, False),
        ("adder", adder, False),
        ("hand", handmade, True),
        ("other", handmade, True),
    ):
        more = ', "tools"' if tools else ""
        text += f"""
[[worker]]
id = "{id}"
path = "{path}"
price = {{ input = 1, output = 4 }}
abilities = ["text", "json", "grammar", "logprobs", "tokens"{more}]
max_output = 600
"""
    return (
        text
        + """
[policy.route]
type = "route"
default = "speller"

[policy.cascade]
type = "cascade"
rungs = ["speller", "hand", "other"]
check = "confidence"

[policy.fuse]
type = "fuse"
panel = ["speller", "adder", "hand", "other"]

[policy.synthesis]
type = "fuse"
how = "synthesise"
panel = ["speller", "adder"]
writer = "hand"
"""
    )


def wanted(upstream: str, base: str, feature: str) -> Iterator[Case]:
    """A case for each policy."""
    for policy in POLICIES[upstream]:
        if upstream == SCRIPTED:
            alone = policy.startswith("solo") or policy == "route"
            prompt = "Please repeat marker-7f3."
            yield Case(
                base,
                MODELS.get(policy, policy),
                policy,
                upstream,
                prompt,
                "marker-7f3",
                "",
                True,
                (INPUT, OUTPUT) if alone else None,
            )
            continue
        plain = feature in ("chat", "stream")
        spells = policy in ("route", "cascade") or (policy == "solo" and plain)
        model = policy if policy != "solo" else "speller" if plain else "hand"
        says = "tenalp" if spells else SAYS
        yield Case(base, model, policy, upstream, "Spell the word planet backward.", says, SAYS, False)
