"""Runs a pickle on a stack machine that imports nothing and calls only the functions that its caller declares.

Python's unpickler is not used: it imports what a file names, and it hashes, multiplies and copies without a limit. Here
every operation is counted before it acts, integers have a limited size, and only plain scalars are hashed as keys.
"""

import struct
from collections.abc import Callable

from common.errors import CheckpointError

# A network of 600 tensors takes 20,000 operations, and its checkpoint with optimizer and average 100,000. An operation
# costs at most about 150 bytes and 2 microseconds.
MAX_OPERATIONS = 500_000
MAX_INTEGER_BYTES = 128  # states of random generators hold integers of 16 bytes
MAX_LINE_BYTES = 4096  # numbers, names and memo indices of protocol 0, which are written as lines of text


class Function:
    """A name in the file that may be called.

    Args:
        name: `module.name` as the file has it.
        call: what is called with the arguments of the file; it must check them all.
    """

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable):
        self.name, self.call = name, call


class Placeholder:
    """Stands for an object that is not needed, and keeps what the file sets in the object.

    Attributes:
        name: `module.name` of the class or function that the file names.
        state: what the file sets as the state of the object, or None.
        entries: what the file puts into the object by key, where the object is a kind of dict.
    """

    __slots__ = ("entries", "name", "state")

    def __init__(self, name: str):
        self.name, self.state, self.entries = name, None, None

    def set_state(self, state: object) -> None:
        """Keep the state."""
        self.state = state

    def set_entry(self, key: object, value: object) -> None:
        """Keep an item that the file sets."""
        if self.entries is None:
            self.entries = {}
        self.entries[key] = value


class OpaqueKey:
    """Stands for a key that is no plain scalar: hashing a nested tuple can take exponential time."""

    __slots__ = ()


class PickleMachine:
    """Stack machine that runs a pickle.

    Args:
        data: the file, or as much of it as the pickles may reach.
        resolve: returns a Function or a Placeholder for a module and a name.
        resolve_persistent: returns an object for a persistent id; None where a pickle may have none.
    """

    def __init__(
        self,
        data: bytes,
        resolve: Callable[[str, str], Function | Placeholder],
        resolve_persistent: Callable[[object], object] | None = None,
    ):
        self._data, self._end = data, len(data)
        self._resolve, self._resolve_persistent = resolve, resolve_persistent
        self._num_operations = 0  # of all pickles of the file

    def load(self, position: int = 0) -> tuple[object, int]:
        """Run the pickle that begins at `position`.

        Returns:
            The object and the position behind the pickle.

        Raises:
            CheckpointError: the pickle is damaged, crafted, or larger than any file of weights.
        """
        self._position = position
        self._stack, self._marks, self._memo = [], [], {}
        try:
            return self._run(), self._position
        except CheckpointError:
            raise
        # Every error of a wrong operand: an empty stack, an unknown memo index, a text that is no number or no UTF-8.
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError, struct.error) as error:
            raise CheckpointError(
                f"a damaged or crafted pickle: {type(error).__name__} at byte {self._position}"
            ) from None

    def _run(self) -> object:
        data, end, operations = self._data, self._end, OPERATIONS
        while True:
            if self._num_operations >= MAX_OPERATIONS:
                raise CheckpointError(f"refused: a pickle of more than {MAX_OPERATIONS:,} operations")
            if self._position >= end:
                raise CheckpointError("the pickle is cut off: it has no end")
            code = data[self._position]
            self._position += 1
            self._num_operations += 1
            if code == STOP:
                return self._stack.pop()
            if (operation := operations.get(code)) is None:
                raise CheckpointError(
                    f"refused: the pickle has the operation {bytes([code])!r}, which weights do not need"
                )
            operation(self)

    # --- Reading operands ---

    def _take(self, count: int) -> bytes:
        start, end = self._position, self._position + count
        if not start <= end <= self._end:
            raise CheckpointError(f"the pickle is cut off: {count:,} bytes are announced at byte {start}")
        self._position = end
        return self._data[start:end]

    def _number(self, form: struct.Struct) -> int:
        return form.unpack(self._take(form.size))[0]

    def _line(self, limit: int = MAX_LINE_BYTES) -> bytes:
        end = self._data.find(b"\n", self._position, self._position + limit)
        if end < 0:
            raise CheckpointError(f"the pickle is damaged: a line has no end at byte {self._position}")
        return self._take(end + 1 - self._position)[:-1]

    def _integer(self, raw: bytes) -> int:
        if len(raw) > 2 * MAX_INTEGER_BYTES:
            raise CheckpointError(f"refused: the pickle has an integer of {len(raw)} digits")
        return int(raw)

    # --- Stack ---

    def _items_to_mark(self) -> list:
        mark = self._marks.pop()
        if mark > len(self._stack):
            raise CheckpointError("the pickle is damaged: its stack is shorter than its mark")
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _push_slice(self, count: int) -> None:
        """The last `count` items become a tuple."""
        if count > len(self._stack):
            raise CheckpointError("the pickle is damaged: its stack is empty")
        items = tuple(self._stack[-count:])
        self._stack[-count:] = [items]

    def _put(self, index: int) -> None:
        if not 0 <= index < 1 << 32:
            raise CheckpointError(f"refused: the pickle has the memo index {index}")
        self._memo[index] = self._stack[-1]

    def _binary_integer(self, size: int) -> None:
        raw = self._take(size)
        if size > MAX_INTEGER_BYTES:
            self._stack.append(Placeholder(f"integer of {size:,} bytes"))
        else:
            self._stack.append(int.from_bytes(raw, "little", signed=True))

    def _unicode(self, size: int) -> None:
        self._stack.append(self._take(size).decode("utf-8", "surrogatepass"))

    def _byte_text(self, raw: bytes) -> None:
        """A str of Python 2."""
        try:
            self._stack.append(raw.decode())
        except UnicodeDecodeError:
            self._stack.append(raw.decode("latin1"))

    # --- Objects ---

    def _global(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise CheckpointError("the pickle is damaged: a name is not a text")
        self._num_operations += 1  # a name costs as much as two or three other operations
        self._stack.append(self._resolve(module, name))

    def _call(self, function: object, arguments: object) -> None:
        if type(arguments) is not tuple:
            raise CheckpointError("the pickle is damaged: arguments are not a tuple")
        if type(function) is Function:
            # A function may copy what it gets, and the file may call it with the same list again and again.
            self._num_operations += sum(len(value) for value in arguments if type(value) in (list, tuple, dict))
            self._stack.append(function.call(*arguments))
        elif type(function) is Placeholder:
            self._stack.append(Placeholder(function.name))
        else:
            raise CheckpointError(f"refused: the pickle calls a value of type {type(function).__name__}")

    def _build(self) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if type(target) is Function:
            raise CheckpointError(f"refused: the pickle changes the function {shown(target.name)}")
        if type(target) is dict:  # attributes of an OrderedDict, as torch's versions of layers
            return
        set_state = getattr(type(target), "set_state", None)
        if set_state is None:
            raise CheckpointError(f"refused: the pickle sets the state of a value of type {type(target).__name__}")
        set_state(target, state)

    def _append(self, items: list) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is not Placeholder:
            raise CheckpointError(f"refused: the pickle appends to a value of type {type(target).__name__}")

    def _set_items(self, items: list) -> None:
        target = self._stack[-1]
        if len(items) % 2:
            raise CheckpointError("the pickle is damaged: a key has no value")
        if type(target) is dict:
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[key_of(key)] = value
        elif type(target) is Placeholder:
            for key, value in zip(items[::2], items[1::2], strict=True):
                target.set_entry(key_of(key), value)
        else:
            raise CheckpointError(f"refused: the pickle sets an item of a value of type {type(target).__name__}")

    def _persistent(self, identity: object) -> None:
        if self._resolve_persistent is None:
            raise CheckpointError("refused: the pickle refers to objects outside of it")
        self._stack.append(self._resolve_persistent(identity))


def key_of(value: object) -> object:
    """Return the value where hashing it is quick and has few collisions, otherwise an OpaqueKey."""
    kind = type(value)
    if kind is str or kind is float or kind is bool or kind is bytes or value is None:
        return value
    return value if kind is int and -(1 << 63) <= value < 1 << 63 else OpaqueKey()


def shown(value: object) -> str:
    """Format a value of the file for a message: a short text, or the name of the type, since a repr has no limit."""
    return repr(value[:80]) if type(value) is str else f"a {type(value).__name__}"


# --- The operations, by their codes (Python's Lib/pickletools.py describes each) ---

STOP = ord(".")
U1, U2, I4, U4, U8, F8 = (struct.Struct(form) for form in ("<B", "<H", "<i", "<I", "<Q", ">d"))
Machine = PickleMachine


def _protocol(m: Machine) -> None:
    if (number := m._number(U1)) > 5:
        raise CheckpointError(f"the pickle has the unknown protocol {number}")


def _skip_frame(m: Machine) -> None:
    m._take(8)


def _text_integer(m: Machine) -> None:
    raw = m._line()
    m._stack.append(raw == b"01" if raw in (b"00", b"01") else m._integer(raw))


def _text_string(m: Machine) -> None:
    raw = m._line(m._end)
    if len(raw) < 2 or raw[:1] != raw[-1:] or raw[:1] not in (b"'", b'"'):
        raise CheckpointError("the pickle is damaged: a text has no quotes")
    m._byte_text(raw[1:-1].decode("unicode_escape").encode("latin1"))


def _pop(m: Machine) -> None:
    if m._marks and m._marks[-1] == len(m._stack):
        m._marks.pop()
    else:
        m._stack.pop()


def _reduce(m: Machine) -> None:
    arguments = m._stack.pop()
    m._call(m._stack.pop(), arguments)


def _new_with_keywords(m: Machine) -> None:
    _, arguments = m._stack.pop(), m._stack.pop()
    m._call(m._stack.pop(), arguments)


def _instance(m: Machine) -> None:
    module, name = m._line().decode(), m._line().decode()
    arguments = tuple(m._items_to_mark())
    m._call(m._resolve(module, name), arguments)


def _object(m: Machine) -> None:
    function, *arguments = m._items_to_mark()
    m._call(function, tuple(arguments))


def _stack_global(m: Machine) -> None:
    name = m._stack.pop()
    m._global(m._stack.pop(), name)


def _dict_from_mark(m: Machine) -> None:
    items = m._items_to_mark()
    m._stack.append({})
    m._set_items(items)


def _set_item(m: Machine) -> None:
    value, key = m._stack.pop(), m._stack.pop()
    m._set_items([key, value])


def _append_one(m: Machine) -> None:
    value = m._stack.pop()
    m._append([value])


OPERATIONS: dict[int, Callable[[Machine], None]] = {
    0x80: _protocol,
    0x95: _skip_frame,
    # Scalars
    ord("N"): lambda m: m._stack.append(None),
    0x88: lambda m: m._stack.append(True),
    0x89: lambda m: m._stack.append(False),
    ord("I"): _text_integer,
    ord("J"): lambda m: m._stack.append(m._number(I4)),
    ord("K"): lambda m: m._stack.append(m._number(U1)),
    ord("M"): lambda m: m._stack.append(m._number(U2)),
    ord("L"): lambda m: m._stack.append(m._integer(m._line().removesuffix(b"L"))),
    0x8A: lambda m: m._binary_integer(m._number(U1)),
    0x8B: lambda m: m._binary_integer(m._number(I4)),
    ord("F"): lambda m: m._stack.append(float(m._line())),
    ord("G"): lambda m: m._stack.append(m._number(F8)),
    # Texts and bytes
    ord("S"): _text_string,
    ord("T"): lambda m: m._byte_text(m._take(m._number(I4))),
    ord("U"): lambda m: m._byte_text(m._take(m._number(U1))),
    ord("V"): lambda m: m._stack.append(m._line(m._end).decode("raw-unicode-escape")),
    ord("X"): lambda m: m._unicode(m._number(U4)),
    0x8C: lambda m: m._unicode(m._number(U1)),
    0x8D: lambda m: m._unicode(m._number(U8)),
    ord("B"): lambda m: m._stack.append(m._take(m._number(U4))),
    ord("C"): lambda m: m._stack.append(m._take(m._number(U1))),
    0x8E: lambda m: m._stack.append(m._take(m._number(U8))),
    0x96: lambda m: m._stack.append(m._take(m._number(U8))),
    # Containers; a set is a list here, since its items would be hashed
    ord("]"): lambda m: m._stack.append([]),
    ord("a"): _append_one,
    ord("e"): lambda m: m._append(m._items_to_mark()),
    ord("l"): lambda m: m._stack.append(m._items_to_mark()),
    ord(")"): lambda m: m._stack.append(()),
    ord("t"): lambda m: m._stack.append(tuple(m._items_to_mark())),
    0x85: lambda m: m._push_slice(1),
    0x86: lambda m: m._push_slice(2),
    0x87: lambda m: m._push_slice(3),
    ord("}"): lambda m: m._stack.append({}),
    ord("d"): _dict_from_mark,
    ord("s"): _set_item,
    ord("u"): lambda m: m._set_items(m._items_to_mark()),
    0x8F: lambda m: m._stack.append([]),
    0x90: lambda m: m._append(m._items_to_mark()),
    0x91: lambda m: m._stack.append(m._items_to_mark()),
    # Stack and memo
    ord("("): lambda m: m._marks.append(len(m._stack)),
    ord("0"): _pop,
    ord("1"): lambda m: m._items_to_mark(),
    ord("2"): lambda m: m._stack.append(m._stack[-1]),
    ord("p"): lambda m: m._put(m._integer(m._line())),
    ord("q"): lambda m: m._put(m._number(U1)),
    ord("r"): lambda m: m._put(m._number(U4)),
    0x94: lambda m: m._put(len(m._memo)),
    ord("g"): lambda m: m._stack.append(m._memo[m._integer(m._line())]),
    ord("h"): lambda m: m._stack.append(m._memo[m._number(U1)]),
    ord("j"): lambda m: m._stack.append(m._memo[m._number(U4)]),
    # Names, calls, states
    ord("c"): lambda m: m._global(m._line().decode(), m._line().decode()),
    0x93: _stack_global,
    ord("R"): _reduce,
    ord("i"): _instance,
    ord("o"): _object,
    0x81: _reduce,
    0x92: _new_with_keywords,
    ord("b"): lambda m: m._build(),
    ord("P"): lambda m: m._persistent(m._line().decode()),
    ord("Q"): lambda m: m._persistent(m._stack.pop()),
}
