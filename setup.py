"""Builds the messages with CMakeLists.txt and packs them with the Python package.

The ROS 2 package is defined once, in CMakeLists.txt; colcon runs that file, and so does this one.
ROS 2 comes from the sourced environment if there is one (AMENT_PREFIX_PATH), else from the ROS 2
wheels that are installed beside the Python that runs this. What CMake installs is then laid out as
those wheels lay theirs out: message classes in site-packages, libraries in <prefix>/lib, the rest
in <prefix>/share and <prefix>/include.

Everything else about the package is in pyproject.toml.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

SOURCE = Path(__file__).resolve().parent
PACKAGE = "pose_node"


class BuildError(SystemExit):
    """The messages cannot be built; the text says what is missing."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"pose_node: cannot build the messages: {reason}")


def ros_prefixes() -> list[Path]:
    """The prefixes ROS 2 is installed in, the sourced ones first.

    Raises:
        BuildError: No ROS 2 is there, or this Python cannot import the sourced one's generators.
    """
    spec = importlib.util.find_spec("rosidl_generator_py")
    sourced = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    if sourced:
        if spec is None or not any(_is_below(spec.origin, prefix) for prefix in sourced):
            raise BuildError(
                "a ROS 2 environment is sourced, but this Python does not see its message "
                "generators; use the Python that belongs to it and `pip install "
                "--no-build-isolation .`"
            )
        return sourced
    if spec is None or spec.origin is None:
        raise BuildError(
            "no ROS 2 environment is sourced and the ROS 2 wheels are not installed; "
            "source one, or `pip install .` without --no-build-isolation, or run scripts/setup"
        )
    # <prefix>/lib/pythonX.Y/site-packages/rosidl_generator_py/__init__.py
    return [Path(spec.origin).parents[4]]


def _is_below(origin: str | None, folder: Path) -> bool:
    # Links are not followed: a workspace built with --symlink-install is full of them.
    return origin is not None and Path(origin).absolute().is_relative_to(folder.absolute())


def run_cmake(build: Path, staging: Path) -> None:
    """Configures, compiles and installs CMakeLists.txt into the folder ``staging``.

    Raises:
        BuildError: CMake or a compiler is missing, or CMake failed.
    """
    prefixes = os.pathsep.join(map(str, ros_prefixes()))
    environment = {
        **os.environ,
        "AMENT_PREFIX_PATH": prefixes,
        "CMAKE_PREFIX_PATH": os.pathsep.join(
            filter(None, [prefixes, os.environ.get("CMAKE_PREFIX_PATH")])
        ),
    }
    configure = [
        "cmake", "-S", str(SOURCE), "-B", str(build),
        f"-DCMAKE_INSTALL_PREFIX={staging}",
        f"-DCMAKE_PROJECT_INCLUDE={SOURCE / 'scripts' / 'pip_build.cmake'}",
        f"-DPython3_EXECUTABLE={sys.executable}",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DBUILD_TESTING=OFF",
    ]  # fmt: skip
    if shutil.which("ninja"):
        configure += ["-G", "Ninja"]
    if shutil.which("cmake") is None:
        raise BuildError("`cmake` is not on the PATH; install it (`pip install cmake`)")
    if not (os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")):
        raise BuildError("there is no C++ compiler; install one (`apt install build-essential`)")
    for command in (
        configure,
        ["cmake", "--build", str(build), "--parallel"],
        ["cmake", "--install", str(build)],
    ):
        status = subprocess.run(command, env=environment, check=False).returncode
        if status:
            raise BuildError(f"`{' '.join(command[:2])}` ended with status {status}, see above")


class BuildWithMessages(build_py):
    """Adds what CMake installs to the wheel: message classes as modules, all else as data."""

    def run(self) -> None:
        build = Path(self.get_finalized_command("build").build_temp).resolve()
        staging = build / "staging"
        # Nothing of an earlier build may stay: it can be of another distribution, or have messages
        # and modules that are gone.
        for leftover in (build, Path(self.build_lib) / PACKAGE):
            shutil.rmtree(leftover, ignore_errors=True)
        super().run()
        run_cmake(build / "cmake", staging)
        [python_folder] = {
            path.parents[2] for path in staging.glob(f"**/{PACKAGE}/msg/__init__.py")
        }
        if self.editable_mode:
            destination = Path(self.get_finalized_command("install").install_lib)
        else:
            destination = Path(self.build_lib)
        self._add_generated_modules(python_folder / PACKAGE, destination / PACKAGE)
        self._add_data(staging, python_folder)

    def _add_generated_modules(self, generated: Path, destination: Path) -> None:
        # Only what the sources do not have. In an editable install that leaves a folder without
        # __init__.py, which the package of the checkout merges into itself (pose_node/__init__.py).
        for found in sorted(generated.rglob("*")):
            relative = found.relative_to(generated)
            if found.suffix not in {".py", ".so"} or (SOURCE / PACKAGE / relative).exists():
                continue
            (destination / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, destination / relative)

    def _add_data(self, staging: Path, python_folder: Path) -> None:
        folders: dict[str, list[str]] = {}
        for found in sorted(staging.rglob("*")):
            if found.is_file() and not found.is_relative_to(python_folder):
                folder = str(found.parent.relative_to(staging))
                folders.setdefault(folder, []).append(os.path.relpath(found, SOURCE))
        self.distribution.data_files = list(folders.items())
        if self.editable_mode:  # setuptools leaves data files out of editable installs by itself
            self.run_command("install_data")


class CompiledDistribution(Distribution):
    """A distribution whose wheel is for one Python and one platform."""

    def has_ext_modules(self) -> bool:
        """True: the messages are compiled, although setuptools does not do it itself."""
        return True


if __name__ == "__main__":
    setup(
        license="Apache-2.0",
        cmdclass={"build_py": BuildWithMessages},
        distclass=CompiledDistribution,
    )
