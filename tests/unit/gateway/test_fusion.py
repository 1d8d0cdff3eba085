"""What requests say about fusion, in OpenRouter's three forms."""

from typing import Any

import pytest

from stretto.errors import RequestError
from stretto.gateway.fusion import wished
from stretto.gateway.wish import Wish
from stretto.types import Message, Request

CALLERS = {"type": "function", "function": {"name": "look"}}


def request(model: str = "w", **fields: Any) -> Request:
    """A request to `model`."""
    return Request(messages=(Message("user", "q"),), model=model, **fields)


def tool(kind: str = "openrouter:fusion", **parameters: Any) -> dict[str, Any]:
    """The server tool."""
    return {"type": kind, "parameters": parameters} if parameters else {"type": kind}


def plugin(**fields: Any) -> dict[str, Any]:
    """The fields of a request with the plugin."""
    return {"plugins": [{"id": "web"}, {"id": "fusion", **fields}]}


def wish(given: Request, **headers: str) -> Wish:
    """The wish of a request that has one."""
    found = wished(given, given.model, {k.replace("_", "-").encode(): v.encode() for k, v in headers.items()})
    assert found is not None
    assert found[1] is not None
    return found[1]


def test_a_request_without_any_of_the_forms_has_no_wish() -> None:
    """Other plugins and tools are none of fusion's business, nor is the header by itself."""
    plain = request(tools=(CALLERS,), extra={"plugins": [{"id": "web"}]})

    assert wished(plain, "w", {b"x-openrouter-fusion-depth": b"1"}) is None
    assert wished(request(extra={"plugins": "strange"}), "w", {}) is None


@pytest.mark.parametrize(
    ("model", "preset", "asks"),
    [
        ("stretto/fusion", "", False),
        ("stretto/fusion-flash", "general-fast", False),
        ("openrouter/fusion", "", True),
        ("openrouter/fusion-flash", "general-fast", True),
    ],
)
def test_an_alias_is_a_wish_without_an_outer_model(model: str, preset: str, asks: bool) -> None:
    """Under our names the panel always convenes, under OpenRouter's the outer model decides."""
    assert wish(request(model)) == Wish(preset=preset, asks=asks)


def test_the_plugin_is_read_and_taken_out_of_the_request() -> None:
    """Other plugins stay; the model that is named decides and writes."""
    given = request(
        extra=plugin(
            analysis_models=["a", "b"],
            model="j",
            preset="general-budget",
            max_completion_tokens=99,
            temperature=0.5,
            reasoning={"effort": "low"},
            max_tool_calls=3,
        )
        | {"other": 1}
    )

    found = wished(given, "w", {})

    assert found is not None
    assert found[0].extra == {"plugins": [{"id": "web"}], "other": 1}
    assert found[1] == Wish("w", "j", ("a", "b"), "general-budget", 99, 0.5, "low")
    assert found[1].needed("w") == ("j", "a", "b")


@pytest.mark.parametrize(
    ("fields", "name", "needed"),
    [
        ({}, "w", ("stretto/fusion",)),
        ({}, "openrouter/fusion", ()),
        ({"analyst": "j", "preset": "general-high"}, "w", ("j", "stretto/fusion")),
        ({"panel": ("a",)}, "w", ("a",)),
        ({"panel": ("a",), "preset": "council"}, "stretto/fusion", ("a", "council")),
    ],
)
def test_what_the_caller_leaves_open_needs_leave_as_well(
    fields: dict[str, Any], name: str, needed: tuple[str, ...]
) -> None:
    """A panel of the deployment's is what `stretto/fusion` means; a preset of the owner's is a policy, by its name."""
    assert Wish(**fields).needed(name) == needed
    assert wished(request(extra={"plugins": [{"id": "fusion"}]}), "w", {})[0].extra == {}  # type: ignore[index]


@pytest.mark.parametrize("kind", ["openrouter:fusion", "stretto:fusion"])
def test_the_server_tool_is_read_and_taken_out_of_the_request(kind: str) -> None:
    """The caller's own tools stay; its parameters count before the plugin's."""
    given = request(
        tools=(CALLERS, tool(kind, analysis_models=["a"])), extra=plugin(analysis_models=["b"], model="j")
    )

    found = wished(given, "w", {})

    assert found is not None
    assert found[0].tools == (CALLERS,)
    assert found[1] == Wish("w", "j", ("a",))


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "openrouter:fusion"},
        {"type": "function", "function": {"name": "openrouter:fusion"}},
        {"type": "function", "name": "fusion"},
    ],
)
def test_a_choice_that_can_only_mean_the_panel_forces_it(choice: Any) -> None:
    """The outer model need not be asked, and its last ask chooses freely."""
    found = wished(request(tools=(tool(),), tool_choice=choice), "w", {})

    assert found is not None
    assert found[0].tool_choice is None
    assert found[1] == Wish("w", asks=False)


def test_required_beside_other_tools_leaves_the_outer_model_which() -> None:
    """The requirement is met in the opening ask; the last one is free."""
    found = wished(request(tools=(CALLERS, tool()), tool_choice="required"), "w", {})

    assert found is not None
    assert found[0].tool_choice is None
    assert found[1] == Wish("w", tool_choice="required")
    assert wish(request("stretto/fusion", tool_choice="auto")) == Wish(tool_choice="auto")


@pytest.mark.parametrize("choice", ["none", {"type": "function", "function": {"name": "look"}}])
def test_a_choice_that_excludes_the_panel_leaves_the_request_without_it(choice: Any) -> None:
    """The named model serves it plainly; under an alias the outer model answers alone."""
    found = wished(request(tools=(CALLERS, tool()), tool_choice=choice), "w", {})
    alias = wished(request("openrouter/fusion", tool_choice="none"), "openrouter/fusion", {})

    assert found == (request(tools=(CALLERS,), tool_choice=choice), None)
    assert alias is not None
    assert alias[0].tool_choice is None
    assert alias[1] is not None
    assert alias[1].alone


def test_a_plugin_that_is_switched_off_is_left_out() -> None:
    """`enabled: false` under an alias means that model alone; the tool itself still counts."""
    off = plugin(enabled=False, analysis_models=["a"])

    assert wished(request(extra=off), "w", {})[1] is None  # type: ignore[index]
    assert wish(request("stretto/fusion", extra=off)).alone
    assert not wish(request(tools=(tool(),), extra=off)).alone


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"analysis_models": []}, "plugins[1].analysis_models"),
        ({"analysis_models": ["a"] * 9}, "plugins[1].analysis_models"),
        ({"analysis_models": "a"}, "plugins[1].analysis_models"),
        ({"analysis_models": [1]}, "plugins[1].analysis_models"),
        ({"model": 1}, "plugins[1].model"),
        ({"temperature": 3}, "plugins[1].temperature"),
        ({"max_completion_tokens": 0}, "plugins[1].max_completion_tokens"),
        ({"reasoning": "much"}, "plugins[1].reasoning"),
        ({"enabled": "yes"}, "plugins[1].enabled"),
    ],
)
def test_a_wish_that_cannot_be_read_names_the_field(fields: dict[str, Any], param: str) -> None:
    """A panel that silently differs from what was asked for would cost money."""
    with pytest.raises(RequestError) as refused:
        wished(request(extra=plugin(**fields)), "w", {})

    assert refused.value.param == param


def test_fusion_inside_fusion_is_refused() -> None:
    """One level is enough; depth 0 is none."""
    with pytest.raises(RequestError, match="fusion_invocation_capped"):
        wish(request("stretto/fusion"), x_openrouter_fusion_depth="1")

    assert wish(request("stretto/fusion"), x_openrouter_fusion_depth="0")
