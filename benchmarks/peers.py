"""What a user would run instead, on the same rows, weights and cores: fastai, and a plain PyTorch loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figure import REPOSITORY, Bench, Outcome, Row
from benchmarks.material import LITE0, ordinary_data, ordinary_run, record, step_seconds

TITLE = "side by side: `headstart fit`, fastai's `fine_tune(1)`, ten epochs of a plain frozen-backbone loop"
PREDICTED = (
    "I predicted that fastai needs 3 times and the loop 8 times as long as `headstart fit` to their best accuracy; "
    "that fastai ends within 0.05 of headstart's accuracy, either way (one epoch of fine-tuning on 1,600 pictures), "
    "and the loop 0.03 below it."
)
EXCLUDED = (
    "One run of each: minutes, not medians. Wall time from the start of the process, imports and loading included. The "
    "peers see the training rows of our split.json and are judged on its test rows after each epoch; their time is "
    "that at which their best epoch had been judged, so they choose on the rows they report, which headstart does not. "
    "headstart's time is that of the whole command: heads, intervals, baselines, model folder and report. Peers: "
    "tf_efficientnet_lite0 with the same parameters, mean and std 0.5, batch 32, a DataLoader with one worker for each "
    "core, no augmentation; fastai with item_tfms=Resize(224) and its own head and rates; the loop with Resize(256), "
    "CenterCrop(224), the backbone in eval mode without gradients, and Adam (1e-3) on a linear layer."
)

PATIENCE_S = 900  # a peer that takes longer is stopped; the epochs it has finished count, and the notes say so
_FASTAI = ("fastcore", "fastprogress", "fasttransform", "plum-dispatch<2.10", "requests", "matplotlib", "pandas")
_SETFIT = (
    *("setfit", "sentence-transformers", "datasets", "evaluate", "accelerate", "multiprocess", "dill", "xxhash"),
    *("requests", "urllib3", "charset-normalizer", "idna", "certifi", "psutil", "fsspec", "pandas", "pyarrow"),
)


def measure(bench: Bench) -> Outcome:
    run, ours = ordinary_run(bench)
    job = _job(bench, run)
    accuracy = record(run, "evaluation.json")["metrics"]["accuracy"]
    rows = [
        Row("headstart: whole command", (ours,), "s"),
        Row("headstart: until the head was chosen", (_until_head(run, ours),), "s"),
        Row(f"headstart: accuracy [{accuracy['low']:.3f}, {accuracy['high']:.3f}]", (accuracy["value"],), ""),
    ]
    notes, details = [], {}
    for name, python, module, expected in (
        ("fastai fine_tune(1)", fastai_python, "benchmarks.peers_fastai", 2),
        ("plain loop, ten epochs", lambda _: sys.executable, "benchmarks.peers_loop", bench.pick(10, 2)),
    ):
        try:
            epochs = _epochs(python(bench), module, job)
        except (RuntimeError, subprocess.CalledProcessError, OSError) as problem:
            notes.append(f"{name} could not run: {str(problem)[-600:]}")
            continue
        details[name] = epochs
        if len(epochs) < expected:
            notes.append(
                f"{name} was stopped after {PATIENCE_S} s; {len(epochs)} of {expected} epochs had been judged."
            )
        best = max(epochs, key=lambda e: (e["accuracy"], -e["seconds"]))
        rows += [
            Row(f"{name}: time to its best accuracy ÷ headstart's whole command", (best["seconds"] / ours,)),
            Row(f"{name}: time to its best accuracy", (best["seconds"],), "s"),
            Row(f"{name}: best accuracy{_wilson(best['accuracy'], accuracy['n'])}", (best["accuracy"],), ""),
        ]
    return Outcome(tuple(rows), tuple(notes), details)


def _until_head(run: Path, whole: float) -> float:
    """Process start until the kept head was there: everything but the later steps of the story."""
    later = ("judging", "baselines", "evaluation", "saving the model", "report")
    return whole - sum(s for name, s in step_seconds(run).items() if name in later)


def _job(bench: Bench, run: Path) -> Path:
    """A JSON file that tells a peer everything: rows, labels, weights."""
    split, data = record(run, "split.json"), ordinary_data(bench)
    rows = [[str(data / i), Path(i).parent.name, i in set(split["test"])] for i in (*split["train"], *split["test"])]
    weights = bench.session / "lite0.safetensors"
    _save_weights(weights)
    job = bench.session / "job.json"
    facts = {"rows": rows, "weights": str(weights), "epochs": bench.pick(10, 2), "workers": os.cpu_count() or 1}
    job.write_text(json.dumps(facts | {"architecture": "tf_efficientnet_lite0"}))
    return job


def _save_weights(place: Path) -> None:
    from safetensors.torch import save_file

    from headstart.backbones.catalogue import catalogue

    state = catalogue.load(LITE0).network.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, place)


def _epochs(python: str, module: str, job: Path) -> list[dict[str, Any]]:
    """[{'seconds', 'accuracy', 'epoch'}, …] as the peer says them, a line of JSON for each, until PATIENCE_S."""
    said, complained = job.with_name(f"{module}.out"), job.with_name(f"{module}.err")
    with said.open("w") as out, complained.open("w") as err:
        command = [python, "-m", module, str(job), repr(time.time())]
        try:
            code = subprocess.run(command, cwd=REPOSITORY, stdout=out, stderr=err, check=False, timeout=PATIENCE_S)
            failed = code.returncode != 0
        except subprocess.TimeoutExpired:
            failed = False
    lines = [json.loads(line) for line in said.read_text().splitlines() if line.startswith("{")]
    if failed or not lines:
        raise RuntimeError(complained.read_text()[-3000:] or f"nothing came within {PATIENCE_S} s")
    return lines


def _wilson(share: float, n: int) -> str:
    """95 % interval of a proportion, in words."""
    z = 1.959964
    middle, half = share + z * z / (2 * n), z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return f" [{low:.3f}, {high:.3f}]"


def fastai_python(bench: Bench) -> str:
    """An environment with fastai, or the one that HEADSTART_BENCH_FASTAI names.

    fastai itself is installed without its dependencies: it asks for spacy, which vision does not use.
    """
    given = os.environ.get("HEADSTART_BENCH_FASTAI")
    return given or environment(bench, "fastai", ("fastai", "fastdownload", "cloudpickle"), _FASTAI)


def setfit_python(bench: Bench) -> str:
    """An environment with SetFit and sentence-transformers, or the one that HEADSTART_BENCH_SETFIT names."""
    return os.environ.get("HEADSTART_BENCH_SETFIT") or environment(bench, "setfit", _SETFIT)


def environment(bench: Bench, name: str, alone: Sequence[str], whole: Sequence[str] = ()) -> str:
    """A Python that sees this one's torch, timm and transformers, and has these packages; made once.

    alone: installed without what they depend on.  whole: with it.
    """
    place = bench.work / f"{name}-venv"
    python = str(place / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    if not (place / ".done").exists():
        venv.create(place, with_pip=True, clear=True)
        site = subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        )
        ours = [p for p in sys.path if p.endswith("site-packages")]
        (Path(site.stdout.strip()) / "bench.pth").write_text("\n".join(ours) + "\n")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", *alone], check=True, capture_output=True)
        if whole:
            subprocess.run([*pip, *whole], check=True, capture_output=True)
        (place / ".done").touch()
    return python
