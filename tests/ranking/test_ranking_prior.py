"""The public tables, the prior made of them, and what the user's own runs change."""

import numpy as np
import pytest

from headstart.backbones.catalogue import catalogue
from headstart.base.errors import DataError
from headstart.ranking.combine import regret, weighted_tau
from headstart.ranking.prior import ALIASES, PSEUDO_COUNT, Finished, public_prior, shipped_prior, updated
from headstart.ranking.tables import TABLES, replayed, rows_of, source_accuracy, sources

SIZES = {"sfda_supervised": (11, 11), "sfda_self_supervised": (11, 12), "tllib": (8, 10), "stable_transfer": (9, 19)}
RESNET152, MNASNET = "torchvision/resnet152:IMAGENET1K_V1", "torchvision/mnasnet1_0:IMAGENET1K_V1"
OTHER_NAMES = {  # columns of METHODS A.0
    "sfda_supervised": [0.803, 0.747, 0.803, 0.861, 0.948, 0.953, 0.480, 0.862, 0.885, 0.970, 0.770],
}
IMAGENET = [0.732, 0.630, 0.732, 0.775, 0.759, 0.736, 0.252, 0.540, 0.725, 0.666, 0.649]
SEVEN = ("imagenette", "caltech_birds2011")  # what METHODS A.0 leaves out of stable_transfer


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_whole_and_plausible(table):
    sets = list(replayed(table, all_columns=True))
    assert (len(sets), len(sets[0].models)) == SIZES[table]
    for s in sets:
        assert s.models == sets[0].models and len(set(s.models)) == len(s.models)
        assert (s.finetuned > 25).all() and (s.finetuned < 100).all()
        for name, column in s.scores.items():
            assert name in sources()[table]["columns"] and np.isfinite(column).all()
            assert name not in ("leep", "nleep", "nce") or (column < 0).all() or (table, s.data) == ("tllib", "dtd")


def test_every_table_says_where_it_is_from():
    for table in (*TABLES, "sfda_published_tau"):
        said = sources()[table]
        assert said["from"].startswith("https://github.com/") and said["paper"] and said["title"]
        assert set(rows_of(table)[0]) - {"dataset", "model"} == set(said["columns"])
    keys = sources()["source_accuracy"]["sources"]
    assert {row["source"] for row in rows_of("source_accuracy")} == set(keys)


def test_columns_that_cannot_be_right_are_left_out():
    dtd = next(s for s in replayed("tllib") if s.data == "dtd")
    assert sorted(dtd.scores) == ["leep", "logme"]


def within(table, without):
    return public_prior(tables=[table], without=without)


def test_the_prior_of_the_same_table_has_the_tau_of_methods():
    sets = list(replayed("sfda_supervised"))
    tau = [weighted_tau(within(s.table, s.data).array(s.models), s.finetuned) for s in sets]
    assert tau == pytest.approx(OTHER_NAMES["sfda_supervised"], abs=6e-4)
    assert np.mean(tau) == pytest.approx(0.826, abs=6e-4)
    own = [weighted_tau(within(s.table, s.data).array(s.models), s.finetuned) for s in replayed("sfda_self_supervised")]
    assert np.mean(own) == pytest.approx(0.692, abs=6e-4)


def test_imagenet_accuracy_has_the_tau_of_methods():
    top1 = source_accuracy()
    tau = [weighted_tau(np.array([top1[m] for m in s.models]), s.finetuned) for s in replayed("sfda_supervised")]
    assert tau == pytest.approx(IMAGENET, abs=6e-4)


@pytest.mark.parametrize(
    ("column", "tau", "lost"),
    [("logme", 0.670, 0.43), ("hscore", 0.650, 0.73), ("nce", 0.687, 0.33), ("leep", 0.419, 2.66)],
)
def test_scores_of_tllib_have_the_tau_and_regret_of_methods(column, tau, lost):
    sets = list(replayed("tllib", all_columns=True))
    assert np.mean([weighted_tau(s.scores[column], s.finetuned) for s in sets]) == pytest.approx(tau, abs=6e-4)
    assert np.mean([regret(s.scores[column], s.finetuned, 1) for s in sets]) == pytest.approx(lost, abs=6e-3)


def test_the_probe_of_stable_transfer_has_the_figures_of_methods_on_its_seven_sets():
    sets = [s for s in replayed("stable_transfer") if s.data not in SEVEN]
    assert len(sets) == 7
    assert np.mean([weighted_tau(s.scores["probe"], s.finetuned) for s in sets]) == pytest.approx(0.63, abs=6e-3)
    lost = [[regret(s.scores["probe"], s.finetuned, k) for k in (1, 3)] for s in sets]
    assert np.mean(lost, axis=0) == pytest.approx([1.22, 0.89], abs=6e-3)


def test_the_shipped_prior_is_the_one_of_the_tables():
    shipped, made = shipped_prior(), public_prior()
    assert shipped.standings.keys() == made.standings.keys() and shipped.aliases == made.aliases == ALIASES
    for model, standing in made.standings.items():
        assert shipped.z(model) == pytest.approx(standing.z)
        assert shipped.standings[model].sets == standing.sets
    assert shipped.source_accuracy == made.source_accuracy
    assert shipped.source.slope == pytest.approx(made.source.slope)
    assert shipped.spread == pytest.approx(made.spread)


def test_a_data_set_is_left_out_of_every_table_it_stands_in():
    everything, without = public_prior(), public_prior(without="flowers")
    assert everything.standings[RESNET152].sets - without.standings[RESNET152].sets == 1
    assert everything.standings["keras/ResNet50"].sets - without.standings["keras/ResNet50"].sets == 1  # flowers102
    assert public_prior(without="aircraft").standings[RESNET152].sets == 17  # sfda and tllib


def test_a_network_without_a_standing_is_guessed_from_its_source_accuracy_or_unknown():
    prior = shipped_prior()
    assert prior.source.slope > 0
    assert prior.z("package/efficientnet-lite0") < prior.z("package/efficientnet-lite2")
    assert prior.z("torchvision/inception_v3") == prior.z("torchvision/inception_v3:IMAGENET1K_V1")
    assert np.isnan(prior.z("toy/conv")) and np.isnan(prior.accuracy("toy/conv"))


def test_names_with_a_source_accuracy_are_names_of_the_catalogue():
    listed = {card.name for card in catalogue.cards()}
    named = {
        m for m in source_accuracy() if m.startswith(("timm/", "package/", "torchvision/")) and ":IMAGENET" not in m
    }
    assert named <= listed


def test_own_runs_move_a_network_and_the_prior_counts_as_five_data_sets():
    prior = shipped_prior()
    pair = {RESNET152: 80.0, MNASNET: 90.0}  # the wrong way round
    mean = (prior.z(RESNET152) + prior.z(MNASNET)) / 2
    expected = (PSEUDO_COUNT * prior.z(MNASNET) + mean + 5 / prior.spread) / (PSEUDO_COUNT + 1)
    after = updated(prior, [Finished("mine", pair)])
    assert after.z(MNASNET) == pytest.approx(expected)
    assert after.z(MNASNET) > prior.z(MNASNET)
    assert after.z(RESNET152) < prior.z(RESNET152)
    assert after.z("keras/ResNet50") == prior.z("keras/ResNet50")
    many = updated(prior, [Finished(f"set {i}", pair) for i in range(60)])
    assert many.z(MNASNET) > many.z(RESNET152)


def test_two_good_networks_that_differ_little_stay_good():
    prior = shipped_prior()
    pair = {RESNET152: 91.0, "keras/EfficientNetB3": 90.9}
    after = updated(prior, [Finished("mine", pair)])
    for model in pair:
        assert after.z(model) == pytest.approx(prior.z(model), abs=0.02)


def test_own_runs_teach_about_networks_of_which_nothing_was_known():
    after = updated(shipped_prior(), [Finished("mine", {RESNET152: 90.0, "file:/mine": 80.0})])
    assert after.z("file:/mine") < 0 < after.z(RESNET152)


def test_the_same_data_counts_once_and_a_lone_network_not_at_all():
    prior, pair = shipped_prior(), {RESNET152: 80.0, MNASNET: 90.0}
    once = updated(prior, [Finished("mine", pair)])
    assert updated(prior, [Finished("mine", pair), Finished("mine", pair)]) == once
    apart = [Finished("mine", {model: accuracy}) for model, accuracy in pair.items()]
    assert updated(prior, apart) == once
    assert updated(prior, [Finished("mine", {RESNET152: 80.0})]) == prior


def test_an_alias_is_updated_under_the_name_it_stands_for():
    prior = shipped_prior()
    after = updated(prior, [Finished("mine", {"timm/resnet152.tv_in1k": 70.0, MNASNET: 90.0})])
    assert after.z(RESNET152) == after.z("timm/resnet152.tv_in1k") < prior.z(RESNET152)


def test_shares_and_what_is_no_accuracy_are_refused():
    for wrong in (-1.0, 0.93, 101.0, float("nan")):
        with pytest.raises(DataError, match="takes per cent"):
            updated(shipped_prior(), [Finished("mine", {RESNET152: wrong})])
