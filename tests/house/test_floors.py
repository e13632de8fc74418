"""A room imports only rooms on lower lines (DESIGN 3), and the torch-free rooms stay so."""

import ast
from pathlib import Path

import pytest

import headstart

ROOT = Path(headstart.__file__).parent
LINES = [  # the ground first; rooms on one line do not know each other
    {"base"},
    {"records"},
    {"data", "evaluation"},
    {"inputs", "tasks"},
    {"backbones"},
    {"features", "adapt"},
    {"training", "ranking", "bundle", "report"},
    {"workflow"},
    {"estimators"},
    {"cli"},
]
FLOOR = {room: number for number, line in enumerate(LINES) for room in line}
OUTSIDE = {"__init__", "__main__", "testing"}  # the face, the door, and what only tests use
TORCH_FREE = {"base", "records", "data", "evaluation", "report", "tasks", "cli"}
ALLOWED_TORCH = {"backbones", "features", "bundle"}
HEAVY_ONLY_IN = {  # heavy and fast-moving libraries, one adapter each
    "timm": {"backbones/sources"},
    "transformers": {"backbones/sources"},
    "torchvision": {"backbones/sources"},
    "openvino": {"features/runners/openvino.py"},
    "onnx": {"backbones/sources"},
    "h5py": {"backbones"},
}
FILES = sorted(ROOT.rglob("*.py"))


def imports(path: Path, *, top_level: bool):
    tree = ast.parse(path.read_text())
    type_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for node in ast.walk(test)
    }
    nodes = tree.body if top_level else ast.walk(tree)
    for node in nodes:
        if id(node) in type_only and top_level:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_downward_only(path):
    room = room_of(path)
    if room in OUTSIDE:
        return
    for module in imports(path, top_level=False):
        parts = module.split(".")
        if parts[0] != "headstart" or len(parts) == 1:
            continue
        other = parts[1]
        assert other != "testing", f"{path} imports the contract suites"
        assert other == room or FLOOR[other] < FLOOR[room], f"{room} may not import {other} ({path.name})"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_heavy_libraries_stay_in_their_adapters(path):
    place = path.relative_to(ROOT).as_posix()
    room = room_of(path)
    for module in imports(path, top_level=True):
        library = module.split(".")[0]
        if room in TORCH_FREE:
            assert library not in {"torch", "sklearn", "timm", "transformers", "openvino"}, f"{place} imports {library}"
    for module in imports(path, top_level=False):
        library = module.split(".")[0]
        if library in HEAVY_ONLY_IN:
            assert any(place.startswith(p) for p in HEAVY_ONLY_IN[library]), f"{place} imports {library}"


def test_every_room_is_on_a_floor():
    rooms = {room_of(p) for p in FILES} - OUTSIDE
    assert rooms == set(FLOOR)


def test_no_room_is_a_drawer_for_everything():
    assert not [p for p in FILES if p.stem in {"utils", "helpers", "common", "misc"}]


def test_nothing_unpickles_or_runs_code_from_files():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = {a.name for a in node.names}
                assert not names & {"pickle", "joblib", "dill", "cloudpickle", "yaml", "marshal"}, path
            if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
                unsafe = (node.arg == "weights_only" and node.value.value is False) or (
                    node.arg in {"allow_pickle", "trust_remote_code"} and node.value.value is True
                )
                assert not unsafe, f"{path}: {node.arg}={node.value.value}"
