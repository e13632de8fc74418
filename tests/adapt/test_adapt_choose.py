"""The choice between heads, from outside."""

import dataclasses

import numpy as np
import pytest

from headstart.adapt.heads import choose as module
from headstart.adapt.heads.choose import HEADS, choose
from headstart.adapt.heads.neighbours import Neighbours
from headstart.adapt.heads.ridge import Ridge
from headstart.base.config import from_dict, to_dict
from headstart.base.errors import DataError
from headstart.base.seeds import stream
from headstart.records.heads import HeadRecord
from headstart.tasks.classification import Classification


def choice(made, folds, **options):
    X, y, task = made
    return choose(X, y, task=task, folds=folds.pairs, resamples=300, **options)


def trial(chosen, name):
    return next(t for t in chosen.record.trials if t.name == name)


def test_all_heads_are_tried_and_the_kept_one_is_marked(classes_of, folds_of):
    chosen = choice(classes_of(), folds_of(120))
    assert [t.name for t in chosen.record.trials] == [f.name for f in HEADS if f.name != "names+mean"]
    assert [t.name for t in chosen.record.trials if t.kept] == [chosen.family] == [chosen.record.chosen]
    assert chosen.record.folds == "5 folds"
    assert from_dict(HeadRecord, to_dict(chosen.record)) == chosen.record


def test_ties_go_to_the_simpler_head():
    # Far apart: every head is perfect, so the simplest is kept.
    rng = stream(0)
    y = np.arange(90) % 3
    X = (np.eye(3)[y] * 20 + rng.standard_normal((90, 3))).astype(np.float32)
    folds = [
        (np.flatnonzero(np.arange(90) // 3 % 5 != f), np.flatnonzero(np.arange(90) // 3 % 5 == f)) for f in range(5)
    ]
    chosen = choose(X, y, task=Classification(("a", "b", "c")), folds=folds, resamples=200)
    assert {t.scores["accuracy"].value for t in chosen.record.trials} == {1.0}
    assert chosen.family == "nearest-mean"


def test_a_head_that_is_shown_to_be_worse_is_not_kept_however_simple(folds_of):
    # The classes differ along a quiet axis under a loud one: means by cosine see little, whitening sees all.
    rng = stream(1)
    y = rng.integers(0, 2, 300)
    X = np.stack([rng.standard_normal(300) * 10, y * 2.0 + rng.standard_normal(300) * 0.3], axis=1).astype(np.float32)
    chosen = choice((X, y, Classification(("a", "b"))), folds_of(300))
    assert chosen.family != "nearest-mean"
    assert trial(chosen, "nearest-mean").difference.high < 0
    assert trial(chosen, chosen.family).difference.high >= 0


def test_neighbours_are_never_kept_but_named_when_they_would_have_won(folds_of):
    rng = stream(2)
    angle, y = rng.uniform(0, 2 * np.pi, 400), rng.integers(0, 2, 400)
    sector = np.floor(angle / (np.pi / 3)).astype(int) % 2  # six alternating sectors: no straight line parts them
    X = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    y = sector
    chosen = choice((X, y, Classification(("a", "b"))), folds_of(400))
    assert trial(chosen, "neighbours").difference.low > 0
    assert chosen.family != "neighbours"
    assert "neighbours would have won" in chosen.record.notes[0]


def test_the_out_of_fold_logits_are_calibrated_by_the_temperature(classes_of, folds_of):
    X, y, task = classes_of(n=600, gap=3)
    chosen = choice((X, y, task), folds_of(600))
    p = task.decode(chosen.oof_logits / chosen.temperature)
    right = p.argmax(axis=1) == y
    assert abs(p.max(axis=1).mean() - right.mean()) < 0.04
    assert right.mean() == pytest.approx(trial(chosen, chosen.family).scores["accuracy"].value)


def test_the_head_is_on_the_scale_of_the_out_of_fold_logits(classes_of, folds_of):
    X, y, task = classes_of(n=600)
    chosen = choice((X, y, task), folds_of(600))
    logits = chosen.head.logits(X)
    logits, oof = (z - z.mean(axis=1, keepdims=True) for z in (logits, chosen.oof_logits))
    assert np.corrcoef(logits.ravel(), oof.ravel())[0, 1] > 0.95
    assert logits.std() == pytest.approx(oof.std(), rel=0.2)


def test_repeated_folds_are_averaged_and_a_single_split_leaves_the_rest_unjudged(classes_of, folds_of):
    X, y, task = classes_of()
    repeated = choice((X, y, task), folds_of(120, repeats=3))
    assert repeated.record.folds == "5 folds, 3 times"
    assert repeated.record.n == 120
    split = folds_of(120, k=4)
    single = choose(X, y, task=task, folds=split.pairs[:1], resamples=200)
    assert single.record.folds == "1 split (30 of 120 rows held out)"
    assert single.record.n == 30
    assert np.isnan(single.oof_logits[split.pairs[0][0]]).all()


def test_the_order_of_rows_changes_no_choice(classes_of, folds_of):
    X, y, task = classes_of(n=200, gap=2)
    folds, order = folds_of(200), stream(3).permutation(200)
    where = np.argsort(order)
    a = choose(X, y, task=task, folds=folds.pairs, resamples=200)
    moved = [(np.sort(where[t]), np.sort(where[v])) for t, v in folds.pairs]
    b = choose(X[order], y[order], task=task, folds=moved, resamples=200)
    assert a.family == b.family
    np.testing.assert_allclose(a.oof_logits[order], b.oof_logits, atol=2e-3)


def test_the_same_call_gives_the_same_bits_and_changes_no_input(classes_of, folds_of):
    X, y, task = classes_of()
    X.flags.writeable = y.flags.writeable = False
    a, b = (choice((X, y, task), folds_of(120)) for _ in range(2))
    assert a.head.weight.tobytes() == b.head.weight.tobytes()
    assert a.oof_logits.tobytes() == b.oof_logits.tobytes()
    strip = [dataclasses.replace(t, seconds=0) for t in a.record.trials]
    assert strip == [dataclasses.replace(t, seconds=0) for t in b.record.trials]


def test_another_metric_decides_when_asked(classes_of, folds_of):
    chosen = choice(classes_of(), folds_of(120), metric="log_loss")
    assert chosen.record.metric == "log_loss"
    best = min(t.scores["log_loss"].value for t in chosen.record.trials if t.linear)
    kept = trial(chosen, chosen.family)
    assert kept.difference.low <= 0
    assert kept.scores["log_loss"].value >= best


# --- uneven classes


def uneven(n=1500, seed=5, apart=1.2):
    rng = stream(seed, "uneven")
    y = rng.choice(3, n, p=[0.84, 0.1, 0.06])
    means = np.asarray([[0, 0], [apart, 0], [0, apart]])
    X = np.concatenate([means[y], np.zeros((n, 4))], axis=1) + rng.standard_normal((n, 6)) * 0.9
    return X.astype(np.float32), y, Classification(("common", "rare", "rarer"))


def test_balance_goes_on_by_itself_where_it_helps_macro_f1(folds_of):
    made = uneven(apart=1.6)
    plain = choice(made, folds_of(1500), balance="none", metric="accuracy", families=("ridge",))
    auto = choice(made, folds_of(1500), metric="accuracy", families=("ridge",))
    assert auto.record.balance in ("weights", "logit-adjust")
    assert "raises macro-F1" in auto.record.balance_reason

    def macro_f1(c):
        from sklearn.metrics import f1_score

        return f1_score(made[1], c.oof_logits.argmax(axis=1), average="macro")

    assert macro_f1(auto) > macro_f1(plain) + 0.02


def test_balance_stays_off_where_it_costs_more_than_it_gains(folds_of):
    made = uneven()  # rare classes inside the common one: finding them means misnaming a third of everything
    auto = choice(made, folds_of(1500), metric="accuracy")
    assert auto.record.balance == "none"
    assert "no way gains more than it costs" in auto.record.balance_reason


def test_balance_stays_off_where_classes_are_even(classes_of, folds_of):
    chosen = choice(classes_of(n=300), folds_of(300))
    assert chosen.record.balance == "none"
    assert "even" in chosen.record.balance_reason


@pytest.mark.parametrize("balance", ["weights", "logit-adjust"])
def test_balance_is_done_when_asked(balance, folds_of):
    made = uneven()
    plain, asked = (choice(made, folds_of(1500), balance=b) for b in ("none", balance))
    assert asked.record.balance == balance
    rare = lambda c: (c.head.logits(made[0]).argmax(axis=1) > 0).mean()  # noqa: E731
    assert rare(asked) > rare(plain)


def test_an_adjusted_head_is_the_plain_head_with_another_bias(folds_of, monkeypatch):
    monkeypatch.setattr(module, "HEADS", (Ridge(),))  # its temperature is far from 1
    made = uneven()
    plain = choice(made, folds_of(1500), balance="none", metric="log_loss")
    adjusted = choice(made, folds_of(1500), balance="logit-adjust", metric="log_loss")
    assert plain.temperature < 0.7
    np.testing.assert_allclose(plain.head.weight, adjusted.head.weight)
    difference = (adjusted.head.bias - plain.head.bias) / plain.temperature
    expected = -np.log(np.bincount(made[1]) / 1500)
    np.testing.assert_allclose(difference - difference.mean(), expected - expected.mean(), atol=0.02)
    np.testing.assert_allclose(adjusted.head.logits(made[0]).mean(axis=0), adjusted.oof_logits.mean(axis=0), atol=0.02)


# --- other tasks


def test_multi_label_has_ridge_logistic_and_neighbours(labels_of, folds_of):
    chosen = choice(labels_of(), folds_of(150))
    assert [t.name for t in chosen.record.trials] == ["ridge", "logistic", "neighbours"]
    assert trial(chosen, chosen.family).scores["macro_f1"].value > 0.6
    assert chosen.record.balance == "none"


def test_regression_has_ridge_and_neighbours(values_of, folds_of):
    chosen = choice(values_of(), folds_of(150))
    assert [t.name for t in chosen.record.trials] == ["ridge", "neighbours"]
    assert chosen.family == "ridge"
    assert chosen.temperature == 1.0
    assert trial(chosen, "ridge").scores["r2"].value > 0.95
    assert trial(chosen, "neighbours").difference.low > 0  # a larger error


def test_balance_is_said_to_be_off_where_there_are_no_classes(labels_of, folds_of):
    chosen = choice(labels_of(), folds_of(150), balance="weights")
    assert (chosen.record.balance, chosen.record.balance_reason[:13]) == ("none", "balancing is ")


@pytest.mark.parametrize("width", [1, 4, 300])
def test_six_rows_are_enough(width, folds_of):
    X = stream(4).standard_normal((6, width)).astype(np.float32)
    y = np.asarray([0, 1, 0, 1, 0, 0])
    chosen = choice((X, y, Classification(("a", "b"))), folds_of(6, k=3))
    assert np.isfinite(chosen.head.logits(X)).all()
    assert chosen.record.n == 6


def test_a_class_with_one_example_is_learnt_from_too(classes_of, folds_of):
    X, y, task = classes_of()
    y = np.where(np.arange(120) == 5, 2, y % 2)
    chosen = choice((X, y, task), folds_of(120))
    assert np.isfinite(chosen.oof_logits).all()
    assert np.isfinite(chosen.head.weight).all()


# --- refusals


def test_bad_questions_are_refused(classes_of, folds_of):
    X, y, task = classes_of()
    pairs = folds_of(120).pairs
    with pytest.raises(DataError, match="Did you mean 'logit-adjust'"):
        choose(X, y, task=task, folds=pairs, balance="logitadjust")
    with pytest.raises(DataError, match="Did you mean 'accuracy'"):
        choose(X, y, task=task, folds=pairs, metric="acuracy")
    with pytest.raises(DataError, match="no folds"):
        choose(X, y, task=task, folds=[])
    with pytest.raises(DataError, match="fold 0 trains on 1 of the rows"):
        choose(X, y, task=task, folds=[(np.arange(60), np.arange(59, 120))])
    with pytest.raises(DataError, match="both sides of fold 0"):
        choose(X, y, task=task, folds=pairs, groups=np.arange(120) // 2)
    with pytest.raises(DataError, match="At least one of: nearest-mean, ridge"):
        choose(X, y, task=task, folds=pairs, families=("neighbours",))
    with pytest.raises(DataError, match="targets have shape"):
        choose(X, y[:-1], task=task, folds=pairs)


def test_many_rows_leave_neighbours_out_and_say_so(classes_of, folds_of, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 50)
    chosen = choice(classes_of(), folds_of(120))
    assert Neighbours().name not in [t.name for t in chosen.record.trials]
    assert "left out" in chosen.record.notes[0]
