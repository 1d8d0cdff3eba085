"""The record decorator: as frozen as a frozen dataclass, made faster."""

import copy
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from stretto.types import Message, Request, record


@record
class Pair:
    """One field that must be given, one with a value, one that is made anew."""

    first: int
    second: str = "two"
    third: Mapping[str, int] = field(default_factory=dict)


def test_a_record_is_what_a_frozen_dataclass_is() -> None:
    """Equality, hash, text, defaults and copies are those of the same class under `dataclass`."""

    @dataclass(frozen=True, slots=True)
    class Plain:
        first: int
        second: str = "two"
        third: Mapping[str, int] = field(default_factory=dict)

    ours, theirs = Pair(1), Plain(1)
    assert (ours.first, ours.second, ours.third) == (theirs.first, theirs.second, theirs.third)
    assert repr(ours) == "Pair(first=1, second='two', third={})"
    assert ours == Pair(first=1) != Pair(2)
    assert hash(Message("user", "hi", extra=())) == hash(Message("user", "hi", extra=()))  # type: ignore[arg-type]
    assert type(ours) is Pair
    assert not hasattr(ours, "__dict__")
    assert replace(ours, second="2") == Pair(1, "2")
    assert copy.deepcopy(ours) == pickle.loads(pickle.dumps(ours)) == ours


def test_a_record_cannot_be_changed() -> None:
    """Setting and deleting a field is refused as soon as the record is made."""
    ours = Pair(1)
    with pytest.raises(FrozenInstanceError):
        ours.first = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del ours.second
    assert ours == Pair(1)


def test_each_record_gets_a_default_of_its_own() -> None:
    """A default factory is called for each record, and only when nothing is given."""
    given = {"a": 1}
    assert Pair(1).third is not Pair(1).third
    assert Pair(1, third=given).third is given


def test_a_record_takes_the_arguments_that_its_class_declares() -> None:
    """What is missing, unknown or keyword-only is refused as a function would."""
    with pytest.raises(TypeError, match="first"):
        Pair()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="fourth"):
        Pair(1, fourth=4)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Request((Message("user", "hi"),))  # type: ignore[call-arg]
    assert Request(messages=(Message("user", "hi"),)).prompt == "hi"
