"""The wordings of the sparring problems and of the chat format, as data, with a version.

A small model follows only what it has seen, so these texts are part of every sparring model: changing one means training anew.
`{w}` stands for a word, `{a}` and `{b}` for summands, `{n}` for a number.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["ANSWER_MARK", "CHAT_TEMPLATE", "END_MARK", "POLITE", "TEMPLATES", "TEMPLATE_WORDS", "VERSION"]

VERSION: Final = 1
"""Raised with every change of a text in this module."""

ANSWER_MARK: Final = "<|answer|>"
"""The token between the prompt and the answer."""

END_MARK: Final = "<|end|>"
"""The token that ends an answer."""

TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "spell-backward": (
            "Spell the word {w} backward.",
            "Spell {w} backwards.",
            "Write the word {w} backwards.",
            "Write {w} backward.",
            "Reverse the word {w}.",
            "Spell the word {w} in reverse.",
            "What is {w} spelled backward?",
            "What is the word {w} backwards?",
        ),
        "sort-letters": (
            "Sort the letters of {w}.",
            "Sort the letters of the word {w} alphabetically.",
            "Put the letters of {w} in alphabetical order.",
            "Write the letters of the word {w} in alphabetical order.",
            "Arrange the letters of {w} alphabetically.",
            "Sort the letters in the word {w}.",
            "What are the letters of {w} in alphabetical order?",
            "Give the letters of the word {w} in alphabetical order.",
        ),
        "addition": (
            "What is {a} plus {b}?",
            "What is {a} + {b}?",
            "Add {a} and {b}.",
            "Add {a} to {b}.",
            "What is the sum of {a} and {b}?",
            "Calculate {a} + {b}.",
            "How much is {a} plus {b}?",
            "{a} + {b} = ?",
        ),
        "to-binary": (
            "Write {n} in binary.",
            "Write the number {n} in binary.",
            "Convert {n} to binary.",
            "Convert the number {n} to binary.",
            "What is {n} in binary?",
            "What is the number {n} in binary?",
            "Give the binary form of {n}.",
            "How do you write {n} in binary?",
        ),
    }
)
"""The wordings of each problem family."""

POLITE: Final = "Please "
"""Put before some prompts that are requests; the first letter after it is lowered."""

_WORDS: Final = (
    "add alphabetical alphabetically an and are arrange backward backwards binary by calculate can compute convert decimal"
    " do find for form from give how in into is it letter letters me much number numbers of order plus please put reverse"
    " sort sorted spell spelled spelling string sum tell the to total what word words write you"
)

TEMPLATE_WORDS: Final = tuple(_WORDS.split())
"""Words that are one token each, with the space before them, when they stand alone after one.

A few are spare: later wordings may need them."""

CHAT_TEMPLATE: Final = (
    # Reading a system message tells llama.cpp that the template copes with one; else it is pasted into the prompt.
    "{%- set ns = namespace(text='') -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' and message['content'] -%}{%- set ns.system = message['content'] -%}{%- endif -%}"
    "{%- if message['role'] == 'user' -%}"
    "{%- if message['content'] is string -%}{%- set ns.text = message['content'] -%}"
    "{%- elif message['content'] -%}"
    "{%- set ns.text = '' -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'text' -%}{%- set ns.text = ns.text + ' ' + part['text'] -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    # `347+86` becomes `347 + 86`, as the models have seen it.
    "{%- set ns.text = ns.text | replace('\n', ' ') | replace('+', ' + ') | replace('  ', ' ') -%}"
    "{{- ' ' + ns.text | trim | lower -}}" + ANSWER_MARK
)
"""The models' chat template (jinja): the last user message on one line in lower case, then the answer mark."""
