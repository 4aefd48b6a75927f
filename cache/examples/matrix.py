"""Opens the matrix that the example `matrix` has stored, with NumPy alone and without a copy.

    python3 matrix.py PATH
"""

import sys

import numpy as np

matrix = np.load(sys.argv[1], mmap_mode="r")
assert matrix.shape == (512, 512) and matrix.dtype == np.float64, (matrix.shape, matrix.dtype)
assert np.allclose(matrix.sum(axis=1), 1.0), "each row adds up to one"
print(f"{type(matrix).__name__} of {matrix.shape}, trace {np.trace(matrix):.6f}")
