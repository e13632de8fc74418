"""Models of another structure: saved, loaded back and exported, they say what they said."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from bundle_cases import FACTS, TASKS, noise, random_head

from headstart.adapt.model import assemble, finished
from headstart.adapt.plan import HEAD, Head, Phase, Plan, Surgery
from headstart.backbones.catalogue import catalogue
from headstart.backbones.restructure import structured
from headstart.backbones.structure import Structure
from headstart.base.errors import BundleError, DataError
from headstart.bundle.export import export_pt2, network_of
from headstart.bundle.load import load
from headstart.bundle.manifest import CONFIG
from headstart.bundle.save import save, verify_opens_alike
from headstart.inputs.spec import ImageSpec

LITE0 = "package/efficientnet-lite0"
TASK = TASKS["classification"]
CASES = {
    "cut": (Structure("-2"), (), ()),
    "pooled": (Structure(pooling="max"), (), ()),
    "grey": (Structure(channels=1), (), ()),
    "adapter": (Structure(), (Surgery("adapter", rank=4),), ()),
    "hidden": (Structure(), (), (16, 8)),
    "all": (Structure("-2", "avgmax", 1), (Surgery("lora"), Surgery("adapter")), (16,)),
}
NETWORKS = ["toy/conv", "toy/vit", LITE0]


def trained(name, structure, surgery, hidden):
    """(backbone, head) with nothing at its start value, so that a forgotten tensor would show."""
    if name == LITE0 and not catalogue.card(LITE0).weights.here:
        pytest.skip("its weights are not installed")
    loaded = catalogue.load(name)
    if structure.cut_at is not None:
        stage = loaded.stages[int(structure.cut_at)].name
        structure = Structure(stage, structure.pooling, structure.channels)
    backbone = structured(loaded, structure)
    if not (surgery or hidden):
        return backbone, random_head(3, backbone.card.feature_dim)
    rates = dict.fromkeys([*(s.name for s in backbone.stages), HEAD], 1e-3)
    plan = Plan("x", (Phase("all", 1, rates),), head=Head("random", hidden), surgery=surgery)
    model = assemble(backbone, TASK, plan, probe=None, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    return finished(model, backbone)


def expected_of(backbone, head, pixels):
    with torch.no_grad():
        X = backbone.from_pixels()(torch.from_numpy(pixels)).numpy()
    return TASK.decode(head.logits(X) / 1.7)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NETWORKS)
def test_loaded_back_it_says_what_it_said(name, case, tmp_path):
    backbone, head = trained(name, *CASES[case])
    save(tmp_path / "m", backbone=backbone, head=head, task=TASK, temperature=1.7, facts=FACTS)
    pixels = noise(3, backbone.spec.size)
    expected = expected_of(backbone, head, pixels)
    assert np.ptp(expected, axis=0).max() > 1e-4, "or everything would agree with everything"
    agreement = verify_opens_alike(tmp_path / "m", pixels, expected, tolerance=1e-5, precision="float32")
    assert agreement.same_top1
    again = load(tmp_path / "m")
    assert again.manifest.opens_with == again.backbone.opens_with == ("timm" if case == "pooled" else "headstart")
    assert again.backbone.architecture == backbone.architecture
    assert again.manifest.input == backbone.spec and isinstance(again.manifest.input, ImageSpec)
    saved, loaded = backbone.network.state_dict(), again.backbone.network.state_dict()
    assert saved.keys() == loaded.keys() and all(torch.equal(saved[n], loaded[n]) for n in saved)


@pytest.mark.parametrize("case", CASES)
def test_the_card_says_who_opens_it(case, tmp_path):
    backbone, head = trained("toy/vit", *CASES[case])
    save(tmp_path / "m", backbone=backbone, head=head, task=TASK, facts=FACTS)
    card = (tmp_path / "m" / "README.md").read_text()
    assert ("## Open it without headstart" in card) == (case == "pooled")
    assert ("## Why it does not open without headstart" in card) == (case != "pooled")
    assert f"library_name: {'timm' if case == 'pooled' else 'headstart'}\n" in card
    assert ("as grey pictures" in card) == (CASES[case][0].channels == 1)
    assert backbone.card.architecture in card


def test_what_plain_timm_pools_by_itself_it_opens(tmp_path):
    import timm

    backbone, head = trained("toy/vit", *CASES["pooled"])
    save(tmp_path / "m", backbone=backbone, head=head, task=TASK, temperature=1.7, facts=FACTS)
    model = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True).eval()
    pixels = noise(2)
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        scores = model(images).softmax(-1).numpy()
    np.testing.assert_allclose(scores, expected_of(backbone, head, pixels), atol=1e-5)


def test_an_exported_network_runs_where_headstart_is_not(tmp_path):
    backbone, head = trained("toy/vit", *CASES["all"])
    save(tmp_path / "m", backbone=backbone, head=head, task=TASK, temperature=1.7, facts=FACTS)
    model = load(tmp_path / "m")
    export_pt2(model, tmp_path / "model.pt2")
    pixels = noise(5)
    np.save(tmp_path / "pixels.npy", pixels)
    code = (
        "import sys, numpy as np, torch\n"
        "network = torch.export.load('model.pt2').module()\n"
        "scores = network(torch.from_numpy(np.load('pixels.npy'))).softmax(-1)\n"
        "assert not any(name.split('.')[0] == 'headstart' for name in sys.modules)\n"
        "np.save('scores.npy', scores.detach().numpy())"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), expected_of(backbone, head, pixels), atol=1e-5)
    with torch.no_grad():
        logits = network_of(model)(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(TASK.decode(logits), expected_of(backbone, head, pixels), atol=1e-5)
    with pytest.raises(DataError, match=r"\.pt2"):
        export_pt2(model, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("case", "change", "words"),
    [
        ("adapter", lambda c: c["changes"]["branches"][0].update(block="blocks.99"), "CK25 .*blocks.99"),
        ("adapter", lambda c: c["changes"]["branches"][0].update(rank=10**7), "CK25 .*not ones that headstart makes"),
        ("adapter", lambda c: c["changes"]["branches"][0].update(rank=3), "CK11"),
        ("hidden", lambda c: c["changes"].update(hidden=[10**7]), "CK25 .*not ones that headstart makes"),
        ("hidden", lambda c: c["changes"].update(hidden=[16, 9]), "CK11"),
        ("hidden", lambda c: c.update(kind="evil.Module"), "CK25 .*'headstart, evil.Module' cannot be built"),
        ("hidden", lambda c: c.update(inner_library="headstart"), "CK25"),
        ("hidden", lambda c: c.update(inner=["timm"]), "CK25 .*expected a table"),
        ("hidden", lambda c: c["inner"].update(model_args={"pretrained": True}), "CF20"),
        ("cut", lambda c: c["changes"].update(removed=["nothing.here"]), "CK25"),
        ("cut", lambda c: c["changes"].update(removed=[]), "CK11"),
    ],
)
def test_a_changed_config_is_refused_even_without_verification(case, change, words, tmp_path):
    backbone, head = trained("toy/vit", *CASES[case])
    save(tmp_path / "m", backbone=backbone, head=head, task=TASK, facts=FACTS)
    config = json.loads((tmp_path / "m" / CONFIG).read_text())
    change(config)
    (tmp_path / "m" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(BundleError, match="CK0"):
        load(tmp_path / "m")
    with pytest.raises(BundleError, match=words):
        load(tmp_path / "m", verify=False)
