"""bundle.json: what a model folder is, and how every byte of it is known to be what was saved.

A flipped bit in a weights file loads silently (298 of 300 times, RELIABILITY 1.1), so each file is listed with its
SHA-256, and bundle.json itself is sealed: ``seal`` is the SHA-256 of the file's own bytes with an empty seal.
Nothing in a manifest can name code: it holds scalars, lists and tables of a fixed schema, and unknown keys are refused.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from headstart.base.config import from_dict, to_dict
from headstart.base.errors import BundleError, DataError, listed, shown
from headstart.base.files import human_bytes, parse_json, to_json
from headstart.inputs.columns import PARTS
from headstart.inputs.spec import AudioSpec, ImageSpec, InputSpec, MixedSpec, TextSpec, VectorSpec
from headstart.records.run import BackboneRecord
from headstart.tasks.classification import Classification
from headstart.tasks.multilabel import MultiLabel
from headstart.tasks.regression import Link, Regression
from headstart.tasks.task import Task

SCHEMA = 1
MANIFEST, WEIGHTS, CONFIG, PREPROCESSOR = "bundle.json", "model.safetensors", "config.json", "preprocessor_config.json"
CARD, LABELS = "README.md", "labels.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
NEEDED = (WEIGHTS, CONFIG, LABELS)

_LARGEST = 16 * 2**20  # bytes of bundle.json; 100,000 long labels fit
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CODE_KEYS = {"_target_", "auto_map", "trust_remote_code", "custom_pipelines", "_attn_implementation_internal"}

OpensWith = Literal["timm", "torchvision", "transformers", "headstart"]


@dataclass(frozen=True)
class TaskFacts:
    """What the outputs mean. labels: in the order of the outputs.  link: of a regression, see tasks.regression."""

    name: Literal["classification", "multilabel", "regression"]
    labels: tuple[str, ...]
    headline: str
    link: Link = "identity"

    def task(self) -> Task:
        kinds: dict[str, type[Classification | MultiLabel | Regression]] = {
            "classification": Classification,
            "multilabel": MultiLabel,
            "regression": Regression,
        }
        made = kinds[self.name](self.labels, self.headline)
        return replace(made, link=self.link) if isinstance(made, Regression) else made


@dataclass(frozen=True)
class HeadFacts:
    """The linear layer on the features, and where it is in model.safetensors.

    weight, bias: names of its tensors, (K, D) and (K,). Standardisation and temperature are folded into them already.
    """

    family: str
    setting: Mapping[str, float | str]
    temperature: float
    weight: str
    bias: str


@dataclass(frozen=True)
class ScoreFacts:
    """The number people quote, with its interval. how: as in SplitRecord."""

    metric: str
    value: float
    low: float
    high: float
    n: int
    level: float
    how: str


@dataclass(frozen=True)
class BlockFacts:
    """One block of a model on mixed rows, whose outputs are added to those of the others.

    folder: inside this one, itself a saved model with this seal.  absent: (K,) what is added for rows that do not have
    the block.
    """

    name: str
    modality: Literal["image", "text", "audio", "vector"]
    folder: str
    seal: str
    absent: tuple[float, ...]


@dataclass(frozen=True)
class FileFacts:
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """Everything about a saved model except its tensors.

    opens_with: the library that opens the folder without headstart.
    runner: how the network was run when the model was evaluated, e.g. 'openvino-bf16'; rounded: its features went
        through float16 (features.extract.rounded) before the head saw them.
    thresholds: multi-label: probability from which each label is said to be there; () for other tasks.
    counts: training examples by class; trained_on_n: their number in all.
    files: name → hash and size of every other file of the folder.
    blocks: of a model on mixed rows; it has no network and no head but theirs.
    seal: see the module.
    """

    schema: int
    created: str  # UTC, ISO 8601
    task: TaskFacts
    backbone: BackboneRecord
    opens_with: OpensWith
    input: InputSpec
    head: HeadFacts
    runner: str
    rounded: bool
    thresholds: tuple[float, ...]
    licence: str
    score: ScoreFacts | None
    counts: Mapping[str, int]
    trained_on_n: int
    versions: Mapping[str, str]
    files: Mapping[str, FileFacts]
    notes: tuple[str, ...] = field(default_factory=tuple)
    blocks: tuple[BlockFacts, ...] = ()
    seal: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        return self.task.labels


def manifest_bytes(manifest: Manifest) -> tuple[bytes, str]:
    """The content of bundle.json, and its seal."""
    unsealed = _unsealed(manifest)
    seal = hashlib.sha256(unsealed).hexdigest()
    return unsealed.replace(b'"seal": ""', f'"seal": "{seal}"'.encode(), 1), seal


def _unsealed(manifest: Manifest) -> bytes:
    text = to_json(to_dict(manifest) | {"seal": ""}, indent=1) + "\n"
    return text.encode("utf-8", "backslashreplace")


def read_manifest(folder: Path, *, verify: bool = True) -> Manifest:
    """The manifest of a model folder.

    verify: hash every listed file, and bundle.json itself, and compare. Files that are not listed are never opened.
    Raises BundleError (CK06 a file differs, CK05 it is shorter or longer, CK25 bundle.json is not what was saved,
    CF20 a key that asks for code) or DataError (there is no bundle.json).
    """
    folder = Path(folder)
    content = _read_plain_file(folder, MANIFEST, at_most=_LARGEST)
    manifest = _parse(content, where=shown(folder / MANIFEST), sealed=verify)
    if verify:
        verify_files(folder, manifest)
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare every listed file with its recorded size and SHA-256; BundleError names all that differ."""
    problems = [p for name, facts in sorted(manifest.files.items()) if (p := _difference(folder, name, facts))]
    if problems:
        raise BundleError(
            " ".join(problems) + f" Refused: {shown(folder)} is not what was saved. Copy it again from its source, "
            "or fit again. (verify=False opens it without a check.)"
        )


def _difference(folder: Path, name: str, facts: FileFacts) -> str:
    where = shown(folder / name)
    try:
        with open_plain_file(folder, name) as file:
            size = os.fstat(file.fileno()).st_size
            if size != facts.size:
                how = "ends early" if size < facts.size else "is longer than it was"
                return f"CK05 {where}: {how}: {size:,} of {facts.size:,} bytes."
            now = hashlib.file_digest(file, "sha256").hexdigest()
    except BundleError as error:
        return str(error)
    if now != facts.sha256:
        return f"CK06 {where}: sha256 differs from the recorded one (recorded {facts.sha256[:12]}…, now {now[:12]}…)."
    return ""


def open_plain_file(folder: Path, name: str) -> Any:
    """A binary file object for ``folder/name``; BundleError unless it is a regular file (no link, pipe or device)."""
    path = folder / name
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        if path.is_symlink():  # where there is no O_NOFOLLOW
            raise BundleError(f"CK15 {shown(path)} is a link; a model folder holds plain files only.")
        file = os.fdopen(os.open(path, flags), "rb")
    except FileNotFoundError as error:
        raise BundleError(f"CK14 {shown(path)} is missing.") from error
    except OSError as error:
        raise BundleError(f"CK15 {shown(path)} cannot be opened as a plain file ({error.strerror}).") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BundleError(f"CK15 {shown(path)} is not a plain file.")
    return file


def read_json_file(folder: Path, name: str) -> Any:
    """Strict JSON of one file of the folder; BundleError if it is damaged or holds a key that asks for code."""
    content = _read_plain_file(folder, name, at_most=_LARGEST)
    return _json(content, where=shown(folder / name))


def _read_plain_file(folder: Path, name: str, *, at_most: int) -> bytes:
    with open_plain_file(folder, name) as file:
        content: bytes = file.read(at_most + 1)
    if len(content) > at_most:
        raise BundleError(f"CK25 {shown(folder / name)}: more than {human_bytes(at_most)}. Refused.")
    return content


def _json(content: bytes, *, where: str) -> Any:
    try:
        value = parse_json(content.decode("utf-8"), where=where)
    except (UnicodeDecodeError, DataError) as error:
        raise BundleError(f"CK25 {where} is not what was saved: {error}") from error
    asking = sorted(_CODE_KEYS.intersection(_keys(value)))
    if asking:
        raise BundleError(f"CF20 {where}: key '{asking[0]}' asks to import code. Refused.")
    return value


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


def _parse(content: bytes, *, where: str, sealed: bool) -> Manifest:
    values = _json(content, where=where)
    if not isinstance(values, dict):
        raise BundleError(f"CK25 {where}: expected a table of keys, got {type(values).__name__}.")
    schema = values.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise BundleError(f"CK25 {where} was written by a newer headstart (schema {schema}; this one reads {SCHEMA}).")
    if sealed:
        _check_seal(content, values.get("seal"), where=where)
    try:
        manifest = from_dict(Manifest, values, where=MANIFEST)
    except DataError as error:
        raise BundleError(f"CK25 {where} is not what headstart saves: {error}") from error
    problems = list(_problems(manifest))
    if problems:
        raise BundleError(f"CK25 {where} is not what headstart saves: {'; '.join(problems)}.")
    return manifest


def _check_seal(content: bytes, seal: Any, *, where: str) -> None:
    # Over the bytes, not the parsed values: a flipped space is noticed too.
    written = f'"seal": "{seal}"'.encode("utf-8", "replace")
    if (
        not seal
        or content.count(written) != 1
        or hashlib.sha256(content.replace(written, b'"seal": ""')).hexdigest() != seal
    ):
        raise BundleError(
            f"CK25 {where} is not what was saved (its seal does not match). Refused. "
            "Copy the folder again from its source, or fit again."
        )


def _problems(manifest: Manifest) -> Iterator[str]:
    """What the types alone do not say."""
    if manifest.schema != SCHEMA:
        yield f"schema {manifest.schema} is not {SCHEMA}"
    yield from _task_problems(manifest)
    yield from _input_problems(manifest.input)
    if not 0 < manifest.head.temperature < math.inf:
        yield f"temperature {manifest.head.temperature} is not a positive number"
    if not 1 <= manifest.backbone.feature_dim <= 2**20:
        yield f"feature_dim {manifest.backbone.feature_dim} is out of range"
    yield from _file_problems(manifest.files, (LABELS,) if manifest.blocks else NEEDED)
    yield from _block_problems(manifest)


def _task_problems(manifest: Manifest) -> Iterator[str]:
    labels, name = manifest.task.labels, manifest.task.name
    fewest = 2 if name == "classification" else 1
    if not fewest <= len(labels) <= 100_000:
        yield f"{len(labels)} labels for {name}"
    if len(set(labels)) != len(labels):
        yield "a label appears twice"
    if manifest.thresholds != ((0.5,) * len(labels) if name == "multilabel" else ()):
        yield "thresholds are not the 0.5 for each label that schema 1 knows"


def _input_problems(spec: InputSpec) -> Iterator[str]:
    if isinstance(spec, TextSpec):
        yield from _text_problems(spec)
    if isinstance(spec, AudioSpec):
        yield from _audio_problems(spec)
    if isinstance(spec, VectorSpec):
        yield from _vector_problems(spec)
    if not isinstance(spec, ImageSpec):
        return
    if not 1 <= spec.size <= 8192:
        yield f"input size {spec.size} is out of range"
    if not 0.05 <= spec.crop <= 1:
        yield f"crop {spec.crop} is not in [0.05, 1]"
    if not all(math.isfinite(m) for m in spec.mean) or not all(0 < s < math.inf for s in spec.std):
        yield "mean or std are not usable numbers"


def _text_problems(spec: TextSpec) -> Iterator[str]:
    if not 2 <= spec.window <= 2**17:
        yield f"a window of {spec.window} tokens is out of range"
    if not re.fullmatch(r"[0-9a-f]{64}", spec.tokenizer):
        yield "the tokenizer's sha256 is malformed"
    if len(spec.prefix) > 1000:
        yield "the prefix is too long"


def _audio_problems(spec: AudioSpec) -> Iterator[str]:
    if spec.sample_rate_hz != 16_000:
        yield f"{spec.sample_rate_hz} samples a second are out of range"
    if not 0.1 <= spec.longest_s <= 600:
        yield f"a window of {spec.longest_s} seconds is out of range"
    if not (8 <= spec.mels <= 512 if spec.form != "wave" else spec.mels == 0):
        yield f"{spec.mels} bands of a {spec.form} are out of range"


def _vector_problems(spec: VectorSpec) -> Iterator[str]:
    names = [column.name for column in spec.columns]
    if not names or len(set(names)) != len(names):
        yield "no columns, or two of one name"
    for column in spec.columns:
        if not len(column.parts) == len(column.mean) == len(column.scale):
            yield f"column '{shown(column.name)}' has not one mean and scale for each part"
        numbers = (*column.mean, column.fill)
        if not all(map(math.isfinite, numbers)) or not all(0 < s < math.inf for s in column.scale):
            yield f"mean, scale or fill of column '{shown(column.name)}' are not usable numbers"
        known = set(column.parts) <= PARTS if column.kind != "category" else True
        if not known or len(set(column.parts)) != len(column.parts):
            yield f"the parts of column '{shown(column.name)}' are not known"


def _block_problems(manifest: Manifest) -> Iterator[str]:
    blocks = manifest.blocks
    if bool(blocks) != isinstance(manifest.input, MixedSpec) or len(blocks) == 1:
        yield f"{len(blocks)} blocks do not go with its input"
    for what in ("name", "folder"):
        if len({getattr(block, what) for block in blocks}) != len(blocks):
            yield f"two blocks have one {what}"
    for block in blocks:
        if not _PLAIN_NAME.fullmatch(block.folder) or not re.fullmatch(r"[0-9a-f]{64}", block.seal):
            yield f"folder or seal of block '{shown(block.name)}' is malformed"
        if len(block.absent) != len(manifest.labels) or not all(map(math.isfinite, block.absent)):
            yield f"block '{shown(block.name)}' has not one number for each label where it is absent"


def _file_problems(files: Mapping[str, FileFacts], needed: Sequence[str]) -> Iterator[str]:
    odd = [n for n in files if not _PLAIN_NAME.fullmatch(n) or n == MANIFEST]
    if odd:
        yield f"file names that are not plain names in the folder: {listed(odd)}"
    if len(files) > 64:
        yield f"{len(files)} files are listed"
    missing = [n for n in needed if n not in files]
    if missing:
        yield f"not listed: {listed(missing)}"
    if any(not re.fullmatch(r"[0-9a-f]{64}", f.sha256) or f.size < 0 for f in files.values()):
        yield "a sha256 or a size is malformed"
