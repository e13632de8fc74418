"""Which runner is fastest here, and is it right? Told by a short timing, not by belief.

A runner is accepted only when its features agree with torch float32 on real examples: cosine of every one >= 0.999,
and >= 0.99 after their common mean is taken out (a large mean made a bfloat16 network pass whose class scores
were off by 0.12).
The choice is remembered per network, machine and library versions, so that later runs neither time again nor change
to another precision (which would be another cache key).
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headstart.base.config import from_dict, to_dict
from headstart.base.errors import DataError, EnvironmentFault, TrainingFault
from headstart.base.files import key_of, make_folder, read_json, write_json
from headstart.base.optional import is_installed
from headstart.features.runners.runner import Runner, run_all
from headstart.records.run import RunnerTrial

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone
    from headstart.features.runners.openvino import Converted

Examples = np.ndarray | Sequence[np.ndarray]  # prepared, as one array or as a list of any lengths
SAME = 0.999  # lowest cosine to float32 features
SAME_CENTRED = 0.99  # the same without the images' common mean
COMPARED = 16  # images that are run in float32 for the comparison
CHECKED = 8  # the same for a runner that was chosen before
SLOWER = 0.6  # a candidate whose first batch runs below this share of the best speed is not timed further
PLAIN = "torch-f32"  # the reference
GLANCE = 4  # examples after which plain torch on a CPU is given up, where that is below half of the best speed


class Disagreement(EnvironmentFault):
    """A runner whose features are not those of float32. of: in a clause."""

    def __init__(self, of: str) -> None:
        super().__init__(f"EN72 {of}. Use --runner torch-f32.")
        self.of = of


@dataclass(frozen=True)
class RunnerChoice:
    """The name of the runner to use, what was tried for it, and a way to have it.

    ``make`` converts or copies the network; it is not called when every feature is in the cache already.
    """

    name: str
    trials: tuple[RunnerTrial, ...]
    make: Callable[[], Runner]

    @classmethod
    def of(cls, runner: Runner) -> RunnerChoice:
        """Of one that is there and was compared already."""
        return cls(runner.name, (), lambda: runner)


def choose_runner(
    backbone: Backbone,
    sample: Callable[[int | None], Examples],
    *,
    device: str = "auto",
    memory: Path | None = None,
    only: str | RunnerChoice | None = None,
    anew: bool = False,
) -> RunnerChoice:
    """The fastest runner whose features agree with float32.

    sample: gives up to so many real examples, prepared, or enough to time runners by (None); called only when something
    must be timed or compared.
    memory: folder where choices are kept.
    only: the one runner to use, by its name (from an earlier record), or as it was chosen before.
    anew: what is remembered was chosen for other weights, and does not agree with these; they get a note of their own.
    """
    device = best_device() if device == "auto" else device
    facts = circumstances(backbone, device)
    place = memory / f"{key_of(facts)}.json" if memory else None
    own = memory / f"{key_of([*facts, backbone.record.weights_sha256])}.json" if memory else None
    if own is not None and (anew or own.exists()):
        place = own
    if isinstance(only, RunnerChoice):
        return only
    if only is not None:
        return named(backbone, only, device, lambda: sample(CHECKED))
    known = _remembered(place) if place is not None and place.exists() and not anew else ()
    if known:
        return replace(named(backbone, known[0].name, device, lambda: sample(CHECKED)), trials=known)
    trials, best = _race(backbone, sample(None), device)
    if place is not None:
        make_folder(place.parent)
        write_json(place, [to_dict(t) for t in trials])
    return RunnerChoice(trials[0].name, trials, lambda: best)


def named(backbone: Backbone, name: str, device: str, examples: Callable[[], Examples]) -> RunnerChoice:
    """The runner of that name; made, and compared on ``examples``, when it is first needed, and once."""
    return RunnerChoice(name, (), cache(lambda: agreeing(backbone, name, device, examples())))


def agreeing(backbone: Backbone, name: str, device: str, examples: Examples) -> Runner:
    """The runner of that name, after it has agreed with float32 on ``examples``.

    EnvironmentFault EN72 where this machine has no such runner, Disagreement where it says something else.
    """
    runner = make_runner(backbone, name, device)
    if runner is None:
        names = ", ".join(offered(device, backbone.card.modality))
        raise EnvironmentFault(
            f"EN72 this machine has no runner '{name}'. It offers: {names}. Choose one with --runner."
        )
    agreement = _agreement(backbone, runner, examples)
    if not agreement.holds and name != plainest(backbone, device):
        raise Disagreement(
            f"the runner '{name}' disagrees with float32 on {backbone.card.name} "
            f"(cosine {agreement.cosine:.5f}, needed {SAME}; centred {agreement.centred:.4f}, needed {SAME_CENTRED})"
        )
    return runner


def exact_runner(backbone: Backbone, name: str, examples: Examples, *, device: str = "auto") -> Runner:
    """The runner of that name, or plain torch in float32 where it does not agree with that on ``examples``.

    For networks that were trained here: what was exact for the loaded weights need not be for the new ones.
    """
    device = best_device() if device == "auto" else device
    plain = plainest(backbone, device)
    runner = make_runner(backbone, name, device)
    if runner is not None and (name == plain or _agreement(backbone, runner, examples).holds):
        return runner
    runner = make_runner(backbone, plain, device)
    assert runner is not None, "float32 is offered everywhere"
    return runner


def plainest(backbone: Backbone, device: str = "auto") -> str:
    """The runner that is exact everywhere: torch in float32."""
    return offered(best_device() if device == "auto" else device, backbone.card.modality)[-1]


def _agreement(backbone: Backbone, runner: Runner, examples: Examples) -> Agreement:
    few = examples[:COMPARED]
    return agreement_of(run_all(runner, few), float32_features(backbone, few))


def float32_features(backbone: Backbone, examples: Examples) -> np.ndarray:
    """The reference: plain torch on the CPU in float32."""
    from headstart.features.runners.torch import TorchRunner

    reference = run_all(TorchRunner(backbone, batch=len(examples)), examples)
    if not np.isfinite(reference).all():
        raise TrainingFault(
            f"CK10 {backbone.card.name} gives NaN or infinite features in float32. Its weights are damaged."
        )
    return reference


def _race(backbone: Backbone, examples: Examples, device: str) -> tuple[tuple[RunnerTrial, ...], Runner]:
    start = time.perf_counter()
    reference = float32_features(backbone, examples[:COMPARED])
    in_float32 = len(reference) / (time.perf_counter() - start)
    trials: list[RunnerTrial] = []
    runners: dict[str, Runner] = {}
    converted = None
    for name in offered(device, backbone.card.modality):
        if name.startswith("openvino") and converted is None:
            from headstart.features.runners.openvino import convert

            converted = convert(backbone)
        fastest = max((t.images_per_s for t in trials if t.accepted), default=0.0)
        if name == PLAIN and in_float32 < SLOWER * fastest * 0.8:  # that is what gave the reference
            trials.append(RunnerTrial(name, round(in_float32, 1), 1.0, True, 1.0))
            continue
        runner = make_runner(backbone, name, device, converted=converted)
        assert runner is not None, "an offered runner can be made"
        trial = None if device != "cpu" else _glance(runner, examples, reference, fastest)
        trial = trial or _time(runner, examples, reference, fastest)
        trials.append(trial)
        if trial.accepted:
            runners[name] = runner
    if not runners:
        raise TrainingFault("no runner agrees with float32 features")  # torch-f32 always does
    trials.sort(key=lambda t: (not t.accepted, -t.images_per_s))
    return tuple(trials), runners[trials[0].name]


def _glance(runner: Runner, examples: Examples, reference: np.ndarray, fastest: float) -> RunnerTrial | None:
    """The trial of a runner that a few examples show to be far too slow; None where it deserves a whole batch.

    Only of runners that take few as they are: others would pad them to a batch.
    """
    from headstart.features.runners.torch import TorchRunner

    if not isinstance(runner, TorchRunner) or not fastest:
        return None
    few = examples[:GLANCE]
    speed = 0.0
    for _ in range(2):  # the first call prepares for the shape, which does not make it ten times slower
        start = time.perf_counter()
        features = runner.run(few)
        speed = len(few) / (time.perf_counter() - start)
        if speed < fastest / 10:
            break
    if speed > SLOWER * fastest * 0.8:  # small batches are somewhat slower for each example
        return None
    return _trial(runner, speed, agreement_of(features, reference[: len(few)]))


def _time(runner: Runner, examples: Examples, reference: np.ndarray, fastest: float) -> RunnerTrial:
    tile = _repeated(examples, 2 * runner.batch)
    start = time.perf_counter()
    features = run_all(runner, tile[: max(runner.batch, len(reference))])
    speed = runner.batch / (time.perf_counter() - start)
    agreement = agreement_of(features[: len(reference)], reference)
    if agreement.holds and speed > SLOWER * fastest:
        start = time.perf_counter()
        run_all(runner, tile)
        speed = max(speed, len(tile) / (time.perf_counter() - start))
    return _trial(runner, speed, agreement)


def _trial(runner: Runner, speed: float, agreement: Agreement) -> RunnerTrial:
    return RunnerTrial(
        runner.name, round(speed, 1), round(agreement.cosine, 6), agreement.holds, round(agreement.centred, 6)
    )


def _repeated(examples: Examples, n: int) -> Examples:
    """The examples again and again, n in all."""
    times = -(-n // len(examples))
    if isinstance(examples, np.ndarray):
        return np.concatenate([examples] * times)[:n]
    return [*examples, *(a for _ in range(times - 1) for a in examples)][:n]


@dataclass(frozen=True)
class Agreement:
    """How near some features are to float32 ones; see RunnerTrial."""

    cosine: float
    centred: float

    @property
    def holds(self) -> bool:
        return self.cosine >= SAME and self.centred >= SAME_CENTRED


def agreement_of(features: np.ndarray, reference: np.ndarray) -> Agreement:
    """features, reference: (n, D) of the same images."""
    common = reference.mean(axis=0, dtype=np.float64)
    alike = len(reference) < 2 or bool(np.allclose(reference, common, rtol=1e-5, atol=1e-8))
    centred = 1.0 if alike else lowest_cosine(features - common, reference - common)
    return Agreement(lowest_cosine(features, reference), centred)


def lowest_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Smallest cosine between matching rows; -1 if any number is not finite."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return -1.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.maximum(norms, 1e-30)).min()) if len(a) else 1.0


def offered(device: str, modality: str = "image") -> tuple[str, ...]:
    """Names of the runners this machine offers, likely fastest first; nothing is built for it.

    Only pictures have channels that could come last.
    """
    if modality == "vector":  # a few small products in float64: nothing is gained by another library or device
        return (PLAIN,)
    names = _offered_for_pictures(device)
    if modality == "audio":  # whisper-base in bfloat16 agreed on one set of sounds and not on another (cosine 0.998)
        names = tuple(name for name in names if "bf16" not in name and "autocast" not in name)
    return names if modality == "image" else tuple(dict.fromkeys(name.replace("-nhwc", "") for name in names))


def _offered_for_pictures(device: str) -> tuple[str, ...]:
    if device != "cpu":
        kind = device.partition(":")[0]
        return (f"torch-bf16-nhwc-{kind}", f"torch-autocast-{kind}", f"torch-f32-{kind}")
    names = []
    if is_installed("openvino"):
        from headstart.features.runners.openvino import has_bf16

        names += [*(["openvino-bf16"] if has_bf16() else []), "openvino-f32"]
    if cpu_has_bf16():
        names += ["torch-bf16-nhwc", "torch-autocast-nhwc"]
    return (*names, "torch-f32-nhwc", PLAIN)


def make_runner(
    backbone: Backbone, name: str, device: str = "auto", *, converted: Converted | None = None
) -> Runner | None:
    """The runner of that name, unchecked, or None where this machine does not offer it.

    converted: what runners.openvino.convert gave for this backbone, where it is at hand.
    """
    device = best_device() if device == "auto" else device
    if name not in offered(device, backbone.card.modality):
        return None
    if name.startswith("openvino"):
        from headstart.features.runners.openvino import OpenVinoRunner, convert

        return OpenVinoRunner(converted or convert(backbone), precision="bf16" if name.endswith("bf16") else "f32")
    from headstart.features.runners.torch import Precision, TorchRunner

    precision: Precision = "bf16" if "bf16" in name else "autocast" if "autocast" in name else "f32"
    batch = 32 if device == "cpu" else 128
    return TorchRunner(backbone, precision=precision, nhwc="nhwc" in name, device=device, batch=batch)


def _remembered(place: Path) -> tuple[RunnerTrial, ...]:
    try:
        return tuple(from_dict(RunnerTrial, t, where=place.name) for t in read_json(place))
    except (DataError, TypeError):
        return ()  # a damaged note costs one more timing


def best_device() -> str:
    """'cuda', 'mps' or 'cpu'."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def cpu_has_bf16() -> bool:
    """Whether torch multiplies bfloat16 natively on this CPU."""
    import torch

    capability = getattr(torch.backends.cpu, "get_cpu_capability", str)()
    if not capability.startswith("AVX512"):
        return False
    flags = Path("/proc/cpuinfo")
    return not flags.exists() or "avx512_bf16" in flags.read_text() or "amx_bf16" in flags.read_text()


def circumstances(backbone: Backbone, device: str) -> list[str]:
    """What the fastest way to run a network depends on."""
    from importlib.metadata import version

    import torch

    libraries = [f"{n} {version(n)}" for n in ("torch", "openvino") if is_installed(n)]
    processor = platform.processor()
    with_model = Path("/proc/cpuinfo")
    if with_model.exists():
        lines = with_model.read_text().splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else ""
    threads = f"{torch.get_num_threads()} of {os.cpu_count()}"
    network = [backbone.card.architecture, str(backbone.card.parameters), str(backbone.card.input)]
    return [*network, device, gpu, processor, threads, *libraries]
