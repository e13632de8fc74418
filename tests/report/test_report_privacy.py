"""E2: a report can be handed round: no folders, no names of people or hosts, no tokens, nothing from elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_page import parsed, tag_of, words
from report_runs import VARIANTS, a_run, name_of, three_classes

from headstart.records.audit import Audit, Cluster, Finding, Quarantined
from headstart.records.evaluation import Evaluation
from headstart.report import html, privacy
from headstart.report.contents import contents

SECRETS = {
    "user in the origin": "alice-the-user",
    "folder in the command": "project-x",
    "folder with a blank": "bob smith",
    "host": "build-host-17",
    "token in the settings": "hf_AbCdEfGhIjKlMnOpQrSt",
    "token in the command": "ghp_abcdefghijklmnopqrstuvwxyz0123",
    "folder in a reason": "carol",
    "folder in a finding": "dave",
    "windows user": "erin",
    "login in an address": "frank:pass",
    "absolute id": "grace",
    "password in the settings": "correct-horse",
    "file address": "heidi",
    "folder of the network": "ivan",
}


def spilling(folder: Path) -> str:
    """A report from records in which every secret has been planted."""
    run = three_classes(folder)
    s = SECRETS
    token = s["token in the command"]
    command = (
        f"headstart fit /home/{s['folder in the command']}/photos --out=/data/{s['folder in the command']}/runs/a "
        f"--weights '/home/{s['folder with a blank']}/w.pth' --note {token}"
    )
    config = {
        "data": {"path": f"/home/{s['folder in the command']}/photos", "hub_token": s["token in the settings"]},
        "note": s["token in the settings"],
        "password": s["password in the settings"],
        "mirror": f"https://{s['login in an address']}@example.org/x",
    }
    machine = {"host": s["host"], "user": s["user in the origin"], "hostname": s["host"], "cpu": "Xeon"}
    backbone = replace(a_run().backbone, notes=(f"read from \\\\nas\\{s['folder of the network']}\\w.pth",))
    run.save(replace(a_run(command), config=config, machine=machine, backbone=backbone))
    audit = run.load(Audit)
    absolute = f"/srv/{s['absolute id']}/cat.jpg"
    run.save(
        replace(
            audit,
            origin=f"/home/{s['user in the origin']}/photos",
            quarantined=(
                Quarantined("a.jpg", "IM26", f"[Errno 13] denied: '/home/{s['folder in a reason']}/a b/a.jpg'"),
            ),
            findings=(
                Finding(
                    "X1",
                    "note",
                    f"see /mnt/{s['folder in a finding']}/list.txt, or C:\\Users\\{s['windows user']}\\x.txt",
                ),
                Finding("X2", "note", f"file:///home/{s['file address']}/x.jpg"),
            ),
            clusters=(Cluster((absolute, absolute + "2"), "exact", ("a", "a")),),
        )
    )
    e = run.load(Evaluation)
    run.save(replace(e, worst=(replace(e.worst[0], id=absolute),)))
    return html.render(contents(run))


@pytest.fixture(scope="module")
def spilt(tmp_path_factory: pytest.TempPathFactory) -> str:
    return spilling(tmp_path_factory.mktemp("secrets") / "textile")


@pytest.mark.parametrize("secret", SECRETS)
def test_no_planted_secret_is_in_the_page(secret: str, spilt: str) -> None:
    assert SECRETS[secret] not in spilt


def test_what_is_needed_to_recognise_a_file_stays(spilt: str) -> None:
    for kept in (
        "…/photos",
        "…/cat.jpg",
        "…/list.txt",
        "…/w.pth",
        "…/a.jpg",
        "--out=…/a",
        "run.json keeps the full line",
    ):
        assert kept in spilt


def test_without_the_door_the_secrets_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "private", lambda value: value)
    assert SECRETS["folder in a finding"] in spilling(tmp_path / "textile")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_report_refers_to_nothing_outside_itself(variant: str, tmp_path: Path) -> None:
    run = VARIANTS[variant](tmp_path / "run")
    text = html.render(contents(run))
    root = parsed(text)
    for element in root.iter():
        assert tag_of(element) not in ("script", "link", "iframe", "object", "embed", "base", "form", "video", "audio")
        for name, value in element.attrib.items():
            assert not name.startswith("on") and name != "style"
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                assert value.startswith(("#", "data:image/jpeg;base64,"))
    style = "".join(e.text or "" for e in root.iter("style"))
    assert "url(" not in style and "@import" not in style
    assert "http" not in words(root).replace("http-equiv", "")
    assert str(tmp_path) not in text


CLEANED = [
    ("/home/alice/photos/cat.jpg", "…/cat.jpg"),
    ("'/home/alice smith/photos'", "'…/photos'"),
    ("cannot read /home/alice/a.jpg: denied", "cannot read …/a.jpg: denied"),
    ("C:\\Users\\alice\\cat.jpg", "…/cat.jpg"),
    ("~alice/photos/cat.jpg", "…/cat.jpg"),
    ("file:///home/alice/cat.jpg", "…/cat.jpg"),
    ("(/a/b)", "(…/b)"),
    ("cat/12.jpg", "cat/12.jpg"),
    ("402 images/s, 3 / 4, and/or, 1/2", "402 images/s, 3 / 4, and/or, 1/2"),
    ("package/efficientnet-lite0", "package/efficientnet-lite0"),
    ("640 × 480", "640 × 480"),
    ("https://example.org/a/b", "https://example.org/a/b"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "expected"), CLEANED)
def test_paths_are_cut_to_their_last_name_and_other_text_is_left_alone(text: str, expected: str) -> None:
    assert privacy.clean(text) == expected


def test_the_home_folder_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/people/alice and bob")
    assert "alice" not in privacy.clean("no room in /people/alice and bob/photos for more")


def test_a_relative_command_is_shown_as_it_was() -> None:
    line = "headstart fit 'my photos' --out runs/a --set training.batch_size=32"
    assert privacy.command(line) == line


def test_a_command_that_cannot_be_parsed_is_cleaned_as_text() -> None:
    assert privacy.command("fit /home/alice/a 'broken") == "fit …/a 'broken"


def test_long_texts_are_cut() -> None:
    assert len(privacy.clean("x" * 10_000)) == privacy.LONGEST + 1


def test_settings_are_flat_and_secrets_masked() -> None:
    flat = privacy.settings({"a": {"b": 1, "api_key": "xyz"}, "c": [1, 2], "d": None, "e": True, "f": {}})
    assert flat == {"a.b": "1", "a.api_key": "•••", "c": "1, 2", "d": "none", "e": "true", "f": "{}"}


def test_an_id_with_a_folder_above_still_finds_its_picture(tmp_path: Path) -> None:
    run = three_classes(tmp_path / "run")
    text = run.pictures.read_text().replace(name_of("global", 20), "/srv/photos/g20.jpg")
    run.pictures.write_text(text)
    e = run.load(Evaluation)
    run.save(replace(e, worst=(replace(e.worst[0], id="/srv/photos/g20.jpg"),)))
    picture = contents(run)["mistakes"]["worst"][0]["picture"]
    assert picture["name"] == "…/g20.jpg" and re.match("data:image/jpeg", picture["shown"])
