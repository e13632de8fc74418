"""The replay runs, averages what it should, and does not let a data set into its own prior."""

import numpy as np
import pytest
from benchmarks.figure import Bench
from benchmarks.replay import COMBINED, PRIOR_SAME, RACE, SAME_TABLE, SOURCE, measure, replay


@pytest.fixture(scope="module")
def judged():
    return list(replay())


def mean(judged, table, opinion):
    mine = [j for j in judged if j.opinion == opinion and table in (None, j.table)]
    return np.array([(j.tau, j.lost1, j.lost3) for j in mine]).mean(axis=0)


def test_every_data_set_is_judged_by_the_combination_and_the_race(judged):
    for opinion in (COMBINED, SAME_TABLE, RACE):
        assert sum(j.opinion == opinion for j in judged) == 39


def test_static_orders_have_the_figures_of_methods(judged):
    assert mean(judged, "sfda_supervised", PRIOR_SAME) == pytest.approx([0.826, 0.08, 0.02], abs=6e-3)
    assert mean(judged, "sfda_supervised", SOURCE)[0] == pytest.approx(0.654, abs=6e-4)
    assert mean(judged, "sfda_self_supervised", PRIOR_SAME)[:2] == pytest.approx([0.692, 0.49], abs=6e-3)
    assert mean(judged, "tllib", SOURCE)[:2] == pytest.approx([0.724, 0.84], abs=6e-3)
    assert mean(judged, "tllib", PRIOR_SAME)[:2] == pytest.approx([0.749, 0.34], abs=6e-3)


def test_the_combination_beats_every_score_where_a_probe_is_printed(judged):
    ours = mean(judged, "stable_transfer", COMBINED)
    for score in ("probe", "gbc", "leep", "nleep", "logme"):
        theirs = mean(judged, "stable_transfer", score)
        assert ours[0] > theirs[0] and (ours[1:] < theirs[1:]).all()


def test_the_figure_is_made_with_its_limits_and_a_table(tmp_path):
    outcome = measure(Bench(small=True, rounds=1, work=tmp_path, session=tmp_path))
    limited = [row for row in outcome.rows if row.must is not None]
    assert [row.must for row in limited][:3] == [0.75, 0.15, 0]
    assert "| stable_transfer | combined | 9 |" in outcome.notes[0]
