"""Frameworks as clients, each in an environment of its own: LangChain, Pydantic AI, Instructor, LlamaIndex, LiteLLM."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, Literal

from bench.clients.sdks_cases import ASKS, CITIES, QUESTION, WEATHER, Case
from bench.clients.sdks_vendors import City

__all__ = ["CLIENTS"]

os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", DO_NOT_TRACK="1")


def weather_of(case: Case, seen: list[str]) -> Callable[..., str]:
    """The tool as a function, which notes what it was called for."""

    def weather(city: Literal["Rome", "Oslo"]) -> str:
        """The weather in a city."""
        assert city in CITIES, f"called for {city!r}"
        seen.append(city)
        return case.result(city)

    return weather


class LangChain:
    """langchain-openai over Chat Completions."""

    responses = False

    def __init__(self, case: Case) -> None:
        from langchain_openai import ChatOpenAI

        self.case = case
        self.llm: Any = ChatOpenAI(
            model=case.model,
            base_url=case.v1,
            api_key=case.key,
            stream_usage=True,
            max_retries=0,
            timeout=60,
            use_responses_api=self.responses,
        )

    def _check(self, found: Any) -> None:
        self.case.spoke(found.text)
        usage = found.usage_metadata
        self.case.counted(usage["input_tokens"], usage["output_tokens"], usage["total_tokens"])

    def chat(self) -> None:
        """invoke."""
        found = self.llm.invoke(self.case.prompt)
        self._check(found)
        assert found.id
        if not self.responses:
            assert found.response_metadata["finish_reason"] == "stop"

    def stream(self) -> None:
        """stream, its chunks added up."""
        chunks = list(self.llm.stream(self.case.prompt))
        assert len(chunks) > 1, "one chunk"
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        self._check(whole)

    def tools(self) -> None:
        """bind_tools, forced, whole and streamed."""
        bound = self.llm.bind_tools([WEATHER], tool_choice="weather")
        found = bound.invoke(QUESTION)
        assert not found.invalid_tool_calls, found.invalid_tool_calls
        self.case.called((c["id"], c["name"], c["args"]) for c in found.tool_calls)
        chunks = list(self.llm.bind_tools([WEATHER], tool_choice="any").stream(QUESTION))
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        self.case.called((c["id"], c["name"], c["args"]) for c in whole.tool_calls)

    def structured(self) -> None:
        """with_structured_output, by schema and by function calling."""
        for method in ("json_schema", "function_calling"):
            found = self.llm.with_structured_output(City, method=method).invoke(ASKS)
            self.case.described(found.name, found.population)

    def turns(self) -> None:
        """A tool loop to its end, then another question."""
        from langchain_core.messages import HumanMessage, ToolMessage

        messages: list[Any] = [HumanMessage(QUESTION)]
        bound = self.llm.bind_tools([WEATHER])
        asked = bound.invoke(messages)
        cities = self.case.called((c["id"], c["name"], c["args"]) for c in asked.tool_calls)
        messages += [
            asked,
            *(
                ToolMessage(self.case.result(city), tool_call_id=call["id"])
                for call, city in zip(asked.tool_calls, cities, strict=True)
            ),
        ]
        last = bound.invoke(messages)
        self.case.concluded(last.text, cities)
        again = self.llm.invoke([*messages, last, HumanMessage(self.case.prompt)])
        self.case.spoke(again.text)


class LangChainResponses(LangChain):
    """langchain-openai over Responses."""

    responses = True


class PydanticAI:
    """Pydantic AI over Chat Completions."""

    kind = "OpenAIChatModel"

    def __init__(self, case: Case) -> None:
        from pydantic_ai.models import openai as models
        from pydantic_ai.providers.openai import OpenAIProvider

        self.case = case
        provider = OpenAIProvider(base_url=case.v1, api_key=case.key)
        self.model: Any = getattr(models, self.kind)(case.model, provider=provider)

    def _agent(self, **more: Any) -> Any:
        from pydantic_ai import Agent

        return Agent(self.model, retries=0, **more)

    def _check(self, found: Any, text: str) -> None:
        self.case.spoke(text)
        usage = found.usage() if callable(found.usage) else found.usage
        self.case.counted(usage.input_tokens, usage.output_tokens)

    def chat(self) -> None:
        """run_sync."""
        found = self._agent().run_sync(self.case.prompt)
        self._check(found, found.output)

    def stream(self) -> None:
        """run_stream."""

        async def run() -> None:
            async with self._agent().run_stream(self.case.prompt) as found:
                text = "".join([piece async for piece in found.stream_text(delta=True, debounce_by=None)])
            self._check(found, text)

        asyncio.run(run())

    def tools(self) -> None:
        """An agent with a tool, run to its end: whole and streamed."""
        seen: list[str] = []
        agent = self._agent()
        agent.tool_plain(weather_of(self.case, seen))
        found = agent.run_sync(QUESTION)
        self.case.concluded(found.output, seen)
        assert seen, "the tool was not called"
        if self.case.echoes:
            assert sorted(seen) == sorted(CITIES), seen
        seen.clear()

        async def run() -> str:
            async with agent.run_stream(QUESTION) as streamed:
                return str(await streamed.get_output())

        self.case.concluded(asyncio.run(run()), seen)
        assert seen, "the tool was not called in a stream"

    def structured(self) -> None:
        """By schema, and by an output tool."""
        from pydantic_ai import NativeOutput

        found = self._agent(output_type=NativeOutput(City)).run_sync(ASKS).output
        self.case.described(found.name, found.population)
        found = self._agent(output_type=City).run_sync(ASKS).output
        self.case.described(found.name, found.population)

    def turns(self) -> None:
        """A second run on the history of a first one that used a tool."""
        seen: list[str] = []
        agent = self._agent()
        agent.tool_plain(weather_of(self.case, seen))
        first = agent.run_sync(QUESTION)
        self.case.concluded(first.output, seen)
        again = self._agent().run_sync(self.case.prompt, message_history=first.all_messages())
        self.case.spoke(again.output)


class PydanticAIResponses(PydanticAI):
    """Pydantic AI over Responses."""

    kind = "OpenAIResponsesModel"


class Instructor:
    """Instructor over Chat Completions."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def _client(self, mode: str) -> Any:
        import instructor
        import openai

        client = openai.OpenAI(base_url=self.case.v1, api_key=self.case.key, max_retries=0, timeout=60)
        return instructor.from_openai(client, mode=instructor.Mode[mode])

    def _city(self, mode: str, messages: list[Any], **more: Any) -> Any:
        return self._client(mode).chat.completions.create(
            model=self.case.model, messages=messages, response_model=City, max_retries=0, **more
        )

    def chat(self) -> None:
        """Without a response model: the plain answer."""
        found = self._client("TOOLS").chat.completions.create(
            model=self.case.model,
            messages=[{"role": "user", "content": self.case.prompt}],
            response_model=None,
        )
        self.case.spoke(found.choices[0].message.content, found.choices[0].finish_reason)

    def stream(self) -> None:
        """A partial object that grows."""
        last = None
        stream = self._client("JSON_SCHEMA").chat.completions.create_partial(
            model=self.case.model,
            messages=[{"role": "user", "content": ASKS}],
            response_model=City,
            max_retries=0,
        )
        for piece in stream:
            last = piece
        assert last is not None
        self.case.described(last.name, last.population)

    def tools(self) -> None:
        """The object as a forced tool call."""
        found = self._city("TOOLS", [{"role": "user", "content": ASKS}])
        self.case.described(found.name, found.population)

    def structured(self) -> None:
        """The object by schema."""
        found = self._city("JSON_SCHEMA", [{"role": "user", "content": ASKS}])
        self.case.described(found.name, found.population)

    def turns(self) -> None:
        """An object after a tool loop."""
        messages: list[Any] = [{"role": "user", "content": QUESTION}]
        asked = (
            self._client("TOOLS")
            .chat.completions.create(
                model=self.case.model, messages=messages, tools=[WEATHER], response_model=None
            )
            .choices[0]
            .message
        )
        calls = asked.tool_calls or []
        cities = self.case.called((c.id, c.function.name, c.function.arguments) for c in calls)
        messages.append(asked.to_dict())
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": self.case.result(city)}
            for call, city in zip(calls, cities, strict=True)
        ]
        messages.append({"role": "user", "content": ASKS})
        found = self._city("JSON_SCHEMA", messages)
        self.case.described(found.name, found.population)


class LlamaIndex:
    """LlamaIndex's OpenAILike."""

    def __init__(self, case: Case) -> None:
        from llama_index.llms.openai_like import OpenAILike

        self.case = case
        self.llm: Any = OpenAILike(
            model=case.model,
            api_base=case.v1,
            api_key=case.key,
            is_chat_model=True,
            is_function_calling_model=True,
            should_use_structured_outputs=True,
            context_window=8000,
            max_retries=0,
            timeout=60,
        )

    def _user(self, text: str) -> list[Any]:
        from llama_index.core.llms import ChatMessage

        return [ChatMessage(role="user", content=text)]

    def chat(self) -> None:
        """chat, and complete."""
        found = self.llm.chat(self._user(self.case.prompt))
        self.case.spoke(found.message.content)
        usage = found.raw.usage
        self.case.counted(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
        self.case.spoke(self.llm.complete(self.case.prompt).text)

    def stream(self) -> None:
        """stream_chat."""
        self.case.spoke("".join(c.delta or "" for c in self.llm.stream_chat(self._user(self.case.prompt))))

    def _tool(self, seen: list[str]) -> Any:
        from llama_index.core.tools import FunctionTool

        return FunctionTool.from_defaults(weather_of(self.case, seen), name="weather")

    def _calls(self, found: Any) -> list[Any]:
        return list(self.llm.get_tool_calls_from_response(found, error_on_no_tool_call=True))

    def tools(self) -> None:
        """chat_with_tools, forced; whole and streamed."""
        more: dict[str, Any] = {
            "user_msg": QUESTION,
            "tool_required": True,
            "allow_parallel_tool_calls": True,
        }
        found = self.llm.chat_with_tools([self._tool([])], **more)
        self.case.called((c.tool_id, c.tool_name, c.tool_kwargs) for c in self._calls(found))
        *_, found = self.llm.stream_chat_with_tools([self._tool([])], **more)
        self.case.called((c.tool_id, c.tool_name, c.tool_kwargs) for c in self._calls(found))

    def structured(self) -> None:
        """structured_predict."""
        from llama_index.core.prompts import PromptTemplate

        found = self.llm.structured_predict(City, PromptTemplate(ASKS))
        self.case.described(found.name, found.population)

    def turns(self) -> None:
        """A tool loop to its end, then another question."""
        from llama_index.core.llms import ChatMessage

        seen: list[str] = []
        tool = self._tool(seen)
        history = self._user(QUESTION)
        found = self.llm.chat_with_tools([tool], chat_history=history, allow_parallel_tool_calls=True)
        history.append(found.message)
        for call in self._calls(found):
            said = tool.call(**call.tool_kwargs).content
            told = {"tool_call_id": call.tool_id}
            history.append(ChatMessage(role="tool", content=said, additional_kwargs=told))
        last = self.llm.chat_with_tools([tool], chat_history=history, allow_parallel_tool_calls=True)
        assert seen, "the tool was not called"
        self.case.concluded(last.message.content, seen)
        again = self.llm.chat([*history, last.message, *self._user(self.case.prompt)])
        self.case.spoke(again.message.content)


class LiteLLM:
    """LiteLLM's library over Chat Completions."""

    prefix = "openai/"

    def __init__(self, case: Case) -> None:
        self.case = case
        base = case.v1 if self.prefix == "openai/" else case.base
        self.more: dict[str, Any] = {
            "model": self.prefix + case.model,
            "api_base": base,
            "api_key": case.key,
            "timeout": 60,
            "num_retries": 0,
            "max_retries": 0,
            "max_tokens": 400,
        }

    def _ask(self, messages: list[Any], **more: Any) -> Any:
        import litellm

        litellm.suppress_debug_info = True
        return litellm.completion(messages=messages, **self.more, **more)

    def chat(self) -> None:
        """completion."""
        found = self._ask([{"role": "user", "content": self.case.prompt}])
        self.case.spoke(found.choices[0].message.content, found.choices[0].finish_reason)
        usage = found.usage
        self.case.counted(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)

    def stream(self) -> None:
        """completion, streamed."""
        user = [{"role": "user", "content": self.case.prompt}]
        chunks = list(self._ask(user, stream=True, stream_options={"include_usage": True}))
        self.case.spoke("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
        ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
        assert ends == ["stop"], f"finish reasons {ends}"

    def tools(self) -> None:
        """A forced call, whole and streamed."""
        import litellm

        user: list[Any] = [{"role": "user", "content": QUESTION}]
        named = {"type": "function", "function": {"name": "weather"}}
        found = self._ask(user, tools=[WEATHER], tool_choice=named).choices[0].message
        self.case.called((c.id, c.function.name, c.function.arguments) for c in found.tool_calls or ())
        chunks = list(self._ask(user, tools=[WEATHER], tool_choice="required", stream=True))
        whole = litellm.stream_chunk_builder(chunks, messages=user)
        calls = whole.choices[0].message.tool_calls or ()  # type: ignore[union-attr]
        self.case.called((c.id, c.function.name, c.function.arguments) for c in calls)

    def structured(self) -> None:
        """response_format, a Pydantic model."""
        found = self._ask([{"role": "user", "content": ASKS}], response_format=City)
        city = City.model_validate_json(found.choices[0].message.content)
        self.case.described(city.name, city.population)

    def turns(self) -> None:
        """A tool loop to its end, then another question."""
        messages: list[Any] = [{"role": "user", "content": QUESTION}]
        asked = self._ask(messages, tools=[WEATHER]).choices[0].message
        calls = asked.tool_calls or []
        cities = self.case.called((c.id, c.function.name, c.function.arguments) for c in calls)
        messages.append(asked.model_dump())
        messages += [
            {"role": "tool", "tool_call_id": call.id, "name": "weather", "content": self.case.result(city)}
            for call, city in zip(calls, cities, strict=True)
        ]
        last = self._ask(messages, tools=[WEATHER]).choices[0].message
        self.case.concluded(last.content, cities)
        if self.prefix != "openai/":
            return  # LiteLLM asks for the tools again wherever a transcript has calls
        messages += [
            {"role": "assistant", "content": last.content},
            {"role": "user", "content": self.case.prompt},
        ]
        self.case.spoke(self._ask(messages).choices[0].message.content)


class LiteLLMMessages(LiteLLM):
    """LiteLLM's library over Anthropic Messages."""

    prefix = "anthropic/"


CLIENTS = {
    "langchain": LangChain,
    "langchain-responses": LangChainResponses,
    "pydantic-ai": PydanticAI,
    "pydantic-ai-responses": PydanticAIResponses,
    "instructor": Instructor,
    "llama-index": LlamaIndex,
    "litellm": LiteLLM,
    "litellm-messages": LiteLLMMessages,
}
