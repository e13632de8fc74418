"""Saved toy models for the bundle tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bundle_cases import FACTS, TASKS, random_head

from headstart.backbones.catalogue import catalogue
from headstart.bundle.save import save


@pytest.fixture(scope="session")
def toy():
    return catalogue.load("toy/conv")


@pytest.fixture(scope="session")
def saved_once(toy, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    head = random_head(3, toy.card.feature_dim)
    save(folder, backbone=toy, head=head, task=TASKS["classification"], temperature=1.7, facts=FACTS)
    return folder


@pytest.fixture
def model(saved_once, tmp_path) -> Path:
    """A saved three-class model that a test may spoil."""
    return Path(shutil.copytree(saved_once, tmp_path / "model"))
