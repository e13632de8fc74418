"""``headstart doctor``: environment, precision and speed of this machine, where caches live and how big they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headstart.cli import options as o


def add_to(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    speed: Annotated[bool, typer.Option("--speed/--no-speed", help="Time the starter network here.")] = True,
    device: o.Device = "auto",
    cache: o.Cache = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """What this machine offers, how fast it is, and where things are kept."""
    from headstart.cli.show import Screen, emit

    screen = Screen(quiet=quiet)
    found = _examine(cache, device, speed, screen)
    if as_json:
        emit(found)
    else:
        _print(found)


def _examine(cache: str | None, device: str, speed: bool, observer: Any) -> dict[str, Any]:
    from headstart.base.optional import is_installed
    from headstart.features.choose import best_device, offered
    from headstart.workflow.config import cache_folder
    from headstart.workflow.environment import machine, versions

    device = best_device() if device == "auto" else device
    folder = cache_folder(cache)
    found: dict[str, Any] = {
        "versions": versions(),
        "machine": machine(),
        "device": device,
        "runners": list(offered(device)),
        "cache": {"folder": str(folder), **_sizes(folder)},
        "advice": [],
    }
    if device == "cpu" and not is_installed("openvino"):
        found["advice"].append('pip install "headstart[cpu]" runs networks several times faster on this CPU (OpenVINO)')
    if speed:
        found["speed"] = _speed(device, found["advice"])
    return found


def _sizes(folder: Path) -> dict[str, Any]:
    """bytes and features in the cache; zero where there is none yet."""
    files = [p for p in folder.rglob("*") if p.is_file()] if folder.is_dir() else []
    stores = [p for p in (folder / "features").iterdir() if p.is_dir()] if (folder / "features").is_dir() else []
    return {"bytes": sum(p.stat().st_size for p in files), "files": len(files), "feature_stores": len(stores)}


def _speed(device: str, advice: list[str]) -> list[dict[str, Any]]:
    import numpy as np

    from headstart.backbones.catalogue import catalogue
    from headstart.base.config import to_dict
    from headstart.base.errors import HeadstartError
    from headstart.features.choose import choose_runner
    from headstart.workflow.choose_backbone import STARTER

    card = catalogue.card(STARTER)
    if not card.weights.here:
        advice.append(f"the starter network is not here: {card.weights.how_to_get}")
    try:
        backbone = catalogue.load(STARTER, pretrained=card.weights.here)
    except HeadstartError as problem:
        advice.append(str(problem))
        return []
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (16, backbone.spec.size, backbone.spec.size, 3), dtype=np.uint8)
    return [to_dict(trial) for trial in choose_runner(backbone, lambda most: pixels, device=device).trials]


def _print(found: dict[str, Any]) -> None:
    from headstart.base.files import human_bytes
    from headstart.cli.show import line, table

    for name, value in {**found["versions"], **found["machine"], "device": found["device"]}.items():
        line(f"{name:<14}{value}")
    cache = found["cache"]
    line(f"{'cache':<14}{cache['folder']}: {human_bytes(cache['bytes'])} in {cache['files']} files")
    if found.get("speed"):
        table(
            "speed of EfficientNet-Lite0 here",
            [
                ("runner", "left"),
                ("images/s", "right"),
                ("cosine to float32", "right"),
                ("centred", "right"),
                ("", "left"),
            ],
            [
                [
                    t["name"],
                    f"{t['images_per_s']:.0f}",
                    f"{t['cosine']:.5f}",
                    f"{t['centred']:.4f}",
                    f"{t['centred']:.4f}",
                    "" if t["accepted"] else "not accepted",
                ]
                for t in found["speed"]
            ],
        )
    for sentence in found["advice"]:
        line(f"→ {sentence}", "yellow")
