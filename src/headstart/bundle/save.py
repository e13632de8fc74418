"""Write a model folder: whole or not at all.

Everything goes into a temporary folder beside the target, each file synced, bundle.json last; then the folder is
renamed. A folder that was there before is moved aside in the same moment and deleted only when the new one is in place,
so a full disk, a kill or a power cut leaves one whole model (load() also finds one that was moved aside).
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from headstart.adapt.heads.head import LinearHead
from headstart.base.errors import BundleError, DataError, EnvironmentFault, listed, shown
from headstart.base.files import disk_fault, make_folder, sync_folder, to_json, write_bytes
from headstart.bundle.manifest import (
    CARD,
    CONFIG,
    LABELS,
    MANIFEST,
    PREPROCESSOR,
    SCHEMA,
    TOKENIZER,
    TOKENIZER_CONFIG,
    WEIGHTS,
    BlockFacts,
    FileFacts,
    HeadFacts,
    Manifest,
    OpensWith,
    ScoreFacts,
    TaskFacts,
    manifest_bytes,
)
from headstart.bundle.model_card import model_card
from headstart.records.evaluation import Evaluation
from headstart.records.run import BackboneRecord
from headstart.tasks.regression import Regression
from headstart.tasks.task import Task

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone
    from headstart.inputs.spec import InputSpec

OURS = frozenset({MANIFEST, WEIGHTS, CONFIG, PREPROCESSOR, CARD, LABELS, TOKENIZER, TOKENIZER_CONFIG})
JUNK = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
STALE_S = 3600.0  # a temporary folder of a killed save is swept when it is older than this
PACKAGES = (
    "headstart",
    "torch",
    "timm",
    "torchvision",
    "transformers",
    "tokenizers",
    "safetensors",
    "pillow",
    "openvino",
)


@dataclass(frozen=True)
class ModelFacts:
    """What the folder tells besides the weights; nothing here changes a prediction except ``rounded``.

    head_family, head_setting: as in HeadTrial, e.g. 'ridge', {'lambda': 12.3}.
    runner: name of the runner that made the features of the evaluation; rounded: they went through float16.
    counts: training examples by class; trained_on_n: their number in all.
    created: UTC, ISO 8601; '' means now.
    """

    head_family: str = "linear"
    head_setting: Mapping[str, float | str] = field(default_factory=dict)
    runner: str = "torch-f32"
    rounded: bool = True
    evaluation: Evaluation | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    trained_on_n: int = 0
    created: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Agreement:
    """How a folder that was loaded back compares. max_abs: largest difference of a score; same_top1: of every row."""

    n: int
    max_abs: float
    same_top1: bool


def save(
    folder: Path | str, *, backbone: Backbone, head: LinearHead, task: Task, temperature: float = 1.0, facts: ModelFacts
) -> Manifest:
    """Write the model folder and return its manifest (``seal`` names it: two folders with one seal are equal).

    Raises CheckpointMismatch where the architecture has no linear classifier, EnvironmentFault on disk trouble (an
    older model in ``folder`` is untouched then), DataError if ``folder`` holds something that is not a saved model.
    """
    folder = Path(os.path.abspath(folder))
    check_replaceable(folder)
    parts, manifest = contents(backbone, head, task, temperature, facts)
    write_whole(folder, parts)
    return manifest


def contents(
    backbone: Backbone, head: LinearHead, task: Task, temperature: float, facts: ModelFacts
) -> tuple[dict[str, bytes], Manifest]:
    """The files of the folder by name, the manifest last, and that manifest with its seal."""
    calibrated = folded(head, task, temperature)
    state = backbone.classifier_state(calibrated.weight, calibrated.bias, task.labels)
    parts: dict[str, bytes] = {
        WEIGHTS: _tensor_bytes(state),
        CONFIG: json_bytes(backbone.classifier_config(task.labels)),
        LABELS: json_bytes(list(task.labels)),
    }
    for name, content in backbone.companion_files().items():
        parts[name] = content.encode() if isinstance(content, str) else json_bytes(content)
    weight_name, bias_name = _head_names(state, backbone)
    head_facts = HeadFacts(facts.head_family, dict(facts.head_setting), float(temperature), weight_name, bias_name)
    manifest = _describe(backbone, task, head_facts, facts)
    parts[CARD] = model_card(manifest, backbone.card, facts.evaluation).encode("utf-8", "backslashreplace")
    manifest = replace(manifest, files={n: FileFacts(hashlib.sha256(b).hexdigest(), len(b)) for n, b in parts.items()})
    parts[MANIFEST], seal = manifest_bytes(manifest)  # last: a folder with a manifest is complete
    return parts, replace(manifest, seal=seal)


def folded(head: LinearHead, task: Task, temperature: float) -> LinearHead:
    """The head whose logits are calibrated; DataError where head, task and temperature do not go together."""
    weight, bias = head.weight, head.bias
    if weight.ndim != 2 or weight.shape[0] != task.outputs or bias.shape != (task.outputs,):
        raise DataError(
            f"the head has weights {weight.shape} and bias {bias.shape}; {task.outputs} labels need "
            f"({task.outputs}, D) and ({task.outputs},)."
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise DataError("CK10 the head holds NaN or infinity; it is not saved.")
    if not 0 < temperature < float("inf") or (task.name == "regression" and temperature != 1.0):
        raise DataError(f"temperature must be positive and finite (regression: 1.0); got {temperature}.")
    return head.scaled(temperature)


def verify_opens_alike(
    folder: Path | str,
    examples: np.ndarray | Sequence[np.ndarray],
    expected: np.ndarray,
    *,
    tolerance: float = 1e-3,
    device: str = "auto",
    precision: str | None = None,
) -> Agreement:
    """Load the folder back from disk and compare its scores; BundleError CK26 when they differ.

    examples: n prepared ones, such as (n, S, S, 3) uint8 pixels; eight are enough.
    expected: (n, K) calibrated scores that the run evaluated for them.
    tolerance: largest difference allowed, relative to 1 for probabilities and to the largest
    expected value for regression. A row may change its first class only where the two are that close.
    precision: as for load(); 'float32' asks plain torch, whatever made the features of the evaluation.
    """
    from headstart.bundle.load import load
    from headstart.bundle.predictor import Predictor

    predictor = load(folder, device=device, precision=precision)
    assert isinstance(predictor, Predictor), "a model of one kind of example"
    scores = predictor.scores_of_prepared(examples)
    return compared(folder, predictor.task, scores, expected, tolerance=tolerance)


def compared(
    folder: Path | str, task: Task, scores: np.ndarray, expected: np.ndarray, *, tolerance: float = 1e-3
) -> Agreement:
    """Scores of a folder that was loaded back beside those that were evaluated; BundleError CK26 when they differ."""
    expected = np.asarray(expected, np.float64)
    if scores.shape != expected.shape:
        raise BundleError(
            f"CK26 {shown(folder)} gives scores of shape {scores.shape}; {expected.shape} were evaluated."
        )
    scale = max(1.0, float(np.abs(expected).max(initial=0))) if task.name == "regression" else 1.0
    worst = float(np.abs(scores - expected).max(initial=0))
    same = bool((scores.argmax(axis=1) == expected.argmax(axis=1)).all())
    if not worst <= tolerance * scale:  # NaN too
        raise BundleError(
            f"CK26 {shown(folder)}: loaded back, its scores differ by up to {worst:.2g} from those that were "
            f"evaluated (allowed {tolerance * scale:.2g}). This model must not be used; please report it."
        )
    return Agreement(len(scores), worst, same)


# -- contents --------------------------------------------------------------------------------------------------------


def _describe(backbone: Backbone, task: Task, head: HeadFacts, facts: ModelFacts) -> Manifest:
    return described(
        task,
        facts,
        backbone=without_folders(backbone.record),
        opens_with=cast(OpensWith, backbone.opens_with),
        spec=backbone.card.input,
        head=head,
        licence=backbone.card.licence,
    )


def described(
    task: Task,
    facts: ModelFacts,
    *,
    backbone: BackboneRecord,
    opens_with: OpensWith,
    spec: InputSpec,
    head: HeadFacts,
    licence: str,
    blocks: tuple[BlockFacts, ...] = (),
) -> Manifest:
    """The manifest of a model; its files are not in it yet."""
    return Manifest(
        schema=SCHEMA,
        created=facts.created or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        task=_task_facts(task),
        backbone=backbone,
        opens_with=opens_with,
        input=spec,
        head=head,
        runner=facts.runner,
        rounded=facts.rounded,
        thresholds=(0.5,) * task.outputs if task.name == "multilabel" else (),
        licence=licence,
        score=_score_facts(facts.evaluation),
        counts=dict(facts.counts),
        trained_on_n=facts.trained_on_n,
        versions=versions(),
        files={},
        notes=facts.notes,
        blocks=blocks,
    )


def _task_facts(task: Task) -> TaskFacts:
    link = task.link if isinstance(task, Regression) else "identity"
    return TaskFacts(cast(Any, task.name), tuple(task.labels), task.headline, link)


def _score_facts(evaluation: Evaluation | None) -> ScoreFacts | None:
    if evaluation is None:
        return None
    score = evaluation.score
    return ScoreFacts(evaluation.headline, score.value, score.low, score.high, score.n, score.level, evaluation.how)


def without_folders(record: BackboneRecord) -> BackboneRecord:
    """The record as it may be handed round: where a file lay on this machine is nobody's business."""
    return replace(record, name=public_name(record.name), weights_file=_base(record.weights_file))


def public_name(name: str) -> str:
    """'file:model.safetensors' for 'file:/home/someone/model.safetensors'; other names as they are."""
    kind, colon, rest = name.partition(":")
    return f"{kind}:{_base(rest)}" if colon and kind == "file" else name


def _base(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _head_names(state: Mapping[str, Any], backbone: Backbone) -> tuple[str, str]:
    """Names of the classifier's weight and bias: what the state has and the network without a classifier has not."""
    new = sorted(state.keys() - backbone.network.state_dict().keys(), reverse=True)
    assert len(new) == 2 and new[0].endswith("weight") and new[1].endswith("bias"), f"not one linear layer: {new}"
    return new[0], new[1]


def _tensor_bytes(state: Mapping[str, Any]) -> bytes:
    from safetensors.torch import save as to_bytes

    # clone: tensors that share memory are stored once each
    return to_bytes(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}, {"format": "pt"}
    )


def json_bytes(value: Any) -> bytes:
    return (to_json(value, indent=1) + "\n").encode("utf-8", "backslashreplace")


# -- the folder ------------------------------------------------------------------------------------------------------


def moved_aside(folder: Path) -> Path:
    """Where an older model waits while a new one takes its place."""
    return folder.with_name(f".{folder.name}.previous")


def check_replaceable(folder: Path) -> None:
    """DataError EN66 where something else than a saved model would be replaced."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DataError(f"EN66 {shown(folder)} is not a folder of its own. Name another place for the model.")
    if not folder.is_dir():
        return
    strangers = sorted(p.name for p in folder.iterdir() if p.name not in OURS | JUNK and not _is_block(p))
    if strangers:
        raise DataError(
            f"EN66 {shown(folder)} holds files that are not of a saved model ({listed(strangers)}). "
            "They would be lost: name another folder, or move them away."
        )


def _is_block(path: Path) -> bool:
    """Whether it is the folder of one block of a model on mixed rows."""
    return path.is_dir() and (path / MANIFEST).is_file() and {p.name for p in path.iterdir()} <= OURS | JUNK


def write_whole(folder: Path, parts: Mapping[str, bytes]) -> None:
    """The files of a folder, all of them or none; a name may hold one folder: '1-photo/bundle.json'."""
    make_folder(folder.parent)
    _sweep(folder)
    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir()
        for name, content in parts.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            write_bytes(temporary / name, content)
        _put_in_place(temporary, folder)
    except EnvironmentFault:
        raise
    except OSError as error:
        raise disk_fault(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, folder: Path) -> None:
    previous = moved_aside(folder)
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        os.rename(folder, previous)
    try:
        os.rename(temporary, folder)
    except OSError:
        if previous.exists() and not folder.exists():
            os.rename(previous, folder)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what killed saves left behind."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.tmp-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_S:
                shutil.rmtree(left, ignore_errors=True)
