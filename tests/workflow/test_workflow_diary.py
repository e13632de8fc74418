"""Pages are whole or not there, and belong to one climb."""

import pytest
import torch

from headstart.workflow.diary import Diary, NoDiary, Page


@pytest.fixture
def said():
    return []


@pytest.fixture
def diary(tmp_path, said):
    return Diary(tmp_path / "ladder", {"seed": 1}, said.append)


def page(spent=3.5):
    return Page({"share": 0.5, "words": "±"}, {"0.5": torch.arange(6, dtype=torch.float64).view(2, 3)}, spent)


def test_a_page_comes_back_as_it_was_written(diary, tmp_path):
    diary.write("last stages/look 1", page())
    found = Diary(tmp_path / "ladder", {"seed": 1}).read("last stages/look 1")
    assert found.values == page().values and found.spent == 3.5
    assert torch.equal(found.tensors["0.5"], page().tensors["0.5"])


def test_the_time_of_an_earlier_start_is_that_of_its_last_page(diary, tmp_path):
    assert diary.spent == 0
    for name, spent in (("a", 2.0), ("b", 9.0), ("c", 5.0)):
        diary.write(name, page(spent))
    assert Diary(tmp_path / "ladder", {"seed": 1}).spent == 9.0


def test_another_climb_has_other_pages(diary, tmp_path):
    diary.write("a", page())
    other = Diary(tmp_path / "ladder", {"seed": 2})
    assert other.read("a") is None and other.spent == 0
    assert diary.about("part 1", [1, 2]).read("a") is None


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_page_is_passed_over_and_said(diary, tmp_path, said, damage):
    diary.write("a", page())
    (path,) = (tmp_path / "ladder").glob("*.page")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes({"flip": bytes(content), "cut": bytes(content[:-20]), "empty": b""}[damage])
    assert diary.read("a") is None
    assert any("made again" in event.text for event in said)


def test_a_disk_that_cannot_be_written_costs_the_page_and_no_more(tmp_path, said):
    (tmp_path / "run").write_text("a file where a folder should be")
    diary = Diary(tmp_path / "run" / "ladder", 1, said.append)
    diary.write("a", page())
    assert diary.read("a") is None and said[0].kind == "warning"


def test_without_a_diary_nothing_is_remembered():
    none = NoDiary()
    none.write("a", page())
    assert none.read("a") is None and none.about("b", 1).spent == 0
