"""EXIF data of photographs, as cameras and programs write it: well and badly."""

import datetime
import random

import pytest
from PIL import ExifTags, Image, TiffImagePlugin

from vision_jax.data.exif import photo_details
from vision_jax.data.folders import FolderData

BASE, GPS, IFD = ExifTags.Base, ExifTags.GPS, ExifTags.IFD
PLACE = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (52.0, 31.0, 12.0),
    GPS.GPSLongitudeRef: "W",
    GPS.GPSLongitude: (13.0, 24.0, 18.0),
}


def write(path, *, main=None, photo=None, place=None, **options):
    exif = Image.Exif()
    exif.update(main or {})
    if photo:
        exif.get_ifd(IFD.Exif).update(photo)
    if place:
        exif.get_ifd(IFD.GPSInfo).update(place)
    Image.new("RGB", (8, 6), (200, 60, 20)).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_time_camera_and_place_are_read(tmp_path, suffix):
    path = write(
        tmp_path / f"photo{suffix}",
        main={BASE.Make: "NIKON CORPORATION", BASE.Model: "NIKON D70"},
        photo={BASE.DateTimeOriginal: "2024:05:17 14:03:22"},
        place=PLACE,
    )
    assert photo_details(path) == {
        "taken": "2024-05-17T14:03:22",
        "camera": "NIKON D70",
        "latitude": 52.52,
        "longitude": -13.405,
    }


@pytest.mark.parametrize(
    ("photo", "taken"),
    [
        ({BASE.DateTimeOriginal: "2024-05-17T14:03:22.25+02:00"}, "2024-05-17T14:03:22"),
        ({BASE.DateTimeOriginal: "2024:05:17 14:03\0\0\0"}, "2024-05-17T14:03:00"),
        ({BASE.DateTimeOriginal: "0000:00:00 00:00:00"}, None),
        ({BASE.DateTimeOriginal: "2024:02:30 10:00:00"}, None),
        ({BASE.DateTimeOriginal: "2024:02:03 24:00:00"}, None),
        ({BASE.DateTimeOriginal: "    :  :     :  :  "}, None),
        ({BASE.DateTimeOriginal: "yesterday"}, None),
        ({BASE.DateTimeOriginal: ""}, None),
        (
            {BASE.DateTimeOriginal: "bad", BASE.DateTimeDigitized: "1999:12:31 23:59:59"},
            "1999-12-31T23:59:59",
        ),
    ],
)
def test_what_is_no_date_is_left_out(tmp_path, photo, taken):
    found = photo_details(write(tmp_path / "a.jpg", photo=photo, main={BASE.Make: "A"}))
    assert found == {"camera": "A"} | ({} if taken is None else {"taken": taken})


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("samsung", "SM-G973F", "samsung SM-G973F"),
        ("OLYMPUS IMAGING CORP.  \0rest", " E-M1 \n", "OLYMPUS IMAGING CORP. E-M1"),
        ("Apple", "", "Apple"),
        ("", "X100", "X100"),
        ("\0\0", " ", None),
        ("A" * 5000, "B", "A" * 100 + " B"),
    ],
)
def test_make_and_model_become_one_name(tmp_path, make, model, camera):
    path = write(tmp_path / "a.jpg", main={BASE.Make: make, BASE.Model: model})
    assert photo_details(path) == ({} if camera is None else {"camera": camera})


def rational(top, bottom):
    return TiffImagePlugin.IFDRational(top, bottom)


@pytest.mark.parametrize(
    "change",
    [
        {GPS.GPSLatitudeRef: ""},
        {GPS.GPSLatitudeRef: "X"},
        {GPS.GPSLongitude: None},
        {GPS.GPSLatitude: (91.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (52.0, 75.0, 0.0)},
        {GPS.GPSLatitude: (rational(0, 0), rational(0, 0), rational(0, 0))},
        {GPS.GPSLatitude: (rational(1, 0), 0.0, 0.0)},
        {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)},
    ],
)
def test_half_a_place_is_none(tmp_path, change):
    place = {tag: value for tag, value in (PLACE | change).items() if value is not None}
    photo = {BASE.DateTimeOriginal: "2024:05:17 14:03:22"}
    path = write(tmp_path / "a.jpg", place=place, photo=photo)
    assert photo_details(path) == {"taken": "2024-05-17T14:03:22"}


def test_south_west_and_decimal_minutes(tmp_path):
    place = PLACE | {GPS.GPSLatitudeRef: "S", GPS.GPSLatitude: (33.0, 51.5, 0.0)}
    found = photo_details(write(tmp_path / "a.jpg", place=place))
    assert found == {"latitude": -33.858333, "longitude": -13.405}


@pytest.mark.filterwarnings("error")
def test_damaged_files_never_raise(tmp_path):
    whole = write(
        tmp_path / "a.jpg",
        main={BASE.Make: "Canon", BASE.Model: "Canon EOS 5D"},
        photo={BASE.DateTimeOriginal: "2024:05:17 14:03:22"},
        place=PLACE,
    ).read_bytes()
    chance, path = random.Random(0), tmp_path / "b.jpg"
    seen = set()
    for _ in range(150):
        data = bytearray(whole[: chance.choice([len(whole), chance.randrange(len(whole))])])
        for _ in range(chance.randrange(1, 9)):
            if data:
                data[chance.randrange(min(len(data), 400))] = chance.randrange(256)
        path.write_bytes(data)
        found = photo_details(path)
        seen.add(tuple(found))
        assert found.keys() <= {"taken", "camera", "latitude", "longitude"}
        assert -90 <= found.get("latitude", 0) <= 90
        assert -180 <= found.get("longitude", 0) <= 180
    assert len(seen) > 3
    path.write_text("no image")
    assert photo_details(path) == photo_details(tmp_path) == photo_details(tmp_path / "no") == {}


def test_a_folder_says_where_a_file_lies_and_when_it_changed(tmp_path):
    (tmp_path / "cats" / "old").mkdir(parents=True)
    (tmp_path / "dogs").mkdir()
    write(tmp_path / "cats" / "old" / "a.jpg", main={BASE.Make: "Canon"})
    write(tmp_path / "dogs" / "b.png")
    source = FolderData.of(tmp_path, image_size=8, labels=False).source("files")
    found = dict(zip(map(source.key, range(2)), source.details(), strict=True))
    changed = [
        datetime.datetime.fromtimestamp(int((tmp_path / name).stat().st_mtime)).isoformat()
        for name in ("cats/old/a.jpg", "dogs/b.png")
    ]
    assert found == {
        str(tmp_path / "cats/old/a.jpg"): {
            "camera": "Canon",
            "folder": "cats/old",
            "modified": changed[0],
        },
        str(tmp_path / "dogs/b.png"): {"folder": "dogs", "modified": changed[1]},
    }


def test_the_camera_of_a_tiff_is_read(tmp_path):
    path = write(tmp_path / "a.tif", main={BASE.Make: "Canon", BASE.Model: "MG5200"})
    assert photo_details(path) == {"camera": "Canon MG5200"}
