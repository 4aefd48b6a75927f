"""Writes DIR/model.safetensors, and each of its tensors as DIR/NAME.npy."""

import pathlib
import sys

import numpy as np
from safetensors.numpy import save_file

folder = pathlib.Path(sys.argv[1])
tensors = {}
for dtype in ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]:
    for shape in [(3, 4), (70, 90), (0, 5), ()]:
        count = int(np.prod(shape, dtype=np.int64))
        array = (np.arange(count) % 100).astype(dtype).reshape(shape)
        tensors[f"layer.{np.dtype(dtype).name}.{len(tensors)}"] = array
save_file(tensors, folder / "model.safetensors")
for name, array in tensors.items():
    np.save(folder / f"{name}.npy", array)
