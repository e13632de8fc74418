"""Columns that take little memory: few different values by number, many strings in one run of bytes, line numbers.

Each is a sequence, as a list is. Where a list of ten million rows would hold ten million objects, these hold a few
bytes a row; what is larger than SPILLED lies in a file without a name, which vanishes with the process.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar, cast, overload

import numpy as np

from headstart.base.errors import EnvironmentFault, shown

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
BLOCK = 1024  # rows that are made into Python values together
BLOCK_BYTES = 2**22  # … unless they are longer than this
SPILLED = 2**25  # bytes of strings that are held in memory
MOST_WORDS, MOST_WORD_BYTES = 2**16, 2**24  # different values of a column that is kept by number


class Compact(Sequence[T], Generic[T]):
    """What these columns have in common. Equal to any sequence of equal values; ``tolist`` is for JSON and arrays."""

    @abstractmethod
    def part(self, start: int, stop: int) -> list[T]:
        """The values of rows start … stop - 1."""

    @abstractmethod
    def take(self, rows: np.ndarray) -> Compact[T]:
        """The column of these rows, in this order."""

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        n = len(self)
        if isinstance(at, slice):
            start, stop, step = at.indices(n)
            return self.part(start, max(start, stop)) if step == 1 else [self[i] for i in range(start, stop, step)]
        if not -n <= at < n:
            raise IndexError(at)
        return self.part(int(at) % n, int(at) % n + 1)[0]

    def __iter__(self) -> Iterator[T]:
        for start, stop in self.blocks():
            yield from self.part(start, stop)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """(start, stop) of stretches of rows that are worth making into values together."""
        for start in range(0, len(self), BLOCK):
            yield start, min(start + BLOCK, len(self))

    def tolist(self) -> list[T]:
        return list(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        more = ", …" if len(self) > 3 else ""
        return f"{type(self).__name__}([{', '.join(map(repr, self[:3]))}{more}], {len(self)} rows)"


def taken(column: Sequence[T], rows: np.ndarray) -> Sequence[T]:
    """The values of ``rows``, as compact as ``column`` is."""
    if isinstance(column, Compact):
        return column.take(rows)
    return [column[row] for row in rows.tolist()]


def stretches(column: Sequence[T]) -> Iterator[list[T]]:
    """All values, some at a time."""
    if isinstance(column, Compact):
        for start, stop in column.blocks():
            yield column.part(start, stop)
    else:
        for start in range(0, len(column), BLOCK):
            yield list(column[start : start + BLOCK])


# ------------------------------------------------------------------------------------------------ few different values


class Coded(Compact[T]):
    """codes: (N,) integers into words.  words: different values; some may stand in no row."""

    def __init__(self, codes: np.ndarray, words: Sequence[T]) -> None:
        self.codes, self.words = codes, words

    @classmethod
    def of(cls, values: Iterable[T]) -> Coded[T]:
        """Of any hashable values, in the order in which they first occur."""
        index: dict[T, int] = {}
        codes = np.fromiter((index.setdefault(v, len(index)) for v in values), np.int32)
        return cls(codes, list(index))

    def __len__(self) -> int:
        return len(self.codes)

    def part(self, start: int, stop: int) -> list[T]:
        words = self.words
        return [words[code] for code in self.codes[start:stop].tolist()]

    def take(self, rows: np.ndarray) -> Coded[T]:
        return Coded(self.codes[rows], self.words)

    def mapped(self, words: Sequence[Any]) -> Coded[Any]:
        """The same rows with other words for the same numbers."""
        return Coded(self.codes, words)

    def counts(self) -> dict[T, int]:
        """How often each value occurs, in the order in which they first do."""
        numbers, first, found = np.unique(self.codes, return_index=True, return_counts=True)
        counts: dict[T, int] = {}
        for i in np.argsort(first, kind="stable").tolist():  # two numbers may stand for one value
            word = self.words[numbers[i]]
            counts[word] = counts.get(word, 0) + int(found[i])
        return counts


def counted(values: Iterable[T]) -> dict[T, int]:
    """How often each value occurs, in the order in which they first do."""
    if isinstance(values, Coded):
        return values.counts()
    counts: dict[T, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def numbered(values: Sequence[Any]) -> tuple[np.ndarray, list[str]]:
    """((N,) integers, the names they stand for, sorted) of values as strings; equal strings have one number."""
    coded = values if isinstance(values, Coded) else Coded.of(map(str, values))
    present = np.unique(coded.codes)
    written = [str(coded.words[code]) for code in present.tolist()]
    names = sorted(set(written))
    place = {name: i for i, name in enumerate(names)}
    number = np.zeros(len(coded.words), np.int32)
    number[present] = [place[word] for word in written]
    return number[coded.codes], names


# ------------------------------------------------------------------------------------------------- many different ones


class Strings(Compact[Any]):
    """Strings in one run of UTF-8 bytes. ends: (N,) int64 where each ends.  missing: (N,) bool of rows that hold None,
    or None where all hold strings.
    """

    def __init__(self, spool: Spool, ends: np.ndarray, missing: np.ndarray | None = None) -> None:
        self._spool, self._ends, self._missing = spool, ends, missing

    def __len__(self) -> int:
        return len(self._ends)

    def part(self, start: int, stop: int) -> list[Any]:
        if stop <= start:
            return []
        first = int(self._ends[start - 1]) if start else 0
        ends = (self._ends[start:stop] - first).tolist()
        data = self._spool.read(first, ends[-1])
        begins = [0, *ends[:-1]]
        found: list[Any]
        if data.isascii():
            text = data.decode("ascii")
            found = [text[a:b] for a, b in zip(begins, ends, strict=True)]
        else:
            found = [data[a:b].decode("utf-8", "surrogatepass") for a, b in zip(begins, ends, strict=True)]
        if self._missing is not None:
            for at in np.flatnonzero(self._missing[start:stop]).tolist():
                found[at] = None
        return found

    def blocks(self) -> Iterator[tuple[int, int]]:
        start = 0
        while start < len(self):
            begin = int(self._ends[start - 1]) if start else 0
            fitting = int(np.searchsorted(self._ends, begin + BLOCK_BYTES, side="right"))
            stop = min(start + BLOCK, max(start + 1, fitting), len(self))
            yield start, stop
            start = stop

    def take(self, rows: np.ndarray) -> Picked[Any]:
        return Picked(self, rows)

    def filled(self) -> Strings:
        """With '' for None."""
        return Strings(self._spool, self._ends)


class Picked(Compact[T]):
    """Some rows of another column."""

    def __init__(self, column: Compact[T], rows: np.ndarray) -> None:
        self._column, self._rows = column, rows

    def __len__(self) -> int:
        return len(self._rows)

    def part(self, start: int, stop: int) -> list[T]:
        rows = self._rows[start:stop].tolist()
        rising = all(a < b for a, b in pairwise(rows))
        if len(rows) > 1 and rising and rows[-1] < rows[0] + 2 * len(rows):  # one stretch is read faster than each row
            around = self._column.part(rows[0], rows[-1] + 1)
            return [around[row - rows[0]] for row in rows]
        return [self._column[row] for row in rows]

    def take(self, rows: np.ndarray) -> Picked[T]:
        return Picked(self._column, self._rows[rows])


class Spool:
    """Bytes that are written at the end and read anywhere; in memory as long as they are few."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._file: BinaryIO | None = None
        self._lock = Lock()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Call from one thread, before any ``read``. EnvironmentFault EN69 where the disk is full."""
        self.size += len(data)
        self._held += data
        if len(self._held) >= SPILLED:
            self._spill()

    def _spill(self) -> None:
        try:
            if self._file is None:
                self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="headstart-", buffering=0))  # noqa: SIM115
            view = memoryview(self._held)
            while view:  # a raw file may take less than it is given
                view = view[self._file.write(view) :]
            view.release()
        except OSError as error:
            raise EnvironmentFault(
                f"EN69 no room for the texts of the table in {shown(tempfile.gettempdir())} "
                f"({error.strerror or error}). Set TMPDIR to a folder with more space."
            ) from error
        self._held = bytearray()

    def read(self, start: int, size: int) -> bytes:
        if self._file is None:
            return bytes(self._held[start : start + size])
        with self._lock:
            if self._held:
                self._spill()
            self._file.seek(start)
            data = self._file.read(size)
            while len(data) < size and (more := self._file.read(size - len(data))):
                data += more
        assert len(data) == size, "a spool is read where it was written"
        return data


# ----------------------------------------------------------------------------------------------------------- gathering


class Gathered:
    """One column, batch by batch: by number while its different values are few, in a spool once they are many.

    Values that are neither strings nor None (lists and tables in JSON) make it a plain list.
    """

    def __init__(self) -> None:
        self._index: dict[Any, int] = {}
        self._bytes = 0  # of the different values
        self._codes: list[np.ndarray] = []
        self._spool: Spool | None = None
        self._ends: list[np.ndarray] = []
        self._missing: list[np.ndarray] = []
        self._plain: list[Any] | None = None

    def __len__(self) -> int:
        if self._plain is not None:
            return len(self._plain)
        return sum(map(len, self._ends if self._spool is not None else self._codes))

    def add(self, values: list[Any]) -> None:
        if self._plain is None and all(v is None or isinstance(v, str) for v in values):
            if self._spool is None:
                self._number(values, np.arange(len(values)))
            else:
                self._write(values)
            return
        if self._plain is None:
            self._plain = list(self.column())
        self._plain += values

    def add_arrow(self, chunk: pa.Array) -> None:
        """A chunk of Arrow strings, perhaps with nulls."""
        import pyarrow as pa

        if self._plain is not None:
            self._plain += chunk.to_pylist()
        elif self._spool is None:
            encoded = chunk.dictionary_encode()
            codes = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
            self._number([*encoded.dictionary.to_pylist(), *([None] if chunk.null_count else [])], codes)
        elif chunk.null_count or chunk.type != pa.string():
            self._write(chunk.to_pylist())
        else:
            offsets = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
            if len(chunk):
                self._ends.append(self._spool.size + (offsets[1:] - offsets[0]).astype(np.int64))
                self._missing.append(np.zeros(len(chunk), bool))
                self._spool.write(memoryview(chunk.buffers()[2])[offsets[0] : offsets[-1]] if offsets[-1] else b"")

    def _number(self, words: list[Any], codes: np.ndarray) -> None:
        """Rows by their number in ``words``."""
        numbers = np.zeros(len(words), np.int32)
        for at, word in enumerate(words):
            known = self._index.get(word)
            if known is None:
                known = self._index[word] = len(self._index)
                self._bytes += len(word or "")
            numbers[at] = known
        self._codes.append(numbers[codes])
        if len(self._index) > MOST_WORDS or self._bytes > MOST_WORD_BYTES:
            coded: Coded[Any] = Coded(np.concatenate(self._codes), list(self._index))
            self._index, self._codes, self._spool = {}, [], Spool()
            for start, stop in coded.blocks():
                self._write(coded.part(start, stop))

    def _write(self, values: list[Any]) -> None:
        assert self._spool is not None, "after the change to a spool"
        encoded = [b"" if v is None else v.encode("utf-8", "surrogatepass") for v in values]
        self._ends.append(self._spool.size + np.cumsum([len(e) for e in encoded], dtype=np.int64))
        self._missing.append(np.array([v is None for v in values], bool))
        self._spool.write(b"".join(encoded))

    def column(self) -> Sequence[Any]:
        if self._plain is not None:
            return self._plain
        if self._spool is None:
            codes = np.concatenate(self._codes) if self._codes else np.zeros(0, np.int32)
            return Coded(codes, list(self._index))
        missing = np.concatenate(self._missing)
        ends, self._ends = np.concatenate(self._ends), []
        return Strings(self._spool, ends, missing if missing.any() else None)


# ------------------------------------------------------------------------------------------------------------- numbers


class LineNumbers(Compact[str]):
    """'line 2', 'line 3', … for N rows below a header, made when asked for.

    numbers: (N,) of the rows where they do not follow one another.
    """

    def __init__(self, rows: int, first: int = 2, word: str = "line", numbers: np.ndarray | None = None) -> None:
        self._rows, self._first, self._word, self._numbers = rows, first, word, numbers

    @classmethod
    def at(cls, numbers: np.ndarray, word: str = "line") -> LineNumbers:
        return cls(len(numbers), word=word, numbers=numbers)

    def __len__(self) -> int:
        return self._rows

    def part(self, start: int, stop: int) -> list[str]:
        word = self._word
        if self._numbers is None:
            return [f"{word} {number}" for number in range(self._first + start, self._first + stop)]
        return [f"{word} {number}" for number in self._numbers[start:stop].tolist()]

    def take(self, rows: np.ndarray) -> LineNumbers:
        numbers = self._first + np.asarray(rows) if self._numbers is None else self._numbers[rows]
        return LineNumbers.at(numbers, self._word)


class Numbers(Compact[float]):
    """values: (N,) float64."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int) -> list[float]:
        found: list[float] = self.values[start:stop].tolist()
        return found

    def take(self, rows: np.ndarray) -> Numbers:
        return Numbers(self.values[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype) if copy else np.asarray(self.values, dtype)


class Keys(Compact[bytes]):
    """16-byte content keys. pairs: (N, 2) uint64, the halves.  known: (N,) bool; b'' elsewhere."""

    def __init__(self, pairs: np.ndarray, known: np.ndarray) -> None:
        self.pairs, self.known = pairs, known

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> Keys:
        if isinstance(keys, Keys):
            return keys
        joined = b"".join(key or bytes(16) for key in keys)
        pairs = np.frombuffer(joined, ">u8").reshape(-1, 2).astype(np.uint64)
        return cls(pairs, np.fromiter(map(bool, keys), bool, len(keys)))

    def __len__(self) -> int:
        return len(self.pairs)

    def part(self, start: int, stop: int) -> list[bytes]:
        data = self.pairs[start:stop].astype(">u8").tobytes()
        known = self.known[start:stop].tolist()
        return [data[16 * i : 16 * i + 16] if is_known else b"" for i, is_known in enumerate(known)]

    def take(self, rows: np.ndarray) -> Keys:
        return Keys(self.pairs[rows], self.known[rows])
