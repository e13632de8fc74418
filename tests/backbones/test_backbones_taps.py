import numpy as np
import pytest
import torch

from headstart.backbones.catalogue import catalogue
from headstart.backbones.taps import LAST, Tap, columns_of, tapped
from headstart.base.errors import DataError


@pytest.fixture(scope="module", params=["toy/conv", "toy/vit"])
def network(request):
    return catalogue.load(request.param)


def images(network, n=3):
    return torch.randn((n, 3, network.spec.size, network.spec.size), generator=torch.Generator().manual_seed(0))


def test_the_networks_own_features_are_one_of_the_taps(network):
    stage = network.stages[-2].name
    wide = tapped(network, [stage, LAST])
    x = images(network)
    with torch.inference_mode():
        both, plain = wide(x), network(x)
    columns = columns_of(wide)
    assert both.shape[1] == wide.card.feature_dim
    np.testing.assert_array_equal(both[:, columns[LAST]].numpy(), plain.numpy())
    assert set(columns) == {f"{stage}:avg", LAST}


def test_every_stage_can_be_tapped_and_equals_a_hook_by_hand(network):
    inner = [s for s in network.stages if s.name not in {"stem", "top"}]
    wide = tapped(network, [Tap(s.name, p) for s in inner for p in ("avg", "max")])
    x = images(network)
    heard = {}
    hooks = [
        network.network.get_submodule(s.prefixes[-1]).register_forward_hook(
            lambda m, a, o, name=s.name: heard.__setitem__(name, o.clone())  # what follows works in place
        )
        for s in inner
    ]
    with torch.inference_mode():
        network(x)
        for hook in hooks:
            hook.remove()
        got = wide(x)
    for name, columns in columns_of(wide).items():
        stage, pooling = name.split(":")
        output = heard[stage]
        axes = (2, 3) if output.dim() == 4 else (1,)
        expected = output.mean(dim=axes) if pooling == "avg" else output.amax(dim=axes)
        torch.testing.assert_close(got[:, columns], expected)


def test_taps_leave_no_hooks_and_do_not_change_the_network(network):
    before = network(images(network))
    wide = tapped(network, [network.stages[1].name])
    wide(images(network))
    assert not any(m._forward_hooks for m in network.network.modules())
    torch.testing.assert_close(network(images(network)), before)


def test_the_first_token_is_for_networks_that_have_one():
    vit = catalogue.load("toy/vit")
    stage = next(s.name for s in vit.stages if s.name not in {"stem", "top"})
    assert tapped(vit, [Tap(stage, "cls")]).card.feature_dim > 0
    conv = catalogue.load("toy/conv")
    stage = next(s.name for s in conv.stages if s.name not in {"stem", "top"})
    with pytest.raises(DataError, match="no first token"):
        tapped(conv, [f"{stage}:cls"])


@pytest.mark.parametrize(
    ("taps", "says"),
    [
        (["layer22"], r"no stage 'layer22'\. Did you mean 'layer2'"),
        (["layer1:average"], r"no pooling 'average'"),
        ([], "taps must be given"),
        (["layer1", "layer1"], "each once"),
    ],
)
def test_wrong_taps_are_named(taps, says):
    with pytest.raises(DataError, match=says):
        tapped(catalogue.load("toy/conv"), taps)


def test_a_tapped_network_is_not_saved_as_a_classifier(network):
    with pytest.raises(DataError, match="cannot be saved"):
        tapped(network, [LAST]).classifier_config(("a", "b"))
