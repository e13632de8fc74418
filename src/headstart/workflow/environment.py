"""Where this runs: versions and machine, for the record. No user name, host name or path."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "timm", "transformers", "openvino", "numpy", "pillow", "pyarrow", "scikit-learn")


def versions() -> dict[str, str]:
    """headstart, Python and the libraries that results depend on; absent ones are left out."""
    from headstart import __version__

    found = {"headstart": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Operating system, processor, cores, memory."""
    facts = {"system": f"{platform.system()} {platform.machine()}", "cores": str(os.cpu_count() or 1)}
    processor = _processor()
    if processor:
        facts["processor"] = processor
    memory = _memory_gib()
    if memory:
        facts["memory"] = f"{memory:.0f} GiB"
    return facts


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _memory_gib() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return 0.0
