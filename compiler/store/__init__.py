"""The stage store: every expensive result under a hash of all its inputs."""

from compiler.store.store import Store, default_root, key_of

__all__ = ["Store", "default_root", "key_of"]
