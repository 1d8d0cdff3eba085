"""Planners that are general models: any causal model of `transformers` with its tokenizer's chat template.

What they are asked and how their workers are worded is not the sparring pool's: `prompt` is the text that `policies.planning`
puts to a general planner. Needs the `train` extra.
"""

from collections.abc import Sequence
from typing import Any

__all__ = ["ChatTongue"]


class ChatTongue:
    """Reads by the tokenizer's chat template, writes plain text. See `conductor_model.Tongue`."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.end: int = tokenizer.eos_token_id

    def reads(self, prompt: str) -> list[int]:
        """The tokens of one user message and of the assistant's beginning."""
        found = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True
        )
        return list(found["input_ids"])

    def writes(self, text: str) -> list[int]:
        """The tokens of a text, and the end."""
        return [*self._tokenizer.encode(text, add_special_tokens=False), self.end]

    def text(self, tokens: Sequence[int]) -> str:
        """The text of written tokens, without the end."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True)).strip()
