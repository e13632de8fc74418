"""A pickle machine that cannot run anything.

Checkpoints of torch are pickles, and a pickle is a program: its instructions may call any function of any module. This
machine knows the instructions that weights need and nothing else. A name in the file never becomes a Python object; it
stays a ``Name``. "Calling" one of the few known names gives plain data (``Place`` says where a tensor's bytes are),
calling any other name is refused. So there is no loader to be tricked and no flag that widens trust.
"""

from __future__ import annotations

import math
import pickletools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from headstart.base.errors import Refused, shown

MOST_OPCODES = 500_000  # an honest checkpoint of 2,000 tensors has 100,000


@dataclass(frozen=True)
class Name:
    """``module.attribute`` as written in the file; never looked up."""

    text: str


@dataclass(frozen=True)
class Opaque:
    """An object of a harmless known kind (training arguments, a numpy scalar) whose content we do not need."""

    kind: str


@dataclass(frozen=True)
class Storage:
    """A block of numbers. dtype: torch's name, '' for raw bytes.  count: elements (bytes if raw)."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class Place:
    """A tensor: which elements of which storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        return math.prod(self.size)


DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_STORAGES = {f"torch.{name}": dtype for name, dtype in DTYPES.items()} | {
    "torch.storage.UntypedStorage": "",
    "torch.UntypedStorage": "",
}
_DTYPE_NAMES = {f"torch.{dtype}" for dtype in DTYPES.values()}
# Objects that training scripts put beside the weights. Named here because they are common and mean nothing to us.
_HARMLESS = {
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
    "torch.Size",
    "torch.device",
}


def run(stream: BinaryIO, *, where: str) -> Any:
    """The plain value of the next pickle in ``stream``: dicts, lists, tuples, numbers, strings, Place, Opaque.

    Refused: CK01 for a name that is not known to be harmless, CK03 for a stored object of a class, CK05 for a file
    that ends early or is no pickle.
    """
    machine = _Machine(where)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MOST_OPCODES:
                raise Refused(f"CK04 {where}: more than {MOST_OPCODES:,} instructions; weights need fewer. Refused.")
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode.name, argument)
    except Refused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AssertionError, OverflowError, RecursionError) as error:
        # genops raises ValueError at the end of the data; the others mean instructions that make no sense
        raise Refused(
            f"CK05 {where}: ends early or is damaged ({shown(error)[:120]}). Refused. Download it again."
        ) from error
    raise Refused(f"CK05 {where}: ends early. Refused. Download it again.")


class _Machine:
    """Stack and memo of one pickle. marks: heights of the stack where a list of arguments begins."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.forbidden: list[str] = []

    def result(self) -> Any:
        value = self.stack.pop()
        if self.forbidden:  # named but not called: still nothing that weights need
            raise self.refuses_code(self.forbidden[0])
        return value

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]() if callable(_CONSTANTS[opcode]) else _CONSTANTS[opcode])
        elif opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self, argument)
        else:
            raise Refused(f"CK01 {self.where}: holds the instruction {opcode}, which weights never need. Refused.")

    def popped(self, count: int) -> tuple[Any, ...]:
        if count > len(self.stack):
            raise ValueError("not enough values")
        values = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return values

    def since_mark(self) -> list[Any]:
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values

    def name(self, text: str) -> None:
        self.stack.append(Name(text))
        if not _is_known(text):
            self.forbidden.append(text)

    def call(self, _: Any) -> None:
        function, arguments = self.popped(2)
        if not isinstance(function, Name):
            raise ValueError("a call of something that has no name")
        self.stack.append(self.value_of(function.text, arguments))

    def value_of(self, name: str, arguments: Any) -> Any:
        if name == "copyreg._reconstructor" and arguments and isinstance(arguments[0], Name):
            raise self.refuses_object(arguments[0].text)
        if name == "collections.OrderedDict":
            return dict(arguments[0]) if arguments else {}
        if name in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            return _place(*arguments[:4])
        if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            return arguments[0]
        if name in _HARMLESS:
            return Opaque(name)
        raise self.refuses_code(name)

    def new_object(self, _: Any) -> None:
        kind, _arguments = self.popped(2)
        if not isinstance(kind, Name):
            raise ValueError("an object of something that has no name")
        if kind.text not in _HARMLESS:
            raise self.refuses_object(kind.text)
        self.stack.append(Opaque(kind.text))

    def drop(self, _: Any) -> None:
        self.popped(1)  # for BUILD: the object's attributes (OrderedDict's _metadata), of no use here

    def persistent(self, _: Any) -> None:
        (reference,) = self.popped(1)
        kind, storage, key, _location, count = reference[:5]
        if kind != "storage" or not isinstance(storage, Name) or storage.text not in _STORAGES:
            raise ValueError("a reference to something that is not a block of numbers")
        if len(reference) > 5 and reference[5] is not None:
            raise ValueError("a view of another storage")
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError("a block without a size")
        self.stack.append(Storage(str(key), _STORAGES[storage.text], count))

    def refuses_code(self, name: str) -> Refused:
        if name.split(".", maxsplit=1)[0] in sys.stdlib_module_names or "." not in name:
            what = f"contains instructions to run code ({shown(name)})"
        else:
            what = f"asks for {shown(name)}, which is not plain weights"
        return Refused(f"CK01 {self.where}: {what}. Refused. Ask the publisher for a .safetensors file.")

    def refuses_object(self, name: str) -> Refused:
        if name.split(".", maxsplit=1)[0] in sys.stdlib_module_names:
            return self.refuses_code(name)
        return Refused(
            f"CK03 {self.where}: stores a Python object ({shown(name)}), not weights. Refused. "
            "Ask the publisher for a .safetensors file, or convert it in a place you trust: "
            "torch.save(model.state_dict(), ...)"
        )


def _is_known(name: str) -> bool:
    return (
        name in _STORAGES
        or name in _DTYPE_NAMES
        or name in _HARMLESS
        or name == "collections.OrderedDict"
        or name in {f"torch._utils._rebuild_{x}" for x in ("tensor", "tensor_v2", "parameter", "parameter_with_state")}
    )


def _place(storage: Any, offset: Any, size: Any, stride: Any) -> Place:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Storage) or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("a tensor without a sensible shape")
    if len(size) != len(stride):
        raise ValueError("a tensor with other strides than axes")
    return Place(storage, offset, tuple(size), tuple(stride), storage.dtype)


def _remember(machine: _Machine, index: Any) -> None:
    machine.memo[len(machine.memo) if index is None else int(index)] = machine.stack[-1]


def _set_items(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if isinstance(target, dict):
        target.update(zip(map(_key, items[::2]), items[1::2], strict=True))
    elif not isinstance(target, Opaque):
        raise ValueError("items set on something that is not a dict")


def _dict(machine: _Machine, items: list[Any]) -> None:
    machine.stack.append({})
    _set_items(machine, items)


def _key(value: Any) -> Any:
    plain = isinstance(value, str | float | None) or (isinstance(value, int) and abs(value) < 2**63)
    return value if plain else repr(type(value))  # a key is shown in messages: no numbers of 5,000 digits


def _extend(machine: _Machine, items: list[Any]) -> None:
    if not isinstance(machine.stack[-1], list):
        raise ValueError("append to something that is not a list")
    machine.stack[-1].extend(items)


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _stack_global(machine: _Machine) -> None:
    module, attribute = machine.popped(2)
    machine.name(f"{module}.{attribute}")


def _inst(machine: _Machine, argument: Any) -> None:
    machine.since_mark()
    raise machine.refuses_code(str(argument).replace(" ", "."))


def _obj(machine: _Machine, _: Any) -> None:
    values = machine.since_mark()
    raise machine.refuses_code(values[0].text if values and isinstance(values[0], Name) else "an object")


_CONSTANTS: Mapping[str, Any] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": (),
}
_LITERALS = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
    ]
)
_ACTIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda m, a: None,
    "FRAME": lambda m, a: None,
    "MARK": lambda m, a: m.marks.append(len(m.stack)),
    "POP": _Machine.drop,
    "TUPLE": lambda m, a: _push(m, tuple(m.since_mark())),
    "TUPLE1": lambda m, a: _push(m, m.popped(1)),
    "TUPLE2": lambda m, a: _push(m, m.popped(2)),
    "TUPLE3": lambda m, a: _push(m, m.popped(3)),
    "LIST": lambda m, a: _push(m, m.since_mark()),
    "DICT": lambda m, a: _dict(m, m.since_mark()),
    "APPEND": lambda m, a: _extend(m, list(m.popped(1))),
    "APPENDS": lambda m, a: _extend(m, m.since_mark()),
    "SETITEM": lambda m, a: _set_items(m, list(m.popped(2))),
    "SETITEMS": lambda m, a: _set_items(m, m.since_mark()),
    "PUT": _remember,
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": lambda m, a: _remember(m, None),
    "GET": lambda m, a: _push(m, m.memo[int(a)]),
    "BINGET": lambda m, a: _push(m, m.memo[a]),
    "LONG_BINGET": lambda m, a: _push(m, m.memo[a]),
    "GLOBAL": lambda m, a: m.name(str(a).replace(" ", ".")),
    "STACK_GLOBAL": lambda m, a: _stack_global(m),
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.new_object,
    "BUILD": _Machine.drop,
    "BINPERSID": _Machine.persistent,
    "INST": _inst,
    "OBJ": _obj,
}
