"""Transferability scores: arrays in, a number out. numpy only; one file each, listed in SCORES."""

from __future__ import annotations

from headstart.ranking.scores.gbc import GBC
from headstart.ranking.scores.hscore import HScore
from headstart.ranking.scores.knn import KNN
from headstart.ranking.scores.lda import LDA
from headstart.ranking.scores.leep import LEEP
from headstart.ranking.scores.logme import LogME
from headstart.ranking.scores.nce import NCE
from headstart.ranking.scores.nleep import NLEEP
from headstart.ranking.scores.parc import PARC
from headstart.ranking.scores.ridge_loo import RidgeLoo
from headstart.ranking.scores.score import Score
from headstart.ranking.scores.sfda import SFDA
from headstart.ranking.scores.source_distance import SourceDistance
from headstart.ranking.scores.transrate import TransRate

SCORES: tuple[Score, ...] = (
    RidgeLoo(),  # the default
    LogME(),
    HScore(),
    LDA(),
    KNN(),
    NLEEP(),
    LEEP(),
    NCE(),
    GBC(),
    TransRate(),
    PARC(),
    SFDA(),
    SourceDistance(),
)
