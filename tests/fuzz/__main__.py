"""`make fuzz`: the walk of a thread's frames over memory that holds anything, under sanitizers.

--seconds 60 --inputs 10000000   as long, or as many; of the program's own drawing
--grow                           by libFuzzer, which needs clang, and keep what leads to more code
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.build import SANITIZE, compile_fuzzer, corpus, name_of_version, unpack_recordings


def fuzz(folder: Path, seconds: int, inputs: int, seed: int) -> int:
    """The status of the program, which prints what it did."""
    program = compile_fuzzer(folder / "fuzz", [*SANITIZE, "-O2", "-DALONE"])
    words = [program, unpack_recordings(folder), corpus(), seconds, inputs, seed]
    return subprocess.run([str(word) for word in words], check=False).returncode


def grow(folder: Path, seconds: int) -> int:
    """The status of libFuzzer. The corpus becomes the fewest of the inputs that reach all code."""
    program = compile_fuzzer(folder / "fuzz", ["-fsanitize=fuzzer", *SANITIZE, "-O2"])
    environment = {**os.environ, "WALK_RECORDINGS": str(unpack_recordings(folder))}
    found, kept = folder / "found", folder / "kept"
    found.mkdir()
    kept.mkdir()
    for number, line in enumerate(corpus().read_text().split()):
        (found / f"old{number}").write_bytes(bytes.fromhex(line))
    options = ["-max_len=290", "-print_final_stats=1", f"-artifact_prefix={folder}/"]
    search = [str(program), f"-max_total_time={seconds}", *options, str(found)]
    status = subprocess.run(search, env=environment, check=False).returncode
    if status == 0:
        merge = [str(program), "-merge=1", *options, str(kept), str(found)]
        status = subprocess.run(merge, env=environment, check=False).returncode
        lines = sorted({file.read_bytes().hex() for file in kept.iterdir()} - {""})
        corpus().write_text("".join(f"{line}\n" for line in lines if len(line) >= 4))
        print(f"{corpus().name}: {len(lines)} inputs")
    else:
        for file in folder.glob("crash-*"):
            print(f"input: {file.read_bytes().hex()}")
    return status


def main() -> int:
    """Fuzz as the arguments say; not 0 if there was a report."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--inputs", type=int, default=10**15)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9)
    parser.add_argument("--grow", action="store_true")
    options = parser.parse_args()
    print(f"CPython {name_of_version()}, seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if options.grow:
            os.environ["CC"] = os.environ.get("CC", "clang")
            return grow(Path(folder), options.seconds)
        return fuzz(Path(folder), options.seconds, options.inputs, options.seed)


if __name__ == "__main__":
    sys.exit(main())
