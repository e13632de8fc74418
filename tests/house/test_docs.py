"""What code and pages both say is compared: flags, names, fields, codes, rooms, paths, links.

The code blocks of the pages are run by docs_code.py. The rows of the tables of flags are printed by:
python -m tests.house.test_docs
"""

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main
from tests.house.docs_code import PAGES, RUN, blocks
from tests.house.test_floors import LINES

import headstart
from headstart.adapt import plan
from headstart.adapt.heads.choose import HEADS
from headstart.adapt.strategies import STRATEGIES, Options
from headstart.backbones.catalogue import SOURCES
from headstart.base import errors
from headstart.bundle import manifest
from headstart.cli.main import app
from headstart.data.readers import READERS
from headstart.evaluation.scores import SCORES
from headstart.inputs.spec import ImageSpec
from headstart.records import audit, evaluation, few_shot, heads, history, ladder, proof, ranking, run
from headstart.records.blocks import BlockRecord, BlocksRecord
from headstart.records.estimate import Estimate
from headstart.training.checkpoint import CheckpointManifest
from headstart.workflow import config
from headstart.workflow.run import Run

ROOT = Path(__file__).parents[2]
SOURCE = Path(headstart.__file__).parent
DOCS = ROOT / "docs"
PROSE = [*PAGES, ROOT / "changes" / "README.md"]
KINDS_OF_CHANGE = ("added", "changed", "fixed", "removed")


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    level = heading.partition(" ")[0]
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.S | re.M)
    assert found, f"{page.name} has no section '{heading}'"
    return found[1]


def ticked(text: str) -> set[str]:
    """Everything between backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


# ------------------------------------------------------------------------------------------------------- command line

VERBS = dict(sorted(typer.main.get_command(app).commands.items()))
COMMAND_LINE = DOCS / "reference" / "command-line.md"


def is_argument(parameter) -> bool:
    return isinstance(parameter, click.Argument) or parameter.param_type_name == "argument"


def rows(verb: str) -> list[str]:
    """One row of the page's table for each flag of a verb: names, default, help."""
    found = []
    for p in VERBS[verb].params:
        if not is_argument(p) and p.name != "help":
            flags = ", ".join(f"`{flag}`" for flag in [*p.opts, *p.secondary_opts])
            default = "" if p.default is None or isinstance(p.default, bool) else f"`{p.default}`"
            found.append(f"| {flags} | {default} | {p.help.replace('<', '&lt;')} |")
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_the_reference_has_every_flag_of_the_verb(verb):
    text = section(COMMAND_LINE, f"## headstart {verb}")
    missing = [row for row in rows(verb) if row not in text]
    assert not missing, "rows for the table (python -m tests.house.test_docs):\n" + "\n".join(missing)
    for argument in (p for p in VERBS[verb].params if is_argument(p)):
        assert f"`{argument.name}`" in text, f"argument {argument.name}"
    known = {flag for p in VERBS[verb].params for flag in [*p.opts, *p.secondary_opts]}
    named = {t.split()[0] for t in ticked(text) if t.startswith("-")}
    assert named <= known | {"--help", "-h"}, f"flags that '{verb}' does not have"


def test_the_reference_has_no_other_verbs():
    assert re.findall(r"^## headstart (\w+)", COMMAND_LINE.read_text(), re.M) == list(
        dict.fromkeys(["inspect", "rank", "plan", "fit", "evaluate", "predict", "report", "models", "doctor", *VERBS])
    )


@pytest.mark.parametrize("page", PROSE, ids=lambda p: p.name)
def test_pages_name_only_flags_that_exist(page):
    known = {flag for verb in VERBS.values() for p in verb.params for flag in [*p.opts, *p.secondary_opts]}
    known |= {"--help", "--version", "-h"}
    named = {t.split()[0] for t in ticked(page.read_text()) if re.match(r"--[a-z]", t)}
    assert named <= known


# ------------------------------------------------------------------------------------------------------------- Python

PYTHON = DOCS / "reference" / "python.md"


@pytest.mark.parametrize("name", headstart.__all__)
def test_the_reference_has_every_public_name_with_its_parameters(name):
    text = section(PYTHON, f"## {name}")
    value = getattr(headstart, name)
    if callable(value) and not (inspect.isclass(value) and issubclass(value, BaseException)):
        parameters = [p for p in inspect.signature(value).parameters if p not in ("self", "args", "kwargs")]
        if name not in ("Predictor", "Evaluation"):  # not made by users; the fields of the latter are in formats.md
            missing = set(parameters) - ticked(text)
            assert not missing, f"{name}: parameters {sorted(missing)} are not in the reference"


def test_the_reference_has_no_other_names():
    assert set(re.findall(r"^## (\w+)$", PYTHON.read_text(), re.M)) == set(headstart.__all__)


@pytest.mark.parametrize("name", ["Predictor", "Dataset", "catalogue", "TransferClassifier", "Run"])
def test_the_reference_has_the_methods_people_call(name):
    value = Run if name == "Run" else getattr(headstart, name)
    kind = value if inspect.isclass(value) else type(value)
    methods = {n for n, v in vars(kind).items() if not n.startswith("_") and (callable(v) or hasattr(v, "func"))}
    text = section(PYTHON, "### Run" if name == "Run" else f"## {name}")
    missing = {m for m in methods if not re.search(rf"`\.?{m}\b", text)}
    assert not missing


# ------------------------------------------------------------------------------------------------------------ formats

FORMATS = DOCS / "reference" / "formats.md"
RECORDS = (
    *(run.RunRecord, run.BackboneRecord, run.FeatureRecord, run.RunnerTrial),
    *(audit.Audit, audit.Quarantined, audit.Finding, audit.Cluster, audit.Leak, audit.SplitRecord),
    *(heads.HeadRecord, heads.HeadTrial, Estimate),
    *(ladder.LadderRecord, ladder.Rung, ladder.Candidate),
    *(plan.Plan, plan.Phase, plan.Schedule, plan.Penalty, plan.Surgery, plan.Optimizer, plan.Loss, plan.Head),
    *(ranking.RankRecord, ranking.RankedCandidate, ranking.RankRound, ranking.RankCost),
    *(proof.ProofRecord, proof.Rival, proof.Multiplier, proof.LearningCurve, proof.CurvePoint, proof.PowerLaw),
    *(few_shot.FewShotRecord, few_shot.FewShotPoint),
    *(BlocksRecord, BlockRecord, manifest.BlockFacts),
    *(history.History, history.PhaseRecord, history.StepRecord, history.ValidationRecord, CheckpointManifest),
    *(evaluation.Evaluation, evaluation.ClassScores, evaluation.Bin, evaluation.Baseline, evaluation.Verdict),
    *(evaluation.Example, evaluation.LabelIssue),
    *(manifest.Manifest, manifest.TaskFacts, manifest.HeadFacts, manifest.ScoreFacts, manifest.FileFacts),
    *(config.FitConfig, config.DataConfig, config.TuneConfig, Options, ImageSpec),
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.__name__)
def test_the_reference_has_every_field_of_the_record(record):
    text = section(FORMATS, f"### {record.__name__}")
    fields = {f.name for f in dataclasses.fields(record)}
    in_table = {name for row in re.findall(r"^\| (`.*?) \|", text, re.M) for name in ticked(row)}
    assert in_table == fields


def test_the_reference_has_every_file_of_a_run_folder():
    names = {p.fget(run.RunFolder(Path())).name for p in vars(run.RunFolder).values() if isinstance(p, property)}
    assert names <= {t.rstrip("/") for t in ticked(section(FORMATS, "## The run folder"))}


def test_the_reference_has_every_file_of_a_model_folder():
    names = {
        manifest.MANIFEST,
        manifest.WEIGHTS,
        manifest.CONFIG,
        manifest.PREPROCESSOR,
        manifest.CARD,
        manifest.LABELS,
    }
    assert names <= ticked(section(FORMATS, "## The model folder"))


def test_every_score_is_explained():
    text = ticked(section(FORMATS, "### Scores"))
    assert {name for names in SCORES.values() for name in names} | {"ece", "ece_before"} <= text


# ------------------------------------------------------------------------------------------------------------- errors

ERRORS = DOCS / "reference" / "errors.md"
CODE = re.compile(r"\b(?:AU|CF|CK|DA|EN|FE|IM|PL|RK|TB|TR|TX|ZS)\d\d\b")


def texts(path: Path) -> Iterator[str]:
    """The strings of a module that can reach a user: all but docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_every_code_in_the_source_is_explained_and_no_other():
    in_source = {code for path in SOURCE.rglob("*.py") for text in texts(path) for code in CODE.findall(text)}
    listed = set(re.findall(r"^\| ([A-Z]{2}\d\d) \|", ERRORS.read_text(), re.M))
    assert listed == in_source


def test_a_code_of_plans_or_training_means_one_thing():
    """Numbers are given out by hand; two rooms that take the same one tell users two things by it."""
    rooms: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        for code in (code for text in texts(path) for code in CODE.findall(text) if code[:2] in ("PL", "TR")):
            rooms.setdefault(code, set()).add(path.relative_to(SOURCE).parts[0])
    assert rooms and not {code: found for code, found in rooms.items() if len(found) > 1}


def test_every_error_class_has_its_exit_code_in_the_reference():
    text = section(ERRORS, "## Exit codes")
    for kind in vars(errors).values():
        if inspect.isclass(kind) and issubclass(kind, errors.HeadstartError):
            assert re.search(rf"^\| {kind.exit_code} \|.*`{kind.__name__}`", text, re.M), kind.__name__


# --------------------------------------------------------------------------------------------------------------- house

HOUSE = DOCS / "house.md"


def test_every_path_in_the_map_of_the_house_exists():
    named = {t.rstrip("/") for t in ticked(HOUSE.read_text()) if "/" in t and re.fullmatch(r"[\w./-]+", t)}
    missing = [n for n in named if not (ROOT / n).exists() and not (SOURCE / n).exists()]
    assert len(named) > 20 and not missing


def test_the_import_table_is_the_one_that_is_tested():
    text = HOUSE.read_text()
    drawn = re.search(r"```text\n(.*?)```", text, re.S)[1]
    lines = [re.findall(r"[a-z]+", line.split("  ")[0]) for line in drawn.splitlines() if line.strip()]
    assert [set(names) for names in reversed(lines)] == LINES


def test_every_room_and_its_files_are_on_the_map():
    text = section(HOUSE, "## The rooms")
    rooms = {p.name for p in SOURCE.iterdir() if p.is_dir() and not p.name.startswith("__")}
    assert {f"{room}/" for room in rooms} <= ticked(text)


def test_the_lists_that_one_adds_to_are_where_the_map_says():
    text = section(HOUSE, "## I want to…")
    assert READERS and SOURCES and HEADS and STRATEGIES
    assert {"READERS", "SOURCES", "HEADS", "STRATEGIES"} <= ticked(text)


def test_every_strategy_can_be_chosen_from_the_how_to():
    text = section(DOCS / "how-to" / "choose-a-strategy.md", "## Which one")
    assert {strategy.name for strategy in STRATEGIES} <= ticked(text)


def test_every_option_is_explained_in_the_how_to():
    text = section(DOCS / "how-to" / "choose-a-strategy.md", "## What you can choose with any of them")
    assert {field.name for field in dataclasses.fields(Options)} <= ticked(text)


# --------------------------------------------------------------------------------------------------------- every page


@pytest.mark.parametrize("page", PROSE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", page.read_text()):
        link = target[0] or target[1]
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", place.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, link


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_code_is_run_or_says_why_not(page):
    for block in blocks(page):
        assert block.language in (*RUN, "text", "json"), f"{block.place}: ```{block.language}"
        if "not run" in block.remarks:
            assert len(block.remarks["not run"]) > 10, f"{block.place}: a reason"
        elif re.search(r"^(\$ )?(make|pip) ", block.text, re.M) and block.language in RUN:
            raise AssertionError(f"{block.place}: make and pip are not run in a test; say so")


@pytest.mark.parametrize("page", PROSE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_line_of_prose_holds_one_sentence(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    for line in text.splitlines():
        if line.strip() and not line.strip().startswith(("|", "<", "#")) and not re.match(r"\s*(-|\d+\.) ", line):
            bare = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)", "x", line)
            assert not re.search(r"[a-zx)][.!?] [A-Z]", bare), f"{page.name}: {line}"


def test_every_page_can_be_reached_from_the_readme():
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page.resolve())
        links = re.findall(r"\]\(([^)\s#]+\.md)", page.read_text())
        targets = [(page.parent / link).resolve() for link in links if "://" not in link]
        waiting += [t for t in targets if t not in seen and t.exists()]
    assert {p.resolve() for p in PAGES} <= seen


def test_pictures_are_small():
    for picture in (DOCS / "pictures").iterdir():
        assert picture.stat().st_size < 300_000, picture.name


def test_news_fragments_are_named_by_issue_part_and_kind():
    fragments = [p for p in (ROOT / "changes").iterdir() if p.name != "README.md"]
    assert fragments
    for path in fragments:
        assert re.fullmatch(rf"\d+(-[a-z-]+)?\.({'|'.join(KINDS_OF_CHANGE)})\.md", path.name), path.name
        assert path.read_text().strip()


if __name__ == "__main__":
    for verb_name in VERBS:
        sys.stdout.write(f"\n## headstart {verb_name}\n\n| flag | default | |\n|---|---|---|\n")
        sys.stdout.write("\n".join(rows(verb_name)) + "\n")
