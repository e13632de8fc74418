import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.base.errors import PlanError, TrainingFault
from headstart.base.seeds import stream
from headstart.data.dataset import Dataset
from headstart.inputs.augment import Policy, augment, policy_named
from headstart.inputs.batches import ArrayBatches, PixelBatches
from headstart.inputs.decoded import decode_pictures
from headstart.inputs.order import rows_at
from headstart.inputs.spec import ImageSpec

SPEC = ImageSpec(size=24, crop=0.875)
N = 13
ROWS = np.arange(20)[::-1][:N]
TARGETS = torch.arange(100, 100 + N)
STANDARD = policy_named("standard")


@pytest.fixture(scope="module")
def pictures():
    values = [
        Image.fromarray(stream(0, i).integers(0, 256, (30 + i, 50, 3), dtype=np.uint8))
        for i in range(20)  # 24 pixels a side are cropped from 34: some are kept as they are, some are shrunk
    ]
    return decode_pictures(Dataset("image", [f"{i}.png" for i in range(20)], values), SPEC)


def batches_of(pictures, **changed):
    given = {"policy": STANDARD, "batch_size": 4, "seed": 5, "workers": 2} | changed
    return PixelBatches(pictures, TARGETS, ROWS, **given)


def assert_same(left, right):
    left, right = list(left), list(right)
    assert [b.step for b in left] == [b.step for b in right]
    for a, b in zip(left, right, strict=True):
        assert np.array_equal(a.rows, b.rows) and torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)


def ours():
    return [t for t in threading.enumerate() if t.name.startswith("headstart-inputs")]


def test_a_batch_is_the_views_of_its_rows_with_their_targets(pictures):
    for batch in batches_of(pictures).between(0, 12):
        assert np.array_equal(batch.rows, rows_at(batch.step, n=N, batch_size=4, seed=5))
        assert torch.equal(batch.targets, 100 + torch.from_numpy(batch.rows))
        assert batch.inputs.dtype == torch.uint8 and batch.inputs.shape == (4, 24, 24, 3)
        for i, row in enumerate(batch.rows):
            visit = (batch.step * 4 + i) // N
            picture = int(ROWS[row])
            expected = augment(pictures.picture(picture), STANDARD, SPEC, seed=5, row=picture, visit=visit)
            assert np.array_equal(batch.inputs[i].numpy(), expected)


@pytest.mark.parametrize("policy", ["none", "standard", "strong"])
def test_bits_do_not_depend_on_the_number_of_workers_or_on_looking_ahead(pictures, policy):
    policy = policy_named(policy)
    reference = list(batches_of(pictures, policy=policy, workers=0).between(0, 9))
    for workers, ahead in ((1, 3), (4, 3), (4, 0), (2, 20)):
        assert_same(reference, batches_of(pictures, policy=policy, workers=workers, ahead=ahead).between(0, 9))


def test_a_step_is_the_same_whatever_was_asked_before(pictures):
    batches = batches_of(pictures)
    whole = list(batches.between(0, 10))
    assert_same(whole[7:], batches.between(7, 10))
    assert_same(whole[2:4], batches.between(2, 4))
    half = batches.between(0, 10)
    next(half)
    assert_same(whole[3:5], batches.between(3, 5))  # while another walk is open
    assert_same(whole[1:], half)
    assert list(batches.between(4, 4)) == []


def test_without_augmentation_the_network_sees_what_prediction_sees(pictures):
    for batch in batches_of(pictures, policy=Policy("none")).between(0, 7):
        for row, pixels in zip(batch.rows, batch.inputs.numpy(), strict=True):
            assert np.array_equal(pixels, pictures.prepared(ROWS[row]))


def test_a_policy_that_does_not_crop_starts_from_what_prediction_sees(pictures):
    flips = Policy("flips", flips=("horizontal",))
    for batch in batches_of(pictures, policy=flips).between(0, 7):
        for row, pixels in zip(batch.rows, batch.inputs.numpy(), strict=True):
            prepared = pictures.prepared(ROWS[row])
            assert np.array_equal(pixels, prepared) or np.array_equal(pixels, prepared[:, ::-1])


def test_cached_views_come_again_every_k_th_visit(pictures):
    k, epochs = 3, 7
    batches = batches_of(pictures, views=k, batch_size=N)  # one step is one epoch
    seen = []
    for batch in batches.between(0, epochs):
        back = np.argsort(batch.rows)
        seen.append(batch.inputs[back])
    for epoch in range(epochs):
        assert torch.equal(seen[epoch], seen[epoch % k])
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
    fresh = [b.inputs[np.argsort(b.rows)] for b in batches_of(pictures, batch_size=N).between(0, epochs)]
    assert not torch.equal(fresh[0], fresh[k])


def test_cached_arrays_feed_the_same_rows_and_views_as_pixels(pictures):
    k = 2
    pixels = batches_of(pictures, views=k)
    cached = np.stack([np.concatenate([b.inputs.numpy() for b in pixels.view(v)]) for v in range(k)])
    assert cached.shape == (k, N, 24, 24, 3)
    for workers in (0, 1):
        arrays = ArrayBatches(cached, TARGETS, batch_size=4, seed=5, views=k, workers=workers)
        assert_same(pixels.between(2, 15), arrays.between(2, 15))


def test_a_picture_has_the_same_views_in_any_training_set(pictures):
    everything = PixelBatches(pictures, torch.zeros(20), np.arange(20), policy=STANDARD, batch_size=20, seed=5)
    part = batches_of(pictures, batch_size=N)
    for number in (0, 1):
        whole, some = next(everything.view(number)), next(part.view(number))
        assert torch.equal(whole.inputs[torch.from_numpy(ROWS.copy())], some.inputs)


def test_a_view_of_everything_is_in_order(pictures):
    view = list(batches_of(pictures, rank=1, world=2).view(0))
    assert np.array_equal(np.concatenate([b.rows for b in view]), np.arange(N))
    assert [len(b.rows) for b in view] == [4, 4, 4, 1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
def test_arrays_keep_their_type_in_memory_and_mapped(tmp_path, dtype):
    inputs = stream(0, "x").integers(0, 200, (N, 3, 2)).astype(dtype)
    np.save(tmp_path / "x.npy", inputs)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for source in (inputs, mapped):
        for batch in ArrayBatches(source, TARGETS, batch_size=5, seed=1, workers=1).between(0, 8):
            assert np.array_equal(batch.inputs.numpy(), inputs[batch.rows]) and batch.inputs.numpy().dtype == dtype
            assert torch.equal(batch.targets, 100 + torch.from_numpy(batch.rows))


def test_arrays_with_views_take_the_view_of_the_visit():
    inputs = np.arange(3)[:, None] * 1000 + np.arange(N)[None, :]  # says (view, row)
    for batch in ArrayBatches(inputs, TARGETS, batch_size=N, seed=0, views=3).between(0, 8):
        assert np.array_equal(batch.inputs.numpy(), batch.step % 3 * 1000 + batch.rows)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_each_batch(pictures, world):
    whole = list(batches_of(pictures, batch_size=6).between(0, 5))
    shares = [list(batches_of(pictures, batch_size=6, rank=r, world=world).between(0, 5)) for r in range(world)]
    for step, batch in enumerate(whole):
        for rank, share in enumerate(shares):
            assert np.array_equal(share[step].rows, batch.rows[rank::world])
            assert torch.equal(share[step].inputs, batch.inputs[rank::world])
            assert torch.equal(share[step].targets, batch.targets[rank::world])


def test_a_balanced_feed_shows_classes_equally_often(pictures):
    labels = np.array([0] * 10 + [1] * 2 + [2])
    batches = batches_of(pictures, balanced=labels, batch_size=6)
    for batch in batches.between(0, 6):
        assert np.array_equal(np.bincount(labels[batch.rows]), [2, 2, 2])


def test_a_batch_larger_than_the_data_is_refused(pictures):
    with pytest.raises(PlanError, match="PL30 a batch of 14 cannot be drawn from 13 training examples"):
        batches_of(pictures, batch_size=14)


# -------------------------------------------------------------------------------------- what goes wrong in a thread


class Faulty:
    """A store in which one picture does something else; counts what was read."""

    def __init__(self, pictures, row, fault):
        self.ids, self.spec, self._pictures = pictures.ids, pictures.spec, pictures
        self.row, self.fault, self.read = row, fault, []

    def picture(self, row):
        self.read.append(row)
        if row == self.row:
            self.fault()
        return self._pictures.picture(row)


def broken():
    raise ValueError("bad luck\n")


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_a_picture_that_fails_reaches_the_loop_by_name(pictures, workers):
    row = int(rows_at(6, n=N, batch_size=4, seed=5)[2])
    walk = batches_of(Faulty(pictures, ROWS[row], broken), workers=workers).between(4, 20)
    with pytest.raises(
        TrainingFault, match=rf"TR31 step \d+: no input could be made of {ROWS[row]}\.png .*bad luck\\n"
    ):
        list(walk)
    assert ours() == []


@pytest.mark.parametrize("workers", [1, 4])
def test_a_picture_that_never_comes_ends_the_wait_and_is_named(pictures, workers):
    never = threading.Event()
    row = int(rows_at(0, n=N, batch_size=4, seed=5)[3])
    start = time.monotonic()
    walk = batches_of(Faulty(pictures, ROWS[row], never.wait), workers=workers, longest_s=0.3).between(0, 5)
    with pytest.raises(
        TrainingFault, match=rf"TR32 step 0: 1 of 4 inputs were not ready after 0.3 s: {ROWS[row]}\.png"
    ):
        next(walk)
    assert time.monotonic() - start < 3
    assert all(thread.daemon for thread in ours())  # it stands still, but holds nobody up
    never.set()


def test_a_slow_picture_only_delays(pictures):
    slow = Faulty(pictures, ROWS[0], lambda: time.sleep(0.1))
    assert_same(batches_of(pictures).between(0, 4), batches_of(slow, longest_s=5).between(0, 4))


def test_looking_ahead_is_bounded(pictures):
    store = Faulty(pictures, -1, broken)
    walk = batches_of(store, ahead=2).between(0, 100)
    next(walk)
    until = time.monotonic() + 5
    while len(store.read) < 12 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(store.read) == 3 * 4  # the one that was handed out, and two
    walk.close()


def test_without_workers_nothing_is_made_before_it_is_asked_for(pictures):
    store = Faulty(pictures, -1, broken)
    walk = batches_of(store, workers=0).between(0, 100)
    for steps in range(1, 4):
        next(walk)
        assert len(store.read) == steps * 4 and ours() == []


def test_closing_early_stops_the_threads(pictures):
    walk = batches_of(pictures, workers=4, ahead=10).between(0, 10_000)
    next(walk)
    assert len(ours()) == 4
    start = time.monotonic()
    walk.close()
    assert ours() == [] and time.monotonic() - start < 1


def test_a_walk_that_is_dropped_stops_its_threads(pictures):
    for batch in batches_of(pictures, workers=3).between(0, 100):
        if batch.step == 2:
            break
    del batch
    assert ours() == []
