"""Weights into a network: all of them in their places, or a refusal with counts and a guess at what the file is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from headstart.backbones.backbone import Architecture, Backbone, SourceHead, build_seeded, record_of
from headstart.backbones.card import BackboneCard, Weights
from headstart.backbones.checkpoint import Checkpoint, read_checkpoint
from headstart.base.errors import CheckpointMismatch, listed, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

# Counters, index tables and masks that a network makes for itself; older files lack them, newer ones have them.
_DERIVED = ("num_batches_tracked", "position_ids", "relative_position_index", "relative_coords_table", "attn_mask")
# Parts beside the backbone that publishers leave in their files: heads of other tasks and training-time helpers.
_BESIDE = ("AuxLogits.", "aux1.", "aux2.", "head_dist.", "decoder_", "mask_token", "pre_logits.fc.", "pooler.")


@dataclass(frozen=True)
class LoadReport:
    """matched: tensors copied from the file.  expected: tensors the network needs.

    source: the linear classifier that was left out, where the file holds exactly one.
    """

    matched: int
    expected: int
    notes: tuple[str, ...]
    source: SourceHead | None = None


def load_file(card: BackboneCard, architecture: Architecture, path: Path, *, own: bool = False) -> Backbone:
    """A backbone with the weights in ``path``. own: the file is the source's own, so licence and origin are known."""
    checkpoint = read_checkpoint(path, sha256=card.weights.sha256 if own else "")
    if not own:
        card = replace(
            card,
            licence="unknown (local file)",
            trained_on="unknown (local file)",
            weights=Weights("file", str(path), here=True, sha256=checkpoint.sha256, size=checkpoint.size),
        )
    return with_checkpoint(card, architecture, checkpoint)


def load_random(card: BackboneCard, architecture: Architecture, seed: int) -> Backbone:
    """The architecture with its own random initialisation, the same for the same seed."""
    network = build_seeded(architecture, seed)
    card = replace(card, trained_on="nothing (random weights)", weights=Weights("none", "random", here=True))
    return Backbone(card, network, architecture, record_of(card, network, loader="random"))


def with_checkpoint(
    card: BackboneCard,
    architecture: Architecture,
    checkpoint: Checkpoint,
    *,
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None,
) -> Backbone:
    """A backbone with these weights. rename: from the publisher's names to the library's, where they differ."""
    tensors = rename(checkpoint.tensors) if rename else checkpoint.tensors
    network = build_seeded(architecture, 0)  # load_into fills every weight or raises
    heads = head_names(architecture, network)
    report = load_into(network, tensors, heads=heads, where=shown(checkpoint.path.name), architecture=card.architecture)
    record = record_of(
        card,
        network,
        loader=checkpoint.format,
        file=checkpoint.path.name,
        sha256=checkpoint.sha256,
        size=checkpoint.size,
        matched=report.matched,
        notes=(*checkpoint.notes, *report.notes),
    )
    source = report.source if report.source and report.source.weight.shape[1] == card.feature_dim else None
    return Backbone(card, network, architecture, record, source=source)


def head_names(architecture: Architecture, network: nn.Module) -> tuple[str, ...]:
    """Module names of the classifier that the full network has and ``network`` (built for 0 classes) lacks."""
    with torch.device("meta"):
        full = architecture.build(3).state_dict()
    return tuple(sorted({name.rpartition(".")[0] for name in full.keys() - network.state_dict().keys()}))


def load_into(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    heads: Iterable[str] = (),
    where: str = "the file",
    architecture: str = "the network",
) -> LoadReport:
    """Copy ``tensors`` into ``network`` (changed in place). heads: classifiers in the file that are left out.

    CheckpointMismatch CK11 with counts unless every weight of the network is filled and nothing else of a backbone is
    left over; then the network is unchanged. Precision is converted with a note.
    """
    heads = tuple(heads)
    wanted = {name: t for name, t in network.state_dict().items()}
    prefix, added = _best_renaming(wanted, tensors)
    notes = [f"names in the file start with '{shown(prefix)}', which was removed"] if prefix else []
    named = {added + n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    outside = len(tensors) - len(named)
    if outside:
        notes.append(f"{outside} tensors outside '{shown(prefix)}' were not used")
    fitting = {n: t for n, t in named.items() if n in wanted and t.shape == wanted[n].shape}
    missing = [n for n in wanted if n not in fitting and not n.endswith(_DERIVED)]
    spare = [n for n in named if n not in wanted]
    in_head = [n for n in spare if n.startswith(tuple(h + "." for h in heads))]
    left = [n for n in spare if n not in set(in_head) and not n.endswith(_DERIVED) and not _is_beside(n)]
    if missing or left:
        raise _mismatch(where, architecture, wanted, fitting, missing, left, named, tensors)
    notes += _head_notes(named, in_head)
    notes += _precision_notes(fitting, wanted)
    with torch.no_grad():
        for name, tensor in fitting.items():
            wanted[name].copy_(tensor)
    return LoadReport(len(fitting), len(wanted), tuple(notes), _source({name: named[name] for name in in_head}))


def _source(head: Mapping[str, Tensor]) -> SourceHead | None:
    """The one linear layer of these tensors; a 1 × 1 convolution is one, too."""
    weights = [t for t in head.values() if t.ndim > 1]
    biases = [t for t in head.values() if t.ndim == 1]
    if len(weights) != 1 or len(biases) > 1 or weights[0][0].numel() != weights[0].shape[1]:
        return None
    weight = weights[0].flatten(1).float()
    bias = biases[0].float() if biases else weight.new_zeros(len(weight))
    return SourceHead(weight.numpy(), bias.numpy()) if len(bias) == len(weight) else None


def _best_renaming(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> tuple[str, str]:
    """(prefix to remove, prefix to add) that lets most names fit; ('', '') where nothing is better."""
    removable = {""} | {".".join(n.split(".")[:k]) + "." for n in tensors for k in (1, 2) if n.count(".") > k}
    addable = {""} | {n.split(".")[0] + "." for n in wanted}

    def fits(prefix: str, added: str) -> int:
        return sum(
            1
            for n, t in tensors.items()
            if n.startswith(prefix) and (w := wanted.get(added + n[len(prefix) :])) is not None and w.shape == t.shape
        )

    best, most = ("", ""), fits("", "")
    for candidate in [(r, "") for r in sorted(removable)] + [("", a) for a in sorted(addable)]:
        count = fits(*candidate)
        if count > most:
            best, most = candidate, count
    return best


def _is_beside(name: str) -> bool:
    return any(f".{part}" in f".{name}" for part in _BESIDE)


def _head_notes(named: Mapping[str, Tensor], in_head: list[str]) -> list[str]:
    weights = [n for n in in_head if named[n].ndim > 1]
    return [f"head '{n.rpartition('.')[0]}' of {named[n].shape[0]} classes left out" for n in weights]


def _precision_notes(fitting: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    kinds = sorted({str(t.dtype).removeprefix("torch.") for n, t in fitting.items() if t.dtype != wanted[n].dtype})
    return [f"stored as {' and '.join(kinds)}, used as float32"] if kinds else []


def _mismatch(
    where: str,
    architecture: str,
    wanted: Mapping[str, Tensor],
    fitting: Mapping[str, Tensor],
    missing: list[str],
    left: list[str],
    named: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> CheckpointMismatch:
    from headstart.backbones.sources.listing import looks_like

    lines = [f"CK11 {where}: {len(fitting)} of {len(wanted)} backbone tensors match {shown(architecture)}."]
    guess = looks_like({n: tuple(t.shape) for n, t in tensors.items()})
    if guess:
        lines.append(f"The file looks like {guess}.")
    else:
        lines += [f"It looks like {what}." for what in _kind_of(tensors)]
    other_shape = [n for n in missing if n in named]
    if other_shape:
        first = other_shape[0]
        lines.append(
            f"{len(other_shape)} have another shape (first: {shown(first)} is {tuple(named[first].shape)} in the file, "
            f"{tuple(wanted[first].shape)} in the network)."
        )
    absent = [n for n in missing if n not in named]
    if absent:
        lines.append(f"{len(absent)} are missing ({listed(absent)}).")
    if left:
        lines.append(f"{len(left)} of the file have no place ({listed(left)}).")
    lines.append("Choose the backbone that these weights belong to: headstart models")
    return CheckpointMismatch(" ".join(lines))


def _kind_of(tensors: Mapping[str, Tensor]) -> list[str]:
    if any("lora_" in n for n in tensors):
        return ["a LoRA adapter, which needs the network it was made for; merge it first"]
    if any("exp_avg" in n for n in tensors):
        return ["the state of an optimiser"]
    return []
