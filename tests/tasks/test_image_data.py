"""CIFAR-10 and Omniglot: their readers, on small archives of the same form and, where they are, on the real files."""

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from engram.tasks import data, standardise
from engram.tasks.data import DataError, cifar10, omniglot

RNG = np.random.default_rng(0)


def encoded(pixels, kind):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def batch(labels, pixels):
    """One batch of the binary version, its pixels given as (n, 32, 32, 3)."""
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    return np.concatenate((labels[:, None], planes), axis=1).astype(np.uint8).tobytes()


def archive(path, contents):
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return lambda _: path


LABELS = (np.arange(10_000) % 10).astype(np.uint8)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).integers(0, 256, (10_000, 1, 1, 3), dtype=np.uint8).repeat(32, 1).repeat(32, 2)


def test_the_binary_version_is_read_without_unpickling(tmp_path, pixels):
    pixels = pixels.copy()
    pixels[3, 5, 7] = (1, 2, 3)
    locate = archive(tmp_path / "cifar.tar.gz", {"test_batch": batch(LABELS, pixels)})
    images, labels = cifar10.read(locate, split="test")
    np.testing.assert_array_equal(images, pixels)
    np.testing.assert_array_equal(labels, LABELS)
    assert images.dtype == labels.dtype == np.uint8
    for all_of_them, some in zip((images, labels), cifar10.read(locate, split="test", first=5), strict=True):
        np.testing.assert_array_equal(some, all_of_them[:5])


def test_the_training_batches_come_in_their_order(tmp_path, pixels):
    contents = {f"data_batch_{n}": batch(np.full(10_000, n, dtype=np.uint8), pixels) for n in (5, 3, 1, 2, 4)}
    _, labels = cifar10.read(archive(tmp_path / "cifar.tar.gz", contents))
    np.testing.assert_array_equal(labels, np.repeat([1, 2, 3, 4, 5], 10_000))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "has no file cifar-10-batches-bin/test_batch.bin"),
        ({"test_batch": b"12"}, "holds 2 bytes, expected 10000 records of 3073"),
        ({"test_batch": b"\x0b" * 30_730_000}, "has a label 11, expected 0 to 9"),
    ],
    ids=["empty", "short", "labels"],
)
def test_another_archive_is_refused(tmp_path, contents, message):
    with pytest.raises(DataError, match=message):
        cifar10.read(archive(tmp_path / "cifar.tar.gz", contents), split="test")


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"something else")
    for read in (cifar10.read, cifar10.read_jpeg, omniglot.read_small):
        with pytest.raises(DataError, match=rf"cannot read {tmp_path}/file"):
            read(lambda _: tmp_path / "file")


def table(path, images, labels=None):
    labels = range(len(images)) if labels is None else labels
    pl.DataFrame({"image": images, "label": labels}, schema={"image": pl.Binary, "label": pl.UInt8}).write_parquet(path)
    return lambda _: path


def test_jpeg_images_are_decoded(tmp_path):
    smooth = np.stack([np.add.outer(np.arange(32), np.arange(32)) + 50 * n for n in (0, 1, 2)], axis=2).astype(np.uint8)
    images, labels = cifar10.read_jpeg(table(tmp_path / "t.parquet", [encoded(smooth, "JPEG")] * 2), split="test")
    assert labels.tolist() == [0, 1]
    assert abs(images[1].astype(int) - smooth).max() < 12


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (b"no image", 0, r"as JPEG images \(image 0\)"),
        (encoded(np.zeros((32, 32, 3), np.uint8), "PNG"), 0, r"as JPEG images \(image 0\)"),
        (encoded(np.zeros((8, 32, 3), np.uint8), "JPEG"), 0, r"has size \(32, 8\), expected \(32, 32\)"),
        (b"", 10, "has a label 10, expected 0 to 9"),
    ],
    ids=["no image", "no JPEG", "another size", "another label"],
)
def test_another_table_is_refused(tmp_path, image, label, message):
    with pytest.raises(DataError, match=message):
        cifar10.read_jpeg(table(tmp_path / "t.parquet", [image], [label]), split="test")


def test_another_schema_is_refused(tmp_path):
    pl.DataFrame({"pixels": [1]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"has columns .*pixels.*expected image \(Binary\) and label \(UInt8\)"):
        cifar10.read_jpeg(lambda _: tmp_path / "t.parquet")


def characters(path, drawers=20, side=105):
    """An archive of two characters; drawing d of each is white but for d + 1 black pixels in its first row."""
    with zipfile.ZipFile(path, "w") as file:
        for character in ("Greek/character02", "Greek/character01"):
            for drawer in range(drawers):
                pixels = np.ones((side, side), dtype=bool)
                pixels[0, : drawer + 1] = False
                file.writestr(f"images/{character}/0001_{drawer + 1:02}.png", encoded(pixels, "PNG"))
        file.writestr("images/Greek/notes.txt", "not an image")
    return lambda _: path


def test_characters_are_read_in_order_as_ink_on_paper(tmp_path):
    images, names = omniglot.read_small(characters(tmp_path / "small.zip"))
    assert names == ("Greek/character01", "Greek/character02")
    assert images.shape == (2, 20, 105, 105)
    assert np.unique(images).tolist() == [0, 255]
    assert (images == 0).sum((2, 3)).tolist() == [list(range(1, 21))] * 2
    joined, names = omniglot.read(characters(tmp_path / "small.zip"), split="all")
    assert len(joined) == len(names) == 4
    assert len(omniglot.read(characters(tmp_path / "small.zip"), split="evaluation").images) == 2


def test_reduced_characters_keep_their_ink(tmp_path):
    locate = characters(tmp_path / "small.zip")
    whole, reduced = omniglot.read_small(locate).images / 255, omniglot.read_small(locate, size=31).images / 255
    assert reduced.shape == (2, 20, 31, 31)
    ink = (1 - whole).sum((2, 3)) / 105**2, (1 - reduced).sum((2, 3)) / 31**2
    np.testing.assert_allclose(ink[1], ink[0], rtol=0.6)  # thin lines do not vanish between the pixels
    assert len(np.unique(reduced)) > 5, "it is antialiased"


@pytest.mark.parametrize(
    ("form", "message"),
    [({"drawers": 19}, "has 19 drawings of Greek/character01, expected 20"), ({"side": 28}, r"has size \(28, 28\)")],
)
def test_another_archive_of_characters_is_refused(tmp_path, form, message):
    with pytest.raises(DataError, match=message):
        omniglot.read_small(characters(tmp_path / "small.zip", **form))


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        (("cifar10", {"split": "valid"}), ValueError, "split = 'valid': expected one of 'train', 'test'"),
        (("cifar10-jpeg", {"split": "valid"}), ValueError, "split = 'valid'"),
        (
            ("omniglot", {"split": "train"}),
            ValueError,
            "split = 'train': expected one of 'background', 'eval",
        ),
        (("cifar10", {"first": 0}), ValueError, "first = 0: expected at least 1"),
        (("cifar10-jpeg", {"first": 2.5}), TypeError, "first"),
        (("omniglot", {"size": 0}), ValueError, "size = 0: expected 1 to 105"),
        (("omniglot-small", {"size": 28.0}), TypeError, "size"),
        (("omniglot-small", {"split": "all"}), ValueError, "'split' is not an option of data set 'omniglot-small'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_fetched(wanted, error, message, tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(error, match=message):
        data.load(wanted[0], **wanted[1])
    assert not (tmp_path / "cache").exists()


def test_the_small_set_of_characters_is_read_from_the_archive_of_all_where_its_own_is_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ENGRAM_DATA", str(tmp_path))
    own = data.SETS["omniglot-small"].files[0]
    path = tmp_path / own.instead.path
    path.parent.mkdir()
    characters(path)
    with zipfile.ZipFile(path, "a") as file, zipfile.ZipFile(path) as whole:
        for name in [name for name in whole.namelist() if "Greek/character01" in name]:
            file.writestr(name.replace("Greek", "Hebrew"), whole.read(name))
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    files = (replace(own, instead=replace(own.instead, checksum=digest)),)
    monkeypatch.setitem(data.SETS, "omniglot-small", replace(data.SETS["omniglot-small"], files=files))
    assert data.load("omniglot-small").names == ("Greek/character01", "Greek/character02"), "none of another alphabet"
    assert data.verify("omniglot-small").complete
    path.unlink()
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nothing answers
    with pytest.raises(DataError, match=r"images_background\.zip is absent and could not be fetched: https://raw"):
        data.fetch("omniglot-small")


@pytest.mark.parametrize("name", ["cifar10-jpeg"])
def test_a_set_without_a_public_address_says_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ENGRAM_DATA", str(tmp_path))
    file = data.SETS[name].files[0]
    with pytest.raises(DataError) as error:
        data.load(name)
    for part in (
        "no public address",
        "take the original, 'cifar10'",
        str(tmp_path / file.path),
        file.checksum,
        f"{file.size} bytes",
    ):
        assert part in str(error.value)
    (tmp_path / file.path).parent.mkdir(exist_ok=True)
    (tmp_path / file.path).write_bytes(b"something else")
    with pytest.raises(DataError, match="replace it by the right file, or take it out of ENGRAM_DATA"):
        data.load(name)


@pytest.mark.needs_data("omniglot-small.zip")
def test_the_small_omniglot():
    images, names = data.load("omniglot-small", size=31)
    assert images.shape == (242, 20, 31, 31)
    assert len(set(names)) == 242
    assert len({name.split("/")[0] for name in names}) == 8
    assert images.mean() == pytest.approx(234.5, abs=0.5)


@pytest.mark.needs_data("cifar10-jpeg/test.parquet")
def test_the_jpeg_copy_of_cifar10():
    images, labels = data.load("cifar10-jpeg", split="test")
    assert images.shape == (10_000, 32, 32, 3)
    assert np.bincount(labels).tolist() == [1000] * 10
    np.testing.assert_allclose(images.mean((0, 1, 2)) / 255, [0.494, 0.485, 0.450], atol=0.003)
    for all_of_them, some in zip((images, labels), data.load("cifar10-jpeg", split="test", first=30), strict=True):
        np.testing.assert_array_equal(some, all_of_them[:30])
    assert standardise(images[:100]).abs().amax((1, 2)).unique().tolist() == [1.0]
