"""The page: one sound, self-contained, accessible file, quickly made."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import time
from pathlib import Path

import pytest
from report_page import parsed, skeleton, tag_of, words
from report_runs import VARIANTS, many_classes, three_classes

from headstart.records.run import RunFolder
from headstart.report import html
from headstart.report.contents import contents


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_well_formed(variant: str, tmp_path: Path) -> None:
    """A parser in strict mode finds no error, ids are unique, links lead somewhere, headings do not jump."""
    import html5lib

    text = html.render(contents(VARIANTS[variant](tmp_path / "run")))
    root = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    assert {e.get("href", "")[1:] for e in root.iter("a")} <= set(ids)
    levels = [int(tag_of(e)[1]) for e in root.iter() if re.fullmatch(r"h[1-6]", tag_of(e))]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


@pytest.mark.parametrize("variant", VARIANTS)
def test_pictures_charts_and_tables_are_named(variant: str, tmp_path: Path) -> None:
    root = parsed(html.render(contents(VARIANTS[variant](tmp_path / "run"))))
    assert all(e.get("alt") for e in root.iter("img"))
    for svg in root.iter("{http://www.w3.org/2000/svg}svg"):
        spoken = svg.find("{http://www.w3.org/2000/svg}title")
        assert svg.get("aria-hidden") == "true" or (svg.get("role") == "img" and spoken is not None and spoken.text)
    assert all(e.get("scope") for e in root.iter("th"))
    scrolling = [e for e in root.iter("div") if e.get("class") == "scroll"]
    assert all(e.get("tabindex") == "0" and e.get("aria-label") for e in scrolling)
    parents = {child: parent for parent in root.iter() for child in parent}
    assert all(parents[table].get("class") == "scroll" for table in root.iter("table"))


def test_the_policy_lets_in_our_style_sheet_and_nothing_else(ordinary: RunFolder) -> None:
    root = parsed(html.render(contents(ordinary)))
    (style,) = root.iter("style")
    digest = base64.b64encode(hashlib.sha256((style.text or "").encode()).digest()).decode()
    policy = next(e.get("content") for e in root.iter("meta") if e.get("http-equiv") == "Content-Security-Policy")
    assert policy == (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_a_typical_report_is_smaller_than_three_megabytes(ordinary: RunFolder, tmp_path: Path) -> None:
    assert len(html.render(contents(ordinary)).encode()) < 3e6
    assert len(html.render(contents(many_classes(tmp_path / "run"))).encode()) < 3e6


def test_rendering_takes_a_fraction_of_a_second(tmp_path: Path) -> None:
    """0.3 s is the aim; measured: 0.15 s with compiling the templates. Processor time, as machines are shared."""
    run = many_classes(tmp_path / "run")
    html.environment.cache_clear()
    start = time.process_time()
    html.render(contents(run))
    assert time.process_time() - start < 0.9


def test_a_thousand_classes_can_still_be_read(tmp_path: Path) -> None:
    run = many_classes(tmp_path / "run", 1000, thumbnail=lambda label, id: ("", ""))
    text = html.render(contents(run))
    assert "With 1,000 classes the matrix is too large to read" in text
    assert len(text) < 3e6


@pytest.mark.parametrize("k", [2, 14, 15, 100])
def test_the_confusion_matrix_fits_any_number_of_classes(k: int, tmp_path: Path) -> None:
    run = many_classes(tmp_path / "run", k, thumbnail=lambda label, id: ("", ""))
    root = parsed(html.render(contents(run)))
    tables = [e for e in root.iter("table") if "confusion" in (e.get("class") or "")]
    heats = [e for e in root.iter("{http://www.w3.org/2000/svg}svg") if e.get("class") == "heat"]
    assert (len(tables), len(heats)) == ((1, 0) if k <= 14 else (0, 1))


def test_the_report_is_written_whole_and_only_there(tmp_path: Path) -> None:
    run = three_classes(tmp_path / "run")
    before = {p.name: p.read_bytes() for p in run.path.iterdir()}
    path = html.write_report(run)
    assert path == run.report and path.read_text(encoding="utf-8") == html.render(contents(run))
    assert {p.name: p.read_bytes() for p in run.path.iterdir() if p != path} == before


def test_the_same_records_give_the_same_bytes(ordinary: RunFolder) -> None:
    assert html.render(contents(ordinary)) == html.render(contents(ordinary))


def test_a_benign_report_has_no_script_and_no_inline_style(ordinary: RunFolder) -> None:
    found = skeleton(parsed(html.render(contents(ordinary))))
    assert not [tag for tag, attributes in found if tag == "script" or "style" in dict(attributes)]


def test_names_show_once_for_each_file_left_out(ordinary: RunFolder) -> None:
    text = words(parsed(html.render(contents(ordinary))))
    assert text.count("is an HTML page, not an image") == 1


def test_importing_the_report_loads_no_heavy_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys, headstart.report.html; "
        "print([m for m in ('torch', 'sklearn', 'matplotlib', 'pandas', 'PIL', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def colours(css: str) -> dict[str, tuple[float, float, float]]:
    found = re.findall(r"--([a-z-]+): #([0-9a-f]{6})", css)
    return {name: tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)) for name, code in found}  # type: ignore[misc]


def luminance(colour: tuple[float, ...]) -> float:
    """WCAG 2.2, relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(mode: str) -> None:
    """At least 4.5 : 1 for every ink on every ground, the most strongly tinted cell of a matrix included."""
    css = (html.TEMPLATES / "style.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)")[:2]
    c = colours(light if mode == "light" else dark.split("\n}\n")[0])
    for ink in ("ink", "soft", "accent", "warn"):
        for ground in ("paper", "raised"):
            assert contrast(c[ink], c[ground]) >= 4.5, (ink, ground)
    strongest = max(int(n) for n in re.findall(r"--t: (\d+)%", css)) / 100
    for tint in ("accent", "warn"):
        cell = tuple(strongest * t + (1 - strongest) * p for t, p in zip(c[tint], c["paper"], strict=True))
        assert contrast(c["ink"], cell) >= 4.5, tint
