"""Block devices: real ones where this machine lends us a loop device, image files else."""

import json
import os
import shutil
import subprocess

import pytest

from holdfast.core.errors import InvalidError, RestoreError, SourceError, SourceMissingError
from holdfast.sources.devices.block import BlockModule
from holdfast.sources.devices.lvm import LvmModule

MIB = 1 << 20


@pytest.fixture
def image(tmp_path):
    """Four MiB with something at both ends and nothing between."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.write(os.urandom(70_000))
        file.truncate(4 * MIB)
        file.seek(4 * MIB - 5000)
        file.write(b"end" * 1000)
    return path


@pytest.fixture
def loop():
    """Makes a block device of a file."""
    made = []

    def attach(path):
        try:
            done = subprocess.run(
                ["losetup", "--find", "--show", path], capture_output=True, text=True, check=False
            )
        except OSError:
            pytest.skip("losetup is not installed (Debian package: mount)")
        if done.returncode:
            pytest.skip(f"this machine lends no loop device: {done.stderr.strip()}")
        made.append(done.stdout.strip())
        return made[-1]

    yield attach
    for device in made:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_an_image_file_stands_in_for_a_device_and_says_so(image, ask, keep, tmp_path):
    """All bytes, and holes where there were only zeros when it comes back."""
    kept, problems = keep(BlockModule(), ask(image))
    assert problems == []
    assert kept.files["device.img"] == image.read_bytes()
    assert "standing in" in json.loads(kept.files["about.json"])["kind"]

    said = BlockModule().put_back(ask(tmp_path / "back.img"), kept)

    assert "standing in" in said
    back = tmp_path / "back.img"
    assert back.read_bytes() == image.read_bytes()
    assert back.stat().st_blocks * 512 < MIB
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.img", "disk.img", "scratch"]


def test_a_real_device_goes_and_comes_back(image, loop, ask, keep, tmp_path):
    """It is listed, read, and written over only with consent; zeros, too."""
    device = loop(image)
    found = {each.name: each for each in BlockModule().resources(ask())}
    assert found[device].size == 4 * MIB
    kept, problems = keep(BlockModule(), ask(device))
    assert problems == []
    assert kept.files["device.img"] == image.read_bytes()
    assert json.loads(kept.files["about.json"])["kind"] == "block device"

    other = tmp_path / "other.img"
    other.write_bytes(b"\xff" * 5 * MIB)
    target = loop(other)
    with pytest.raises(RestoreError, match="something at"):
        BlockModule().put_back(ask(target), kept)
    assert other.read_bytes() == b"\xff" * 5 * MIB

    BlockModule().put_back(ask(target, overwrite=True), kept)

    assert other.read_bytes() == image.read_bytes() + b"\xff" * MIB


def test_a_device_that_is_too_small_is_left_alone(image, loop, ask, keep, tmp_path):
    """The sizes are told."""
    kept, _ = keep(BlockModule(), ask(image))
    small = tmp_path / "small.img"
    small.write_bytes(b"\xff" * 3 * MIB)
    with pytest.raises(RestoreError, match=r"has 3\.000 MiB, the backup 4\.000 MiB"):
        BlockModule().put_back(ask(loop(small), overwrite=True), kept)
    assert small.read_bytes() == b"\xff" * 3 * MIB


def test_a_mounted_device_is_neither_read_nor_written(loop, ask, keep, tmp_path):
    """Unless somebody says that it may be read in use."""
    path = tmp_path / "fs.img"
    path.touch()
    os.truncate(path, 8 * MIB)
    make = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin")
    if make is None:
        pytest.skip("mkfs.ext4 is not installed (Debian package: e2fsprogs)")
    subprocess.run([make, "-q", path], check=True)
    device = loop(path)
    point = tmp_path / "mounted"
    point.mkdir()
    if subprocess.run(["mount", device, point], capture_output=True, check=False).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        with pytest.raises(SourceError, match=f"mounted at {point}"):
            keep(BlockModule(), ask(device))
        kept, _ = keep(BlockModule(), ask(device, in_use=True))
        assert len(kept.files["device.img"]) == 8 * MIB
        with pytest.raises(RestoreError, match="mounted"):
            BlockModule().put_back(ask(device, overwrite=True), kept)
    finally:
        subprocess.run(["umount", point], check=True)


def test_a_backup_that_is_too_short_is_not_put_back(image, ask, keep, tmp_path):
    """Nothing is there of it."""
    kept, _ = keep(BlockModule(), ask(image))
    kept.files["device.img"] = kept.files["device.img"][:MIB]
    with pytest.raises(RestoreError, match=r"1\.000 MiB of the device only"):
        BlockModule().put_back(ask(tmp_path / "back.img"), kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.img", "scratch"]


def test_what_is_no_device_is_refused(ask, keep, tmp_path):
    """By what it is."""
    with pytest.raises(SourceError, match="neither a block device nor an image"):
        keep(BlockModule(), ask(tmp_path))
    with pytest.raises(SourceMissingError):
        keep(BlockModule(), ask("/dev/nowhere"))
    with pytest.raises(InvalidError, match="absolute"):
        BlockModule().check(ask("sda"))
    with pytest.raises(InvalidError, match="did you mean in_use"):
        BlockModule().check(ask("/dev/sda", inuse=True))


_LVM = """#!/bin/sh
# Stands in for LVM, which needs a device mapper: a volume and its snapshot are image files.
echo "$(basename $0) $*" >> {folder}/calls
case "$(basename $0) $*" in
  "lvs --reportformat"*)
    echo '{{"report": [{{"lv": [{{"lv_path": "{folder}/data", "lv_size": "4194304",'
    echo '"vg_name": "vg", "lv_name": "data"}}, {{"lv_path": "", "lv_size": "1"}}]}}]}}' ;;
  "lvs --noheadings"*) cat {folder}/state ;;
  lvcreate*) for last; do :; done; name=$(echo "$*" | sed 's/.*--name \\([^ ]*\\).*/\\1/')
    cp {folder}/data {folder}/$name; echo late >> {folder}/data ;;
  lvremove*) for last; do :; done; rm {folder}/$(basename $last) ;;
esac
"""


@pytest.fixture
def volume(tmp_path, image):
    """A stand-in for a volume group with one volume, and where its calls are written."""
    folder = tmp_path / "vg"
    folder.mkdir()
    image.rename(folder / "data")
    (folder / "state").write_text("  sri-a-s---\n")
    for name in ("lvs", "lvcreate", "lvremove"):
        (folder / name).write_text(_LVM.format(folder=folder))
        (folder / name).chmod(0o755)
    return folder


def test_a_volume_is_read_from_a_snapshot_that_is_removed_again(volume, ask, keep):
    """What is written to the volume after that is not in it. (LVM is a stand-in here.)"""
    before = (volume / "data").read_bytes()
    [found] = LvmModule().resources(ask(tools=str(volume)))
    assert (found.name, found.size) == (str(volume / "data"), 4 * MIB)

    kept, problems = keep(LvmModule(), ask(found.name, tools=str(volume), snapshot_size=25))

    assert problems == []
    assert kept.files["device.img"] == before
    about = json.loads(kept.files["about.json"])
    assert (about["path"], about["module"]) == (found.name, "lvm")
    calls = (volume / "calls").read_text()
    assert "--extents 25%ORIGIN" in calls
    assert not list(volume.glob("holdfast_*"))


def test_a_volume_is_put_back_by_its_name_or_its_path(volume, ask, keep, tmp_path):
    """A name is one of a device."""
    kept, _ = keep(LvmModule(), ask(volume / "data", tools=str(volume)))
    with pytest.raises(RestoreError, match="something at /dev/null"):
        LvmModule().put_back(ask("null"), kept)
    with pytest.raises(RestoreError, match=f"something at {volume}/data"):
        LvmModule().put_back(ask(), kept)
    LvmModule().put_back(ask(tmp_path / "back.img"), kept)
    assert (tmp_path / "back.img").stat().st_size == 4 * MIB


def test_a_snapshot_that_ran_full_is_no_backup(volume, ask, keep):
    """It is found out before anything is kept, and the snapshot is removed all the same."""
    (volume / "state").write_text("  Sri-I-s---\n")
    with pytest.raises(SourceError, match="ran full"):
        keep(LvmModule(), ask(volume / "data", tools=str(volume)))
    assert not list(volume.glob("holdfast_*"))


def test_a_volume_that_is_not_there_is_named_with_those_that_are(volume, ask, keep):
    """Before a snapshot is made."""
    with pytest.raises(SourceMissingError, match=f"vg/other; there is {volume}/data"):
        keep(LvmModule(), ask("vg/other", tools=str(volume)))
    with pytest.raises(SourceError, match="there is no lvs in /nowhere"):
        LvmModule().resources(ask(tools="/nowhere"))
