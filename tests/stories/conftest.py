import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.cli.main import run

TINTS = {"blue": (40, 60, 190), "green": (40, 170, 60), "red": (190, 50, 40)}


def paint(folder: Path, per_class: int, seed: int = 0, noise: float = 70, classes=tuple(TINTS)) -> Path:
    """Class folders of small noisy pictures that a toy network can tell apart most of the time."""
    rng = np.random.default_rng(seed)
    for label in classes:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            own = np.array(TINTS[label]) + rng.normal(0, 35, 3)
            pixels = rng.normal(own, noise, (40, 48, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{seed}-{i:03}.png")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """330 pictures: enough for a sealed test part."""
    return paint(tmp_path_factory.mktemp("data") / "photos", 110)


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """48 pictures: too few for one."""
    return paint(tmp_path_factory.mktemp("data") / "few", 16)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def headstart(capfd, cache):
    """Run a command as a user would; gives (exit code, stdout, stderr)."""

    def command(*words, with_cache=True):
        verb = words[0]
        extra = ["--cache", str(cache)] if with_cache and verb in {"fit", "evaluate", "predict", "inspect"} else []
        capfd.readouterr()
        code = run([str(w) for w in words] + extra)
        out, err = capfd.readouterr()
        return code, out, err

    return command


@pytest.fixture(scope="session")
def finished(photos, cache, tmp_path_factory):
    """One finished run on ``photos``, never changed."""
    out = tmp_path_factory.mktemp("runs") / "first"
    assert run(["fit", str(photos), "--out", str(out), "-b", "toy/conv", "--cache", str(cache), "--quiet"]) == 0
    return out


def records(folder: Path) -> dict:
    """All records of a run but times: what must not depend on when it ran."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        found[path.name] = strip(json.loads(path.read_text()))
    return found


def strip(value):
    if isinstance(value, dict):
        times = {"created", "timing", "seconds", "command", "images_per_s", "model_sha256", "from_cache"}
        return {k: strip(v) for k, v in value.items() if k not in times}
    return [strip(v) for v in value] if isinstance(value, list) else value
