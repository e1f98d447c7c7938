"""The stage store: every expensive result under a hash of all its inputs."""

from compiler.store.cap import CAP_BYTES, CAP_SHARE
from compiler.store.store import Store, default_root, key_of

__all__ = ["CAP_BYTES", "CAP_SHARE", "Store", "default_root", "key_of"]
