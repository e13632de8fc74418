"""One of the processes of test_training_engines.py: trains as it is told, and writes down what it ended with."""

import hashlib
import json
import signal
import sys
from pathlib import Path

import torch
from tests.training.toys import WholeFeed, bits, differing, fit, labels, pictures, toy_model, validation_of
from torch.optim.optimizer import register_optimizer_step_pre_hook

from headstart.adapt.plan import HEAD, Optimizer, Phase, Plan
from headstart.base.errors import HeadstartError
from headstart.base.progress import Advanced
from headstart.training.checkpoint import Checkpoints, NoCheckpoints
from headstart.training.engines.local import LocalEngine
from headstart.training.engines.torchrun import TorchrunEngine


def plan_for(model, batch_size=5):
    """Head, then everything, then the head again: what learns grows and shrinks. 5 cannot be halved evenly."""
    everything = dict.fromkeys((*model.stage_names, HEAD), 1e-3)
    phases = (Phase("head", 3, {HEAD: 1e-2}), Phase("all", 4, everything), Phase("again", 3, {HEAD: 1e-2}))
    optimizer = Optimizer("sgd")  # Adam's first steps are signs, which rounding turns round
    return Plan("mine", phases, batch_size=batch_size, optimizer=optimizer, validations=5, ema=0.2)


def trained(name, engine, *, batch_size=5, tight=False, stop_after=None, checkpoints=None):
    model = toy_model(name, dropout=0)
    if tight and engine.rank == 1:  # the memory of one process is smaller
        model.backbone.network.register_forward_pre_hook(_no_more_than_two)
    feed = WholeFeed(model, pictures(), labels(), batch_size, rank=engine.rank, world=engine.world_size)
    at, gradients = {}, []

    def observer(event):
        if isinstance(event, Advanced):
            at[event.done] = bits(model)
            if event.done == stop_after and engine.rank == 1:  # the scheduler tells one process only
                signal.raise_signal(signal.SIGTERM)

    def watch(optimizer, *_):
        learning = [(n, p.grad) for n, p in model.named_parameters() if p.grad is not None]
        gradients.append([len(learning), digest({n: g.numpy().tobytes() for n, g in learning})])

    hook = register_optimizer_step_pre_hook(watch)
    validate = validation_of(model) if engine.rank == 0 else _never
    try:
        plan = plan_for(model, batch_size)
        keep = checkpoints or NoCheckpoints()
        history = fit(
            model, plan, feed=feed, engine=engine, observer=observer, validate=validate, checkpoints=keep
        ).history
    finally:
        hook.remove()
    return {
        "losses": [row.loss for row in history.steps],
        "scores": [row.score for row in history.validations],
        "micro_batch": history.micro_batch,
        "gradients": gradients,
        "weights": digest(bits(model)),
        "moved": [differing(at[a], at[b]) for a, b in ((1, 3), (3, 7), (7, 10))],
        "norm": float(sum(p.detach().double().square().sum() for p in model.parameters())),
    }


def digest(values):
    return hashlib.sha256(b"".join(k.encode() + v for k, v in sorted(values.items()))).hexdigest()


def _no_more_than_two(module, inputs):
    if len(inputs[0]) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory")


def _never():
    raise AssertionError("only rank 0 validates")


def stopped(engine, folder):
    """What a signal to one process does to both, and what resume makes of it."""
    checkpoints = Checkpoints(folder, run_id="test") if engine.rank == 0 else Reading(folder)
    try:
        trained("toy/vit", engine, stop_after=4, checkpoints=checkpoints)
    except HeadstartError as error:
        message = str(error)
    engine.total([0.0])
    return {"message": message, **trained_again(engine, folder)}


def trained_again(engine, folder):
    checkpoints = Checkpoints(folder, run_id="test") if engine.rank == 0 else Reading(folder)
    model = toy_model("toy/vit", dropout=0)
    feed = WholeFeed(model, pictures(), labels(), 5, rank=engine.rank, world=engine.world_size)
    validate = validation_of(model) if engine.rank == 0 else _never
    history = fit(model, plan_for(model), feed=feed, engine=engine, validate=validate, checkpoints=checkpoints).history
    return {"losses": [row.loss for row in history.steps], "weights": digest(bits(model))}


class Reading(NoCheckpoints):
    """What another process than rank 0 has of the checkpoints: it reads, and would be caught writing."""

    def __init__(self, folder):
        self.folder = folder

    def newest(self):
        return Checkpoints(self.folder, run_id="test").newest() if any(self.folder.glob("ckpt-*")) else None

    def commit(self, *_, **__):
        raise AssertionError("only rank 0 saves")


def main(out: Path) -> None:
    torch.set_num_threads(1)
    with TorchrunEngine() as engine:
        found = {
            "vit": trained("toy/vit", engine),
            "conv": trained("toy/conv", engine, batch_size=6),
            "tight": trained("toy/vit", engine, batch_size=8, tight=True),
            "stopped": stopped(engine, out / "checkpoints"),
        }
    (out / f"rank{engine.rank}.json").write_text(json.dumps(found))


def alone() -> dict:
    return {
        "vit": trained("toy/vit", LocalEngine()),
        "tight": trained("toy/vit", LocalEngine(), batch_size=8),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
