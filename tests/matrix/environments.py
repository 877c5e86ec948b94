"""Environments of packages that conflict: made with uv from FOLDER/NAME.txt, cached outside the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).parent / "environments"
UV = str(Path(sys.executable).parent / "uv")


def cache_folder() -> Path:
    """`$OTEL_STEPS_CACHE/envs`, else `otel-steps/envs` in the user's cache folder."""
    chosen = os.environ.get("OTEL_STEPS_CACHE")
    if chosen:
        return Path(chosen).absolute() / "envs"
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (base if base.is_absolute() else Path.home() / ".cache") / "otel-steps" / "envs"


def python_of(name: str, requirements: Path = REQUIREMENTS) -> str:
    """The Python of the environment `name` in the folder `requirements`, which is made if the cache does not hold it.

    It holds what the package depends on, and not the package: that is found in the checkout, by PYTHONPATH, so that a
    cached environment cannot go stale. What it depends on and the Python's version are part of its key.
    Raises CalledProcessError where it cannot be made.
    """
    wanted = requirements / f"{name}.txt"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    key = hashlib.sha256(
        "\n".join([wanted.read_text(encoding="utf-8"), *project["dependencies"], sys.version]).encode()
    )
    folder = cache_folder() / f"{name}-{key.hexdigest()[:16]}"
    python = folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "complete").exists():
            return str(python)
        for stale in folder.parent.glob(f"{name}-*"):
            shutil.rmtree(stale)
        subprocess.run([UV, "venv", "--quiet", f"--python={sys.executable}", str(folder)], check=True)
        install = [UV, "pip", "install", "--quiet", "--compile-bytecode", f"--python={python}"]
        install += ["-r", "pyproject.toml", "-r", str(wanted)]
        subprocess.run(install, check=True, cwd=ROOT)
        (folder / "complete").touch()
    return str(python)
