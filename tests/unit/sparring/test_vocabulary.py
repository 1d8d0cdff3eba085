"""The tokens: template words whole, everything else bytes, any text at all.

The expected ids of the odd texts were read from llama.cpp's own `/tokenize`; the live comparison is `recipes/sparring_matrix.py`.
"""

from hypothesis import given
from hypothesis import strategies as st

from stretto.sparring.problems import FAMILIES, problems
from stretto.sparring.vocabulary import (
    ANSWER,
    END,
    SIZE,
    answer_tokens,
    decode,
    encode,
    gguf_tokens,
    prompt_tokens,
)
from stretto.sparring.wordings import TEMPLATE_WORDS, WORDINGS


def _word(text: str) -> int:
    return 258 + TEMPLATE_WORDS.index(text)


def test_words_of_the_templates_are_single_tokens() -> None:
    """Each word of each wording is one token; a payload is one token a character."""
    for wordings in WORDINGS.values():
        for wording in (*wordings.does, *wordings.asks, *wordings.refers):
            words = [word.strip(".?,:") for word in wording.lower().split()]
            assert {word for word in words if word.isalpha()} <= set(TEMPLATE_WORDS)
    assert prompt_tokens("Spell the word planet backward.") == [
        *map(_word, ("spell", "the", "word")),
        *b" planet",
        _word("backward"),
        ord("."),
        ANSWER,
    ]


def test_template_words_do_not_match_inside_others() -> None:
    """`the` inside `other`, `bathe` or `theme`, in quotes or after a hyphen stays bytes."""
    for text in (" other", " bathe", " theme", '"the"', "-the", "_the", "the"):
        assert encode(text) == list(text.encode())
    assert encode(" the the") == [_word("the")] * 2


def test_prompts_are_forgiving() -> None:
    """Capitals, outer and doubled spaces, and spaces around a plus or minus sign change nothing."""
    assert (
        prompt_tokens("What is 12+30?")
        == prompt_tokens("What is 12 + 30?")
        == encode(" what is 12 + 30?<|answer|>")
    )
    assert prompt_tokens("  SPELL the  word Planet backward ") == prompt_tokens(
        "spell the word planet backward"
    )
    assert prompt_tokens("Given: 7\nSubtract 9-3") == encode(" given: 7 \n subtract 9 - 3<|answer|>")


def test_numbers_are_digits() -> None:
    """Numbers are one token a digit, however long."""
    assert encode(" 12345") == list(b" 12345")


def test_marks_are_tokens() -> None:
    """The two marks are tokens of their own wherever they stand."""
    assert encode("a<|end|> the<|answer|>") == [ord("a"), END, _word("the"), ANSWER]


def test_odd_spaces_and_contractions() -> None:
    """Unicode spaces, doubled spaces and contractions split as llama.cpp splits them."""
    the = _word("the")
    assert encode("\u00a0the\u2003word") == [194, 160, *b"the", 226, 128, 131, *b"word"]
    assert encode("  the the  the") == [32, the, the, 32, the]
    assert encode("'sthe the's") == [*b"'sthe", the, *b"'s"]
    assert encode(" the½ the² Ⅳ") == [the, *"½".encode(), the, *"² Ⅳ".encode()]


@given(st.text(max_size=60))
def test_any_text_survives(text: str) -> None:
    """Any text has tokens below the vocabulary's size, and they are that text again."""
    tokens = encode(text)
    assert all(0 <= token < SIZE for token in tokens)
    if END not in tokens:
        assert decode(tokens) == text.encode("utf-8", "replace").decode()


def test_answers_end() -> None:
    """An answer is its characters and the end mark, also where it is a template word."""
    assert answer_tokens("word") == [*b"word", END]
    assert decode([*answer_tokens("word"), 65]) == "word"
    assert answer_tokens("the word", in_words=True) == [_word("the"), _word("word"), END]


def test_token_list() -> None:
    """The list for the file has no token twice (llama.cpp refuses that) and every byte."""
    tokens = gguf_tokens()
    assert len(tokens) == len(set(tokens)) == SIZE
    assert tokens[ord("a")] == "a"
    assert tokens[ord(" ")] == "Ġ"
    assert "Ġspell" in tokens


def test_payloads_are_not_template_words() -> None:
    """No generated word is a template word, so each is seen letter by letter."""
    for problem in problems(FAMILIES[:1], "test", 300, 1):
        assert len(prompt_tokens(problem.prompt)) > len(problem.answer)
        assert problem.answer[::-1] not in TEMPLATE_WORDS
