"""What NumPy makes of our files, and files of NumPy for us to read.

    arrays.py write DIR    writes files in every way that NumPy can, and DIR/manifest
    arrays.py read DIR     opens what DIR/expected says, and compares it

A line of either list is: name, element type, order (C or F), lengths of the axes with commas, all
with a tab between them. NAME.raw holds the elements as they are to be: little-endian, packed, in
this order.
"""

import io
import itertools
import pathlib
import sys

import numpy as np

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

SHAPES = [(), (1,), (7,), (0,), (3, 5), (2, 0, 4), (2, 3, 4, 5)]
TYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "S1", "S5"]


def filled(dtype, shape):
    """An array of bytes that differ, of which bools make what they can."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    data = (np.arange(count, dtype=np.uint64) * 2654435761 >> 7).astype(np.uint8)
    if dtype.kind == "b":
        data &= 1
    return data.tobytes()


def write(folder):
    lines = []

    def case(name, array, order):
        """Takes note of what an array is to be once it was imported."""
        little = array.dtype.newbyteorder("<")
        raw = array.astype(little).tobytes(order="F" if order == "F" else "C")
        (folder / f"{name}.raw").write_bytes(raw)
        descr = "<V2" if array.dtype.kind == "V" else little.str.replace("=", "<")
        lines.append((name, descr, order, ",".join(map(str, array.shape))))

    def order_of(array):
        return "C" if array.flags.c_contiguous else "F"

    names = itertools.count()
    arrays = {}
    for dtype, shape, mark, order in itertools.product(TYPES, SHAPES, "<>", "CF"):
        native = np.frombuffer(filled(mark + dtype, shape), mark + dtype).reshape(shape)
        array = np.array(native, order=order)
        for version in [(1, 0), (2, 0), (3, 0)]:
            name = f"{next(names):04}"
            with open(folder / f"{name}.npy", "wb") as file:
                np.lib.format.write_array(file, array, version=version)
            case(name, array, order_of(array))
        arrays[f"{dtype.replace('?', 'b1')}-{'x'.join(map(str, shape))}-{'lb'[mark == '>']}{order}"] = array
    if ml_dtypes is not None:
        for order in "CF":
            array = np.frombuffer(filled("u2", (6, 7)), ml_dtypes.bfloat16).reshape(6, 7)
            name = f"{next(names):04}"
            array = np.array(array, order=order)
            np.save(folder / f"{name}.npy", array)
            case(name, array, order)
    for archive, save in [("stored", np.savez), ("deflated", np.savez_compressed)]:
        save(folder / f"{archive}.npz", **arrays)
    for name, array in arrays.items():
        case(f"npz-{name}", array, order_of(array))
    (folder / "manifest").write_text("".join("\t".join(line) + "\n" for line in lines))
    refused = {
        "objects": np.array([None, "text"], dtype=object),
        "text": np.array(["one", "two"]),
        "dates": np.array(["2026-01-01"], dtype="M8[D]"),
        "records": np.zeros(3, dtype=[("a", "<f4"), ("\u00e4", "<i8")]),
        "longdouble": np.zeros(3, dtype=np.longdouble),
        "raw": np.zeros(3, dtype="V7"),
    }
    for name, array in refused.items():
        np.save(folder / f"refused-{name}.npy", array, allow_pickle=True)


def read(folder):
    count = 0
    for line in (folder / "expected").read_text().splitlines():
        name, path, descr, order, shape = line.split("\t")
        shape = tuple(int(axis) for axis in shape.split(",") if axis)
        raw = (folder / f"{name}.raw").read_bytes()
        mapped = np.load(path, mmap_mode="r") if raw and shape else None
        for array in [np.load(path), mapped, np.load(io.BytesIO(pathlib.Path(path).read_bytes()))]:
            if array is None:
                continue
            # NumPy has no order for bytes.
            found = array.dtype.str.replace("|V", "<V")
            assert found == descr, f"{path}: {found}, not {descr}"
            assert array.shape == shape, f"{path}: {array.shape}, not {shape}"
            assert array.flags.c_contiguous if order == "C" else array.flags.f_contiguous, path
            assert array.tobytes(order=order) == raw, f"{path}: other elements"
            if descr == "<V2" and ml_dtypes is not None:
                floats = array.view(ml_dtypes.bfloat16)
                assert floats.shape == shape and floats.tobytes(order=order) == raw, path
        count += 1
    print(f"{count} files are what they are to be", flush=True)


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](pathlib.Path(sys.argv[2]))
