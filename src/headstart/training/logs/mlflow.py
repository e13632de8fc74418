"""Numbers to an MLflow server or folder."""

from __future__ import annotations

import math
import time

from headstart.base.errors import MissingExtra
from headstart.base.optional import is_installed
from headstart.base.progress import Measured


class MlflowLog:
    """One MLflow run for each training and start, in the experiment 'headstart'. uri: of the tracking server.

    MLflow keeps what it was told, so a training that is taken up again gets a run of its own.
    """

    def __init__(self, uri: str) -> None:
        if not is_installed("mlflow"):
            raise MissingExtra("--log mlflow:… needs the package 'mlflow'. Install it with: pip install mlflow")
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        self._runs: dict[str, str] = {}

    def begin(self, what: str, step: int) -> None:
        found = self._client.get_experiment_by_name("headstart")
        experiment = found.experiment_id if found is not None else self._client.create_experiment("headstart")
        self._runs[what] = self._client.create_run(experiment, run_name=f"{what}, from step {step}").info.run_id

    def add(self, row: Measured) -> None:
        now = int(time.time() * 1000)
        for name, value in row.values.items():
            if math.isfinite(value):
                self._client.log_metric(self._runs[row.what], name, value, timestamp=now, step=row.step)

    def close(self) -> None:
        for run in self._runs.values():
            self._client.set_terminated(run)
