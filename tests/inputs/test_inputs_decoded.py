import errno
import io
import os
import resource

import numpy as np
import pytest
from PIL import Image

from headstart.base.errors import DataError, EnvironmentFault
from headstart.base.progress import Advanced
from headstart.base.seeds import stream
from headstart.data.dataset import Dataset, content_key
from headstart.data.decode import decode_image
from headstart.data.open import open_dataset
from headstart.inputs.decoded import decode_pictures
from headstart.inputs.image import prepare
from headstart.inputs.spec import ImageSpec

SPEC = ImageSpec(size=32, crop=0.875)
SIZES = [
    (12, 12),
    (16, 16),
    (17, 16),
    (28, 28),
    (45, 60),
    (46, 46),
    (47, 90),
    (36, 200),
    (300, 200),
    (200, 300),
    (33, 34),
    (600, 500),
    (31, 500),
]


def picture(width, height, *names):
    small = stream(0, width, height, *names).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, kind):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def dataset_of(values):
    return Dataset("image", [f"{i:03}.png" for i in range(len(values))], list(values))


def everything(pictures):
    return [a for row in range(len(pictures)) for a in (pictures.prepared(row), pictures.picture(row))]


@pytest.mark.parametrize("fit", ["crop", "squish", "pad"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("to_crop", [True, False])
def test_prepared_is_what_prediction_sees_bit_for_bit(fit, kind, to_crop):
    spec = ImageSpec(size=32, crop=0.875 if fit == "crop" else 1.0, fit=fit)
    values = [encoded(picture(*size), kind) for size in SIZES]
    pictures = decode_pictures(dataset_of(values), spec, to_crop=to_crop)
    for row, value in enumerate(values):
        image, _ = decode_image(value, name="x", at_least=spec.resized)
        assert np.array_equal(pictures.prepared(row), prepare(image, spec)), SIZES[row]


def test_pictures_to_crop_keep_twice_the_area_that_the_network_sees_and_are_never_enlarged():
    pictures = decode_pictures(dataset_of([encoded(picture(*size), "PNG") for size in SIZES]), SPEC)
    for row, (width, height) in enumerate(SIZES):
        kept_height, kept_width, _ = pictures.picture(row).shape
        assert min(kept_height, kept_width) == min(width, height, 46)  # √2 · 32, rounded up
        assert abs(kept_width / kept_height - width / height) / (width / height) < 0.03


def test_the_bits_do_not_depend_on_the_number_of_workers_or_on_where_they_are_kept(tmp_path):
    dataset = dataset_of([encoded(picture(w, h, i), "JPEG") for i in range(8) for w, h in SIZES])
    reference = everything(decode_pictures(dataset, SPEC, workers=1))
    for workers, limit in ((4, 2**30), (2, 100_000), (3, 0)):
        other = decode_pictures(dataset, SPEC, workers=workers, folder=tmp_path, in_memory=limit)
        assert other.in_memory <= limit
        assert all(np.array_equal(a, b) for a, b in zip(reference, everything(other), strict=True))


def test_memory_is_bounded_and_the_file_leaves_nothing_behind(tmp_path):
    dataset = dataset_of([encoded(picture(60, 60, i), "PNG") for i in range(40)])
    one = 46 * 46 * 3 + 32 * 32 * 3
    pictures = decode_pictures(dataset, SPEC, folder=tmp_path / "new", in_memory=10 * one)
    assert pictures.in_memory == 10 * one and pictures.on_disk == 30 * one
    assert list((tmp_path / "new").iterdir()) == []  # deleted while it is open: no kill can leave it behind
    held = pictures.picture(39)
    before = held.copy()
    pictures.close()
    assert np.array_equal(held, before)


def test_a_small_store_touches_no_disk(tmp_path):
    pictures = decode_pictures(dataset_of([picture(60, 60)]), SPEC, folder=tmp_path / "new")
    assert pictures.on_disk == 0 and not (tmp_path / "new").exists()


def test_of_tiny_pictures_only_the_original_is_kept():
    tiny = decode_pictures(dataset_of([picture(16, 16)] * 10), SPEC)
    assert tiny.in_memory == 10 * 16 * 16 * 3  # a quarter of the network's 32 × 32
    assert np.array_equal(tiny.picture(3), np.asarray(picture(16, 16)))


def test_without_crops_only_prepared_pixels_are_kept():
    kept = decode_pictures(dataset_of([picture(300, 200)] * 10), SPEC, to_crop=False)
    assert kept.in_memory == 10 * 32 * 32 * 3
    with pytest.raises(AssertionError, match="made without pictures to crop from"):
        kept.picture(0)


def test_kept_pictures_cannot_be_changed_by_accident(tmp_path):
    values = [picture(60, 60), picture(20, 20)]
    for limit in (2**30, 0):
        for array in everything(decode_pictures(dataset_of(values), SPEC, folder=tmp_path, in_memory=limit)):
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0


@pytest.fixture
def folder(tmp_path):
    for label in "ab":
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(3):
            picture(50, 50, label, i).save(tmp_path / "data" / label / f"{i}.png")
    return tmp_path / "data"


@pytest.mark.parametrize("event", ["vanished", "changed"])
def test_a_file_that_vanished_or_changed_since_the_look_is_named(folder, event):
    dataset = open_dataset(folder)
    keys = [content_key(value.read_bytes()) for value in dataset.values]
    decode_pictures(dataset, SPEC, keys=keys)
    stat = (folder / "b" / "1.png").stat()
    if event == "vanished":
        (folder / "b" / "1.png").unlink()
    else:
        picture(50, 50, "other").save(folder / "b" / "1.png")
        os.utime(folder / "b" / "1.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(DataError, match=r"DA52 b/1\.png (has changed since|could be read when) the data was looked at"):
        decode_pictures(dataset, SPEC, keys=keys)


def test_a_full_disk_is_the_environments_fault(tmp_path):
    """RLIMIT_FSIZE stands in for the disk, as in the tests of base.files."""
    import signal

    dataset = dataset_of([encoded(picture(60, 60, i), "PNG") for i in range(30)])
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(EnvironmentFault, match="EN69 no room to write") as caught:
            decode_pictures(dataset, SPEC, folder=tmp_path, in_memory=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told():
    events = []
    decode_pictures(dataset_of([picture(20, 20)] * 5), SPEC, observer=events.append)
    assert [e.done for e in events if isinstance(e, Advanced)] == [1, 2, 3, 4, 5]
