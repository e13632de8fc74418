"""Batches of texts: every text once an epoch, neighbours of about one length, and padding that means nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.adapt.model import AdaptedModel
from headstart.backbones.catalogue import catalogue
from headstart.base.errors import DataError
from headstart.data.looks import look_for
from headstart.data.open import open_dataset
from headstart.features.feeds import feed_for
from headstart.inputs.order import Bucketed, Shuffled
from headstart.inputs.prepared import stacked
from headstart.inputs.sequences import SequenceBatches, Sequences, read_sequences

WORDS = ["a", "short one", "a text of some more words", "x" * 60, "what", "is this, then"]


def lengths_of(n, seed=0):
    return np.random.default_rng(seed).integers(3, 200, n)


def texts_of(lengths):
    return Sequences([f"t{i}" for i in range(len(lengths))], [np.full(k, i, np.int32) for i, k in enumerate(lengths)])


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 90), batch=st.integers(1, 90), seed=st.integers(0, 5))
def test_every_epoch_shows_each_text_once(n, batch, seed):
    batch = min(batch, n)
    order = Bucketed(lengths_of(n), batch, seed)
    plain = Shuffled(n, batch, seed)
    steps = 3 * n  # ``batch`` times three epochs, to the row
    draws = [order.at(step) for step in range(steps)]
    shown = np.concatenate([draw.rows + n * draw.visits for draw in draws])
    before = np.concatenate([(d.rows + n * d.visits) for d in map(plain.at, range(steps))])
    assert sorted(shown) == sorted(before)
    assert all(len(draw.rows) == batch for draw in draws)


def test_a_batch_depends_on_seed_and_step_alone():
    lengths = lengths_of(50)
    forwards = [Bucketed(lengths, 7, 3).at(step).rows for step in range(40)]
    order = Bucketed(lengths, 7, 3)
    for step in reversed(range(40)):
        assert (order.at(step).rows == forwards[step]).all()
    assert any((Bucketed(lengths, 7, 4).at(step).rows != forwards[step]).any() for step in range(40))


def test_texts_of_one_batch_are_of_about_one_length_and_lengths_come_in_no_order():
    lengths = lengths_of(640)
    bucketed, plain = Bucketed(lengths, 16, 0), Shuffled(640, 16, 0)

    def padded(order):
        return sum(16 * lengths[order.at(step).rows].max() for step in range(40))

    assert padded(bucketed) < 1.1 * lengths.sum() < padded(plain)
    longest = [lengths[bucketed.at(step).rows].max() for step in range(40)]
    assert longest != sorted(longest)


def test_batches_hold_their_texts_and_nothing_else():
    texts = texts_of([5, 9, 3, 12, 7, 4])
    rows, targets = np.array([4, 1, 3, 0]), torch.arange(4)
    for batch in SequenceBatches(texts, targets, rows, batch_size=3, seed=0).between(0, 8):
        assert batch.inputs.shape[1] % 8 == 0
        for row, tokens, target in zip(batch.rows, batch.inputs.numpy(), batch.targets, strict=True):
            assert target == row
            assert tokens[tokens >= 0].tolist() == texts.prepared(rows[row]).tolist()


def test_steps_that_are_taken_up_in_the_middle_are_the_same():
    make = lambda: SequenceBatches(texts_of(lengths_of(30)), torch.arange(30), np.arange(30), batch_size=4, seed=1)  # noqa: E731
    whole = list(make().between(0, 20))
    for batch, again in zip(whole[11:], make().between(11, 20), strict=True):
        assert batch.step == again.step and torch.equal(batch.inputs, again.inputs)


def test_processes_share_a_batch_without_a_row_twice():
    def rows(rank, world):
        batches = SequenceBatches(
            texts_of(lengths_of(30)), torch.arange(30), np.arange(30), batch_size=6, seed=1, rank=rank, world=world
        )
        return [batch.rows.tolist() for batch in batches.between(0, 9)]

    for whole, *parts in zip(rows(0, 1), rows(0, 2), rows(1, 2), strict=True):
        assert sorted(whole) == sorted(parts[0] + parts[1])


def test_padding_changes_no_answer():
    """The logits of a text alone, and between others that are much longer."""
    backbone = catalogue.load("toy/text")
    torch.manual_seed(0)
    model = AdaptedModel(backbone, torch.nn.Linear(backbone.card.feature_dim, 3))
    arrays = [p.array for p in feed_for(backbone).prepare(WORDS)]
    together = model(torch.from_numpy(stacked(arrays)))
    for row, array in enumerate(arrays):
        alone = model(torch.from_numpy(array[None]))
        assert torch.allclose(together[row], alone[0], atol=1e-5)


def test_texts_are_read_as_features_are_made_and_a_changed_file_is_noticed(tmp_path):
    for i, word in enumerate(WORDS):
        (tmp_path / str(i % 2)).mkdir(exist_ok=True)
        (tmp_path / str(i % 2) / f"{i}.txt").write_text(word)
    dataset, backbone = open_dataset(tmp_path), catalogue.load("toy/text")
    feed = feed_for(backbone)
    keys = [dataset.content(row)[0] for row in range(len(dataset))]
    texts = read_sequences(dataset, feed.prepare, look=look_for("text"), keys=keys)
    assert len(texts) == len(WORDS)
    for row in range(len(dataset)):
        expected = feed.prepare([dataset[row].value])[0].array
        assert texts.prepared(row).tolist() == expected.tolist()
    (tmp_path / "0" / "0.txt").write_text("something else")
    with pytest.raises(DataError, match=r"DA52 .*changed"):
        read_sequences(dataset, feed.prepare, look=look_for("text"), keys=keys)
    (tmp_path / "0" / "0.txt").unlink()
    with pytest.raises(DataError, match=r"DA52 .*cannot be read now"):
        read_sequences(dataset, feed.prepare, look=look_for("text"), keys=keys)
