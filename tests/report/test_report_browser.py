"""The report in a real browser: no message on the console, no scrolling sideways, nothing that data brought in runs."""

from __future__ import annotations

import html as text_html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_page import parsed, skeleton
from report_runs import VARIANTS, proved
from test_report_escaping import PAYLOADS, PIXEL, plant

from headstart.records.run import RunFolder
from headstart.report import html
from headstart.report.contents import contents

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)"),
]

# The report itself carries no script, so a page around it looks at its width.
HARNESS = """<!doctype html><body><script>
addEventListener("load", () => {
  const widths = [...document.querySelectorAll("iframe")].map(f => f.contentDocument.documentElement.scrollWidth);
  document.body.dataset.widths = JSON.stringify(widths);
});
</script>%s"""


def browse(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page as the browser has it after loading, and what it wrote to its console."""
    done = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
            *(
                "--host-resolver-rules=MAP * ~NOTFOUND",
                "--allow-file-access-from-files",
                "--enable-logging=stderr",
                "--hide-scrollbars",
            ),
            *("--window-size=1280,2000", f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom"),
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_no_variant_scrolls_sideways_or_complains(tmp_path: Path) -> None:
    frames = []
    for variant, build in VARIANTS.items():
        html.write_report(build(tmp_path / variant))
        for width in (360, 390, 768, 1280):
            frames.append(f'<iframe width="{width}" height="800" frameborder="0" src="{variant}/report.html"></iframe>')
    harness = tmp_path / "harness.html"
    harness.write_text(HARNESS % "".join(frames))
    page, console = browse(harness, tmp_path / "profile")
    found = re.search(r'data-widths="([^"]*)"', page)
    assert found, page[:2000]
    assert json.loads(text_html.unescape(found[1])) == [360, 390, 768, 1280] * len(VARIANTS)
    assert console == []


def test_a_report_full_of_payloads_stays_as_it_was(tmp_path: Path) -> None:
    """Each field holds another of the 64 payloads; the browser's tree must be the parser's, and the console silent."""
    run = RunFolder(proved(tmp_path / "run", thumbnail=lambda label, id: PIXEL).path)
    plant(run, PAYLOADS)
    html.write_report(run)
    before = skeleton(parsed(html.render(contents(run))))
    page, console = browse(run.report, tmp_path / "profile")
    assert skeleton(parsed(page)) == before
    assert console == []
