"""Run folders for the tests of the report; the builders are in report_runs.py."""

from __future__ import annotations

import pytest
from report_runs import three_classes

from headstart.records.run import RunFolder


@pytest.fixture(scope="session")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run of three classes; shared, so read only."""
    return three_classes(tmp_path_factory.mktemp("report") / "textile")
