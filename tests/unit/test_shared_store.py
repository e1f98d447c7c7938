"""A store behind a URL: the first to publish wins, a lease says who works, what a live run holds stays."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from compiler.store import DiskStore, key_of, open_store
from compiler.store.bucket import MARKER, Bucket, _opened
from compiler.store.leases import Leases
from compiler.store.runs import Runs
from compiler.store.shared import SharedStore
from targets.errors import InputError
from tests.s3_here import BUCKET, authenticated, s3_server, start
from tests.store_worker import KEY, LASTS_S

OTHER = key_of("another")


@pytest.fixture(scope="module")
def server():
    with s3_server() as address:
        yield address


@pytest.fixture(params=["memory", "s3"])
def url(request, tmp_path):
    if request.param == "s3":
        request.getfixturevalue("server")
    return f"{request.param}://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def machine(url, tmp_path):
    """Stores of machines that share the URL, by name."""

    def opened(name, **more):
        return SharedStore(url, DiskStore(tmp_path / name), **more)

    return opened


def test_a_value_of_one_machine_is_found_by_another_and_again_without_the_bucket(machine):
    one, two = machine("one"), machine("two")
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], dtype=np.int64)}
    assert one.get("stage", KEY) is None
    assert one.get_arrays("stage", OTHER) is None
    assert one.put("stage", KEY, {"x": [1, None]}) == {"x": [1, None]}
    assert one.put_arrays("stage", OTHER, arrays) is arrays
    assert two.get("stage", KEY) == {"x": [1, None]}
    found = two.get_arrays("stage", OTHER)
    assert all(np.array_equal(found[n], arrays[n]) and found[n].dtype == arrays[n].dtype for n in arrays)
    two.bucket.delete([each.name for each in two.bucket.find("stage")])
    assert two.get("stage", KEY) == {"x": [1, None]}
    assert two.get_arrays("stage", OTHER).keys() == arrays.keys()
    assert machine("three").get("stage", KEY) is None


def test_the_first_to_publish_wins_and_the_other_takes_its_values(machine):
    one, two = machine("one"), machine("two")
    assert one.put("stage", KEY, 1.0) == 1.0
    assert two.put("stage", KEY, 2.0) == 1.0
    assert two.get("stage", KEY) == two.front.get("stage", KEY) == 1.0
    one.put_arrays("stage", OTHER, {"a": np.zeros(3)})
    before = one.bucket.find("stage")
    assert np.array_equal(two.put_arrays("stage", OTHER, {"a": np.ones(3)})["a"], np.zeros(3))
    assert np.array_equal(two.front.get_arrays("stage", OTHER)["a"], np.zeros(3))
    assert one.bucket.find("stage") == before


@pytest.mark.parametrize("damage", [b"", b"{", b'{"value": 1}', b"\xff", b'{"sha256": "0", "value": 1}'])
def test_a_damaged_record_is_absent_and_is_replaced(machine, damage):
    one = machine("one")
    for store, key in ((one, KEY), (one, OTHER)):
        store.bucket.write(f"stage/{key[:32]}.json", damage)
    assert one.get("stage", KEY) is None
    assert one.get_arrays("stage", OTHER) is None
    assert one.put("stage", KEY, 1) == 1
    one.put_arrays("stage", OTHER, {"a": np.zeros(3)})
    two = machine("two")
    assert two.get("stage", KEY) == 1
    assert np.array_equal(two.get_arrays("stage", OTHER)["a"], np.zeros(3))


@pytest.mark.parametrize("damage", [None, b"", b"x" * 100])
def test_damaged_arrays_are_absent_and_are_replaced(machine, damage):
    one, two = machine("one"), machine("two")
    one.put_arrays("stage", KEY, {"a": np.zeros(3)})
    (name,) = (each.name for each in one.bucket.find("stage") if each.name.endswith(".safetensors"))
    one.bucket.delete([name]) if damage is None else one.bucket.write(name, damage)
    assert two.get_arrays("stage", KEY) is None
    ours = {"a": np.ones(3)}
    assert two.put_arrays("stage", KEY, ours) is ours
    assert np.array_equal(machine("three").get_arrays("stage", KEY)["a"], np.ones(3))


def test_a_lease_is_waited_for_and_its_holders_value_taken(machine):
    one, two, told = machine("one", lasts_s=LASTS_S), machine("two", lasts_s=LASTS_S), []
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait()
        return "slow"

    thread = threading.Thread(target=lambda: one.stored("stage", KEY, slow))
    thread.start()
    begun.wait()
    threading.Timer(2 * LASTS_S, go_on.set).start()  # longer than a lease that is not renewed
    assert two.stored("stage", KEY, lambda: pytest.fail("computed twice"), lambda: told.append(1)) == "slow"
    thread.join()
    assert told == [1]
    assert one.bucket.find("leases") == []


def test_whoever_lost_its_lease_takes_what_was_published_and_leaves_the_new_one_alone(machine):
    one, two = machine("one"), machine("two", lasts_s=0.5)
    with one.working("train", KEY):
        time.sleep(1.6)  # to `two` it has expired
        with two.working("train", KEY, lambda: pytest.fail("it waited")):
            assert len(two.bucket.find("leases")) == 2
            assert two.put("train", KEY, "second") == "second"
            one.leases._renew(f"train-{KEY[:32]}", 0)
            one.leases._release(f"train-{KEY[:32]}", 0)
            assert len(two.bucket.find("leases")) == 2
            assert one.put("train", KEY, "first") == "second"
    assert two.bucket.find("leases") == []


def test_one_alone_takes_an_expired_lease_over(machine):
    bucket = machine("one").bucket
    bucket.write("leases/job/00000003", b"of a process that was killed")
    time.sleep(4.1)
    many = [Leases(bucket=bucket, lasts_s=3.0) for _ in range(4)]
    assert [lease._acquired("job") for lease in many] == [4, None, None, None]


def test_entries_that_were_not_used_for_longest_go_and_those_of_a_live_run_stay(machine):
    one, two = machine("one"), machine("two", cap_bytes=2500)
    keys = [key_of(i) for i in range(4)]
    for key in keys:
        one.put("stage", key, "x" * 1000)

    def left():
        return [i for i, key in enumerate(keys) if two.bucket.read(f"stage/{key[:32]}.json")]

    with one.in_use():
        assert two.trim() == 0
        time.sleep(1.1)
        assert one.get("stage", keys[0]) == "x" * 1000
    assert left() == [0, 1, 2, 3]
    assert two.trim() > 2000
    assert len(left()) == 2
    assert left()[0] == 0  # it was read last


def test_a_run_that_was_killed_no_longer_holds_anything_back(machine):
    one, two = machine("one"), machine("two")
    one.put("stage", KEY, 1)
    dead = Runs(one.bucket, beat_s=0.2)
    dead.bucket.write("runs/killed.json", b'{"started_at": 1, "ended": false, "used": {}}')
    assert two.prune(0) == 0
    time.sleep(2.1)
    two.runs = dead
    assert two.prune(0) > 0
    assert [each.name for each in two.bucket.find("runs")] == ["runs/merged.json"]


def test_only_our_own_names_are_listed_and_deleted(machine):
    store = machine("one")
    store.put("stage", KEY, 1)
    strangers = ["notes.txt", "stage/notes.txt", f"stage/{KEY[:31]}.json", f"Stage/{KEY[:32]}.json"]
    for name in strangers:
        store.bucket.write(name, b"mine")
    assert [entry.stage for entry in store.entries()] == ["stage"]
    assert store.prune(0) > 0
    assert {each.name for each in store.bucket.find()} == {*strangers, MARKER, "runs/merged.json"}


def test_a_place_that_holds_what_is_not_ours_is_refused(url, machine):
    bucket = machine("one").bucket
    bucket.write("precious", b"")
    bucket.delete([MARKER])
    with pytest.raises(InputError, match="no cache of paretoc: it holds"):
        Bucket(url)
    bucket.write(MARKER, b'{"paretoc cache": 2}')
    with pytest.raises(InputError, match="no cache of this version"):
        Bucket(url)


class Careless:
    """A driver that writes whatever the mode."""

    def __init__(self, files):
        self.files = files

    def __getattr__(self, name):
        return getattr(self.files, name)

    def pipe_file(self, path, content, mode="overwrite"):  # noqa: ARG002  that is what is wrong with it
        self.files.pipe_file(path, content)


def test_a_store_that_writes_over_what_is_there_is_refused(url, monkeypatch):
    files, base = _opened(url)
    monkeypatch.setattr("compiler.store.bucket._opened", lambda _: (Careless(files), base))
    with pytest.raises(InputError, match="writes over what is there"):
        Bucket(url)
    assert files.find(f"{base}/probe") == []


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("sftp://host/x", "no conditional create is known"),
        ("nothing://x", "no conditional create is known"),
        ("simplecache::s3://b/x", "no conditional create is known"),
        ("s3://", "names no bucket"),
        ("s3:/bucket/x", "neither a folder nor a URL"),
    ],
)
def test_what_is_no_place_for_a_store_is_refused(place, message, tmp_path, monkeypatch):
    monkeypatch.setenv("PARETOC_CACHE_FRONT", str(tmp_path))
    with pytest.raises(InputError, match=message):
        open_store(place)


def test_without_its_driver_the_line_that_installs_it_is_said(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setenv("PARETOC_CACHE_FRONT", str(tmp_path))
    monkeypatch.setattr("fsspec.url_to_fs", missing)
    for scheme, extra in (("s3", "s3"), ("gs", "gcs")):
        with pytest.raises(InputError, match=rf"pip install 'paretoc\[{extra}\]'"):
            open_store(f"{scheme}://bucket/x")


def test_a_file_url_is_a_folder(tmp_path):
    store = open_store(f"file://{tmp_path}/cache")
    assert isinstance(store, DiskStore)
    assert store.root == tmp_path / "cache"


@pytest.mark.usefixtures("server")
def test_a_missing_bucket_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PARETOC_CACHE_FRONT", str(tmp_path))
    with pytest.raises(InputError, match="s3://no-such-bucket/x cannot be used"):
        open_store("s3://no-such-bucket/x")


def test_a_bucket_that_may_only_be_read_is_refused(server, tmp_path, monkeypatch):
    import boto3
    import s3fs

    allowed = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": %s, "Resource": "*"}]}'
    url = f"s3://{BUCKET}/{tmp_path.name}"
    SharedStore(url, DiskStore(tmp_path / "one")).put("stage", KEY, 1)
    iam = boto3.client("iam")
    iam.create_user(UserName="reader")
    made = iam.create_access_key(UserName="reader")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", made["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", made["SecretAccessKey"])
    try:
        for actions, works in (('["s3:Get*", "s3:List*"]', False), ('["s3:*"]', True)):
            iam.put_user_policy(UserName="reader", PolicyName="p", PolicyDocument=allowed % actions)
            s3fs.S3FileSystem.clear_instance_cache()
            with authenticated(server):
                if works:
                    assert SharedStore(url, DiskStore(tmp_path / "two")).get("stage", KEY) == 1
                    continue
                with pytest.raises(InputError, match=r"cannot be used: .*\nit needs the rights to read, write"):
                    SharedStore(url, DiskStore(tmp_path / "two"))
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def started(server, tmp_path):  # noqa: ARG001  it runs
    """Processes on fronts of their own, all ready; killed at the end."""
    processes = []

    def begin(name, *words):
        process = start(f"s3://{BUCKET}/{tmp_path.name}", tmp_path / name, *words)
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def test_processes_that_publish_the_same_key_at_once_all_get_one_value(started, tmp_path):
    processes = [started(str(i), "put", str(i)) for i in range(3)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = {process.communicate()[0] for process in processes}
    (answer,) = answers
    value, number = answer.split()
    fourth = SharedStore(f"s3://{BUCKET}/{tmp_path.name}", DiskStore(tmp_path / "fourth"))
    assert fourth.get("values", KEY) == value
    assert set(fourth.get_arrays("arrays", KEY)["a"]) == {float(number)}
    assert len(list(fourth.entries())) == 3


def test_the_lease_of_a_killed_process_is_taken_over(started):
    first, second = started("first", "hold", "first"), started("second", "hold", "second")
    for process, answer in ((first, "making\n"), (second, "waiting\n")):
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == answer
    time.sleep(1.5 * LASTS_S)  # it is renewed
    os.kill(first.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    assert second.stdout.readline() == "making\n"
    assert time.monotonic() - killed_at < 3 * LASTS_S
    second.stdin.write("go\n")
    second.stdin.flush()
    assert second.stdout.readline() == "second\n"
