"""The figures that headstart promises, measured: ``python -m benchmarks.run``.

Each module is one figure: TITLE, PREDICTED (written before the first full run), EXCLUDED (what the clock does not
count) and ``measure``. Comparisons are ratios of times taken in turns within one run, medians of at least three rounds
unless the figure says otherwise. Nothing here is a test: no number decides whether the suite passes.
"""
