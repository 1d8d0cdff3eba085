"""What each program reads, and how it is told of a gateway.

Nothing secret is written: where the gateway wants a key, the program is told from which environment variable to take it, or
the owner is told what to type. The formats were read in the programs themselves; `bench/clients/agents.py` runs them all.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stretto.cli.connect.edits import Edit, JsonEdit, Mapped, Ours, TomlEdit, YamlEdit
from stretto.cli.connect.gateway import Gateway, Model
from stretto.cli.connect.instructions import CODEX

__all__ = ["TOOLS", "Home", "Tool"]

_NOBODY: Final = "stretto"
"""What stands where a program insists on a key and the gateway wants none."""
_FOR_IDLE: Final = 600_000
_CLAUDE_OUTPUT: Final = 32_000
"""What Claude Code asks for as `max_tokens`."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where programs look for their files: the home folder and the environment."""

    folder: Path
    environ: Mapping[str, str]

    def path(self, variable: str, otherwise: str) -> Path:
        """The folder that a variable names, else one in the home folder."""
        if named := self.environ.get(variable):
            return Path(named).expanduser()
        return self.folder / otherwise


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that can be connected. `then` is what to type afterwards, `needs_tools` whether it works by tool calls."""

    name: str
    about: str
    edits: Callable[[Gateway, Home], Sequence[Edit]]
    then: Callable[[Gateway], Sequence[str]]
    needs_tools: bool = True


# --- Codex -------------------------------------------------------------------------------------------------------


def _codex(gateway: Gateway, home: Home) -> Sequence[Edit]:
    """`config.toml` and a catalogue of models, without which Codex guesses context and abilities, and says so at every start."""
    folder = home.path("CODEX_HOME", ".codex")
    catalogue = folder / "stretto-models.json"
    provider = {
        "name": "Stretto",
        "base_url": gateway.url,
        "wire_api": "responses",
        "request_max_retries": 1,  # Stretto itself retries: more would only multiply the calls
        "stream_max_retries": 1,
        "stream_idle_timeout_ms": _FOR_IDLE,
    }
    if gateway.key:
        provider["env_key"] = gateway.key
        provider["env_key_instructions"] = "`stretto keys create NAME` makes one"
    values = {
        "model": gateway.model,
        "review_model": gateway.small,
        "model_provider": "stretto",
        "model_catalog_json": str(catalogue),
    }
    models = [_codex_model(model, gateway.model) for model in gateway.models]
    return (
        Ours(catalogue, json.dumps({"models": models}, indent=1, ensure_ascii=False) + "\n"),
        TomlEdit(folder / "config.toml", values, {"model_providers.stretto": provider}),
    )


def _codex_model(model: Model, first: str) -> dict[str, Any]:
    efforts = ("low", "medium", "high") if "reasoning" in model.abilities else ()
    entry: dict[str, Any] = {
        "slug": model.id,
        "display_name": model.id,
        "description": model.description or "a model behind Stretto",
        "default_reasoning_level": "medium" if efforts else None,
        "supported_reasoning_levels": [{"effort": e, "description": f"{e} effort"} for e in efforts],
        "shell_type": "unified_exec",
        "visibility": "list" if "tools" in model.abilities else "hide",
        "supported_in_api": True,
        "priority": 0 if model.id == first else 1 if model.policy else 2,
        "upgrade": None,
        "base_instructions": CODEX,
        "supports_reasoning_summaries": bool(efforts),
        "support_verbosity": False,
        "default_verbosity": None,
        "apply_patch_tool_type": "freeform",
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "supports_parallel_tool_calls": True,
        "experimental_supported_tools": [],
        "input_modalities": ["text", "image"] if "vision" in model.abilities else ["text"],
    }
    return entry | ({"context_window": model.context} if model.context else {})


def _after_codex(gateway: Gateway) -> Sequence[str]:
    return ('codex "say hello"', "codex -m NAME      another model; /model lists them")


# --- Claude Code -------------------------------------------------------------------------------------------------


def _claude(gateway: Gateway, home: Home) -> Sequence[Edit]:
    """`settings.json`: address, names for its three sizes of model, and a command that prints the key."""
    values: dict[Mapped, Any] = {
        ("env", "ANTHROPIC_BASE_URL"): gateway.root,
        ("env", "ANTHROPIC_MODEL"): gateway.model,
        ("env", "ANTHROPIC_DEFAULT_FABLE_MODEL"): gateway.model,
        ("env", "ANTHROPIC_DEFAULT_OPUS_MODEL"): gateway.model,
        ("env", "ANTHROPIC_DEFAULT_SONNET_MODEL"): gateway.model,
        ("env", "ANTHROPIC_DEFAULT_HAIKU_MODEL"): gateway.small,
        ("env", "ANTHROPIC_API_KEY"): "",  # a key of Anthropic's, if there is one, is nobody else's to see
        ("env", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"): "1",
    }
    if gateway.key:
        values[("apiKeyHelper",)] = f'printf %s "${gateway.key}"'
    else:
        values[("env", "ANTHROPIC_AUTH_TOKEN")] = _NOBODY
    if size := gateway.chosen.context:  # of a name it does not know it believes 200,000
        values[("env", "CLAUDE_CODE_MAX_CONTEXT_TOKENS")] = str(size)
        values[("env", "CLAUDE_CODE_AUTO_COMPACT_WINDOW")] = str(size)
    if (most := gateway.chosen.output) and most < _CLAUDE_OUTPUT:
        values[("env", "CLAUDE_CODE_MAX_OUTPUT_TOKENS")] = str(most)
    return (JsonEdit(home.path("CLAUDE_CONFIG_DIR", ".claude") / "settings.json", values),)


def _after_claude(gateway: Gateway) -> Sequence[str]:
    return ('claude -p "say hello"', "/status             in a session shows the address and the key in use")


# --- opencode ----------------------------------------------------------------------------------------------------


def _opencode(gateway: Gateway, home: Home) -> Sequence[Edit]:
    """`opencode.json`: a provider with every model that can call tools."""
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Stretto",
        "options": {"baseURL": gateway.url, "apiKey": f"{{env:{gateway.key}}}" if gateway.key else _NOBODY},
        "models": {
            model.id: _opencode_model(model)
            for model in gateway.models
            if "tools" in model.abilities or model.id in (gateway.model, gateway.small)
        },
    }
    values: dict[Mapped, Any] = {
        ("$schema",): "https://opencode.ai/config.json",
        ("provider", "stretto"): provider,
        ("model",): f"stretto/{gateway.model}",
        ("small_model",): f"stretto/{gateway.small}",
    }
    return (JsonEdit(home.path("XDG_CONFIG_HOME", ".config") / "opencode" / "opencode.json", values),)


def _opencode_model(model: Model) -> dict[str, Any]:
    images = "vision" in model.abilities
    entry: dict[str, Any] = {
        "name": model.id,
        "tool_call": "tools" in model.abilities,
        "attachment": images,
        "modalities": {"input": ["text", "image"] if images else ["text"], "output": ["text"]},
    }
    if model.context:
        entry["limit"] = {"context": model.context, "output": model.output or model.context // 4}
    return entry


def _after_opencode(gateway: Gateway) -> Sequence[str]:
    return ('opencode run "say hello"', "/models             in a session lists the others")


# --- aider -------------------------------------------------------------------------------------------------------


def _aider(gateway: Gateway, home: Home) -> Sequence[Edit]:
    """`.aider.conf.yml`, the settings of the models and what LiteLLM should know of them; all in the home folder."""
    values = {
        "model": f"openai/{gateway.model}",
        "weak-model": f"openai/{gateway.small}",
        "openai-api-base": gateway.url,
    }
    if not gateway.key:
        values["openai-api-key"] = _NOBODY
    settings = [
        {
            "name": f"openai/{model.id}",
            "edit_format": "diff",
            "weak_model_name": f"openai/{gateway.small}",
            "use_repo_map": True,
            "use_temperature": "reasoning" not in model.abilities or model.policy,
        }
        for model in gateway.models
    ]
    sizes: dict[Mapped, Any] = {
        (f"openai/{model.id}",): {
            "litellm_provider": "openai",
            "mode": "chat",
            "max_tokens": model.output or model.context // 4,
            "max_input_tokens": model.context,
            "max_output_tokens": model.output or model.context // 4,
            "input_cost_per_token": 0,
            "output_cost_per_token": 0,
        }
        for model in gateway.models
        if model.context
    }
    edits: list[Edit] = [
        YamlEdit(home.folder / ".aider.conf.yml", values),
        YamlEdit(home.folder / ".aider.model.settings.yml", {}, settings),
    ]
    if sizes:
        edits.append(JsonEdit(home.folder / ".aider.model.metadata.json", sizes))
    return edits


def _after_aider(gateway: Gateway) -> Sequence[str]:
    key = (
        (f"export OPENAI_API_KEY=${gateway.key}    aider reads its key only from there",)
        if gateway.key
        else ()
    )
    return (*key, 'aider --message "say hello"')


# --- llm ---------------------------------------------------------------------------------------------------------


def _llm(gateway: Gateway, home: Home) -> Sequence[Edit]:
    """`extra-openai-models.yaml`: every model, those that are no policy under `stretto/`."""
    entries: list[dict[str, Any]] = []
    for model in gateway.models:
        entry: dict[str, Any] = {
            "model_id": _llm_id(model.id),
            "model_name": model.id,
            "api_base": gateway.url,
        }
        abilities = {"supports_tools": "tools", "supports_schema": "json", "vision": "vision"}
        entry |= {word: True for word, ability in abilities.items() if ability in model.abilities}
        entries.append(entry | ({"api_key_name": "stretto"} if gateway.key else {}))
    usual = "Library/Application Support" if sys.platform == "darwin" else ".config"
    folder = home.path("LLM_USER_PATH", f"{usual}/io.datasette.llm")
    return (YamlEdit(folder / "extra-openai-models.yaml", {}, entries),)


def _llm_id(name: str) -> str:
    """What llm calls a model. Names of its own, such as gpt-4o, must stay what they are."""
    return name if name.startswith("stretto") else f"stretto/{name}"


def _after_llm(gateway: Gateway) -> Sequence[str]:
    key = (f'llm keys set stretto --value "${gateway.key}"',) if gateway.key else ()
    return (*key, f'llm -m {_llm_id(gateway.model)} "say hello"', "llm models          lists the others")


TOOLS: Final[Mapping[str, Tool]] = {
    tool.name: tool
    for tool in (
        Tool("codex", "OpenAI's Codex CLI", _codex, _after_codex),
        Tool("claude-code", "Anthropic's Claude Code", _claude, _after_claude),
        Tool("opencode", "opencode", _opencode, _after_opencode),
        Tool("aider", "aider", _aider, _after_aider, needs_tools=False),
        Tool("llm", "Simon Willison's llm", _llm, _after_llm, needs_tools=False),
    )
}
"""Every program that `stretto connect` knows."""
