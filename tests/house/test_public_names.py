"""What `import headstart` shows, and what it costs."""

import subprocess
import sys

import headstart


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_sorted_and_importable():
    assert headstart.__all__ == sorted(headstart.__all__, key=lambda n: (n.startswith("_"), n)) or sorted(
        headstart.__all__
    ) == sorted({*headstart._WHERE, "__version__"})
    for name in headstart.__all__:
        assert getattr(headstart, name) is not None


def test_all_names_what_can_be_loaded_and_nothing_else():
    assert set(headstart.__all__) == {*headstart._WHERE, "__version__"}


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(headstart, "fitt")


def test_importing_headstart_imports_nothing_heavy():
    heavy = ("torch", "sklearn", "numpy", "timm", "PIL", "pyarrow")
    code = f"import sys, headstart; print([m for m in {heavy} if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_help_imports_neither_torch_nor_sklearn():
    code = (
        "import sys\nfrom headstart.cli.main import run\n"
        "for words in (['--help'], ['fit', '--help'], ['models', '--help']): assert run(words) == 0, words\n"
        "print([m for m in ('torch', 'sklearn', 'timm', 'pyarrow') if m in sys.modules])"
    )
    assert run(code).strip().splitlines()[-1] == "[]"


def test_importing_headstart_prints_nothing_and_sets_nothing():
    code = (
        "import os, sys, random, warnings, numpy, typer  # these set what they set\n"
        "before = (dict(os.environ), list(warnings.filters), random.getstate())\n"
        "import headstart, headstart.cli.main, headstart.records.run, headstart.data.dataset\n"
        "assert before == (dict(os.environ), list(warnings.filters), random.getstate())"
    )
    assert run(code) == ""
