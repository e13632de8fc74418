"""Fields of one strategy by name, as --set gives them."""

import pytest

from headstart.adapt.strategies import STRATEGIES, LastStages, Lora, by_name, fields_of, with_fields
from headstart.adapt.strategies.fields import parsed
from headstart.base.errors import PlanError


def test_words_are_read_as_what_the_field_holds():
    assert by_name("lora", {"rank": "4", "alpha": "2.5", "where": "attention"}) == Lora(4, 2.5, "attention")
    assert by_name("last-stages", {"stages": "2"}) == LastStages(2)
    assert by_name("lora", {"rank": 4, "alpha": 3}) == Lora(4, 3.0)
    assert by_name("lora", {}) == Lora()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_every_field_can_be_set_to_its_own_default(strategy):
    own = {name: str(value) for name, value in fields_of(strategy).items() if value is not None}
    assert with_fields(strategy, own) == strategy


def test_a_measured_table_is_no_field_to_be_set():
    assert fields_of(by_name("surgical")) == {}
    with pytest.raises(PlanError, match=r"PL14 'surgical' has no field 'relative_gradient'.*It has no fields"):
        by_name("surgical", {"relative_gradient": "1"})


@pytest.mark.parametrize(
    ("name", "chosen", "words"),
    [
        ("lora", {"rnk": "8"}, r"PL14 'lora' has no field 'rnk'\. Did you mean 'rank'.*rank \(8\), alpha \(16.0\)"),
        ("last-stages", {"count": "2"}, r"PL14 .*stages \(by the network\)"),
        ("lora", {"rank": "eight"}, r"PL14 lora: rank is 'eight'; it must be a whole number"),
        ("lora", {"rank": 2.5}, r"PL14 lora: rank is '2.5'"),
        ("lora", {"rank": True}, r"PL14 lora: rank is 'True'"),
        ("lora", {"where": "all layers"}, r"it must be 'attention' or 'all'"),
        ("gradual", {"share": "2"}, r"PL10 gradual"),
        ("bias", {"rank": "2"}, r"PL14 'bias' has no field 'rank'.*It has no fields"),
    ],
)
def test_what_cannot_be_set_names_what_can(name, chosen, words):
    with pytest.raises(PlanError, match=words):
        by_name(name, chosen)


def test_the_words_of_the_command_line_are_pairs():
    assert parsed(["rank=8", "where=all"]) == {"rank": "8", "where": "all"}
    for wrong in (["rank"], ["rank="], ["=8"]):
        with pytest.raises(PlanError, match=r"PL14 --set takes NAME=VALUE"):
            parsed(wrong)
    with pytest.raises(PlanError, match="given twice"):
        parsed(["rank=8", "rank=9"])
