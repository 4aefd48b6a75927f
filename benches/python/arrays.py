"""The Python side of `side-by-side arrays`: does what it is asked, a line of JSON at a time.

What is timed is timed here, inside one process: neither the start of Python nor the pipe counts.
"""

import gc
import json
import os
import sys
import time

import numpy as np

try:
    import joblib
except ImportError:
    joblib = None


def opener(how):
    if how == "numpy":
        return lambda path: np.load(path, mmap_mode="r")
    return lambda path: joblib.load(path, mmap_mode="r")


def do_open(how, path, count):
    """Microseconds from a path to the first element."""
    load, total = opener(how), 0.0
    load(path)
    start = time.perf_counter()
    for _ in range(count):
        total += load(path)[0]
    return (time.perf_counter() - start) * 1e6 / count


def do_make(path, count):
    """Stores so many floats as joblib does."""
    joblib.dump(np.ones(count, dtype=np.float32), path)
    return None


def do_dump(folder, arrays, length):
    """Microseconds to store an array, of so many."""
    array = np.arange(length, dtype=np.float32)
    start = time.perf_counter()
    for number in range(arrays):
        array[0] = number
        joblib.dump(array, f"{folder}/{number}.joblib")
    return (time.perf_counter() - start) * 1e6 / arrays


def do_load(folder, arrays, step):
    """Microseconds to load an array and look at both ends; and the sum of those."""
    total = 0.0
    start = time.perf_counter()
    for turn in range(arrays):
        array = joblib.load(f"{folder}/{turn * step % arrays}.joblib")
        total += float(array[0]) + float(array[-1])
    return [(time.perf_counter() - start) * 1e6 / arrays, total]


def do_has():
    """What there is, with versions."""
    return [np.__version__, joblib.__version__ if joblib else None, sys.version.split()[0]]


gc.disable()
os.sched_yield()
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(globals()["do_" + asked.pop("do")](**asked)), flush=True)
