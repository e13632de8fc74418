"""E1: nothing that came from data becomes markup.

64 payloads stand one after another in every text of every record: class, file, column, metric, setting, finding,
reason, error, version, machine, command, model facts. The page is parsed as a browser would and must have the same
elements and attributes as with harmless words in the same places.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from report_page import parsed, skeleton, words
from report_runs import proved

from headstart.records.run import RunFolder
from headstart.report import html, plots
from headstart.report.contents import contents

# Closed lists of our own words, not text from data.
CLOSED = {
    "run.json": {"status", "created"},
    "audit.json": {"severity", "kind", "target"},
    "split.json": {"how"},
    "heads.json": {"balance"},
    "ladder.json": {"stopped_because"},
    "proof.json": {"how", "kind", "against"},
    "evaluation.json": {"task", "how"},
    "pictures.json": {"shown", "seen"},
}
FREE_KEYS = {  # mappings whose keys come from data or from the user
    *("counts", "counts_train", "counts_test", "skipped", "modes", "notes", "config", "versions", "machine"),
    *("metrics", "scores", "setting", "preprocessing", "pictures", "samples", "data", "backbone_config", "evaluation"),
    *("lr", "rates"),
}
PIXEL = (
    "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
    "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
)

PAYLOADS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//x.example/x.js></SCRIPT>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "'><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "` onmouseover=`alert(1)",
    "x onfocus=alert(1) autofocus",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</desc></svg><script>alert(1)</script>",
    "</text><foreignObject><iframe srcdoc=x></iframe></foreignObject>",
    "<style>*{display:none}</style>",
    "<link rel=stylesheet href=//x.example/x.css>",
    "<iframe src=javascript:alert(1)></iframe>",
    '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
    "<object data=data:text/html;base64,PHNjcmlwdD4=></object>",
    "<embed src=//x.example/x.swf>",
    "<base href=//x.example/>",
    "<meta http-equiv=refresh content='0;url=//x.example'>",
    "<meta http-equiv=Content-Security-Policy content=script-src*>",
    "<form action=//x.example><input name=q><button>go</button></form>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "javascript:alert(1)",
    "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==",
    "<body onload=alert(1)>",
    "<html onclick=alert(1)>",
    "</body></html><script>alert(1)</script>",
    "<!-- comment --><b>",
    "--><script>alert(1)</script><!--",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version='1.0'?><x/>",
    "<!doctype html><script>alert(1)</script>",
    "<textarea></textarea><script>alert(1)</script>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><script>alert(1)</script></template>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)>",
    "<audio src=x onerror=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<select onchange=alert(1)><option>1",
    "<marquee onstart=alert(1)>",
    "<x contenteditable onblur=alert(1)>y",
    "<p style=background:url(//x.example)>",
    "{{ 7 * 7 }}",
    "{% raw %}<b>{% endraw %}",
    "${7*7} #{7*7} <%= 7*7 %>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&quot; onload=&quot;alert(1)",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "＜script＞alert(1)＜/script＞",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "<\tscript\n>alert(1)</\tscript\n>",
    "\u202e<b>gpj.exe",
    "\x1b]8;;http://x.example\x07<b>\x1b[31m",
    "a" * 900 + "<script>alert(1)</script>",
]


def plant(run: RunFolder, payloads: Sequence[str]) -> None:
    """Put a payload into every free text of every record, in place; equal texts stay equal, others differ."""
    seen: dict[str, str] = {}

    def text(value: str) -> str:
        # a path in each, so that the sentence about shortened paths stands in every page
        payload = payloads[len(seen) % len(payloads)]
        return seen.setdefault(value, f"{len(seen)} /a/b {payload} {len(seen)}")

    def walk(value: Any, closed: set[str], key: str = "") -> Any:
        if isinstance(value, dict):
            free = key in FREE_KEYS
            return {text(k) if free else k: v if k in closed else walk(v, closed, k) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(v, closed) for v in value]
        return text(value) if isinstance(value, str) and value else value

    for name, closed in CLOSED.items():
        path = run.path / name
        path.write_text(json.dumps(walk(json.loads(path.read_text()), closed)))


@pytest.fixture
def planted(tmp_path: Path) -> Callable[[str], RunFolder]:
    def make(payload: str) -> RunFolder:
        run = proved(tmp_path / "textile", thumbnail=lambda label, id: PIXEL)
        plant(run, [payload])
        return run

    return make


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = proved(tmp_path_factory.mktemp("harmless") / "textile", thumbnail=lambda label, id: PIXEL)
    plant(run, ["plain"])
    return skeleton(parsed(html.render(contents(run))))


def test_there_are_sixty_four_payloads() -> None:
    assert len(set(PAYLOADS)) == 64


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_no_text_from_data_becomes_markup(payload: str, planted: Callable[[str], RunFolder], harmless: Any) -> None:
    found = skeleton(parsed(html.render(contents(planted(payload)))))
    assert found - harmless == {} and harmless - found == {}


def test_the_payloads_reach_more_than_forty_fields_of_the_page(tmp_path: Path) -> None:
    run = proved(tmp_path / "textile", thumbnail=lambda label, id: PIXEL)
    visible = 0
    for name in [n for n in CLOSED if n != "pictures.json"]:
        path = run.path / name
        original = path.read_text()
        values = json.loads(original)
        for where, marked in one_by_one(values, CLOSED[name], name):
            path.write_text(json.dumps(marked))
            page = json.dumps(contents(run))
            assert where
            visible += "M4RK" in page
        path.write_text(original)
    assert visible >= 40


def one_by_one(values: Any, closed: set[str], where: str) -> list[tuple[str, Any]]:
    """The record once for each kind of text in it, with a mark in that text."""
    found: dict[str, Any] = {}

    def walk(value: Any, path: tuple[Any, ...]) -> None:
        if isinstance(value, dict):
            for k, v in value.items():
                if k not in closed:
                    walk(v, (*path, k))
        elif isinstance(value, list):
            for i, v in enumerate(value):
                walk(v, (*path, i))
        elif isinstance(value, str) and value:
            name = ".".join("[]" if isinstance(p, int) else p for p in path)
            if name not in found and name not in ("headline", "metric"):
                copy = json.loads(json.dumps(values))
                target = copy
                for step in path[:-1]:
                    target = target[step]
                target[path[-1]] = "M4RK"
                found[name] = copy

    walk(values, ())
    return [(f"{where}:{name}", copy) for name, copy in found.items()]


def test_without_autoescape_the_check_fails(planted: Callable[[str], RunFolder], harmless: Any) -> None:
    careless = html.environment().overlay(autoescape=False)
    page = contents(planted("<img src=x onerror=alert(1)>"))
    found = skeleton(parsed(careless.get_template("page.html").render(page=page, **html.page_style())))
    assert found - harmless


def test_without_escaping_in_plots_the_check_fails(
    planted: Callable[[str], RunFolder], harmless: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = contents(planted("<img src=x onerror=alert(1)>"))
    page["results"]["confusion"]["classes"] = 15  # the matrix is drawn by plots from 15 classes on
    benign = skeleton(parsed(html.render(page)))
    monkeypatch.setattr(plots, "escape", lambda value: value)
    assert skeleton(parsed(html.render(page))) - benign


def test_the_large_matrix_escapes_its_labels() -> None:
    labels = [f"{i} {payload}" for i, payload in enumerate(PAYLOADS[:20])]
    rows = [[3 if i == j else int(abs(i - j) == 1) for j in range(20)] for i in range(20)]
    hostile = plots.heat(labels, rows, [sum(r) for r in rows])
    benign = plots.heat([str(i) for i in range(20)], rows, [sum(r) for r in rows])
    assert skeleton(parsed(hostile)) == skeleton(parsed(benign))


SPOOFS = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "a\rb",
    "a\nb",
    "gpj.\u202eexe",
    "\u2066isolate\u2069",
    "zero\u200bwidth",
    "bom\ufeff",
    "nul\x00byte",
    "\udcff\udcfe",
    "\ud83d",
    "line\u2028separator",
    "\x85next line",
    "\x7fdelete",
]


@pytest.mark.parametrize("name", SPOOFS, ids=range(len(SPOOFS)))
def test_control_and_direction_characters_show_as_escapes(name: str, planted: Callable[[str], RunFolder]) -> None:
    run = planted(name)
    html.write_report(run)
    text = words(parsed(run.report.read_bytes().decode("utf-8")))
    bad = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
    assert not bad.search(text)
    assert "\\x" in text or "\\u" in text or "\\n" in text or "\\r" in text
