import multiprocessing
import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.base.shards import ShardStore


def vectors(X: np.ndarray) -> dict:
    return {"vector": pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1])}


@pytest.fixture
def filled(tmp_path):
    rng = np.random.default_rng(0)
    keys = [rng.bytes(16) for _ in range(500)]
    X = rng.standard_normal((500, 7)).astype(np.float16)
    store = ShardStore(tmp_path / "s")
    for part in (slice(0, 200), slice(200, 203), slice(203, 500)):
        store.append(keys[part], vectors(X[part]))
    store.refresh()
    return store, keys, X


def test_rows_come_back_in_the_order_asked_for(filled):
    store, keys, X = filled
    order = np.random.default_rng(1).permutation(500)
    at = store.find([keys[i] for i in order])
    assert (at >= 0).all()
    np.testing.assert_array_equal(store.vectors(at), X[order].astype(np.float32))
    assert store.read(at, "vector").to_pylist() == X[order].tolist()


def test_an_unknown_key_is_not_found_even_if_half_of_it_is_known(filled):
    store, keys, _ = filled
    assert store.find([keys[0][:8] + b"12345678", b"\0" * 16]).tolist() == [-1, -1]
    assert keys[0] in store


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_shard_is_left_out_and_counted(filled, damage):
    store, keys, _ = filled
    path = max(store.folder.glob("*.arrow"), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes({"flip": content, "truncate": content[:-100], "empty": b""}[damage])
    again = ShardStore(store.folder)
    assert again.damaged == 1
    assert 0 < (again.find(keys) >= 0).sum() < 500


def test_an_empty_store_answers(tmp_path):
    store = ShardStore(tmp_path / "nowhere")
    assert len(store) == 0
    assert store.find([b"x" * 16]).tolist() == [-1]
    assert not store.folder.exists()


def _write(folder: str, start: int) -> None:
    for i in range(start, start + 20):
        X = np.full((5, 3), i, np.float32)
        keys = [i.to_bytes(8, "big") + j.to_bytes(8, "big") for j in range(5)]
        ShardStore(folder).append(keys, vectors(X))


def test_several_processes_write_without_locks(tmp_path):
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_write, args=(str(tmp_path), n)) for n in (0, 10)]  # half of the rows twice
    for child in children:
        child.start()
    for child in children:
        child.join()
    store = ShardStore(tmp_path)
    assert len(store) == 30 * 5
    assert store.damaged == 0
    for i in range(30):
        at = store.find([i.to_bytes(8, "big") + (2).to_bytes(8, "big")])
        assert store.vectors(at).tolist() == [[i, i, i]]
    assert not [name for name in os.listdir(tmp_path) if "tmp" in name]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=40, unique=True), st.data())
def test_any_keys_are_found_and_only_those(tmp_path_factory, keys, data):
    store = ShardStore(tmp_path_factory.mktemp("s"))
    known = data.draw(st.integers(1, len(keys)))
    X = np.arange(known, dtype=np.float32)[:, None]
    store.append(keys[:known], vectors(X))
    store.refresh()
    at = store.find(keys)
    assert (at[:known] >= 0).all()
    assert (at[known:] == -1).all()
    assert store.vectors(at[:known]).ravel().tolist() == X.ravel().tolist()
