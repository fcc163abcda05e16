from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engram.tasks import data
from engram.tasks.data import DataError, DataFile, DataSet, files
from engram.tasks.data.mnist import read

REAL = os.environ.get("ENGRAM_DATA")
IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
DIGITS = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
CLASSES = np.array([7, 2, 1], dtype=np.uint8)


def idx(array, header=None):
    header = header or bytes([0, 0, 8, array.ndim])
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(header + sizes + array.tobytes(), mtime=0)


def checksum(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content`` and counts requests; half of it in mode "half"; "stall" waits for ``released``."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.requests, self.mode = {}, Counter(), "whole"
        self.half_sent, self.released = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request, client_address):
        pass  # a client that was killed


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path[1:]
        self.server.requests[name] += 1
        if name not in self.server.content:
            self.send_error(404)
            return
        content = self.server.content[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.server.half_sent.set()
        if self.server.mode == "stall":
            self.server.released.wait(30)
        if self.server.mode != "half":
            self.wfile.write(content[len(content) // 2 :])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ENGRAM_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def publish(server, cache, monkeypatch):
    """Put a set of MNIST's form on the server and in the table; its checksums are those of what is served."""

    def publish(images=None, labels=None):
        contents = {IMAGES: images or idx(DIGITS), LABELS: labels or idx(CLASSES)}
        server.content |= contents
        files = tuple(DataFile(f"mnist/{n}", server.url + n, checksum(c), len(c)) for n, c in contents.items())
        monkeypatch.setitem(data.SETS, "tiny", DataSet("tiny", "three digits", "CC0-1.0", "none", files, read))
        return files

    return publish


def fetching_process(file):
    program = (  # without the packages above it, whose import takes seconds
        "import importlib.util, sys\n"
        "source, path, url, checksum, size = sys.argv[1:]\n"
        "spec = importlib.util.spec_from_file_location('files', source)\n"
        "files = sys.modules['files'] = importlib.util.module_from_spec(spec); spec.loader.exec_module(files)\n"
        "print('ready', flush=True); print(files.locate(files.DataFile(path, url, checksum, int(size))))"
    )
    arguments = [files.__file__, file.path, file.url, file.checksum, str(file.size)]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_the_mnist_test_images(publish, monkeypatch):
    if REAL and Path(REAL, "mnist", IMAGES).is_file():
        monkeypatch.setenv("ENGRAM_DATA", REAL)
        images, labels = data.load("mnist", split="test")
        assert images.shape == (10000, 28, 28)
        assert images.mean() == pytest.approx(33.791, abs=1e-3)
        assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    else:
        publish()
        images, labels = data.load("tiny", split="test")
        np.testing.assert_array_equal(images, DIGITS)
        np.testing.assert_array_equal(labels, CLASSES)
    assert images.dtype == labels.dtype == np.uint8


def test_a_set_is_fetched_once_and_then_read_from_the_cache(publish, server, cache):
    publish()
    for _ in range(2):
        np.testing.assert_array_equal(data.load("tiny", split="test").images, DIGITS)
    assert server.requests == {IMAGES: 1, LABELS: 1}
    assert (cache / "mnist" / IMAGES).read_bytes() == server.content[IMAGES]


def test_engram_data_comes_first_and_is_never_replaced(publish, server, tmp_path, monkeypatch):
    publish()
    monkeypatch.setenv("ENGRAM_DATA", str(tmp_path / "given"))
    (tmp_path / "given" / "mnist").mkdir(parents=True)
    given = tmp_path / "given" / "mnist" / IMAGES
    given.write_bytes(server.content[IMAGES])
    data.load("tiny", split="test")
    assert server.requests == {LABELS: 1}

    given.write_bytes(b"something else")
    with pytest.raises(
        DataError, match=f"{given} has checksum sha256:.*, expected sha256:.*take it out of ENGRAM_DATA"
    ):
        data.load("tiny", split="test")
    assert given.read_bytes() == b"something else"

    monkeypatch.setenv("ENGRAM_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"ENGRAM_DATA = .*nowhere.: expected a folder"):
        data.load("tiny", split="test")


def test_a_wrong_file_in_the_cache_is_kept_aside_and_fetched_again(publish, cache):
    publish()
    data.fetch("tiny")
    (cache / "mnist" / IMAGES).write_bytes(b"something else")
    with pytest.warns(UserWarning, match="expected sha256:.*kept aside as .* and fetched again"):
        np.testing.assert_array_equal(data.load("tiny", split="test").images, DIGITS)
    (aside,) = (cache / "mnist").glob("*.wrong")
    assert aside.read_bytes() == b"something else"


def test_offline_and_absent_says_what_to_do(publish, server, cache):
    file = publish()[0]
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError) as error:
        data.load("tiny", split="test")
    for part in (
        file.path,
        file.url,
        file.checksum,
        f"{file.size} bytes",
        str(cache / file.path),
        "ENGRAM_DATA",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("absent", "404"),
        ("half", r"IncompleteRead|broken|hash of downloaded file"),
        ("other", r"hash of downloaded file .* does not match"),
    ],
)
def test_a_failed_fetch_leaves_nothing_behind_and_can_be_repeated(publish, server, cache, trouble, message):
    publish()
    right = server.content[IMAGES]
    if trouble == "absent":
        del server.content[IMAGES]
    elif trouble == "half":
        server.mode = "half"
    else:
        server.content[IMAGES] = right[:-1] + b"x"
    with pytest.raises(DataError, match=message):
        data.load("tiny", split="test")
    assert [path.name for path in (cache / "mnist").iterdir()] in ([], [f"{IMAGES}.lock"])
    server.content[IMAGES], server.mode = right, "whole"
    np.testing.assert_array_equal(data.load("tiny", split="test").images, DIGITS)


def test_the_next_address_is_tried_where_the_first_fails(publish, server, cache):
    file = publish()[0]
    server.content["broken"] = b"something else"
    mirrored = dataclasses.replace(file, url=server.url + "absent", mirrors=(server.url + "broken", file.url))
    assert files.locate(mirrored).read_bytes() == server.content[IMAGES]
    assert server.requests == {"absent": 1, "broken": 1, IMAGES: 1}
    (cache / file.path).unlink()
    with pytest.raises(DataError, match=r"(?s)absent: 404.*broken: .*hash.*from .*absent or .*broken"):
        files.locate(dataclasses.replace(mirrored, mirrors=(server.url + "broken",)))


def test_every_file_is_known_by_its_sha256_and_omniglot_has_two_addresses():
    published = [file for dataset in data.SETS.values() for file in dataset.files]
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", file.checksum) for file in published)
    for file in data.SETS["omniglot"].files:
        assert file.mirrors == (
            file.url.replace("raw.githubusercontent.com/brendenlake/omniglot", "github.com/brendenlake/omniglot/raw"),
        )


def test_a_process_killed_while_fetching_harms_nothing(publish, server, cache):
    file = publish()[0]
    server.mode = "stall"
    process = fetching_process(file)
    assert server.half_sent.wait(30)
    process.kill()
    process.communicate()
    server.released.set()
    assert not (cache / file.path).exists()
    server.mode = "whole"
    np.testing.assert_array_equal(data.load("tiny", split="test").images, DIGITS)


def test_processes_that_want_the_same_file_fetch_it_once(publish, server, cache):
    file = publish()[0]
    server.mode = "stall"
    processes = [fetching_process(file) for _ in range(2)]
    assert server.half_sent.wait(30)
    time.sleep(0.3)  # time for the second one to ask, which it must not
    server.released.set()
    places = [Path(process.communicate(timeout=30)[0].strip()) for process in processes]
    assert places == [cache / file.path] * 2
    assert places[0].read_bytes() == server.content[IMAGES]
    assert server.requests[IMAGES] == 1


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (idx(DIGITS)[:-20], f"{IMAGES} as a gzip file"),
        (b"no gzip at all", f"{IMAGES} as a gzip file"),
        (
            idx(DIGITS, header=bytes([0, 0, 13, 3])),
            f"{IMAGES} starts with 00000d03, expected the IDX magic number 00000803",
        ),
        (idx(CLASSES), f"{IMAGES} starts with 00000801"),
        (
            gzip.compress(gzip.decompress(idx(DIGITS))[:-1]),
            f"{IMAGES} holds 2367 bytes, expected .* 3 x 28 x 28",
        ),
        (gzip.compress(b"\0\0\x08\x03\0\0"), f"{IMAGES} holds 6 bytes"),
        (idx(DIGITS[:2]), f"{IMAGES} has 2 images, but .*{LABELS} 3 labels"),
    ],
    ids=["truncated gzip", "no gzip", "floats", "labels", "short", "no header", "fewer images than labels"],
)
def test_a_file_that_cannot_be_parsed_is_named(publish, images, message):
    publish(images)
    with pytest.raises(DataError, match=message):
        data.load("tiny", split="test")


def test_verify_tells_what_is_at_hand_and_change_nothing(publish, server, cache):
    files = publish()
    assert not data.verify("tiny").complete
    assert not cache.exists()
    assert data.fetch("tiny").complete
    (cache / files[1].path).write_bytes(b"something else")
    first, second = data.verify("tiny").files
    assert (first.path, first.source, first.size, first.verified) == (
        cache / files[0].path,
        "cache",
        files[0].size,
        True,
    )
    assert (second.size, second.verified) == (14, False)
    assert (cache / files[1].path).read_bytes() == b"something else"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnits", {}, "unknown data set 'mnits'; did you mean 'mnist'"),
        ("zzz", {}, "known: aav, acasxu, cifar10, cifar10-jpeg, mnist"),
        ("mnist", {"part": "test"}, "'part' is not an option of data set 'mnist': expected split"),
        ("mnist", {"split": "valid"}, "split = 'valid': expected one of 'train', 'test'"),
    ],
)
def test_unknown_names_and_options(cache, name, options, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, **options)
    assert not cache.exists()
