"""The stage store: every expensive result under a hash of all its inputs."""

from compiler.store.cap import CAP_BYTES, CAP_SHARE
from compiler.store.interface import Store
from compiler.store.places import default_place, local_folder, open_store
from compiler.store.store import DiskStore, default_root, key_of

__all__ = [
    "CAP_BYTES",
    "CAP_SHARE",
    "DiskStore",
    "Store",
    "default_place",
    "default_root",
    "key_of",
    "local_folder",
    "open_store",
]
