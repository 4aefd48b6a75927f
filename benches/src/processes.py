# A child of `processes` over python-diskcache: what `child` does in processes.rs.
import os
import random
import sys
import time

import diskcache

kind, directory = sys.argv[1:3]
records, value_len, gets, number, ms = map(int, sys.argv[3:])
cache = getattr(diskcache, kind)(directory, eviction_policy="none", cull_limit=0, timeout=60)
keys = [random.Random(n).randbytes(16) for n in range(records)]
if number == 0:
    for key in keys:
        cache.set(key, os.urandom(value_len), retry=True)
for key in keys:
    cache.get(key)
print("ready", flush=True)
sys.stdin.readline()
draw = random.Random(number)
values = [os.urandom(value_len) for _ in range(64)]
puts = {}
clock = time.perf_counter_ns
begun = clock()
until = begun + ms * 1_000_000
done = 0
while done % 64 or clock() < until:
    key = keys[draw.randrange(records)]
    if draw.randrange(100) >= gets:
        value = values[done % 64]
        put = clock()
        cache.set(key, value, retry=True)
        took = clock() - put
        puts[took] = puts.get(took, 0) + 1
    elif cache.get(key, retry=True) is None:
        sys.exit("a record is missing")
    done += 1
print(done, (clock() - begun) / 1e9, *(f"{ns}:{count}" for ns, count in puts.items()))
