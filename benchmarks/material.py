"""The data and the weights that figures share, and the one ordinary run that several of them look at."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figure import Bench, headstart_command, process_seconds

if TYPE_CHECKING:
    from headstart.base.progress import Event

LITE0 = "package/efficientnet-lite0"
CLASSES = ("global", "local", "nominal")


def photographs() -> Path:
    """2,000 photographs of textiles, 250 × 250 JPEG, in three class folders (conformal-clip-data)."""
    return Path(str(files("conformal_clip_data"))) / "data" / "textile_images" / "simulated"


def paths(n: int | None = None) -> list[Path]:
    """All photographs, or ``n`` of them spread over the classes in proportion."""
    everything = sorted(photographs().glob("*/*.jpg"))
    if n is None or n >= len(everything):
        return everything
    return [everything[i * len(everything) // n] for i in range(n)]


def image_folder(place: Path, n: int | None) -> Path:
    """A folder with ``n`` of the photographs, linked; the whole one where n is None."""
    if n is None:
        return photographs()
    for path in paths(n):
        link = place / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, link)
        except OSError:  # another file system
            link.write_bytes(path.read_bytes())
    return place


def random_weights(bench: Bench, architecture: str) -> Path:
    """A local .safetensors with random parameters of a timm network: speed does not depend on the values."""
    place = bench.work / f"{architecture}-random.safetensors"
    if not place.exists():
        import timm
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(0)
        save_file(timm.create_model(architecture, pretrained=False).state_dict(), place.with_suffix(".part"))
        place.with_suffix(".part").rename(place)
    return place


class Watch:
    """An observer that notes when the files were first looked at: everything before is reading and start-up."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.looking: float | None = None

    def __call__(self, event: Event) -> None:
        from headstart.base.progress import Started

        if isinstance(event, Started) and event.unit == "images" and self.looking is None:
            self.looking = time.perf_counter()

    @property
    def before_looking(self) -> float:
        assert self.looking is not None, "no piece of work counted in images was announced"
        return self.looking - self.began


def ordinary_run(bench: Bench) -> tuple[Path, float]:
    """(folder, seconds of the whole process) of one `headstart fit` on the photographs, cold; once in a session."""
    out, note = bench.session / "ordinary", bench.session / "ordinary.json"
    if not note.exists():
        data = image_folder(bench.session / "ordinary-data", bench.pick(None, 360))
        where: list[str | Path] = [data, "--out", out, "--cache", bench.session / "ordinary-cache"]
        command = [*headstart_command(), "fit", *where]
        note.write_text(json.dumps(process_seconds([*command, "--backbone", LITE0, "--device", "cpu", "--quiet"])))
    return out, json.loads(note.read_text())


def ordinary_data(bench: Bench) -> Path:
    """The folder that ``ordinary_run`` learnt from."""
    return image_folder(bench.session / "ordinary-data", bench.pick(None, 360))


def step_seconds(run: Path) -> dict[str, float]:
    """run.json's timing: step of the story → seconds."""
    return dict(json.loads((run / "run.json").read_text())["timing"]["steps"])


def record(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


def shares(steps: dict[str, float], of: float, leave_out: Sequence[str] = ()) -> dict[str, float]:
    """Each step as a multiple of ``of``."""
    return {name: round(s / of, 3) for name, s in steps.items() if name not in leave_out}
