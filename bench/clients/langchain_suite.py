"""LangChain's own standard chat-model tests, pointed at a gateway: `python -m bench.clients.langchain` runs them in LangChain's
environment, with STRETTO_BASE and STRETTO_MODEL set.
"""

import base64
import os
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.integration_tests import chat_models as integration
from langchain_tests.unit_tests import ChatModelUnitTests

_PARAMS = {
    "model": os.environ["STRETTO_MODEL"],
    "base_url": os.environ["STRETTO_BASE"] + "/v1",
    "api_key": "sk-none",
    "stream_usage": True,
    "timeout": 60,
}


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


class _Common:
    """What the suite is told about the model."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """The client under test."""
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, object]:
        """How it is made."""
        return dict(_PARAMS)

    @property
    def model_override_value(self) -> str:
        """Another model's name."""
        return "route"

    @property
    def init_from_env_params(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """A key from the environment."""
        names = {"OPENAI_API_KEY": "key", "OPENAI_ORG_ID": "org", "OPENAI_API_BASE": "base"}
        found = {"openai_api_key": "key", "openai_organization": "org", "openai_api_base": "base"}
        return names, {}, found


for _ability in (
    "image_inputs",
    "image_urls",
    "image_tool_message",
    "json_mode",
    "anthropic_inputs",
    "pdf_inputs",
):
    setattr(_Common, f"supports_{_ability}", True)


@pytest.fixture(autouse=True)
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite's pictures and documents come from the internet, which is not there: a pixel stands for them."""
    pixel = SimpleNamespace(content=base64.b64decode(PIXEL))
    monkeypatch.setattr(integration, "httpx", SimpleNamespace(get=lambda url, **more: pixel))


class TestUnit(_Common, ChatModelUnitTests):
    """Without a call."""


class TestChat(_Common, ChatModelIntegrationTests):
    """Over Chat Completions."""


class TestResponses(_Common, ChatModelIntegrationTests):
    """Over Responses."""

    @property
    def chat_model_params(self) -> dict[str, object]:
        """With the other API."""
        return {**_PARAMS, "use_responses_api": True}
