"""The wordings of everything that the sparring models read and write, as data, with a version.

A small model follows only what it has seen, so these texts are part of every sparring model, and of what is trained on top of
them later (TRINITY's coordinator, the Conductor): changing one means training anew. Frozen here: how problems are worded, how a
reply is handed over to the next worker, what thinker, verifier, judge and planner are told, and the models' chat format.

In a wording `{v}` stands for the payload (a word, a number, a list), `{b}` for a second number, `{c}` for a letter, `{k}` for a
shift, and in wordings that refer to an earlier reply `{it}` for one of `IT`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = [
    "AFTERWARDS",
    "AFTERWARDS_UNSEEN",
    "ANSWER_MARK",
    "CHAT_TEMPLATE",
    "DONE",
    "END_MARK",
    "FIRST_OR_LAST",
    "GIVEN",
    "IT",
    "JUDGE",
    "JUDGE_CANDIDATE",
    "PLANNER",
    "PLANNER_AGAIN",
    "POLITE",
    "TEMPLATE_WORDS",
    "THINKER",
    "THINKER_FIRST",
    "VERDICTS",
    "VERIFIER",
    "VERSION",
    "WORDINGS",
    "WORKFLOW",
    "Wordings",
]

VERSION: Final = 2
"""Raised with every change of a text in this module."""

ANSWER_MARK: Final = "<|answer|>"
"""The token between the prompt and the answer."""

END_MARK: Final = "<|end|>"
"""The token that ends an answer."""


@dataclass(frozen=True, slots=True)
class Wordings:
    """How one family of problems is worded.

    `does` are orders without a full stop: they open a composite or stand alone. `asks` are whole sentences that only stand
    alone. `refers` are orders about an earlier reply. No model is trained on `unseen`: whole sentences, for tests only.
    """

    does: tuple[str, ...]
    asks: tuple[str, ...]
    refers: tuple[str, ...]
    unseen: tuple[str, ...]


WORDINGS: Final[Mapping[str, Wordings]] = MappingProxyType(
    {
        "spell-backward": Wordings(
            does=(
                "spell the word {v} backward",
                "spell {v} backwards",
                "write the word {v} backwards",
                "write {v} backward",
                "reverse the word {v}",
                "reverse {v}",
                "spell the word {v} in reverse",
            ),
            asks=("What is {v} spelled backward?", "What is the word {v} backwards?"),
            refers=("spell {it} backward", "spell {it} backwards", "write {it} backward", "reverse {it}"),
            unseen=(
                "How is {v} spelled in reverse?",
                "Give me the word {v} backward.",
                "Spell backward: {v}",
            ),
        ),
        "sort-letters": Wordings(
            does=(
                "sort the letters of {v}",
                "sort the letters of the word {v} alphabetically",
                "put the letters of {v} in alphabetical order",
                "write the letters of the word {v} in alphabetical order",
                "arrange the letters of {v} alphabetically",
                "sort the letters in the word {v}",
            ),
            asks=(
                "What are the letters of {v} in alphabetical order?",
                "Give the letters of the word {v} in alphabetical order.",
            ),
            refers=(
                "sort the letters of {it}",
                "sort {it} alphabetically by letter",
                "put the letters of {it} in alphabetical order",
            ),
            unseen=(
                "Give me the sorted letters of {v}.",
                "What do you get when you sort the letters of {v}?",
                "Alphabetically sort the letters of the word {v}.",
            ),
        ),
        "count-vowels": Wordings(
            does=(
                "count the vowels in {v}",
                "count the vowels of the word {v}",
                "tell me the number of vowels in {v}",
                "give the number of vowels in the word {v}",
            ),
            asks=(
                "How many vowels are in {v}?",
                "How many vowels does the word {v} have?",
                "What is the number of vowels in {v}?",
                "How many vowels are there in the word {v}?",
            ),
            refers=(
                "count the vowels in {it}",
                "count the vowels of {it}",
                "give the number of vowels in {it}",
            ),
            unseen=(
                "The word {v} has how many vowels?",
                "Find the number of vowels in {v}.",
                "Vowels in {v}?",
            ),
        ),
        "count-letter": Wordings(
            does=(
                "count the letter {c} in {v}",
                "count how many times the letter {c} appears in {v}",
                "tell me how many times {c} appears in the word {v}",
                "give the number of times the letter {c} appears in {v}",
            ),
            asks=(
                "How many times does the letter {c} appear in {v}?",
                "How many times does {c} appear in the word {v}?",
                "How often does the letter {c} appear in {v}?",
                "How many times is the letter {c} in {v}?",
            ),
            refers=(
                "count the letter {c} in {it}",
                "count how many times the letter {c} appears in {it}",
                "give the number of times the letter {c} appears in {it}",
            ),
            unseen=(
                "How many letters {c} are in {v}?",
                "What is the number of times {c} appears in {v}?",
                "Count every {c} in the word {v}.",
            ),
        ),
        "shift-letters": Wordings(
            does=(
                "shift each letter of {v} by {k}",
                "shift the letters of {v} by {k}",
                "shift every letter of the word {v} forward by {k}",
                "encode {v} with a caesar shift of {k}",
                "move each letter of {v} forward by {k}",
                "encode the word {v} with a caesar cipher of {k}",
            ),
            asks=("What is {v} with each letter shifted by {k}?", "What is the caesar shift of {v} by {k}?"),
            refers=(
                "shift each letter of {it} by {k}",
                "shift the letters of {it} by {k}",
                "encode {it} with a caesar shift of {k}",
            ),
            unseen=(
                "Move the letters of {v} by {k}.",
                "Give me {v} with a caesar cipher of {k}.",
                "Forward by {k}, shift the letters of {v}.",
            ),
        ),
        "drop-vowels": Wordings(
            does=(
                "remove the vowels from {v}",
                "remove all vowels from the word {v}",
                "drop the vowels from {v}",
                "write {v} without vowels",
                "write the word {v} without its vowels",
                "take the vowels out of {v}",
            ),
            asks=("What is {v} without vowels?", "What is left of {v} without its vowels?"),
            refers=("remove the vowels from {it}", "write {it} without vowels", "drop the vowels from {it}"),
            unseen=(
                "Remove from {v} all its vowels.",
                "Give me the word {v} without the vowels.",
                "What is the word {v} when you take out the vowels?",
            ),
        ),
        "addition": Wordings(
            does=(
                "add {v} and {b}",
                "add {v} to {b}",
                "calculate {v} + {b}",
                "calculate {v} plus {b}",
                "find the sum of {v} and {b}",
            ),
            asks=(
                "What is {v} plus {b}?",
                "What is {v} + {b}?",
                "What is the sum of {v} and {b}?",
                "How much is {v} plus {b}?",
                "{v} + {b} = ?",
            ),
            refers=("add {b} to {it}", "add {b}", "calculate {it} plus {b}"),
            unseen=("Give me the sum of {v} and {b}.", "How much is {v} + {b}?", "{v} plus {b} is what?"),
        ),
        "subtraction": Wordings(
            does=(
                "subtract {b} from {v}",
                "take {b} from {v}",
                "calculate {v} - {b}",
                "calculate {v} minus {b}",
                "find the difference of {v} and {b}",
            ),
            asks=(
                "What is {v} minus {b}?",
                "What is {v} - {b}?",
                "How much is {v} minus {b}?",
                "What is the difference of {v} and {b}?",
                "{v} - {b} = ?",
            ),
            refers=("subtract {b} from {it}", "subtract {b}", "calculate {it} minus {b}"),
            unseen=(
                "Give me the difference of {v} and {b}.",
                "How much is left when you take {b} from {v}?",
                "{v} minus {b} is what?",
            ),
        ),
        "to-binary": Wordings(
            does=(
                "write {v} in binary",
                "write the number {v} in binary",
                "convert {v} to binary",
                "convert the number {v} to binary",
                "give the binary form of {v}",
            ),
            asks=(
                "What is {v} in binary?",
                "What is the number {v} in binary?",
                "How do you write {v} in binary?",
            ),
            refers=("write {it} in binary", "convert {it} to binary", "give the binary form of {it}"),
            unseen=(
                "Give me {v} in binary.",
                "What is the binary form of {v}?",
                "In binary, write the number {v}.",
            ),
        ),
        "from-binary": Wordings(
            does=(
                "convert binary {v} to decimal",
                "convert the binary number {v} to decimal",
                "write the binary number {v} in decimal",
                "write binary {v} as a decimal number",
                "give the decimal form of binary {v}",
            ),
            asks=(
                "What is binary {v} in decimal?",
                "What is the binary number {v} in decimal?",
                "What number is {v} in binary?",
            ),
            refers=("convert {it} from binary to decimal", "write binary {it} as a decimal number"),
            unseen=(
                "Give me the decimal form of the binary number {v}.",
                "What is the decimal number of binary {v}?",
                "In decimal, what is binary {v}?",
            ),
        ),
        "to-roman": Wordings(
            does=(
                "write {v} as a roman numeral",
                "write the number {v} in roman numerals",
                "write {v} in roman numerals",
                "convert {v} to a roman numeral",
                "convert the number {v} to roman numerals",
            ),
            asks=(
                "What is {v} in roman numerals?",
                "What is the roman numeral of {v}?",
                "How do you write {v} in roman numerals?",
            ),
            refers=(
                "write {it} as a roman numeral",
                "write {it} in roman numerals",
                "convert {it} to a roman numeral",
            ),
            unseen=(
                "Give me {v} in roman numerals.",
                "What is the roman form of the number {v}?",
                "In roman numerals, write {v}.",
            ),
        ),
        "from-roman": Wordings(
            does=(
                "convert the roman numeral {v} to a number",
                "convert the roman numeral {v} to decimal",
                "write the roman numeral {v} as a number",
                "give the number of the roman numeral {v}",
            ),
            asks=(
                "What number is the roman numeral {v}?",
                "What is the roman numeral {v} as a number?",
                "What is {v} in decimal when it is a roman numeral?",
                "How much is the roman numeral {v}?",
            ),
            refers=("convert {it} from a roman numeral to a number", "write {it} as a number"),
            unseen=(
                "Give me the roman numeral {v} as a decimal number.",
                "The roman numeral {v} is what number?",
                "Find the number of the roman numeral {v}.",
            ),
        ),
        "digit-sum": Wordings(
            does=(
                "add the digits of {v}",
                "add up the digits of {v}",
                "find the sum of the digits of {v}",
                "sum the digits of the number {v}",
                "calculate the digit sum of {v}",
            ),
            asks=(
                "What is the sum of the digits of {v}?",
                "What is the digit sum of {v}?",
                "What do the digits of {v} add up to?",
            ),
            refers=(
                "add the digits of {it}",
                "find the sum of the digits of {it}",
                "calculate the digit sum of {it}",
            ),
            unseen=(
                "Give me the digit sum of the number {v}.",
                "How much are all the digits of {v} in sum?",
                "Sum up each digit of {v}.",
            ),
        ),
        "gcd": Wordings(
            does=(
                "find the greatest common divisor of {v} and {b}",
                "calculate the greatest common divisor of {v} and {b}",
                "find the gcd of {v} and {b}",
                "calculate the gcd of {v} and {b}",
                "give the greatest common divisor of {v} and {b}",
            ),
            asks=("What is the greatest common divisor of {v} and {b}?", "What is the gcd of {v} and {b}?"),
            refers=(
                "find the greatest common divisor of {it} and {b}",
                "find the gcd of {it} and {b}",
                "calculate the gcd of {it} and {b}",
            ),
            unseen=(
                "Give me the gcd of {v} and {b}.",
                "The greatest common divisor of {v} and {b} is what?",
                "Of {v} and {b}, what is the greatest common divisor?",
            ),
        ),
        "sort-words": Wordings(
            does=(
                "sort these words: {v}",
                "sort the words {v} alphabetically",
                "put the words {v} in alphabetical order",
                "sort these words alphabetically: {v}",
                "arrange the words {v} in alphabetical order",
                "write these words in alphabetical order: {v}",
            ),
            asks=("What is the alphabetical order of {v}?", "What are the words {v} in alphabetical order?"),
            refers=(
                "sort the words alphabetically",
                "put the words in alphabetical order",
                "sort the words in alphabetical order",
            ),
            unseen=(
                "Give me the words {v} in alphabetical order.",
                "Alphabetically, sort the words {v}.",
                "How do you sort these words: {v}?",
            ),
        ),
        "longest-word": Wordings(
            does=(
                "find the longest word in {v}",
                "find the longest of these words: {v}",
                "give the longest word of {v}",
                "find the longest word: {v}",
                "tell me the longest of the words {v}",
            ),
            asks=(
                "Which word is the longest: {v}?",
                "What is the longest word in {v}?",
                "Which of these words is the longest: {v}?",
            ),
            refers=(
                "find the longest word",
                "give the longest of the words",
                "find the longest of the words",
            ),
            unseen=(
                "Give me the longest word in {v}.",
                "The longest of {v} is which word?",
                "What is the longest of the words {v}?",
            ),
        ),
        "first-letters": Wordings(
            does=(
                "take the first letter of each word in {v}",
                "write the first letters of the words {v}",
                "join the first letters of {v}",
                "take the first letters of these words: {v}",
                "make a word of the first letters of {v}",
            ),
            asks=("What are the first letters of {v}?", "What do the first letters of {v} spell?"),
            refers=(
                "take the first letter of each word",
                "write the first letters of the words",
                "join the first letters of the words",
            ),
            unseen=(
                "Give me the first letter of each of these words: {v}",
                "Of the words {v}, write the first letters.",
                "What is the first letter of each word in {v}?",
            ),
        ),
        "reverse-words": Wordings(
            does=(
                "write the words {v} in reverse order",
                "reverse the order of the words {v}",
                "reverse the list {v}",
                "put the words {v} in reverse order",
                "reverse the order of these words: {v}",
                "write this list in reverse order: {v}",
            ),
            asks=("What are the words {v} in reverse order?", "What is the list {v} in reverse order?"),
            refers=(
                "reverse the order of the words",
                "write the words in reverse order",
                "put the words in reverse order",
            ),
            unseen=(
                "Give me the words {v} in reverse order.",
                "In reverse order, write the list {v}.",
                "What is the reverse order of the words {v}?",
            ),
        ),
        "sort-numbers": Wordings(
            does=(
                "sort these numbers: {v}",
                "sort the numbers {v}",
                "put the numbers {v} in order",
                "sort the numbers {v} from smallest to largest",
                "arrange the numbers {v} in order",
                "write these numbers from smallest to largest: {v}",
            ),
            asks=("What are the numbers {v} in order?", "What is the order of {v} from smallest to largest?"),
            refers=(
                "sort the numbers",
                "put the numbers in order",
                "sort the numbers from smallest to largest",
            ),
            unseen=(
                "Give me the numbers {v} in order.",
                "From smallest to largest, sort {v}.",
                "How do you sort these numbers: {v}?",
            ),
        ),
        "maximum": Wordings(
            does=(
                "find the largest number in {v}",
                "find the largest of these numbers: {v}",
                "give the largest of {v}",
                "find the maximum of {v}",
                "tell me the largest of the numbers {v}",
            ),
            asks=(
                "What is the largest of {v}?",
                "Which number is the largest: {v}?",
                "What is the maximum of {v}?",
            ),
            refers=(
                "find the largest number",
                "find the maximum of the numbers",
                "give the largest of the numbers",
            ),
            unseen=(
                "Give me the maximum of the numbers {v}.",
                "Which of these numbers is the largest: {v}?",
                "The largest number in {v} is what?",
            ),
        ),
    }
)
"""The families, six about a word, eight about numbers, six about lists."""

IT: Final = ("it", "the result")
"""How a later step names the one thing that the step before gave."""

FIRST_OR_LAST: Final = ("the first one", "the last one")
"""How a later step picks from the list that the step before gave."""

POLITE: Final = "Please "
"""Put before some orders; the first letter after it is lowered."""

# --- composites --------------------------------------------------------------------------------------------------

AFTERWARDS: Final[Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
        2: ("{0} and then {1}.", "{0}, then {1}.", "First {0}, then {1}.", "{0} and {1}.", "{0}. Then {1}."),
        3: ("{0}, then {1}, and then {2}.", "First {0}, then {1}, then {2}.", "{0}. Then {1}. Then {2}."),
    }
)
"""How two and three orders become one composite problem."""

AFTERWARDS_UNSEEN: Final[Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
        2: ("{0}, and after that {1}.", "Begin: {0}. Next, {1}.", "{0}; {1} next."),
        3: ("{0}, after that {1}, and after that {2}.", "Begin: {0}. Next, {1}. Next, {2}."),
    }
)
"""The same in forms that nothing is trained on."""

# --- hand-over and roles -----------------------------------------------------------------------------------------

GIVEN: Final = "Given: {reply}\n"
"""Put before a sub-problem, once for each earlier reply that the worker may see, the latest last; it means that one."""

THINKER_FIRST: Final = "Task: {question}\nNext step?"
"""What the thinker is asked while nothing has been done."""

THINKER: Final = "Task: {question}\nDone: {done}\nGiven: {reply}\nNext step?"
"""What the thinker is asked after the sub-problem `done` was answered with `reply`."""

DONE: Final = "done"
"""The thinker's word for: nothing is left to do."""

VERIFIER: Final = "Task: {question}\nAnswer: {answer}\nIs it right?"
"""What the verifier is asked."""

VERDICTS: Final = ("no", "yes")
"""What the verifier says: revise, accept."""

JUDGE: Final = "Task: {question}\n{candidates}Which is right?"
"""What the judge of a panel is asked; it says the number of a candidate."""

JUDGE_CANDIDATE: Final = "{number}: {answer}\n"
"""One candidate, numbered from 1."""

PLANNER: Final = "Models: {models}\nTask: {question}\nPlan?"
"""What a trained planner is asked; `models` are anonymous ordinals such as `0 1 2`."""

PLANNER_AGAIN: Final = "Models: {models}\nTask: {question}\nGiven: {reply}\nPlan?"
"""What it is asked again when it may revise: after `reply`, the answer of its last workflow."""

WORKFLOW: Final = "model_id = [{models}]\nsubtasks = [{subtasks}]\naccess_list = [{access}]"
"""What a planner writes: three lists of equal length. Sub-tasks are quoted, access is `[]` or `"all"`, separated by `, `."""

_SPARE: Final = "answer compute count divide even into is length letter odd product second smallest third times total twice"


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", text.lower()))}


def _template_words() -> tuple[str, ...]:
    families = (text for w in WORDINGS.values() for text in (*w.does, *w.asks, *w.refers))
    joints = (text for forms in AFTERWARDS.values() for text in forms)
    roles = (GIVEN, THINKER_FIRST, THINKER, DONE, VERIFIER, *VERDICTS, JUDGE, PLANNER, POLITE, _SPARE)
    return tuple(sorted(_words((*families, *joints, *roles, *IT, *FIRST_OR_LAST))))


TEMPLATE_WORDS: Final = _template_words()
"""Words that are one token each, with the space before them: all of the texts above but the unseen ones, and a few spare."""

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
    # `347+86` becomes `347 + 86`, and a word after a line end has its space, as the models have seen them.
    "{%- set ns.text = ns.text | trim | replace('\n', ' \n ') | replace('+', ' + ') | replace('-', ' - ') -%}"
    "{%- set ns.text = ns.text | replace('  ', ' ') | replace('  ', ' ') -%}"
    "{{- ' ' + ns.text | trim | lower -}}" + ANSWER_MARK
)
"""The models' chat template (jinja): the last user message in lower case, words set apart, then the answer mark."""
