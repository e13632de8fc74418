"""Weights from the network, only when asked for and allowed. What arrives is read like any other untrusted file."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from headstart.backbones.sources.listing import torch_cache
from headstart.base.errors import EnvironmentFault, Refused, listed, shown
from headstart.base.files import make_folder, read_json


def from_hub(backbone: str, repository: str, *, offline: bool, filename: str = "model.safetensors") -> Path:
    """The file of a Hugging Face repository, from the cache or else fetched into it. EnvironmentFault if it cannot."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    # The root of its HTTP errors; which library that comes from (requests, httpx, …) changes with the version.
    http_error: type[Any] = HfHubHTTPError.__bases__[0]
    cached = try_to_load_from_cache(repository, filename)
    if isinstance(cached, str):
        return Path(cached)
    if offline:
        raise _offline(backbone)
    try:
        # Asked first, because the download itself tries again for half a minute where there is no network at all.
        get_hf_file_metadata(hf_hub_url(repository, filename), timeout=10)
        return Path(hf_hub_download(repository, filename))
    except (OSError, http_error) as error:  # no route, no such repository, gated, disk full
        raise _failed(backbone, f"https://huggingface.co/{repository}", error) from error


def snapshot(
    backbone: str,
    repository: str,
    revision: str | None,
    *,
    offline: bool,
    needed: Sequence[str],
    also: Sequence[str] = (),
) -> Path:
    """The folder of a Hugging Face repository in the hub's cache, fetched where it lacks all of ``needed``.

    needed: files of which one is enough, the best first; of an index (NAME.index.json) the files that it names come
    along.  also: patterns of further files.  EnvironmentFault EN75 if it cannot be had, or holds none of ``needed``.
    """
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    http_error: type[Any] = HfHubHTTPError.__bases__[0]
    for name in needed:
        cached = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(cached, str) and _is_whole(Path(cached)):
            return Path(cached).parent
    if offline:
        raise _offline(backbone)
    where = f"https://huggingface.co/{repository}"
    try:
        info = HfApi().model_info(repository, revision=revision, timeout=10)
        there = [file.rfilename for file in info.siblings or ()]
        best = next((name for name in needed if name in there), None)
        if best is None:
            raise EnvironmentFault(
                f"EN75 {shown(backbone)}: {where} holds none of {listed(needed, 9)}, so it is no model that is read "
                "here. Choose another one: headstart models"
            )
        # The one that was needed comes last: where it is in the cache, so is all the rest.
        for name in (*_with(best, there, also), best):
            path = hf_hub_download(repository, name, revision=revision)
        return Path(path).parent
    except (OSError, http_error) as error:  # no route, no such repository, gated, disk full
        raise _failed(backbone, where, error) from error


def _with(best: str, there: Sequence[str], also: Sequence[str]) -> list[str]:
    """What of a repository is fetched along with ``best``."""
    stem, _, kind = best.removesuffix(".index.json").rpartition(".")
    parts = [f"{stem}-*.{kind}"] if best.endswith(".index.json") else []
    return [name for name in there if name != best and any(fnmatchcase(name, p) for p in (*also, *parts))]


def _is_whole(path: Path) -> bool:
    """Whether the file is there, and of an index every file that it names."""
    if not path.is_file() or not path.name.endswith(".index.json"):
        return path.is_file()
    content = read_json(path)
    places = content.get("weight_map") if isinstance(content, dict) else None
    return isinstance(places, dict) and all((path.parent / str(name)).is_file() for name in places.values())


def from_url(backbone: str, url: str, *, offline: bool) -> Path:
    """The file behind ``url``, from torch's cache or else fetched into it; its name ends with the start of its hash."""
    import torch

    path = torch_cache() / url.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    if offline:
        raise _offline(backbone)
    make_folder(path.parent)
    expected = path.stem.rpartition("-")[2]
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=expected, progress=False)
    except RuntimeError as error:  # its way of saying that the hash is wrong
        raise Refused(f"CK06 {shown(path.name)}: what arrived is not what was announced ({error}). Refused.") from error
    except OSError as error:
        raise _failed(backbone, url, error) from error
    return path


def _offline(backbone: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"EN75 the weights of {shown(backbone)} are not on this machine, and --offline forbids fetching them. "
        "Fetch them once without --offline, give a file with --weights, or choose one that is here: headstart models"
    )


def _failed(backbone: str, where: str, error: Exception) -> EnvironmentFault:
    reason = str(error).strip().splitlines()
    return EnvironmentFault(
        f"EN75 the weights of {shown(backbone)} could not be fetched from {where} "
        f"({type(error).__name__}: {shown(reason[0][:160]) if reason else ''}). Check the connection, give a file with "
        "--weights, or choose a backbone that is here: headstart models"
    )
