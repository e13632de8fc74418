"""What each modality adds to the stories. One file a modality; EVIDENCE is the table of them."""

from __future__ import annotations

from headstart.workflow.modalities.audio import AudioEvidence
from headstart.workflow.modalities.evidence import Evidence, Shown
from headstart.workflow.modalities.image import ImageEvidence
from headstart.workflow.modalities.mixed import MixedEvidence
from headstart.workflow.modalities.text import TextEvidence
from headstart.workflow.modalities.vector import VectorEvidence

EVIDENCE: dict[str, Evidence] = {
    "audio": AudioEvidence(),
    "image": ImageEvidence(),
    "mixed": MixedEvidence(),
    "text": TextEvidence(),
    "vector": VectorEvidence(),
}

__all__ = ["EVIDENCE", "Evidence", "Shown"]
