"""Tables of several kinds of columns: which blocks they are read as, what they lack, and which rows are the same."""

import numpy as np
import pytest
from PIL import Image

from headstart.base.errors import DataError
from headstart.base.seeds import stream
from headstart.data.audit import audit
from headstart.data.looks import MixedLook
from headstart.data.open import open_dataset
from headstart.data.parts import parts_of

WORDS = ["a red house", "a blue boat", "", "a red house", "A RED HOUSE!", "a green hill"]


@pytest.fixture
def table(tmp_path):
    """Six rows: the second lacks its photo, the third its words, the fourth and fifth repeat the first (nearly)."""
    for i in range(4):
        pixels = stream(i, "photo").integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.png")
    photos = ["0.png", "", "1.png", "0.png", "0.png", "2.png"]
    lines = ["photo,words,size,where,kind"]
    for i, (photo, words) in enumerate(zip(photos, WORDS, strict=True)):
        size = 3.5 if i in (0, 3, 4) else 4.5 + i
        lines.append(f"{photo},{words},{size},{'far' if i == 1 else 'near'},{'ab'[i % 2]}")
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def blocks(path, **asked):
    dataset = open_dataset(path, target="kind", **asked)
    return dataset.modality, {p.name: (p.modality, p.rows.tolist()) for p in parts_of(dataset)}


def test_two_kinds_of_columns_make_a_mixed_table_and_one_does_not(table):
    modality, found = blocks(table, text="words", path_column="photo", features=["size", "where"])
    assert modality == "mixed"
    assert found["words"] == ("text", [0, 1, 3, 4, 5])
    assert found["photo"] == ("image", [0, 2, 3, 4, 5])
    assert found["columns"] == ("vector", [0, 1, 2, 3, 4, 5])
    assert open_dataset(table, target="kind", features=["size"]).modality == "vector"
    assert open_dataset(table, target="kind", text="words").modality == "text"


def test_several_columns_of_texts_are_blocks_of_their_own(table):
    _, found = blocks(table, text="words,where")
    assert list(found) == ["words", "where"]


def test_a_wrong_column_is_named_with_a_suggestion(table):
    with pytest.raises(DataError, match=r"TB63 t.csv has no column 'wrds' for the texts. Did you mean 'words'\?"):
        blocks(table, text="wrds", features=["size"])
    with pytest.raises(DataError, match=r"TB63 t.csv has no column 'foto' for the paths. Did you mean 'photo'"):
        blocks(table, text="words", path_column="foto")
    with pytest.raises(DataError, match="column 'words' is named for two uses"):
        blocks(table, text="words,words", features=["size"])


def test_rows_are_the_same_where_every_block_is(table, tmp_path):
    dataset = open_dataset(table, target="kind", text="words", path_column="photo", features=["size"])
    seen = MixedLook().survey(dataset, tmp_path / "cache")
    found = audit(dataset, seen)
    assert seen.keys[0] == seen.keys[3] == dataset.content(0)[0] and len(set(seen.keys)) == 5
    # the fifth says the same in other letters, beside the same photo and number
    assert [(c.ids, c.kind) for c in found.clusters] == [(("line 2", "line 5", "line 6"), "near")]
    apart = open_dataset(table, target="kind", text="words", features=["where", "size"])
    assert len(set(MixedLook().survey(apart, tmp_path / "cache").keys)) == 5
    assert {f.code for f in found.findings} >= {"TB72", "TB73"}


def test_what_is_missing_is_counted_and_what_is_broken_is_left_out(table, tmp_path):
    (tmp_path / "2.png").write_bytes(b"no picture")
    dataset = open_dataset(table, target="kind", text="words", path_column="photo", features=["size"])
    seen = MixedLook().survey(dataset, tmp_path / "cache")
    assert seen.rows.tolist() == [0, 1, 2, 3, 4]
    assert seen.problems[5].reason.startswith("photo: ")
    texts = [f.text for f in audit(dataset, seen).findings if f.code == "TB72"]
    assert [text.split(".")[0] for text in texts] == ["1 of 5 rows have no words", "1 of 5 rows have no photo"]


def test_a_row_that_has_nothing_is_left_out(table, tmp_path):
    table.write_text("photo,words,kind\n0.png,a,x\n,,y\n,b,x\n", encoding="utf-8")
    dataset = open_dataset(table, target="kind", text="words", path_column="photo")
    seen = MixedLook().survey(dataset, tmp_path / "cache")
    assert seen.rows.tolist() == [0, 2] and seen.problems[1].code == "TB72"


def test_a_saved_models_columns_are_read_by_their_kinds(table):
    kinds = {"words": "text", "photo": "image", "size": "number"}
    dataset = open_dataset(table, learnt=kinds)
    assert dataset.modality == "mixed" and dataset.targets is None
    with pytest.raises(DataError, match="the model learnt from audio"):
        open_dataset(table, learnt={**kinds, "photo": "audio"})
    with pytest.raises(DataError, match=r"TB63 t.csv lacks sound, which the model learnt from"):
        open_dataset(table, learnt={**kinds, "sound": "audio"})
    with pytest.raises(DataError, match=r"TB63 .* holds numbers only; the model learnt from texts or files too"):
        open_dataset(np.zeros((3, 2)), learnt=kinds)


def test_taking_rows_keeps_their_blocks(table):
    dataset = open_dataset(table, target="kind", text="words", features=["size"])
    some = dataset.take([5, 2, 0])
    words, columns = parts_of(some)
    assert words.rows.tolist() == [0, 2] and list(words.dataset.values) == [WORDS[5], WORDS[0]]
    assert [row.cells["size"] for row in columns.dataset.values] == [9.5, 6.5, 3.5]
    assert some.fingerprint != dataset.fingerprint
