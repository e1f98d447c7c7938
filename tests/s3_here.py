"""An S3 server on this machine (moto), and processes that use a store on it."""

import contextlib
import os
import subprocess
import sys
import urllib.request

import pytest

BUCKET = "paretoc-tests"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextlib.contextmanager
def s3_server():
    """A server with one bucket, which drivers of this process and its children find; its address."""
    moto, s3fs = pytest.importorskip("moto.server"), pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": address}.items():
            patched.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # those of a server before
        s3fs.S3FileSystem().makedirs(BUCKET, exist_ok=True)  # moto keeps it as long as this process lives
        try:
            yield address
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.stop()


@contextlib.contextmanager
def authenticated(address):
    """From now on the server asks whether a request is allowed."""
    _post(f"{address}/moto-api/reset-auth", b"0")
    try:
        yield
    finally:
        _post(f"{address}/moto-api/reset-auth", b"1000000000")


def start(url, front, *words, **variables):
    """A process of `tests.store_worker`, with these words as its arguments."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store_worker", url, str(front), *words],
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _post(url, data):
    with urllib.request.urlopen(urllib.request.Request(url, data=data, headers={"Content-Type": "text/plain"})):
        pass
