"""What a table gives away before anything is learnt from it."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.data.audit import audit
from headstart.data.looks import look_for
from headstart.data.open import open_dataset

N = 300
RNG = np.random.default_rng(0)
NOISE, OTHER = RNG.normal(size=N), RNG.choice(["p", "q", "r"], N).tolist()
LABEL = RNG.choice(["kept", "lost"], N, p=[0.7, 0.3])
AMOUNT = RNG.lognormal(size=N)


def findings(tmp_path, columns, target="y", **options):
    import pandas

    dataset = open_dataset(pandas.DataFrame(columns), target=target, **options)
    seen = look_for("vector").survey(dataset, tmp_path)
    return audit(dataset, seen)


def leaks(found):
    return sorted(f.text.split("'")[1] for f in found.findings if f.code == "TB57")


@pytest.mark.parametrize(
    "column",
    [
        LABEL,
        np.where(LABEL == "lost", "x", "z"),
        np.where(LABEL == "lost", 5.0, 0.0) + RNG.random(N),
    ],
    ids=["a copy", "renamed", "apart as numbers"],
)
def test_a_column_that_tells_the_class_is_warned_of(column, tmp_path):
    assert leaks(findings(tmp_path, {"c": column, "n": NOISE, "o": OTHER, "y": LABEL})) == ["c"]


@pytest.mark.parametrize(
    "column",
    [AMOUNT * 3 + 1, np.log(AMOUNT), -(AMOUNT**3), np.where(np.arange(N) == 7, np.nan, AMOUNT)],
    ids=["linear", "log", "falling", "one missing"],
)
def test_a_monotone_function_of_the_target_is_warned_of(column, tmp_path):
    found = findings(tmp_path, {"c": column, "n": NOISE, "o": OTHER, "y": AMOUNT}, task="regression")
    assert leaks(found) == ["c"]


def test_good_and_useless_columns_are_no_leaks(tmp_path):
    good = np.where(RNG.random(N) < 0.95, LABEL, "kept")
    assert leaks(findings(tmp_path, {"c": good, "n": NOISE, "o": OTHER, "y": LABEL})) == []
    strong = AMOUNT + 0.3 * NOISE
    assert leaks(findings(tmp_path, {"c": strong, "n": NOISE, "o": OTHER, "y": AMOUNT}, task="regression")) == []


def test_a_name_for_nearly_every_row_does_not_tell_by_being_rare(tmp_path):
    codes = [f"k{i // 2}" for i in range(N)]
    assert leaks(findings(tmp_path, {"c": codes, "n": NOISE, "y": LABEL}, features=["c", "n"])) == []


def test_equal_rows_stand_together_and_two_labels_for_one_row_are_told(tmp_path):
    columns = {
        "a": [1.5, 1.5, 2.5, *NOISE[:57]],
        "b": ["x", "x", "x", *OTHER[:57]],
        "y": ["u", "v", "u", *["u", "v"] * 28, "u"],
    }
    found = findings(tmp_path, columns)
    assert [c.ids for c in found.clusters] == [("row 0", "row 1")]
    assert [set(c.targets) for c in found.conflicts] == [{"u", "v"}]
    assert any(f.code == "DA44" and "2 rows carry two labels" in f.text for f in found.findings)


def test_empty_cells_are_counted_by_column(tmp_path):
    gappy = np.where(np.arange(N) % 3 == 0, np.nan, NOISE)
    found = findings(tmp_path, {"gappy": gappy, "full": AMOUNT, "y": LABEL})
    (text,) = [f.text for f in found.findings if f.code == "TB53"]
    assert "1 of 2 columns ('gappy' 33%)" in text
