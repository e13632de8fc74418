"""headstart: transfer learning you can trust.

The public names are loaded on first use (PEP 562), so that importing headstart costs nothing and does nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "BackboneCard": "headstart.backbones.card",
    "Dataset": "headstart.data.dataset",
    "Evaluation": "headstart.records.evaluation",
    "FitConfig": "headstart.workflow.config",
    "HeadstartError": "headstart.base.errors",
    "Predictions": "headstart.records.predictions",
    "Predictor": "headstart.bundle.predictor",
    "TransferClassifier": "headstart.estimators",
    "TransferRegressor": "headstart.estimators",
    "catalogue": "headstart.backbones.catalogue",
    "evaluate": "headstart.workflow.evaluate",
    "fit": "headstart.workflow.fit",
    "inspect": "headstart.workflow.inspect",
    "load": "headstart.bundle.load",
    "open_dataset": "headstart.data.open",
    "predict": "headstart.workflow.predict",
    "rank": "headstart.workflow.rank",
    "zero_shot": "headstart.workflow.zero_shot",
}

__all__ = [
    "BackboneCard",
    "Dataset",
    "Evaluation",
    "FitConfig",
    "HeadstartError",
    "Predictions",
    "Predictor",
    "TransferClassifier",
    "TransferRegressor",
    "__version__",
    "catalogue",
    "evaluate",
    "fit",
    "inspect",
    "load",
    "open_dataset",
    "predict",
    "rank",
    "zero_shot",
]

if TYPE_CHECKING:
    from headstart.backbones.card import BackboneCard
    from headstart.backbones.catalogue import catalogue
    from headstart.base.errors import HeadstartError
    from headstart.bundle.load import load
    from headstart.bundle.predictor import Predictor
    from headstart.data.dataset import Dataset
    from headstart.data.open import open_dataset
    from headstart.estimators import TransferClassifier, TransferRegressor
    from headstart.records.evaluation import Evaluation
    from headstart.records.predictions import Predictions
    from headstart.workflow.config import FitConfig
    from headstart.workflow.evaluate import evaluate
    from headstart.workflow.fit import fit
    from headstart.workflow.inspect import inspect
    from headstart.workflow.predict import predict
    from headstart.workflow.rank import rank
    from headstart.workflow.zero_shot import zero_shot


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'headstart' has no attribute '{name}'")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
