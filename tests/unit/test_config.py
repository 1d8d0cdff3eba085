"""The configuration: what is read, what wins, and what every mistake is answered with."""

from pathlib import Path

import pytest

from stretto.config import Settings, load, loopback, parse
from stretto.errors import ConfigError
from stretto.types import PICO, Price

FULL = """
[server]
host = "0.0.0.0"
port = 9000
data = "here"
workers = 2

[[worker]]
id = "opus"
wire = "chat"
model = "claude-opus-4-8"
endpoints = [
  { base_url = "https://api.example.com/v1/", api_key_env = "OPUS_KEY" },
  { base_url = "http://127.0.0.1:8000/v1", labels = { region = "eu" } },
]
price = { input = 5.0, output = 25.0, cached = 0.5 }
labels = { vendor = "anthropic", region = "eu" }
abilities = ["text", "tools"]

[[worker]]
id = "mine"
path = "model.gguf"

[policy.panel]
type = "fuse"
panel = ["opus", "mine"]
writer = "opus"

[policy.theirs]
type = "somebodys-own"
anything = [1, 2]

[limits]
usd = 2.0
calls = 40
seconds = 600
depth = 3

[[rule]]
when = { contains = ["translate"], max_tokens_below = 2000 }
use = "opus"

[ledger]
durability = "power"
content = "full"
"""

WORKER = '[[worker]]\nid = "gpt"\nendpoints = [{ base_url = "https://api.example.com/v1" }]\n'


def read(text: str, folder: Path = Path(), **environ: str) -> Settings:
    """Settings from a text, as if it stood in `folder`."""
    return parse(text, file=str(folder / "stretto.toml"), environ=environ)


def refused(text: str, folder: Path = Path(), **environ: str) -> str:
    """What the error about a text says, without the folder."""
    with pytest.raises(ConfigError) as caught:
        read(text, folder, **environ)
    return str(caught.value).removeprefix(f"{folder}/")


def test_every_documented_key_is_read(tmp_path: Path) -> None:
    """The schema of the design arrives in the settings, money in pico-dollars and paths from the file's folder."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    settings = read(FULL, tmp_path, OPUS_KEY="secret")
    assert (settings.server.host, settings.server.port, settings.server.workers) == ("0.0.0.0", 9000, 2)
    assert settings.data == tmp_path / "here"
    opus, mine = settings.workers
    assert (opus.wire, opus.model, opus.price) == (
        "chat",
        "claude-opus-4-8",
        Price(5_000_000, 25_000_000, 500_000),
    )
    assert [place.base_url for place in opus.endpoints] == [
        "https://api.example.com/v1",
        "http://127.0.0.1:8000/v1",
    ]
    assert opus.endpoints[1].labels == {"region": "eu"}
    assert opus.abilities == {"text", "tools"}
    assert (mine.path, mine.model, mine.endpoints) == (tmp_path / "model.gguf", "mine", ())
    assert settings.policies["panel"].options == {"panel": ("opus", "mine"), "writer": "opus"}
    assert settings.policies["theirs"].options == {"anything": [1, 2]}
    assert (settings.limits.usd, settings.limits.calls, settings.limits.depth) == (2 * PICO, 40, 3)
    assert settings.rules[0].when == {"contains": ("translate",), "max_tokens_below": 2000}
    assert settings.ledger.durability == "power"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[sever]\n", 'stretto.toml:1: sever: unknown key; did you mean "server"? Allowed: server, worker,'),
        ("[server]\nprot = 1\n", 'stretto.toml:2: server.prot: unknown key; did you mean "port"?'),
        ("[server]\n\nport = 99999\n", "stretto.toml:3: server.port: takes a whole number from 1 to 65535"),
        ("[server]\nport = true\n", "stretto.toml:2: server.port: takes a whole number"),
        ("server = 1\n", "stretto.toml:1: server: takes a table of keys"),
        ("[server\n", "stretto.toml: not valid TOML: "),
        ('[worker]\nid = "a"\n', "stretto.toml:1: worker: is a list of tables; write [[worker]]"),
        ('[[worker]]\nmodel = "a"\n', "stretto.toml:1: worker[0]: needs the key `id`"),
        (
            '[[worker]]\nid = "a"\n',
            'worker[0]: needs `endpoints` or, for a local model, `path = "model.gguf"`',
        ),
        ('[[worker]]\nid = "a b"\n', "stretto.toml:2: worker[0].id: takes a name"),
        (
            WORKER + 'prise = { input = 1 }\nwire = "chta"\n',
            'stretto.toml:4: worker[0].prise: unknown key; did you mean "price"?',
        ),
        (
            WORKER + 'wire = "chta"\n',
            'stretto.toml:4: worker[0].wire: takes one of "chat", "responses", "messages", "completions", "embeddings"; did'
            ' you mean "chat"? (worker "gpt")',
        ),
        (WORKER + "price = { input = 1.0 }\n", "stretto.toml:4: worker[0].price: needs the key `output`"),
        (
            WORKER + WORKER + "[worker.price]\ninput = -1\noutput = 1\n",
            "stretto.toml:8: worker[1].price.input: takes a number of at least 0",
        ),
        (WORKER + WORKER, 'stretto.toml:5: worker[1].id: there is a worker "gpt" already'),
        (WORKER + 'abilities = ["tolls"]\n', 'did you mean "tools"?'),
        (WORKER + 'path = "x.gguf"\n', "worker[0].path: a worker has either `path`"),
        ('[[worker]]\nid = "a"\npath = "no.gguf"\n', "stretto.toml:3: worker[0].path: there is no file"),
        (WORKER + '[policy.gpt]\ntype = "solo"\n', 'stretto.toml:4: policy.gpt: "gpt" is a worker already'),
        (
            '[policy.p]\ntype = "fuse"\npanell = ["a"]\n',
            'stretto.toml:3: policy.p.panell: unknown key; did you mean "panel"?',
        ),
        ('[policy.p]\npanel = ["a"]\n', "stretto.toml:1: policy.p: needs the key `type`"),
        ("[limits]\nusd = -1\n", "stretto.toml:2: limits.usd: takes a number of at least 0"),
        ("[limits]\nusd = nan\n", "stretto.toml:2: limits.usd: takes a number of at least 0"),
        (
            '[[rule]]\nuse = "a"\nwhen = { contain = ["x"] }\n',
            "rule[0].when.contain: unknown key; did you mean",
        ),
        ('[[rule]]\nuse = "a"\n', "rule[0].when: needs at least one of contains"),
        (
            '[[rule]]\nuse = "a"\nwhen = { matches = "(" }\n',
            "stretto.toml:3: rule[0].when.matches: takes a regular expression, but",
        ),
        ('[ledger]\ndurability = "fast"\n', 'ledger.durability: takes one of "process", "power"'),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_right_word(text: str, says: str) -> None:
    """Every wrong or unknown key is refused with file, line, dotted path and what is allowed there."""
    assert says in refused(text)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://models.example.com/v1", "would send prompts and keys unencrypted"),
        ("ftp://example.com", "begins with https://"),
        ("api.example.com/v1", "begins with https://"),
        ("https://user:word@example.com/v1", "no user, password"),
        ("https://example.com/v1?key=1", "no user, password"),
        ("https://example.com:port/v1", "is not a URL"),
    ],
)
def test_an_endpoint_is_https_or_loopback(url: str, says: str) -> None:
    """A base URL that would leak keys, or is none, is refused where it stands."""
    message = refused(f'[[worker]]\nid = "a"\nendpoints = [{{ base_url = "{url}" }}]\n')
    assert message.startswith("stretto.toml:3: worker[0].endpoints[0].base_url: ")
    assert says in message


def test_plain_http_elsewhere_needs_consent() -> None:
    """`insecure = true` accepts plain HTTP to another machine."""
    text = '[[worker]]\nid = "a"\nendpoints = [{ base_url = "http://10.0.0.7:8000/v1", insecure = true }]\n'
    assert read(text).workers[0].endpoints[0].insecure


def test_a_missing_provider_key_names_worker_and_variable() -> None:
    """An `api_key_env` that is not in the environment is refused before anything starts."""
    text = (
        '[[worker]]\nid = "a"\nendpoints = [{ base_url = "https://x.example/v1", api_key_env = "X_KEY" }]\n'
    )
    message = refused(text)
    assert "X_KEY is not set" in message
    assert 'worker "a"' in message
    assert read(text, X_KEY="k").workers[0].endpoints[0].api_key_env == "X_KEY"


@pytest.mark.parametrize("key", ["sk-canary-1234", "gsk_canary1234"])
def test_a_key_in_place_of_its_variable_is_not_repeated(key: str) -> None:
    """Whoever writes a key into the file is told what belongs there; the message, which may be logged, does not hold it."""
    message = refused(
        f'[[worker]]\nid = "a"\nendpoints = [{{ base_url = "https://x.example/v1", api_key_env = "{key}" }}]\n'
    )
    assert "never the key itself" in message
    assert key not in message


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Editors that begin a file with one are forgiven."""
    file = tmp_path / "my.toml"
    file.write_text("[server]\nport = 3\n", encoding="utf-8-sig")
    assert load(file, environ={}).server.port == 3


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    """Precedence of port and data folder."""
    file = tmp_path / "my.toml"
    file.write_text('[server]\nport = 3\ndata = "/file"\n')
    environ = {"STRETTO_CONFIG": str(file), "STRETTO_PORT": "2", "STRETTO_DATA": "/environ"}
    assert load(port=1, data="/flag", environ=environ).server.port == 1
    assert load(port=1, data="/flag", environ=environ).data == Path("/flag")
    assert load(environ=environ).server.port == 2
    assert load(environ=environ).data == Path("/environ")
    assert load(environ={"STRETTO_CONFIG": str(file)}).server.port == 3
    assert load(file, environ={}).data == Path("/file")
    assert load(environ={}).server.port == 8700


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """A configuration file that was asked for and cannot be read is an error that says who asked."""
    with pytest.raises(ConfigError, match="--config names the configuration file"):
        load(tmp_path / "none.toml", environ={})
    with pytest.raises(ConfigError, match="STRETTO_CONFIG names the configuration file"):
        load(environ={"STRETTO_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize("port", ["0", "http", "65536", "-1", ""])
def test_a_port_in_the_environment_is_checked(port: str) -> None:
    """`STRETTO_PORT` must be a port; an empty one counts as not set."""
    if port == "":
        assert load(environ={"STRETTO_PORT": port}).server.port == 8700
        return
    with pytest.raises(ConfigError, match="STRETTO_PORT"):
        load(environ={"STRETTO_PORT": port})


def test_texts_are_kept_by_default_only_where_nobody_else_can_ask() -> None:
    """Content is kept in full on loopback, as digests elsewhere, and as set where it is set."""
    assert read("").keeps_content
    assert not read('[server]\nhost = "0.0.0.0"\n').keeps_content
    assert read('[server]\nhost = "0.0.0.0"\n[ledger]\ncontent = "full"\n').keeps_content
    assert not read('[ledger]\ncontent = "digest"\n').keeps_content


@pytest.mark.parametrize(
    ("host", "mine"),
    [
        ("localhost", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("a.b", False),
    ],
)
def test_loopback_is_recognised(host: str, mine: bool) -> None:
    """Only addresses that cannot be reached from outside count as loopback."""
    assert loopback(host) is mine


@pytest.mark.parametrize("wire", ["chat", "responses", "messages", "completions", "embeddings"])
def test_every_format_may_be_spoken_to_a_worker(wire: str, tmp_path: Path) -> None:
    """What `wire` takes is what there is towards upstreams; none is refused at the start."""
    (worker,) = read(f'{WORKER}wire = "{wire}"\n', tmp_path).workers
    assert worker.wire == wire
