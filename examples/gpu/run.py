"""Unpack what `make gpu-pack` prepared, once, and run something of it; needs Python alone.

    python3 run.py checks                  # what `make gpu` runs, with its arguments
    python3 run.py experiment              # s2d run examples/gpu/experiment.toml, with arguments
    python3 run.py train warmup --dataset datasets/NAME --student models/NAME --output FOLDER
    python3 run.py s2d ...                 # any other command of s2d
    python3 run.py python ...              # any other Python, with s2d and its packages

Paths are those of the unpacked folder (`unpacked/` beside this file), where commands run. Trainers
and checks need torch, transformers, accelerate, safetensors, pyarrow and numpy of the machine. The
store needs duckdb, deltalake and more, which are packed for one version of Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from parts import PartsReader, read_manifest

HERE = Path(__file__).resolve().parent
COMMANDS = {
    "checks": ["-m", "benchmarks.gpu"],
    "experiment": ["-m", "cli.main", "run", "examples/gpu/experiment.toml"],
    "train": ["-m", "trainers"],
    "s2d": ["-m", "cli.main"],
    "python": [],
}


def main() -> int:
    """Unpack if needed, then run."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    try:
        folder = unpack(HERE, HERE / "unpacked")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    packed_for = read_manifest(HERE)["python"]
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if arguments[0] in ("experiment", "s2d") and packed_for not in ("", own):
        print(
            f"error: this is Python {own}\n  why: the store's packages were packed for {packed_for}"
            f"\n  fix: python examples/gpu/pack.py ... --python {own}",
            file=sys.stderr,
        )
        return 1
    paths = [str(folder), str(folder / "site"), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    environment = os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    given = arguments[1:]
    if arguments[0] == "experiment":
        prompts = [sys.executable, "examples/gpu/successors.py", "runs/gpu/prompts"]
        subprocess.run(prompts, cwd=folder, env=environment, check=True)
        model = sorted((folder / "models").iterdir())[0]
        given = ["--set", f'policies.smollm2="models/{model.name}"', *given]
    command = [sys.executable, *COMMANDS[arguments[0]], *given]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def unpack(packed: Path, folder: Path) -> Path:
    """The unpacked folder; whole, or not there.

    Raises:
        ValueError: a part is missing or damaged.
    """
    if folder.exists():
        return folder
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    with tarfile.open(fileobj=PartsReader(packed), mode="r|") as archive:
        archive.extractall(scratch, filter="data")
    for wheel in sorted((scratch / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch / "site")
    scratch.rename(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
