from dataclasses import dataclass, field
from typing import Literal

import pytest

from headstart.base.config import from_dict, to_dict
from headstart.base.errors import DataError


@dataclass(frozen=True)
class Inner:
    name: str
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    inner: Inner
    kind: Literal["a", "b"] = "a"
    many: tuple[Inner, ...] = ()
    by_name: dict[str, int] = field(default_factory=dict)
    maybe: int | None = None
    pair: tuple[int, str] = (1, "x")


def test_a_tree_survives_the_way_to_plain_values_and_back():
    tree = Outer(Inner("x", 0.25), "b", (Inner("y"), Inner("z")), {"n": 3}, 7, (2, "q"))
    assert from_dict(Outer, to_dict(tree)) == tree


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"inner": {"name": "x"}, "kinds": "a"}, "unknown key 'kinds'. Did you mean 'kind'?"),
        ({"inner": {"nam": "x"}}, "inner: unknown key 'nam'"),
        ({}, "key 'inner' is missing"),
        ({"inner": {"name": 3}}, "inner.name: expected str, got '3'"),
        ({"inner": {"name": "x"}, "kind": "c"}, "'c' is not one of a, b"),
        ({"inner": {"name": "x"}, "maybe": True}, "expected int"),
        ({"inner": {"name": "x"}, "many": "y"}, "expected a list"),
        ([], "expected a table"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(values, says):
    with pytest.raises(DataError, match="CF23") as caught:
        from_dict(Outer, values)
    assert says in str(caught.value)


def test_null_stands_for_nan_where_a_float_is_expected():
    assert from_dict(Inner, {"name": "x", "share": None}).share != 0.5
