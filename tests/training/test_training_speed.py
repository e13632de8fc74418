from tests.training.toys import WholeFeed, bits, cross_entropy, differing, labels, pictures, toy_model

from headstart.adapt.plan import HEAD, Phase, Plan
from headstart.training.engines.local import LocalEngine
from headstart.training.loop import LoopSettings
from headstart.training.speed import measure_step


def seconds_of(model, *stages, settings=LoopSettings(), steps=3):  # noqa: B008
    plan = Plan("mine", (Phase("p", 50, dict.fromkeys((*stages, HEAD), 0.1)),), batch_size=4)
    source = WholeFeed(model, pictures(), labels()).enter(plan.phases[0])
    return measure_step(
        model, plan, plan.phases[0], source, cross_entropy, engine=LocalEngine(), settings=settings, steps=steps
    )


def test_measuring_changes_no_bit():
    model = toy_model()
    model.backbone.network.conv1.requires_grad_(False)
    before, flags = bits(model), [p.requires_grad for p in model.parameters()]
    for settings in (LoopSettings(), LoopSettings("bf16", channels_last=True, micro_batch=2)):
        assert seconds_of(model, *model.stage_names, settings=settings) > 0
        assert not differing(before, bits(model))
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None and p.is_contiguous() for p in model.parameters())
    assert not any(m.training for m in model.modules())


def test_a_step_of_all_stages_takes_longer_than_one_of_the_head():
    model = toy_model()
    assert seconds_of(model, *model.stage_names, steps=10) > seconds_of(model, steps=10)
