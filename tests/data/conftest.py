"""A folder of photos, a look at a dataset, and an ear on every file that is opened."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from making import encoded, put, scene

from headstart.data.dataset import Dataset
from headstart.data.looks import look_for
from headstart.data.survey import Survey


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of six JPEGs each, in a folder."""
    for i in range(12):
        put(tmp_path / "photos" / ("cat" if i % 2 else "dog") / f"{i:02d}.jpg", encoded(scene(i)))
    return tmp_path / "photos"


@pytest.fixture
def look(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Dataset], Survey]:
    """Survey a dataset with a cache of its own."""

    def surveyed(dataset: Dataset) -> Survey:
        return look_for(dataset.modality).survey(dataset, tmp_path_factory.mktemp("cache"))

    return surveyed


_WATCHERS: list[list[str]] = []
_HOOKED: list[bool] = []  # an audit hook stays for the life of the process: there is one


def _note_open(event: str, arguments: tuple) -> None:
    if event in ("open", "os.listdir", "os.scandir") and _WATCHERS and isinstance(arguments[0], str):
        _WATCHERS[-1].append(arguments[0])


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Paths of every file and folder that this process opens during the test."""
    if not _HOOKED:
        sys.addaudithook(_note_open)
        _HOOKED.append(True)
    _WATCHERS.append([])
    yield _WATCHERS[-1]
    _WATCHERS.pop()
