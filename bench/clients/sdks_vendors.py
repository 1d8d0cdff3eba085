"""OpenAI's and Anthropic's own Python clients, each put through every feature. tests/acceptance/test_clients.py uses it too."""

from typing import Any, Literal

from pydantic import BaseModel

from bench.clients.sdks_cases import (
    ASKS,
    PARAMETERS,
    QUESTION,
    STRICT_SCHEMA,
    WEATHER,
    Case,
    same_id,
)

__all__ = ["AnthropicMessages", "City", "OpenAIChat", "OpenAIResponses"]


class City(BaseModel):
    """The structured answer that is asked for."""

    name: Literal["Rome", "Oslo"]
    population: int


class OpenAIChat:
    """openai-python over Chat Completions."""

    def __init__(self, case: Case) -> None:
        import openai

        self.case = case
        self.client = openai.OpenAI(base_url=case.v1, api_key=case.key, max_retries=0, timeout=20)
        self.more: dict[str, Any] = {"model": case.model}

    def chat(self) -> None:
        """One question."""
        case = self.case
        found = self.client.chat.completions.create(
            messages=[{"role": "user", "content": case.prompt}], **self.more
        )
        case.spoke(found.choices[0].message.content, found.choices[0].finish_reason)
        assert found.usage
        case.counted(found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens)
        assert found.model == case.model
        assert found.id

    def stream(self) -> None:
        """The same in pieces, with one usage chunk at the end."""
        case = self.case
        chunks = list(
            self.client.chat.completions.create(
                messages=[{"role": "user", "content": case.prompt}],
                stream=True,
                stream_options={"include_usage": True},
                **self.more,
            )
        )
        case.spoke("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
        ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
        assert ends == ["stop"], f"finish reasons {ends}"
        usages = [c.usage for c in chunks if c.usage]
        assert len(usages) == 1, f"{len(usages)} usage chunks"
        case.counted(usages[0].prompt_tokens, usages[0].completion_tokens, usages[0].total_tokens)
        same_id(c.id for c in chunks)

    def tools(self) -> None:
        """A forced call, whole and streamed; of two tools, the one that is named."""
        case, user = self.case, {"role": "user", "content": QUESTION}
        other = {
            "type": "function",
            "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
        }
        named = {"type": "function", "function": {"name": "weather"}}
        wanted: dict[str, Any] = {**self.more, "messages": [user], "tools": [other, WEATHER]}
        choice = self.client.chat.completions.create(**wanted, tool_choice=named).choices[0]
        assert choice.finish_reason in ("tool_calls", "stop"), (
            choice.finish_reason
        )  # `stop` is OpenAI's own way
        case.called((c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls or ())
        wanted["tools"] = [WEATHER]
        with self.client.chat.completions.stream(**wanted, tool_choice="required") as events:
            last = events.get_final_completion().choices[0]
        assert last.finish_reason == "tool_calls", last.finish_reason
        case.called((c.id, c.function.name, c.function.arguments) for c in last.message.tool_calls or ())

    def structured(self) -> None:
        """A schema, whole and streamed."""
        wanted: dict[str, Any] = {**self.more, "messages": [{"role": "user", "content": ASKS}]}
        found = self.client.chat.completions.parse(**wanted, response_format=City).choices[0].message.parsed
        assert found
        self.case.described(found.name, found.population)
        with self.client.chat.completions.stream(**wanted, response_format=City) as events:
            found = events.get_final_completion().choices[0].message.parsed
        assert found
        self.case.described(found.name, found.population)

    def turns(self) -> None:
        """A tool loop to its end, then one more question in the same conversation."""
        case, messages = self.case, list[Any]([{"role": "user", "content": QUESTION}])
        wanted: dict[str, Any] = {**self.more, "tools": [WEATHER]}
        asked = self.client.chat.completions.create(messages=messages, **wanted).choices[0].message
        calls = asked.tool_calls or []
        cities = case.called((c.id, c.function.name, c.function.arguments) for c in calls)
        messages.append(asked.to_dict())
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": case.result(city)}
            for call, city in zip(calls, cities, strict=True)
        ]
        last = self.client.chat.completions.create(messages=messages, **wanted).choices[0]
        case.concluded(last.message.content, cities)
        assert last.finish_reason == "stop", last.finish_reason
        messages += [last.message.to_dict(), {"role": "user", "content": case.prompt}]
        again = self.client.chat.completions.create(messages=messages, **self.more)
        case.spoke(again.choices[0].message.content)


class OpenAIResponses:
    """openai-python over Responses."""

    def __init__(self, case: Case) -> None:
        import openai

        self.case = case
        self.client = openai.OpenAI(base_url=case.v1, api_key=case.key, max_retries=0, timeout=20)
        self.tool: Any = {"type": "function", **WEATHER["function"], "strict": True}
        self.more: dict[str, Any] = {"model": case.model}

    def _usage(self, found: Any) -> None:
        assert found.usage
        self.case.counted(found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens)

    def chat(self) -> None:
        """One question."""
        found = self.client.responses.create(input=self.case.prompt, **self.more)
        self.case.spoke(found.output_text)
        assert (found.status, found.model, found.error) == ("completed", self.case.model, None)
        self._usage(found)

    def stream(self) -> None:
        """The same in events: numbered, the deltas are the text, one end."""
        events: list[Any] = list(
            self.client.responses.create(input=self.case.prompt, stream=True, **self.more)
        )
        numbers = [event.sequence_number for event in events]
        assert numbers == sorted(set(numbers)), f"sequence numbers {numbers}"
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        final = events[-1]
        assert final.type == "response.completed", final.type
        assert text == final.response.output_text
        self.case.spoke(text)
        self._usage(final.response)

    def _calls(self, found: Any) -> list[Any]:
        return [item for item in found.output if item.type == "function_call"]

    def tools(self) -> None:
        """A forced call, whole and streamed."""
        wanted: dict[str, Any] = {**self.more, "input": QUESTION, "tools": [self.tool]}
        named = {"type": "function", "name": "weather"}
        calls = self._calls(self.client.responses.create(**wanted, tool_choice=named))
        self.case.called((c.call_id, c.name, c.arguments) for c in calls)
        with self.client.responses.stream(**wanted, tool_choice="required") as events:
            calls = self._calls(events.get_final_response())
        self.case.called((c.call_id, c.name, c.arguments) for c in calls)

    def structured(self) -> None:
        """A schema, whole and streamed."""
        found = self.client.responses.parse(input=ASKS, text_format=City, **self.more).output_parsed
        assert found
        self.case.described(found.name, found.population)
        with self.client.responses.stream(input=ASKS, text_format=City, **self.more) as events:
            found = events.get_final_response().output_parsed
        assert found
        self.case.described(found.name, found.population)

    def turns(self) -> None:
        """A tool loop: the transcript sent again, and by `previous_response_id`."""
        wanted: dict[str, Any] = {**self.more, "tools": [self.tool]}
        for stored in (False, True):
            first = self.client.responses.create(input=QUESTION, store=stored, **wanted)
            calls = self._calls(first)
            cities = self.case.called((c.call_id, c.name, c.arguments) for c in calls)
            results: list[Any] = [
                {"type": "function_call_output", "call_id": c.call_id, "output": self.case.result(city)}
                for c, city in zip(calls, cities, strict=True)
            ]
            if stored:
                told = self.client.responses.create(input=results, previous_response_id=first.id, **wanted)
            else:
                before: list[Any] = [{"role": "user", "content": QUESTION}]
                before += [item.to_dict() for item in first.output]
                told = self.client.responses.create(input=before + results, store=False, **wanted)
            self.case.concluded(told.output_text, cities)
            assert told.status == "completed"


class AnthropicMessages:
    """anthropic-python over Messages."""

    def __init__(self, case: Case) -> None:
        import anthropic

        self.case = case
        self.client = anthropic.Anthropic(base_url=case.base, api_key=case.key, max_retries=0, timeout=20)
        self.tool: Any = {"name": "weather", "description": "The weather.", "input_schema": PARAMETERS}
        self.more: dict[str, Any] = {"model": case.model, "max_tokens": 400}

    def _check(self, found: Any) -> None:
        text = "".join(block.text for block in found.content if block.type == "text")
        self.case.spoke(text, found.stop_reason, ("end_turn",))
        self.case.counted(found.usage.input_tokens, found.usage.output_tokens)
        assert (found.model, found.role) == (self.case.model, "assistant")
        assert found.id.startswith("msg_"), found.id

    def chat(self) -> None:
        """One question."""
        user: Any = {"role": "user", "content": self.case.prompt}
        self._check(self.client.messages.create(messages=[user], **self.more))

    def stream(self) -> None:
        """The same in events."""
        user: Any = {"role": "user", "content": self.case.prompt}
        with self.client.messages.stream(messages=[user], **self.more) as events:
            text = "".join(events.text_stream)
            final = events.get_final_message()
        self._check(final)
        assert text == "".join(block.text for block in final.content if block.type == "text")

    def _calls(self, found: Any) -> list[Any]:
        assert found.stop_reason == "tool_use", found.stop_reason
        return [block for block in found.content if block.type == "tool_use"]

    def tools(self) -> None:
        """A forced call, whole and streamed."""
        wanted: dict[str, Any] = {**self.more, "messages": [{"role": "user", "content": QUESTION}]}
        wanted["tools"] = [self.tool]
        named = {"type": "tool", "name": "weather"}
        calls = self._calls(self.client.messages.create(**wanted, tool_choice=named))
        self.case.called((c.id, c.name, c.input) for c in calls)
        with self.client.messages.stream(**wanted, tool_choice={"type": "any"}) as events:
            calls = self._calls(events.get_final_message())
        self.case.called((c.id, c.name, c.input) for c in calls)

    def structured(self) -> None:
        """A schema."""
        found = self.client.messages.create(
            messages=[{"role": "user", "content": ASKS}],
            output_config={"format": {"type": "json_schema", "schema": dict(STRICT_SCHEMA)}},
            **self.more,
        )
        city = City.model_validate_json(
            "".join(block.text for block in found.content if block.type == "text")
        )
        self.case.described(city.name, city.population)

    def turns(self) -> None:
        """A tool loop to its end, then one more question in the same conversation."""
        messages: list[Any] = [{"role": "user", "content": QUESTION}]
        wanted: dict[str, Any] = {**self.more, "tools": [self.tool]}
        asked = self.client.messages.create(messages=messages, **wanted)
        calls = self._calls(asked)
        cities = self.case.called((c.id, c.name, c.input) for c in calls)
        results = [
            {"type": "tool_result", "tool_use_id": c.id, "content": self.case.result(city)}
            for c, city in zip(calls, cities, strict=True)
        ]
        messages += [
            {"role": "assistant", "content": [block.to_dict() for block in asked.content]},
            {"role": "user", "content": results},
        ]
        last = self.client.messages.create(messages=messages, **wanted)
        text = "".join(block.text for block in last.content if block.type == "text")
        self.case.concluded(text, cities)
        assert last.stop_reason == "end_turn", last.stop_reason
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": self.case.prompt}]
        self._check_text(self.client.messages.create(messages=messages, **self.more))

    def _check_text(self, found: Any) -> None:
        self.case.spoke("".join(block.text for block in found.content if block.type == "text"))
