"""Memory that is freed: kept inside, given back outside. Counted in page faults, which no load on the machine moves."""

from __future__ import annotations

import gc
import platform
import resource

import pytest
import torch

from headstart.base import memory

PAGES = 64 * 2**20 // resource.getpagesize()  # of one tensor
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's malloc")


def faults() -> int:
    """Page faults of making and freeing a tensor of 64 MB four times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])


@needs_glibc
def test_inside_pages_are_touched_once() -> None:
    with memory.kept():
        seen = [faults() for _ in range(4)]
    assert min(seen) < PAGES / 10, "the pages of the first tensors serve the later ones"


@needs_glibc
def test_what_was_kept_is_given_back_at_the_end_of_the_outermost() -> None:
    gc.collect()
    before = resident()
    with memory.kept():
        with memory.kept():
            torch.ones(2**26)  # 256 MB
        assert resident() - before > 3 * PAGES, "the inner end gives nothing back"
    assert resident() - before < PAGES


@needs_glibc
def test_kept_as_long_as_the_owner_lives() -> None:
    class Owner:
        pass

    owner, inside = Owner(), memory._users.count
    memory.keep_while(owner)
    assert min(faults() for _ in range(4)) < PAGES / 10
    del owner
    gc.collect()
    assert memory._users.count == inside


class Libc:
    """What glibc was asked for, in order."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def mallopt(self, parameter: int, value: int) -> None:
        self.asked.append((parameter, value))

    def malloc_trim(self, pad: int) -> None:
        self.asked.append("trim")


def test_the_first_sets_it_and_the_last_takes_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = Libc()
    monkeypatch.setattr(memory, "_glibc", lambda: libc)
    monkeypatch.setattr(memory, "_users", memory._Users())
    inside, outside = list(memory.INSIDE.items()), list(memory.OUTSIDE.items())
    with memory.kept():
        with memory.kept():
            assert libc.asked == inside
        assert libc.asked == inside
    assert libc.asked == [*inside, *outside, "trim"]


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_elsewhere_there_is_no_glibc_to_ask(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", system)
    assert memory._glibc.__wrapped__() is None
    monkeypatch.setattr(memory, "_glibc", memory._glibc.__wrapped__)
    with memory.kept():
        torch.ones(4)
