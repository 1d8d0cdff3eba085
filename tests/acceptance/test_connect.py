"""`stretto connect`: what it writes is what the programs read, the owner's settings survive, and undo is exact."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stretto.cli.main import stretto
from stretto.ledger.keys import Keys
from stretto.ledger.sqlite import connect, index_path, migrate

CONFIG = """
[server]
port = 8711
data = "data"

[[worker]]
id = "small"
endpoints = [{ base_url = "http://127.0.0.1:9/v1" }]
price = { input = 1, output = 2 }
abilities = ["text"]
context = 8000

[[worker]]
id = "large"
endpoints = [{ base_url = "http://127.0.0.1:9/v1" }]
price = { input = 3, output = 9 }
abilities = ["text", "tools", "json", "vision", "reasoning"]
context = 128000
max_output = 16000
"""
URL = "http://127.0.0.1:8711/v1"

OWNERS = {
    "codex": {
        ".codex/config.toml": '# mine\nmodel = "gpt-5"  # the usual\nnotify = [\n  "bell",\n]\n\n[model_providers.other]\n'
        'name = "other"\n\n[tui]\ntheme = "dark" # no end of line'
    },
    "claude-code": {
        ".claude/settings.json": '{\n    "model": "opus",\n    "env": {"MINE": "1", "ANTHROPIC_API_KEY": "k"}\n}'
    },
    "opencode": {
        ".config/opencode/opencode.json": '{"theme": "é", "provider": {"mine": {}}, "model": "mine/x"}\n'
    },
    "aider": {
        ".aider.conf.yml": "# mine\nmodel: gpt-4o\ndark-mode: true\nread:\n- a.md\n",
        ".aider.model.settings.yml": "---\n- name: mine\n  edit_format: whole\n",
        ".aider.model.metadata.json": '{"mine": {"max_tokens": 1}}',
    },
    "llm": {".config/io.datasette.llm/extra-openai-models.yaml": "- model_id: mine\n  model_name: mine\n"},
}
"""What stands in a home before: comments, other providers, odd ends of lines."""

CREATED = {".codex/stretto-models.json"}
"""What `connect` makes beside them."""


class World:
    """A home folder and a configuration; commands run in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "stretto.toml"
        self.config.write_text(CONFIG)

    def run(self, *words: str, code: int = 0, **environ: str) -> Result:
        """`stretto connect` with these arguments."""
        known = dict.fromkeys(
            ("CODEX_HOME", "CLAUDE_CONFIG_DIR", "XDG_CONFIG_HOME", "LLM_USER_PATH", "STRETTO_KEY")
        )
        done = CliRunner().invoke(
            stretto,
            ["connect", *words, "--config", str(self.config), "--data", str(self.folder / "data")],
            env={**known, "HOME": str(self.folder), **environ},
        )
        assert done.exit_code == code, done.output
        return done

    def own(self, tool: str) -> dict[str, str]:
        """Put the owner's files of a tool there."""
        for name, text in OWNERS[tool].items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(text.encode())
        return OWNERS[tool]

    def read(self, name: str) -> str:
        """A file of the home folder."""
        return (self.folder / name).read_bytes().decode()

    def files(self) -> dict[str, bytes]:
        """Everything in the home folder but Stretto's own data and configuration."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.parts[len(self.folder.parts)] not in ("data", "stretto.toml")
        }

    def key(self) -> None:
        """From now on the gateway wants a key."""
        (self.folder / "data").mkdir(exist_ok=True)
        connection = connect(index_path(self.folder / "data"))
        migrate(connection)
        Keys(connection).create("somebody")
        connection.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty home."""
    return World(tmp_path)


def yaml(text: str) -> Any:
    """The little of YAML that we write and the owner's files above use: one list or mapping of scalars, in block style."""
    rows: list[dict[str, Any]] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith(("#", "---")):
            continue
        if (line.startswith("- ") and ": " in line) or not rows:
            rows.append({})
        key, _, value = line.removeprefix("- ").strip().partition(":")
        value = value.strip()
        rows[-1][key] = json.loads(value) if value[:1] in ('"', "t", "f") and value != "" else value
    return rows


@pytest.mark.parametrize("tool", OWNERS)
def test_undo_brings_everything_back_byte_for_byte(world: World, tool: str) -> None:
    """Written, written again for another model, and taken back: the home folder is what it was, without a file more."""
    world.own(tool)
    before = world.files()
    world.run(tool, "--model", "large", "--write")
    assert world.files() != before
    world.run(tool, "--model", "stretto-ultra", "--small", "large", "--write")
    world.run(tool, "--undo")
    assert world.files() == before
    assert "nothing to undo" in world.run(tool, "--undo", code=2).output


@pytest.mark.parametrize("tool", OWNERS)
def test_in_an_empty_home_undo_leaves_no_file(world: World, tool: str) -> None:
    """Where there was nothing, there is nothing afterwards; llm, for one, cannot start on an empty list of models."""
    world.run(tool, "--write")
    assert world.files() != {}
    world.run(tool, "--undo")
    assert world.files() == {}


@pytest.mark.parametrize("tool", OWNERS)
def test_a_second_run_changes_nothing(world: World, tool: str) -> None:
    """The same command again writes no file and makes no backup, and the same file comes of a home that had ours before."""
    world.own(tool)
    world.run(tool, "--write")
    once = world.files()
    told = world.run(tool, "--write").output
    assert world.files() == once
    assert "written" not in told
    world.run(tool, "--model", "large", "--write")
    world.run(tool, "--write")
    assert {name: data for name, data in world.files().items() if "stretto-models" not in name} == {
        name: data for name, data in once.items() if "stretto-models" not in name
    }


@pytest.mark.parametrize("tool", OWNERS)
def test_nothing_is_written_without_being_told_to(world: World, tool: str) -> None:
    """By default, and with `--print`, it only shows; what it shows names the address."""
    world.own(tool)
    before = world.files()
    assert "Nothing is written yet" in world.run(tool).output
    assert URL.removesuffix("/v1") in world.run(tool, "--print").output
    assert world.files() == before


def test_long_files_are_shown_whole_only_when_asked_for(world: World) -> None:
    """Codex's catalogue has the same instructions for each name; without `--print` nobody has to scroll through them."""
    brief, whole = world.run("codex").output, world.run("codex", "--print").output
    assert "more lines; --print shows all" in brief
    assert max(map(len, brief.splitlines())) < 400 < max(map(len, whole.splitlines()))
    assert "more lines" not in whole


@pytest.mark.parametrize("tool", OWNERS)
def test_before_the_first_change_there_is_a_backup(world: World, tool: str) -> None:
    """Each file that was there is kept beside it as it was."""
    own = world.own(tool)
    world.run(tool, "--write")
    assert {name: world.read(f"{name}.stretto-1.bak") for name in own} == own


def test_codex_reads_a_provider_and_a_catalogue(world: World) -> None:
    """`config.toml` has our provider in force and all else untouched; the catalogue has what Codex demands of each model."""
    world.own("codex")
    before = tomllib.loads(world.read(".codex/config.toml"))
    world.run("codex", "--model", "large", "--small", "stretto", "--write")
    text = world.read(".codex/config.toml")
    after = tomllib.loads(text)
    assert '#(stretto) model = "gpt-5"  # the usual' in text
    assert (after["model"], after["review_model"], after["model_provider"]) == ("large", "stretto", "stretto")
    ours = after["model_providers"]["stretto"]
    assert (ours["base_url"], ours["wire_api"]) == (URL, "responses")
    assert "env_key" not in ours
    assert after["model_providers"]["other"] == before["model_providers"]["other"]
    assert (after["notify"], after["tui"]) == (before["notify"], before["tui"])
    models = json.loads(Path(after["model_catalog_json"]).read_text())["models"]
    entry = next(model for model in models if model["slug"] == "large")
    demanded = "slug display_name supported_reasoning_levels shell_type visibility supported_in_api priority base_instructions"
    demanded += " support_verbosity truncation_policy experimental_supported_tools"
    assert [key for key in demanded.split() for model in models if key not in model] == []
    assert (entry["context_window"], entry["input_modalities"], entry["visibility"]) == (
        128000,
        ["text", "image"],
        "list",
    )
    assert {m["slug"]: m["visibility"] for m in models} | {"small": "hide", "stretto": "list"} == {
        m["slug"]: m["visibility"] for m in models
    }


def test_claude_code_reads_its_environment_from_the_settings(world: World) -> None:
    """`settings.json` names address and models; a key of Anthropic's is kept away from the gateway, other settings stay."""
    world.own("claude-code")
    world.run("claude-code", "--model", "stretto-ultra", "--small", "stretto", "--write")
    settings = json.loads(world.read(".claude/settings.json"))
    env = settings["env"]
    assert (env["ANTHROPIC_BASE_URL"], env["ANTHROPIC_AUTH_TOKEN"]) == ("http://127.0.0.1:8711", "stretto")
    assert (env["ANTHROPIC_MODEL"], env["ANTHROPIC_DEFAULT_HAIKU_MODEL"]) == ("stretto-ultra", "stretto")
    assert (env["ANTHROPIC_API_KEY"], env["MINE"], settings["model"]) == ("", "1", "opus")
    assert (env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"], env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"]) == (
        "128000",
        "16000",
    )


def test_opencode_reads_a_provider(world: World) -> None:
    """`opencode.json` has our provider beside the owner's, with the models that can call tools and their sizes."""
    world.own("opencode")
    world.run("opencode", "--write")
    data = json.loads(world.read(".config/opencode/opencode.json"))
    assert (data["model"], data["small_model"], data["theme"]) == ("stretto/stretto", "stretto/stretto", "é")
    assert set(data["provider"]) == {"mine", "stretto"}
    ours = data["provider"]["stretto"]
    assert (ours["npm"], ours["options"]["baseURL"]) == ("@ai-sdk/openai-compatible", URL)
    assert ours["models"]["large"]["limit"] == {"context": 128000, "output": 16000}
    assert "small" not in ours["models"]


def test_aider_reads_its_model_and_what_it_holds(world: World) -> None:
    """The configuration names model and address, the owner's other model is set aside; sizes are in the metadata."""
    world.own("aider")
    world.run("aider", "--model", "large", "--write")
    text = world.read(".aider.conf.yml")
    assert "#(stretto) model: gpt-4o\n" in text
    [conf] = yaml(text.replace("read:\n- a.md\n", ""))
    assert (conf["model"], conf["openai-api-base"], conf["dark-mode"]) == ("openai/large", URL, True)
    listed = {row["name"]: row["edit_format"] for row in yaml(world.read(".aider.model.settings.yml"))}
    assert (listed["mine"], listed["openai/large"]) == ("whole", "diff")
    sizes = json.loads(world.read(".aider.model.metadata.json"))
    assert (sizes["mine"], sizes["openai/large"]["max_input_tokens"]) == ({"max_tokens": 1}, 128000)


def test_llm_reads_a_list_of_models(world: World) -> None:
    """Each model is one entry after the owner's; names that llm may know itself stand below `stretto/`."""
    world.own("llm")
    world.run("llm", "--write")
    rows = {
        row["model_id"]: row for row in yaml(world.read(".config/io.datasette.llm/extra-openai-models.yaml"))
    }
    assert {"mine", "stretto", "stretto-ultra", "stretto/large", "stretto/small"} <= set(rows)
    large = {"model_id": "stretto/large", "model_name": "large", "api_base": URL}
    assert rows["stretto/large"] == large | {"supports_tools": True, "supports_schema": True, "vision": True}


NAMED: dict[str, Callable[[World], object]] = {
    "codex": lambda w: (
        tomllib.loads(w.read(".codex/config.toml"))["model_providers"]["stretto"]["env_key"] == "TEAM"
    ),
    "claude-code": lambda w: (
        json.loads(w.read(".claude/settings.json"))["apiKeyHelper"] == 'printf %s "$TEAM"'
    ),
    "opencode": lambda w: '"{env:TEAM}"' in w.read(".config/opencode/opencode.json"),
    "aider": lambda w: "openai-api-key" not in w.read(".aider.conf.yml"),
    "llm": lambda w: "api_key_name" in w.read(".config/io.datasette.llm/extra-openai-models.yaml"),
}


@pytest.mark.parametrize("tool", NAMED)
def test_keys_are_named_and_never_written(world: World, tool: str) -> None:
    """With `--key-env` the program is told the variable; its value is nowhere in the home folder, nor in what is printed."""
    told = world.run(tool, "--key-env", "TEAM", "--write", TEAM="sk-stretto-secret").output
    assert NAMED[tool](world)
    assert "sk-stretto-secret" not in told
    assert [
        path
        for path in world.folder.rglob("*")
        if path.is_file() and b"sk-stretto-secret" in path.read_bytes()
    ] == []


def test_a_gateway_with_keys_is_told_by_its_data_folder(world: World) -> None:
    """Once a key was made, programs are told to send one; the command says to export it."""
    world.key()
    told = world.run("codex", "--write").output
    assert (
        tomllib.loads(world.read(".codex/config.toml"))["model_providers"]["stretto"]["env_key"]
        == "STRETTO_KEY"
    )
    assert "export STRETTO_KEY=" in told


def test_what_a_program_wrote_since_survives_undo(world: World) -> None:
    """Codex notes trusted folders in its file, Claude Code the owner's choices: undo takes out ours alone."""
    world.own("codex")
    world.own("claude-code")
    world.run("codex", "--write")
    world.run("claude-code", "--write")
    file = world.folder / ".codex/config.toml"
    file.write_text(file.read_text() + '\n[projects."/x"]\ntrust_level = "trusted"\n')
    settings = world.folder / ".claude/settings.json"
    data = json.loads(settings.read_text())
    data["env"]["ANTHROPIC_MODEL"] = "mine"
    settings.write_text(json.dumps(data | {"theme": "light"}))
    world.run("codex", "--model", "large", "--write")
    assert "trusted" in file.read_text()
    world.run("codex", "--undo")
    world.run("claude-code", "--undo")
    before = tomllib.loads(OWNERS["codex"][".codex/config.toml"])
    assert tomllib.loads(file.read_text()) == before | {"projects": {"/x": {"trust_level": "trusted"}}}
    env = {"MINE": "1", "ANTHROPIC_API_KEY": "k", "ANTHROPIC_MODEL": "mine"}
    assert json.loads(settings.read_text()) == {"model": "opus", "env": env, "theme": "light"}


@pytest.mark.parametrize(
    ("tool", "name", "text", "why"),
    [
        ("codex", ".codex/config.toml", "model_providers = { a = { name = 'a' } }\n", "Put it in by hand"),
        ("codex", ".codex/config.toml", "[model_providers.stretto]\nname = 'mine'\n", "Put it in by hand"),
        ("codex", ".codex/config.toml", "model = \n", "is not valid TOML"),
        ("claude-code", ".claude/settings.json", '{ // mine\n "model": "opus" }', "comments would be lost"),
        ("claude-code", ".claude/settings.json", '{"env": []}', "should hold an object"),
        ("opencode", ".config/opencode/opencode.json", "[]", "should hold an object"),
        ("aider", ".aider.conf.yml", "{model: gpt-4o}\n", "Put it in by hand"),
        ("llm", ".config/io.datasette.llm/extra-openai-models.yaml", "[]\n", "Put it in by hand"),
    ],
)
def test_a_file_that_cannot_be_edited_safely_is_left_alone(
    world: World, tool: str, name: str, text: str, why: str
) -> None:
    """The command says why and what to put in by hand, and writes nothing at all, not even the other files of that program."""
    (world.folder / name).parent.mkdir(parents=True, exist_ok=True)
    (world.folder / name).write_text(text)
    before = world.files()
    assert why in world.run(tool, "--write", code=2).output
    assert world.files() == before


def test_values_that_look_like_ours_are_left_alone(world: World) -> None:
    """A line inside a longer text is no setting, and a table's own `model` is not the one at the top."""
    file = world.folder / ".codex/config.toml"
    file.parent.mkdir()
    file.write_text('[profiles.mine]\nmodel = "x"\nprompt = """\nmodel = 1\n"""\n')
    world.run("codex", "--write")
    assert tomllib.loads(file.read_text())["profiles"]["mine"] == {"model": "x", "prompt": "model = 1\n"}


def test_links_stay_links_and_files_stay_private(world: World) -> None:
    """Settings that lie elsewhere, as dotfiles may, are edited there with their permissions; new files are the owner's alone."""
    there = world.folder / "dotfiles.json"
    there.write_text("{}\n")
    there.chmod(0o640)
    (world.folder / ".claude").mkdir()
    (world.folder / ".claude/settings.json").symlink_to(there)
    world.run("claude-code", "--write")
    assert (world.folder / ".claude/settings.json").is_symlink()
    assert "ANTHROPIC_BASE_URL" in there.read_text()
    assert there.stat().st_mode & 0o777 == 0o640
    world.run("codex", "--write")
    assert (world.folder / ".codex/config.toml").stat().st_mode & 0o777 == 0o600


def test_other_places_for_settings_are_respected(world: World) -> None:
    """Where a program's own variable names another folder, that one is written."""
    world.run("codex", "--write", CODEX_HOME=str(world.folder / "elsewhere"))
    assert (world.folder / "elsewhere/config.toml").exists()
    assert not (world.folder / ".codex").exists()


def test_mistakes_are_told_with_the_way_out(world: World) -> None:
    """Unknown tools and models come with the nearest name; an address where nobody answers with what to start."""
    assert 'did you mean "codex"' in world.run("codx", code=2).output
    assert 'did you mean "large"' in world.run("codex", "--model", "larg", code=2).output
    assert (
        "is `stretto serve` running?" in world.run("codex", "--url", "http://127.0.0.1:9/v1", code=2).output
    )
    assert "takes an address" in world.run("codex", "--url", "127.0.0.1", code=2).output
    told = world.run("llm", "--url", "http://127.0.0.1:9", "--key-env", "NOT_SET", code=2).output
    assert "NOT_SET is not set" in told


def test_a_model_without_tools_is_warned_of(world: World) -> None:
    """Coding agents live on tool calls: one that would be refused at its first request is told so now."""
    assert "no worker behind small has the ability `tools`" in world.run("codex", "--model", "small").output
    assert "ability" not in world.run("aider", "--model", "small").output


def test_the_list_says_who_is_connected(world: World) -> None:
    """Without a tool, all are listed."""
    world.run("llm", "--write")
    lines = {line.split()[0]: line.split()[-1] for line in world.run().output.splitlines()}
    assert lines == {"codex": "-", "claude-code": "-", "opencode": "-", "aider": "-", "llm": "connected"}
