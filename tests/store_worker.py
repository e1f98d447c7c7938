"""A process that uses a shared store: `URL FRONT put WORD` or `URL FRONT hold WORD`; it says when it is ready and what it got."""

import sys
from pathlib import Path

import numpy as np

from compiler.store import DiskStore, key_of
from compiler.store.shared import SharedStore

KEY = key_of("of both")
LASTS_S = 2.0


def main(url, front, does, word):
    store = SharedStore(url, DiskStore(Path(front)), lasts_s=LASTS_S)
    print("ready", flush=True)
    sys.stdin.readline()
    if does == "put":
        mine = np.full(50_000, float(word))
        print(store.put("values", KEY, word), store.put_arrays("arrays", KEY, {"a": mine})["a"][0], flush=True)
        return

    def made():
        print("making", flush=True)
        sys.stdin.readline()
        return word

    print(store.stored("values", KEY, made, lambda: print("waiting", flush=True)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
