import pytest

from headstart.base import errors
from headstart.base.errors import HeadstartError, did_you_mean, listed, shown


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("cat/1.jpg", "cat/1.jpg"),
        ("Müll 猫", "Müll 猫"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("caf\udce9.jpg", "caf\\xe9.jpg"),
        ("x\u202egpj.exe", "x\\u202egpj.exe"),
        ("lone \ud800", "lone \\ud800"),
    ],
)
def test_names_from_data_are_shown_without_control_characters(name, safe):
    assert shown(name) == safe
    safe.encode("utf-8")


def test_a_near_word_is_suggested_and_a_far_one_is_not():
    assert did_you_mean("learing_rate", ["learning_rate", "seed"]) == " Did you mean 'learning_rate'?"
    assert did_you_mean("zzz", ["learning_rate", "seed"]) == ""


def test_long_lists_are_cut_and_counted():
    assert listed(["a", "b"]) == "a, b"
    assert listed("abcdef") == "a, b, c and 3 more"


def test_every_error_has_an_exit_code_of_the_contract():
    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, HeadstartError)]
    assert len(kinds) >= 10
    assert {e.exit_code for e in kinds} == {1, 2, 3, 4, 5, 75}


@pytest.mark.parametrize(
    ("ours", "builtin"),
    [
        (errors.DataError, ValueError),
        (errors.NotInCatalogue, LookupError),
        (errors.CheckpointMismatch, RuntimeError),
        (errors.MissingExtra, ImportError),
        (errors.EnvironmentFault, OSError),
        (errors.BundleError, errors.Refused),
    ],
)
def test_errors_are_also_the_builtin_a_caller_would_catch(ours, builtin):
    with pytest.raises(builtin, match="words"):
        raise ours("words")
