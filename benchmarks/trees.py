"""What the benchmarks back up: made from a seed, the same on every machine."""

from __future__ import annotations

import os
import random
from pathlib import Path

_MIB = 1 << 20


def _words(rng: random.Random) -> list[bytes]:
    letters = b"etaoinshrdlucmfwypvbgkjqxz"
    return [bytes(rng.choices(letters, k=rng.randint(2, 11))) for _ in range(4000)]


def _text(rng: random.Random, words: list[bytes], size: int) -> bytes:
    out = bytearray()
    while len(out) < size:
        out += b" ".join(rng.choices(words, k=64)) + b"\n"
    return bytes(out[:size])


def small_files(root: Path, *, count: int, seed: int = 1) -> None:
    """Files of a median of 4 KB in directories of about six: text, one in six random bytes."""
    rng = random.Random(seed)
    words = _words(rng)
    made = 0
    for number in range(count):
        folder = root / f"d{number % 40:02}" / f"s{number % 400:03}" / f"t{number:06}"
        folder.mkdir(parents=True)
        for file in range(rng.randint(4, 9)):
            size = min(int(rng.lognormvariate(8.3, 1.3)), 2 * _MIB)
            body = rng.randbytes(size) if rng.random() < 1 / 6 else _text(rng, words, size)
            (folder / f"f{file}.txt").write_bytes(body)
            made += 1
            if made == count:
                return


def flat_files(root: Path, *, count: int, mean: int, seed: int = 6) -> None:
    """Incompressible files of any size up to twice the mean, in fifty directories."""
    rng = random.Random(seed)
    for number in range(count):
        folder = root / str(number % 50)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(rng.randbytes(rng.randrange(2 * mean)))


def log_file(path: Path, size: int, *, seed: int = 2) -> None:
    """A web server's log: compresses fourfold."""
    rng = random.Random(seed)
    words = [word.decode() for word in _words(rng)]
    with path.open("wb") as file:
        second = 1_700_000_000
        while file.tell() < size:
            lines = []
            for _ in range(5000):
                second += rng.randint(0, 2)
                lines.append(
                    f"{second} 10.1.{rng.randint(0, 255)}.{rng.randint(0, 255)} "
                    f"GET /api/{rng.choice(words)}/{rng.getrandbits(32)} "
                    f"{rng.choice([200, 200, 200, 304, 404, 500])} {rng.randint(100, 90000)}\n"
                )
            file.write("".join(lines).encode())


def random_file(path: Path, size: int, *, seed: int = 3) -> None:
    rng = random.Random(seed)
    with path.open("wb") as file:
        for _ in range(size // _MIB):
            file.write(rng.randbytes(_MIB))


def program_file(path: Path, size: int) -> None:
    """This machine's own programs and libraries, one after the other."""
    with path.open("wb") as file:
        for folder in ("/usr/bin", "/usr/lib", "/usr/local/lib"):
            for where, _, names in os.walk(folder):
                for name in sorted(names):
                    source = Path(where, name)
                    if source.is_file() and not source.is_symlink():
                        file.write(source.read_bytes()[: size - file.tell()])
                    if file.tell() >= size:
                        return


def mixed_tree(root: Path, *, files: int = 40_000) -> None:
    """40,000 small files and five large ones, 2 GB together."""
    small_files(root, count=files)
    random_file(root / "random-1.bin", 250 * _MIB, seed=4)
    random_file(root / "random-2.bin", 250 * _MIB, seed=5)
    log_file(root / "access.log", 500 * _MIB)
    program_file(root / "programs-1.bin", 300 * _MIB)
    program_file(root / "programs-2.bin", 200 * _MIB)


def change(root: Path, *, share: float, seed: int) -> None:
    """Rewrites a share of the small files, and as much of each large one in place; never the same
    bytes twice.
    """
    rng = random.Random(seed)
    for where, _, names in os.walk(root):
        for name in names:
            path = Path(where, name)
            size = path.stat().st_size
            if size > 100 * _MIB:
                with path.open("r+b") as file:
                    for _ in range(10):
                        file.seek(rng.randrange(size))
                        file.write(rng.randbytes(int(size * share / 10)))
                    file.truncate(size)
            elif rng.random() < share:
                path.write_bytes(rng.randbytes(max(size, 1)))
