"""README.md of a model folder: what it is, how good, on what, under which licence, and how to open it anywhere.

Readable on its own and by the Hugging Face hub (YAML front matter with ``model-index``). Names from data are text here
and nothing else: quoted in the YAML, escaped in the Markdown. No path of the machine that made it is ever mentioned.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from headstart.backbones.card import BackboneCard
from headstart.base.errors import shown
from headstart.bundle import columns_card, mixed_card
from headstart.bundle.manifest import Manifest
from headstart.inputs.spec import AudioSpec, ImageSpec, MixedSpec, TextSpec, VectorSpec, modality_of
from headstart.records.estimate import Estimate
from headstart.records.evaluation import Evaluation

HOME = "https://github.com/headstart-learn/headstart"
TUNED = "fine-tuned by headstart"  # note of a BackboneRecord whose tensors are not those that were loaded
ONE_CHANNEL = "1 channel"  # note of one whose first layer was summed over colours
MOST_CLASSES = 100  # rows of the table; labels.json has them all

_MEANING = {
    "classification": "Softmax of the outputs gives calibrated probabilities, one per class; they sum to 1.",
    "multilabel": "Sigmoid of each output gives the calibrated probability of its label; 0.5 or more is a yes.",
    "regression": "The outputs are the predicted values themselves, in the units of the training targets.",
}
_TO_SCORES = {"classification": ".softmax(-1)", "multilabel": ".sigmoid()", "regression": ""}
_PIPELINE = {
    ("image", "classification"): "image-classification",
    ("image", "multilabel"): "image-classification",
    ("image", "regression"): "image-feature-extraction",
    ("text", "classification"): "text-classification",
    ("text", "multilabel"): "text-classification",
    ("text", "regression"): "feature-extraction",
    ("audio", "classification"): "audio-classification",
    ("audio", "multilabel"): "audio-classification",
    ("audio", "regression"): "feature-extraction",
    ("mixed", "classification"): "tabular-classification",
    ("mixed", "multilabel"): "tabular-classification",
    ("mixed", "regression"): "tabular-regression",
    ("vector", "classification"): "tabular-classification",
    ("vector", "multilabel"): "tabular-classification",
    ("vector", "regression"): "tabular-regression",
}


@dataclass(frozen=True)
class _Words:
    """How the card speaks of examples. example: what the model is called with, in Python."""

    model: str
    many: str
    example: str
    elsewhere: str
    other: str


_WORDS = {
    "image": _Words("An image model", "images", '"photo.jpg"', "another camera, place, season", "a picture of"),
    "text": _Words("A model for texts", "texts", '"Your text."', "another source, time, language", "a text about"),
    "audio": _Words("A model for sounds", "sounds", '"sound.wav"', "another microphone, speaker, room", "a sound of"),
    "mixed": _Words("A model for tables", "rows", '{"column": "…"}', "another source, time, place", "a row of"),
    "vector": _Words("A model for tables", "rows", '{"column": 1.0, …}', "another source, time, place", "a row of"),
}


def _words_of(manifest: Manifest) -> _Words:
    return _WORDS[modality_of(manifest.input)]


def _pipeline(manifest: Manifest) -> str:
    return _PIPELINE[modality_of(manifest.input), manifest.task.name]


def model_card(manifest: Manifest, card: BackboneCard, evaluation: Evaluation | None) -> str:
    """The whole README.md, deterministic for equal input."""
    sections = [
        _front_matter(manifest, evaluation),
        _what(manifest, card),
        _outputs(manifest),
        _score(evaluation),
        _training(manifest),
        _without_headstart(manifest),
        _with_headstart(manifest),
        _limits(manifest, evaluation),
        _licence(manifest),
    ]
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


# -- for machines ----------------------------------------------------------------------------------------------------


def _front_matter(manifest: Manifest, evaluation: Evaluation | None) -> str:
    licence = manifest.licence.strip().lower()
    is_pretrained = not isinstance(manifest.input, VectorSpec)
    plain = re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence) is not None
    lines = ["---", *([f"license: {licence if plain else 'other'}"] if is_pretrained else [])]
    if is_pretrained and not plain:
        lines.append(f"license_name: {_yaml(manifest.licence or 'unknown')}")
    lines.append(f"library_name: {manifest.opens_with}")
    lines.append(f"pipeline_tag: {_pipeline(manifest)}")
    if (
        is_pretrained and ":" not in manifest.backbone.name and not manifest.blocks
    ):  # a local file is no base model that anyone else could look up
        lines.append(f"base_model: {_yaml(manifest.backbone.name)}")
    lines += ["tags:", *(f"- {tag}" for tag in ("headstart", "transfer-learning", manifest.task.name))]
    if evaluation is not None:
        lines += _model_index(manifest, evaluation)
    return "\n".join([*lines, "---"])


def _model_index(manifest: Manifest, evaluation: Evaluation) -> list[str]:
    lines = [
        "model-index:",
        f"- name: {_yaml(_title(manifest))}",
        "  results:",
        f"  - task: {{type: {_pipeline(manifest)}}}",
        f'    dataset: {{name: "the user\'s own {_words_of(manifest).many}", type: private}}',
        "    metrics:",
    ]
    for name, estimate in evaluation.metrics.items():
        if estimate.value == estimate.value:
            lines += [
                f"    - type: {_yaml(name)}",
                f"      value: {estimate.value:.6g}",
                f"      name: {_yaml(_words(name, estimate))}",
            ]
    return lines


def _yaml(text: str) -> str:
    """A double-quoted YAML scalar; JSON strings in ASCII are that."""
    return json.dumps(str(text))


# -- for people ------------------------------------------------------------------------------------------------------


def _title(manifest: Manifest) -> str:
    return f"{_outputs_in_words(manifest)} on {manifest.backbone.name}"


def _outputs_in_words(manifest: Manifest) -> str:
    many = len(manifest.labels)
    return {
        "classification": f"{many} classes",
        "multilabel": f"{many} label{'s' * (many > 1)}, any number at a time",
        "regression": "one number" if many == 1 else f"{many} numbers",
    }[manifest.task.name]


def _is_tuned(manifest: Manifest) -> bool:
    return TUNED in manifest.backbone.notes


def _what(manifest: Manifest, card: BackboneCard) -> str:
    backbone = manifest.backbone
    if isinstance(manifest.input, VectorSpec):
        return f"# {_text(_title(manifest))}\n\n{columns_card.what(manifest, HOME)}"
    if isinstance(manifest.input, MixedSpec):
        return f"# {_text(_title(manifest))}\n\n{mixed_card.what(manifest, HOME)}"
    reference = f" ({_text(card.reference)})" if card.reference else ""
    return "\n".join(
        [
            f"# {_text(_title(manifest))}",
            "",
            f"{_words_of(manifest).model} made by transfer learning with [headstart]({HOME}) on "
            f"{_text(manifest.created[:10])}.",
            f"The network is `{_code(backbone.architecture)}`{reference} with {backbone.parameters / 1e6:.1f} million "
            f"parameters, pretrained on {_text(backbone.trained_on)} and "
            + ("then fine-tuned for this task." if _is_tuned(manifest) else "kept frozen."),
            _head(manifest),
            _sees(manifest),
        ]
    )


def _colours(manifest: Manifest) -> str:
    return "RGB images as grey pictures (their luminance)" if ONE_CHANNEL in manifest.backbone.notes else "RGB images"


def _sees(manifest: Manifest) -> str:
    spec = manifest.input
    if isinstance(spec, ImageSpec):
        return f"It sees {_colours(manifest)} of {spec.size} × {spec.size} pixels, {_fit_in_words(spec)}."
    if isinstance(spec, AudioSpec):
        form = "samples" if spec.form == "wave" else f"a {spec.form} spectrogram of {spec.mels} bands"
        return (
            f"It hears the first {spec.longest_s:g} seconds of a sound with one channel at {spec.sample_rate_hz:,} Hz "
            f"as {form}; the rest is cut off."
        )
    assert isinstance(spec, TextSpec), "what else is fed has no words yet"
    before = f", with `{_code(spec.prefix)}` put before each text" if spec.prefix else ""
    return f"It reads the first {spec.window} tokens of a text{before}; the rest is cut off."


def _head(manifest: Manifest) -> str:
    kind, width = f"{_text(manifest.head.family)}{_setting(manifest)}", manifest.backbone.feature_dim
    if _is_tuned(manifest):
        return (
            f"The linear layer on its {width} features was trained with it; before that, one of the kind {kind} was "
            "chosen on the features of the network as it was loaded."
        )
    return f"A linear layer ({kind}) was fitted on its {width} features."


def _setting(manifest: Manifest) -> str:
    setting = ", ".join(f"{_text(k)} {_number(v)}" for k, v in manifest.head.setting.items())
    return f", {setting}" if setting else ""


def _fit_in_words(spec: ImageSpec) -> str:
    return {
        "crop": "the short side resized and the centre cut out"
        if spec.crop == 1
        else f"the short side resized to {int(spec.size / spec.crop)} and the centre cut out",
        "squish": "both sides resized",
        "pad": "the long side resized and borders added",
    }[spec.fit]


def _outputs(manifest: Manifest) -> str:
    rows = []
    for i, label in enumerate(manifest.labels[:MOST_CLASSES]):
        count = manifest.counts.get(label)
        rows.append(f"| {i} | {_text(label)} | {'–' if count is None else count} |")
    more = len(manifest.labels) - MOST_CLASSES
    rest = f"\n\n… and {more} more: see `labels.json`." if more > 0 else ""
    table = "\n".join(["| output | name | training examples |", "|---|---|---|", *rows])
    return f"## Outputs\n\n{_MEANING[manifest.task.name]}\n\n{table}{rest}"


def _score(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "## How good\n\nNot evaluated."
    score = evaluation.score
    lines = [
        "## How good",
        "",
        f"**{_text(_words(evaluation.headline, score))}**, {_how_in_words(evaluation)}",
        "",
        "| | value | interval | n |",
        "|---|---|---|---|",
        *(_row(name, estimate) for name, estimate in evaluation.metrics.items() if estimate.value == estimate.value),
    ]
    if evaluation.baselines:
        lines += [
            "",
            f"Beside it, {_text(evaluation.headline)} of simpler things:",
            "",
            "| | value | interval | n |",
            "|---|---|---|---|",
        ]
        lines += [_row(b.what, b.score) for b in evaluation.baselines]
    if evaluation.verdict is not None:
        lines += ["", _text(evaluation.verdict.sentence)]
    return "\n".join(lines)


def _row(name: str, estimate: Estimate) -> str:
    interval = "–" if estimate.low != estimate.low else f"{estimate.low:.3f} to {estimate.high:.3f}"
    return f"| {_text(name)} | {estimate.value:.3f} | {interval} | {estimate.n} |"


def _words(name: str, estimate: Estimate) -> str:
    level = (
        ""
        if estimate.low != estimate.low
        else f", {estimate.level:.0%} interval {estimate.low:.3f} to {estimate.high:.3f}"
    )
    return f"{name} {estimate.value:.3f}{level}, n = {estimate.n}"


def _how_in_words(evaluation: Evaluation) -> str:
    if evaluation.how == "cross-validation":
        return "by cross-validation: every example judged by models that had not seen it."
    return "on examples that were set aside and used for nothing else."


def _training(manifest: Manifest) -> str:
    if not manifest.trained_on_n:
        return ""
    return (
        f"## Training data\n\n{manifest.trained_on_n:,} labelled {_words_of(manifest).many} of the person who made "
        "this model. They are not part of this folder."
    )


def _with_headstart(manifest: Manifest) -> str:
    name = "probabilities" if manifest.task.name != "regression" else "values"
    return f"""## Open it with headstart

```python
import headstart

model = headstart.load(".")  # checks the hash of every file first
print(model({_words_of(manifest).example}))  # {name} by name
```"""


def _limits(manifest: Manifest, evaluation: Evaluation | None) -> str:
    said = [
        f"It was judged on {_words_of(manifest).many} like those it was trained on. "
        f"On others ({_words_of(manifest).elsewhere}) it can be worse: evaluate it there before relying on it.",
    ]
    if manifest.task.name == "classification":
        said.append(f"It always names one of its classes, also for {_words_of(manifest).other} something else.")
    if evaluation is not None and evaluation.n < 200:
        said.append(f"It was judged on {evaluation.n} examples only; mind the interval.")
    if (manifest.rounded or manifest.runner != "torch-f32") and not manifest.blocks:
        how = f"`{_code(manifest.runner)}`" + (", features rounded to float16" if manifest.rounded else "")
        said.append(
            f"The evaluation ran the network by {how}; headstart does the same where it can. "
            "Other programs run it in float32, which changes scores slightly."
        )
    if isinstance(manifest.input, ImageSpec):
        if manifest.opens_with == "transformers" and manifest.input.fit == "pad":
            said.append("transformers has no word for padding to a square: it squeezes, so its scores differ.")
        said.append(
            "headstart applies the EXIF orientation, as the lines above do. It may decode large JPEGs at half their "
            "size."
        )
    return "## Limits\n\n" + "\n".join(f"- {sentence}" for sentence in said)


def _licence(manifest: Manifest) -> str:
    if isinstance(manifest.input, VectorSpec):
        return columns_card.origin()
    licence = _text(manifest.licence or "an unknown licence")
    origin, digest = _code(manifest.backbone.name), _code(manifest.backbone.weights_sha256[:16])
    came = (
        f"They came from `{origin}` and were changed by fine-tuning (sha256 of the result `{digest}…`)."
        if _is_tuned(manifest)
        else f"They came from `{origin}` (sha256 `{digest}…`)."
    )
    return "\n".join(
        [
            "## Licence and origin",
            "",
            f"The pretrained weights are under {licence}; who shares this model shares them too.",
            came,
            "`bundle.json` lists the SHA-256 of every file here; no file holds code or a pickle.",
        ]
    )


# -- the lines that open it ------------------------------------------------------------------------------------------


def _without_headstart(manifest: Manifest) -> str:
    code = {
        ("timm", "image"): _timm_lines,
        ("torchvision", "image"): _torchvision_lines,
        ("transformers", "image"): _transformers_lines,
        ("transformers", "text"): _text_lines,
        ("headstart", "text"): _words_lines,
        ("transformers", "audio"): _audio_lines,
    }.get((manifest.opens_with, modality_of(manifest.input)))
    if code is None:
        return _headstart_alone(manifest)
    lines = code(manifest).strip()
    return f"## Open it without headstart\n\nIn this folder (or write its path for `.`):\n\n```python\n{lines}\n```"


_LAYERS_ALONE = """## Why it does not open without headstart

The head learnt from a weighted sum of the network's layers, for which transformers has no word. `config.json` states
the weights, and under `inner` how transformers builds the encoder; there is no code in it."""

_VOICE_ALONE = """## Why it does not open without headstart

No library builds this network by name. It is three `torch.nn.LSTM` of width 256 on each other (`layers.0` to
`layers.2`), then `linear` on the last state, ReLU and length 1, on parts of 160 mel frames of 10 ms; the mean over a
sound's parts has length 1 again. `resemblyzer.VoiceEncoder` computes the same where these tensors take the places of
its own `lstm` and `linear`."""


def _headstart_alone(manifest: Manifest) -> str:
    """Why no other program opens the folder, and how one without headstart may still run the network."""
    spec = manifest.input
    if isinstance(spec, AudioSpec):
        return _VOICE_ALONE if spec.form == "mel" else _LAYERS_ALONE
    if not isinstance(spec, ImageSpec):
        return ""
    return f"""## Why it does not open without headstart

The network is `{_code(manifest.backbone.architecture)}`: its library has no word for that structure, so its own loader
cannot build it, and `model.safetensors` alone is not enough. `config.json` states what was changed, without code.
To run it where headstart is not installed, export it once where it is:

```python
import headstart
from headstart.bundle.export import export_pt2

export_pt2(headstart.load("."), "model.pt2")
```

and there, with torch alone, on RGB pictures of {spec.size} × {spec.size} pixels
({_fit_in_words(spec)}):

```python
import torch

network = torch.export.load("model.pt2").module()
pixels = torch.zeros(1, {spec.size}, {spec.size}, 3, dtype=torch.uint8)  # your pictures
print(network(pixels){_TO_SCORES[manifest.task.name]})
```"""


def _timm_lines(manifest: Manifest) -> str:
    return f"""
import timm
from PIL import Image, ImageOps

model = timm.create_model("local-dir:.", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
scores = model(transform(image)[None]){_TO_SCORES[manifest.task.name]}[0]
print(dict(zip(model.pretrained_cfg["label_names"], scores.tolist())))
"""


def _torchvision_lines(manifest: Manifest) -> str:
    assert isinstance(manifest.input, ImageSpec), "torchvision's networks here take pictures"
    return f"""
import json
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torchvision import models, transforms as t

config = json.load(open("./config.json", encoding="utf-8"))
model = models.get_model(config["architecture"], num_classes=config["num_classes"], **config["model_args"]).eval()
model.load_state_dict(load_file("./model.safetensors"))
{_torchvision_transform(manifest.input)}
image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
scores = model(transform(image)[None]){_TO_SCORES[manifest.task.name]}[0]
print(dict(zip(config["label_names"], scores.tolist())))
"""


def _torchvision_transform(spec: ImageSpec) -> str:
    side, mode = spec.size, spec.interpolation.upper()
    fill = tuple(round(255 * m) for m in spec.mean)
    steps = {
        "crop": f"t.Resize({int(side / spec.crop)}, t.InterpolationMode.{mode}), t.CenterCrop({side})",
        "squish": f"t.Resize(({side}, {side}), t.InterpolationMode.{mode})",
        "pad": f"lambda i: ImageOps.pad(i, ({side}, {side}), Image.Resampling.{mode}, color={fill})",
    }[spec.fit]
    return f"transform = t.Compose([{steps}, t.ToTensor(), t.Normalize({list(spec.mean)}, {list(spec.std)})])"


def _transformers_lines(manifest: Manifest) -> str:
    return f"""
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("./").eval()
processor = AutoImageProcessor.from_pretrained("./", backend="pil")
image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
scores = model(**processor(image, return_tensors="pt")).logits{_TO_SCORES[manifest.task.name]}[0]
print({{model.config.id2label[i]: score for i, score in enumerate(scores.tolist())}})
"""


def _text_lines(manifest: Manifest) -> str:
    assert isinstance(manifest.input, TextSpec), "an encoder of texts"
    prefix = f"{json.dumps(manifest.input.prefix)} + " if manifest.input.prefix else ""
    return f"""
import json
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("./"), AutoModel.from_pretrained("./").eval()
head = load_file("./model.safetensors")
inputs = tokenizer([{prefix}"Your text."], return_tensors="pt", truncation=True, max_length={manifest.input.window})
states = model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).last_hidden_state
there = inputs.attention_mask.unsqueeze(-1)
features = (states * there).sum(1) / there.sum(1)
if model.config.headstart_pooling == "cls":
    features = states[:, 0]
outputs = features @ head["{manifest.head.weight}"].T + head["{manifest.head.bias}"]
names = json.load(open("./labels.json", encoding="utf-8"))
print(dict(zip(names, outputs{_TO_SCORES[manifest.task.name]}[0].tolist())))
"""


def _audio_lines(manifest: Manifest) -> str:
    assert isinstance(manifest.input, AudioSpec), "an encoder of sounds"
    return f"""
import json
import soundfile
from safetensors.torch import load_file
{_WHISPER_LINES if manifest.input.form == "log-mel" else _SAMPLES_LINES}
head = load_file("./model.safetensors")
outputs = states.mean(1) @ head["{manifest.head.weight}"].T + head["{manifest.head.bias}"]
names = json.load(open("./labels.json", encoding="utf-8"))
print(dict(zip(names, outputs{_TO_SCORES[manifest.task.name]}[0].tolist())))
"""


_WHISPER_LINES = """import numpy
import torch
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

wave, rate = soundfile.read("sound.wav")  # one channel at 16,000 Hz; resample others
model, extractor = WhisperEncoder.from_pretrained("./").eval(), WhisperFeatureExtractor.from_pretrained("./")
wave = numpy.pad(wave, (0, 16000))  # a second of silence, which is heard and not averaged
frames = extractor(wave, sampling_rate=rate, padding="longest", pad_to_multiple_of=320, return_tensors="pt")
frames = frames.input_features
model.config.max_source_positions = frames.shape[-1] // 2  # as many positions as the sound is long, not 30 seconds
model.embed_positions = torch.nn.Embedding.from_pretrained(model.embed_positions.weight[: frames.shape[-1] // 2])
states = model(frames).last_hidden_state[:, :-50]"""

_SAMPLES_LINES = """from transformers import AutoFeatureExtractor, AutoModel

wave, rate = soundfile.read("sound.wav")  # one channel at 16,000 Hz; resample others
model, extractor = AutoModel.from_pretrained("./").eval(), AutoFeatureExtractor.from_pretrained("./")
states = model(extractor(wave, sampling_rate=rate, return_tensors="pt").input_values.float()).last_hidden_state"""


def _words_lines(manifest: Manifest) -> str:
    return f"""
import json
from safetensors.torch import load_file
from tokenizers import Tokenizer
import torch

tensors, config = load_file("./model.safetensors"), json.load(open("./config.json", encoding="utf-8"))
words = torch.tensor(Tokenizer.from_file("./tokenizer.json").encode("Your text.").ids)
words = words[words < config["count"]]  # the last number is that of unknown words
rank = torch.arange(1, config["count"] + 1, dtype=torch.float64)
share = 1 / (rank * (1 / rank).sum())
weights = (1e-3 / (1e-3 + share) if config["pooling"] == "sif" else torch.ones_like(share)).float()[words, None]
features = (tensors["words.weight"][words] * weights).sum(0) / weights.sum(0).clamp(min=1e-6)
outputs = features @ tensors["{manifest.head.weight}"].T + tensors["{manifest.head.bias}"]
print(dict(zip(config["label_names"], outputs{_TO_SCORES[manifest.task.name]}.tolist())))
"""


# -- text ------------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    """Any text as plain Markdown text: no markup, no HTML, no line break."""
    escaped = shown(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~])", r"\\\1", escaped)


def _code(value: object) -> str:
    """Any text inside backticks."""
    return shown(value).replace("`", "'")


def _number(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _text(value)
