"""Facts are kept by content, and come back as they went in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from making import encoded, scene

from headstart.data.decode import BadExample, ImageLimits, decode_image
from headstart.data.facts import FactsStore, facts_folder


def test_facts_and_verdicts_come_back_as_they_went_in(tmp_path: Path) -> None:
    facts = [decode_image(encoded(scene(i), kind), name="x")[1] for i, kind in enumerate(("JPEG", "PNG", "GIF"))]
    rows = [*facts, BadExample("IM27", "a.jpg", "the file ends early")]
    keys = [bytes([i]) * 16 for i in range(4)]
    store = FactsStore(tmp_path / "facts")
    store.append(keys, [row if isinstance(row, BadExample) else asdict(row) for row in rows])
    store.refresh()
    order = [3, 0, 2, 1]
    at = store.find([keys[i] for i in order])
    columns, tiny = store.columns(at), store.tiny(at)
    assert columns["ok"].tolist() == [False, True, True, True]
    assert columns["code"].tolist() == ["IM27", "", "", ""]
    assert columns["reason"][0] == "the file ends early"
    for place, i in list(enumerate(order))[1:]:
        assert columns["phash"][place] == facts[i].phash
        assert columns["phash_mirrored"][place] == facts[i].phash_mirrored
        assert (columns["width"][place], columns["height"][place]) == (facts[i].width, facts[i].height)
        assert columns["mode"][place] == facts[i].mode
        assert columns["notes"][place] == "; ".join(facts[i].notes)
        assert tiny[place].tobytes() == facts[i].tiny
    assert tiny.shape == (4, 16, 16, 3)


def test_unknown_keys_and_empty_questions_are_answered(tmp_path: Path) -> None:
    store = FactsStore(tmp_path / "facts")
    assert store.find([b"0" * 16]).tolist() == [-1]
    nothing = np.zeros(0, np.int64)
    assert store.tiny(nothing).shape == (0, 16, 16, 3)
    assert set(store.columns(nothing)) == {
        *(
            "ok",
            "width",
            "height",
            "phash",
            "phash_mirrored",
            "mean",
            "std",
            "mode",
            "format",
            "notes",
            "code",
            "reason",
        )
    }
    store.append([], [])
    assert len(store) == 0


def test_the_folder_depends_on_limits_version_and_pillow(tmp_path: Path, monkeypatch) -> None:
    usual = facts_folder(tmp_path, ImageLimits())
    assert usual == facts_folder(tmp_path, ImageLimits())
    assert usual != facts_folder(tmp_path, ImageLimits(max_pixels=1))
    monkeypatch.setattr("PIL.__version__", "1.0")
    assert usual != facts_folder(tmp_path, ImageLimits())
    monkeypatch.undo()
    monkeypatch.setattr("headstart.data.facts.FACTS_VERSION", 99)
    assert usual != facts_folder(tmp_path, ImageLimits())
