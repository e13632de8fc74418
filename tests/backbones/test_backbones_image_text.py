"""Both towers of CLIP and SigLIP from a local folder, against transformers itself; small random models, no download."""

import numpy as np
import pytest
import torch
from PIL import Image

import headstart as hs
from headstart.backbones.catalogue import catalogue
from headstart.backbones.sources.image_text import text_tower
from headstart.base.errors import CheckpointMismatch, DataError
from headstart.base.seeds import stream
from headstart.features.feeds import feed_for
from headstart.inputs.image import normalise, prepare
from headstart.inputs.prepared import stacked
from headstart.tasks.classification import Classification
from headstart.workflow.zero_shot import names_of

WORDS = ("<pad>", "<end>", "a", "photo", "of", "red", "green", "blue", "square", "<start>")
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])
    made.save(str(folder / "tokenizer.json"))


def saved(folder, family):
    import transformers

    text = {**SMALL, "vocab_size": len(WORDS), "max_position_embeddings": 12, "pad_token_id": 0, "eos_token_id": 1}
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if family == "clip":
            config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
            model = transformers.CLIPModel(config)
        else:
            model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
    model = model.eval()
    model.save_pretrained(folder)
    tokenizer(folder)
    return model


@pytest.fixture(scope="module", params=["clip", "siglip"])
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return folder, saved(folder, request.param), request.param


def pooled(found):
    return found if isinstance(found, torch.Tensor) else found.pooler_output


def test_pictures_lie_where_transformers_puts_them(pair):
    folder, model, _ = pair
    backbone = catalogue.load(f"file:{folder}")
    image = Image.fromarray(stream(0).integers(0, 256, (32, 32, 3), np.uint8))
    batch = torch.from_numpy(normalise(prepare(image, backbone.spec)[None], backbone.spec))
    with torch.no_grad():
        ours, theirs = backbone(batch), pooled(model.get_image_features(pixel_values=batch))
    assert ours.shape == (1, backbone.card.feature_dim)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_texts_lie_where_transformers_puts_them_alone_and_in_a_batch(pair):
    folder, model, family = pair
    reader, temperature = text_tower(folder, "x")
    texts = ["a red square", "a photo of a blue square", "green"]
    prepared = [p.array for p in feed_for(reader).prepare(texts)]
    with torch.no_grad():
        ours = reader.from_batch()(torch.from_numpy(stacked(prepared))).numpy()
        for row, tokens in enumerate(prepared):
            ids = torch.from_numpy(tokens).long()[None]
            if family == "siglip":
                ids = torch.nn.functional.pad(ids, (0, 12 - ids.shape[1]), value=0)
            np.testing.assert_allclose(ours[row], pooled(model.get_text_features(input_ids=ids))[0], atol=1e-5)
    assert temperature == pytest.approx(1 / model.logit_scale.exp().item())


def test_zero_shot_is_the_softmax_that_the_model_itself_gives(pair, tmp_path):
    folder, model, family = pair
    paths = []
    for i, colour in enumerate([(250, 0, 0), (0, 250, 0), (0, 0, 250)]):
        paths.append(tmp_path / f"{i}.png")
        Image.new("RGB", (32, 32), colour).save(paths[-1])
    predictor = hs.zero_shot(["red", "green"], backbone=f"file:{folder}", cache=tmp_path / "cache")
    assert predictor.texts[0] == ("a photo of a red",)
    found = predictor.predict(paths).predictions
    reader, _ = text_tower(folder, "x")
    spec = predictor.backbone.spec
    batch = torch.from_numpy(normalise(np.stack([prepare(Image.open(p), spec) for p in paths]), spec))
    tokens = [p.array for p in feed_for(reader).prepare(["a photo of a red", "a photo of a green"])]
    ids = [torch.from_numpy(t).long() for t in tokens]
    length = 12 if family == "siglip" else len(ids[0])
    with torch.no_grad():
        stack = torch.stack([torch.nn.functional.pad(t, (0, length - len(t))) for t in ids])
        logits = model(input_ids=stack, pixel_values=batch).logits_per_image
    np.testing.assert_allclose(found.scores, logits.softmax(dim=1), atol=1e-2)  # the fastest runner may be bfloat16


def test_a_model_on_the_image_tower_is_learnt_saved_and_loaded(pair, tmp_path):
    folder, _, _ = pair
    rng = stream(1)
    for name, colour in (("red", 0), ("blue", 2)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 90, (32, 32, 3), np.uint8)
            pixels[..., colour] += 150
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    config = hs.FitConfig(backbone=f"file:{folder}", random_baseline="off", resamples=100)
    run = hs.fit(tmp_path / "data", out=tmp_path / "run", config=config, cache=tmp_path / "cache")
    assert "names+mean" in {t.name for t in run.heads.trials}
    assert run.evaluation.score.value > 0.9
    loaded = hs.load(tmp_path / "run")
    assert loaded.predict([tmp_path / "data" / "red" / "0.png"]).names == ["red"]


def test_a_folder_without_tokenizer_or_scale_reads_no_names(pair, tmp_path):
    import shutil

    folder, _, _ = pair
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"has no tokenizer.json"):
        text_tower(tmp_path / "m", "x")
    said = []
    network = catalogue.load(f"file:{tmp_path / 'm'}")
    names = names_of(Classification(("red", "blue")), network, cache=tmp_path / "c", observer=said.append)
    assert names is None
    assert "class names are not read" in said[0].text


def test_weights_of_another_size_are_refused(pair, tmp_path):
    import json
    import shutil

    folder, _, _ = pair
    shutil.copytree(folder, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["vision_config"]["intermediate_size"] = 64
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointMismatch, match=r"^CK11"):
        catalogue.load(f"file:{tmp_path / 'm'}")
