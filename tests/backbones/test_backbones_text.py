"""Encoders of texts from local folders: every kind gives what plain transformers gives, and bad folders are named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from headstart.backbones.catalogue import catalogue
from headstart.backbones.sources.toy import TOKENIZER
from headstart.base.errors import DataError, HeadstartError, Refused
from headstart.features.choose import SAME, lowest_cosine, make_runner, offered
from headstart.features.feeds import feed_for
from headstart.features.runners.runner import run_all
from headstart.features.runners.torch import TorchRunner
from headstart.inputs.prepared import stacked
from headstart.testing.sources import check_backbone, check_classifier, check_random_copy

SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}
DISTIL = {"vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48, "max_position_embeddings": 66}
KINDS = {
    "bert": SMALL,
    "distilbert": {**DISTIL, "pad_token_id": 0},
    "roberta": {**SMALL, "pad_token_id": 1},
    "electra": {**SMALL, "embedding_size": 32},
    "mpnet": {**SMALL, "pad_token_id": 1},
    "albert": {**SMALL, "embedding_size": 16},
    "deberta-v2": SMALL,
    "modernbert": {**SMALL, "global_attn_every_n_layers": 2, "local_attention": 16},
}
TEXTS = ["a short one", "", "a much longer text, with many more letters in it", "?"]


def save(folder, kind, **beside):
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **KINDS[kind])).eval()
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(TOKENIZER)
    for name, content in beside.items():
        path = folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return model


def tokens_of(backbone, texts):
    return [p.array for p in feed_for(backbone).prepare(texts)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_the_mean_that_plain_transformers_gives(kind, tmp_path):
    model = save(tmp_path, kind)
    backbone = catalogue.load(f"file:{tmp_path}")
    check_backbone(backbone)
    check_random_copy(backbone)
    check_classifier(backbone)
    tokens = tokens_of(backbone, TEXTS)
    with torch.inference_mode():
        ours = backbone.from_batch()(torch.from_numpy(stacked(tokens))).numpy()
        for own, text in zip(ours, tokens, strict=True):
            states = model(input_ids=torch.from_numpy(text)[None].long()).last_hidden_state[0]
            np.testing.assert_allclose(own, states.mean(dim=0).numpy(), atol=2e-5)


@pytest.mark.parametrize("name", offered("cpu", "text"))
def test_every_runner_agrees_whatever_the_lengths_beside(name):
    backbone = catalogue.load("toy/text")
    tokens = tokens_of(backbone, [*TEXTS, *(f"text {i} " * (i % 7 + 1) for i in range(75))])
    alone = np.concatenate([run_all(TorchRunner(backbone, batch=1), [t]) for t in tokens])
    runner = make_runner(backbone, name)
    assert lowest_cosine(run_all(runner, tokens), alone) >= SAME
    assert lowest_cosine(run_all(runner, tokens[::-1])[::-1], alone) >= SAME


def test_what_sentence_transformers_wrote_beside_is_obeyed(tmp_path):
    beside = {
        "1_Pooling__config_json": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        "sentence_bert_config_json": {"max_seq_length": 12},
        "config_sentence_transformers_json": {"prompts": {"q": "ask: "}, "default_prompt_name": "q"},
    }
    model = save(tmp_path, "bert", **beside)
    backbone = catalogue.load(f"file:{tmp_path}")
    assert (backbone.card.input.window, backbone.card.input.prefix) == (12, "ask: ")
    (short,) = feed_for(backbone).prepare(["me"])
    (long,) = feed_for(backbone).prepare(["a text of more than twelve letters"])
    assert not short.is_cut and long.is_cut and len(long.array) == 12
    assert short.array.tolist() == feed_for(catalogue.load("toy/text")).prepare(["ask: me"])[0].array.tolist()
    with torch.inference_mode():
        states = model(input_ids=torch.from_numpy(short.array)[None].long()).last_hidden_state
        ours = backbone.from_batch()(torch.from_numpy(stacked([short.array])))
    np.testing.assert_allclose(ours.numpy(), states[:, 0].numpy(), atol=2e-5)


def test_the_window_is_what_the_network_can_bear(tmp_path):
    save(tmp_path, "roberta")
    backbone = catalogue.load(f"file:{tmp_path}")
    assert backbone.card.input.window == 64  # of 66 positions two are never used
    (long,) = feed_for(backbone).prepare(["x" * 300])
    assert np.isfinite(run_all(TorchRunner(backbone), [long.array])).all()


@pytest.mark.parametrize("text", ["\ud83d", "a\0b", "\u202eevil", "é" * 50, "\U0001f600", " . "])
def test_odd_characters_are_read(text):
    backbone = catalogue.load("toy/text")
    (prepared,) = feed_for(backbone).prepare([text])
    assert 2 <= len(prepared.array) <= 64


def test_a_folder_without_a_tokenizer_is_told_what_it_lacks(tmp_path):
    save(tmp_path, "bert")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        catalogue.load(f"file:{tmp_path}")


@pytest.mark.parametrize("content", ["{", "[]", '{"version": "1.0"}', "\x00"])
def test_a_damaged_tokenizer_is_named(content, tmp_path):
    save(tmp_path, "bert")
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(HeadstartError, match=r"tokenizer\.json"):
        feed_for(catalogue.load(f"file:{tmp_path}"))


def test_a_config_that_asks_for_code_is_refused(tmp_path):
    save(tmp_path, "bert")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(Refused, match="CF20"):
        catalogue.load(f"file:{tmp_path}")
