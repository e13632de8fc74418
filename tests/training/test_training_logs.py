"""Numbers of a training in other programs' files, read back; and what a log that fails costs."""

import csv
import json
import struct

import pytest
from tests.training.toys import bits, fit, toy_model, validation_of

from headstart.adapt.plan import HEAD, Phase, Plan
from headstart.base.errors import DataError, MissingExtra
from headstart.base.progress import QUIET, Advanced, Measured, Said
from headstart.training.checkpoint import Checkpoints
from headstart.training.logs import Logged, open_log
from headstart.training.loop import LoopSettings

PLAN = Plan("mine", (Phase("head", 8, {HEAD: 1e-2}),), batch_size=4, validations=2)


def jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def long_form(path):
    return list(csv.DictReader(path.open()))


def crc32c(data):
    """Bit by bit; ours goes by a table."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def fields(message):
    """(number, value) of a protobuf message."""
    i = 0

    def varint():
        nonlocal i
        value = shift = 0
        while True:
            byte = message[i]
            i += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while i < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 5: 4}.get(kind) or varint()
            yield key >> 3, message[i : i + size]
            i += size


def events(folder):
    """[(step, {name: value} or the step from which all is forgotten)] of all event files, oldest first."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, i = path.read_bytes(), 0
        while i < len(data):
            (size,) = struct.unpack("<Q", data[i : i + 8])
            assert crc32c(data[i : i + 8]) == struct.unpack("<I", data[i + 8 : i + 12])[0]
            event = data[i + 12 : i + 12 + size]
            assert crc32c(event) == struct.unpack("<I", data[i + 12 + size : i + 16 + size])[0]
            i += 16 + size
            parts = dict(fields(event))
            if 7 in parts:
                found = [(s, v) for s, v in found if s < parts[2]]
            if 5 in parts:
                pairs = [dict(fields(value)) for number, value in fields(parts[5]) if number == 1]
                values = {p[1].decode(): struct.unpack("<f", p[2])[0] for p in pairs}
                found.append((parts[2], values))
    return found


def trained(observer, **changes):
    model = toy_model()
    return model, fit(model, PLAN, validate=validation_of(model), observer=observer, **changes).history


def test_every_log_holds_each_step_each_validation_and_the_end(tmp_path):
    wishes = [f"csv:{tmp_path / 'a.csv'}", f"jsonl:{tmp_path / 'b' / 'a.jsonl'}", f"tensorboard:{tmp_path / 'tb'}"]
    logged = Logged(QUIET, wishes)
    _, history = trained(logged)
    logged.close()
    rows = jsonl(tmp_path / "b" / "a.jsonl")
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 9))
    assert [row["loss"] for row in steps] == [row.loss for row in history.steps]
    assert [row["rate"] for row in steps] == pytest.approx([1e-2 * row.share for row in history.steps])
    checked = [(row["step"], row["validation_score"]) for row in rows if "validation_score" in row]
    assert checked == [(row.step, row.score) for row in history.validations]
    assert rows[-1]["steps"] == 8 and rows[-1]["best_step"] == history.best_step
    long = [(r["training"], int(r["step"]), r["name"], float(r["value"])) for r in long_form(tmp_path / "a.csv")]
    assert long == [("training", r["step"], k, v) for r in rows for k, v in r.items() if k not in ("training", "step")]
    seen = events(tmp_path / "tb" / "training")
    assert [(s, list(v)) for s, v in seen] == [(r["step"], list(r)[2:]) for r in rows]
    assert [v["loss"] for _, v in seen if "loss" in v] == pytest.approx([r["loss"] for r in steps], rel=1e-6)


class Killed(BaseException):
    """Nobody outlives it, and no log is closed."""


def test_a_training_that_is_taken_up_again_has_no_step_twice(tmp_path):
    """Killed after step 6, three steps after its last checkpoint, in the middle of a line."""
    wishes = [f"csv:{tmp_path / 'a.csv'}", f"jsonl:{tmp_path / 'a.jsonl'}", f"tensorboard:{tmp_path / 'tb'}"]
    first = Logged(QUIET, wishes)

    def dying(event):
        first(event)
        if isinstance(event, Measured) and event.step == 6:
            raise Killed

    settings = LoopSettings(checkpoint_every=3)
    with pytest.raises(Killed):
        trained(dying, checkpoints=Checkpoints(tmp_path / "c", run_id="test"), settings=settings)
    for path in (tmp_path / "a.csv", tmp_path / "a.jsonl"):
        path.write_bytes(path.read_bytes()[:-7])
    trained(Logged(QUIET, wishes), checkpoints=Checkpoints(tmp_path / "c", run_id="test"), settings=settings)
    assert [r["step"] for r in jsonl(tmp_path / "a.jsonl") if "loss" in r] == list(range(1, 9))
    assert [int(r["step"]) for r in long_form(tmp_path / "a.csv") if r["name"] == "loss"] == list(range(1, 9))
    assert [s for s, v in events(tmp_path / "tb" / "training") if "loss" in v] == list(range(1, 9))


def test_trainings_of_one_name_are_told_apart(tmp_path):
    logged = Logged(QUIET, [f"jsonl:{tmp_path / 'a.jsonl'}"])
    for _ in range(2):
        trained(logged)
    names = [row["training"] for row in jsonl(tmp_path / "a.jsonl")]
    assert set(names) == {"training", "training (2)"} and names.count("training") == names.count("training (2)")


def test_a_log_that_fails_is_said_once_and_costs_no_bit(tmp_path):
    said, path = [], tmp_path / "logs" / "a.jsonl"
    logged = Logged(lambda event: said.append(event) if isinstance(event, Said) else None, [f"jsonl:{path}"])

    def breaking(event):
        if isinstance(event, Advanced) and event.done == 3:
            path.unlink()
            path.mkdir()  # nothing can be appended to a folder
        logged(event)

    model, _ = trained(breaking)
    alone, _ = trained(QUIET)
    warnings = [event.text for event in said if event.kind == "warning"]
    assert len(warnings) == 1 and "goes on without it" in warnings[0]
    assert bits(model) == bits(alone)


def test_other_words_are_no_log(tmp_path):
    for wish in ("jsnl:a", "csv", "csv:", "a.csv"):
        with pytest.raises(DataError, match="csv:PATH"):
            open_log(wish)


def test_a_missing_package_is_said_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr("headstart.training.logs.mlflow.is_installed", lambda name: False)
    with pytest.raises(MissingExtra, match="pip install mlflow"):
        open_log("mlflow:http://localhost:5000")
