"""What is shipped: wheels and source archives hold what they must and nothing else; the wheels work alone."""

import email
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = {"genreg_core": ROOT, "genreg_nb": ROOT / "plugins" / "nb"}
EXPECTED = {
    "genreg_core": {"genreg/registry.yaml", "genreg/py.typed", "genreg/draft.py", "genreg/cli/run.py"},
    "genreg_nb": {
        "genreg_nb/registry.yaml",
        "genreg_nb/py.typed",
        "genreg_nb/nb-iris/config.json",
        "genreg_nb/nb-iris/model.safetensors",
        "genreg_nb/nb-iris/README.md",
    },
}
ARCHIVED = {
    "genreg_core": {"registry.yaml", "README.md", "LICENSE", "pyproject.toml", "core/genreg/draft.py"},
    "genreg_nb": {"README.md", "LICENSE", "pyproject.toml", "src/genreg_nb/nb-iris/model.safetensors"},
}
TOPS = {  # beside the files above and what hatchling adds
    "genreg_core": {"core"},
    "genreg_nb": {"src", "scripts", "tests"},
}


def python(executable: str | Path, *arguments: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """What a Python prints; the test fails with its messages where it fails."""
    done = subprocess.run(
        [str(executable), *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels and source archives of the core and nb."""
    out = tmp_path_factory.mktemp("dist")
    build = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out)]
    python(sys.executable, *build, ".", "./plugins/nb", cwd=ROOT)
    for project in PROJECTS.values():
        python(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", out, cwd=project)
    return out


@pytest.fixture(scope="module")
def alone(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment in which nothing but the two wheels and what they need is installed."""
    folder = tmp_path_factory.mktemp("alone")
    python(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    executable = folder / "venv" / "bin" / "python"
    wheels = [wheel_of(built, name) for name in PROJECTS]  # files: the bare name on the index is a stranger's package
    pip(executable, "install", "-q", "--no-compile", "-c", ROOT / "constraints.txt", *wheels)
    return executable


def pip(executable: Path, *arguments: str | Path) -> str:
    """What pip prints of another Python's environment, which needs no pip of its own."""
    return python(sys.executable, "-m", "pip", "--python", executable, *arguments, cwd=executable.parent)


def wheel_of(built: Path, name: str) -> Path:
    """The one wheel of a project."""
    (path,) = built.glob(f"{name}-*.whl")
    return path


def contents(built: Path, name: str) -> tuple[set[str], str]:
    """The names in a wheel, without those of its metadata folder, and that folder's name."""
    with zipfile.ZipFile(wheel_of(built, name)) as wheel:
        names = set(wheel.namelist())
    info = next(entry.partition("/")[0] for entry in names if ".dist-info/" in entry)
    return names, info


@pytest.mark.parametrize("name", PROJECTS)
def test_a_wheel_holds_the_package_its_data_and_its_licence(built: Path, name: str) -> None:
    names, info = contents(built, name)
    assert EXPECTED[name] <= names
    assert f"{info}/licenses/LICENSE" in names
    assert wheel_of(built, name).name.endswith("-py3-none-any.whl")


@pytest.mark.parametrize("name", PROJECTS)
def test_a_wheel_holds_nothing_else(built: Path, name: str) -> None:
    names, info = contents(built, name)
    package = {"genreg_core": "genreg"}.get(name, name)
    assert {entry.partition("/")[0] for entry in names} == {package, info}
    parts = {part for entry in names for part in entry.split("/")}
    assert not parts & {"tests", "benchmarks", "scripts", "docs", "__pycache__"}
    assert not [entry for entry in names if Path(entry).name.startswith("test_") or entry.endswith((".pyc", ".arrow"))]


@pytest.mark.parametrize("name", PROJECTS)
def test_a_wheel_says_what_it_needs(built: Path, name: str) -> None:
    _, info = contents(built, name)
    with zipfile.ZipFile(wheel_of(built, name)) as wheel:
        metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
        points = wheel.read(f"{info}/entry_points.txt").decode()
    assert metadata["Name"] == name.replace("_", "-")
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "[genreg]" in points
    own = [need for need in metadata.get_all("Requires-Dist", []) if need.startswith("genreg")]
    assert all("<0.2" in need or "genreg-core[" in need for need in own), own  # the core names itself in the extra all
    assert not [need for need in own if need.split("[")[0].split(">")[0].split(";")[0].strip() == "genreg"]


@pytest.mark.parametrize("name", PROJECTS)
def test_a_source_archive_holds_what_builds_and_nothing_else(built: Path, name: str) -> None:
    (path,) = built.glob(f"{name}-*.tar.gz")
    with tarfile.open(path) as archive:
        names = {entry.name.partition("/")[2] for entry in archive.getmembers()}
    assert ARCHIVED[name] <= names
    tops = {entry.partition("/")[0] for entry in names}
    assert tops <= ARCHIVED[name] | TOPS[name] | {"PKG-INFO", ".gitignore"}
    assert not [entry for entry in names if "__pycache__" in entry or entry.endswith(".pyc")]


@pytest.mark.parametrize("name", PROJECTS)
def test_the_source_archive_builds_the_same_wheel(built: Path, name: str, tmp_path: Path) -> None:
    (path,) = built.glob(f"{name}-*.tar.gz")
    build = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    python(sys.executable, *build, path, cwd=tmp_path)
    with zipfile.ZipFile(wheel_of(tmp_path, name)) as again, zipfile.ZipFile(wheel_of(built, name)) as wheel:
        assert {entry: again.read(entry) for entry in again.namelist()} == {
            entry: wheel.read(entry) for entry in wheel.namelist()
        }


def genreg(alone: Path, *arguments: str, cwd: Path) -> str:
    """What the command line of the new environment prints, with neither this checkout nor the user's files in sight."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GENREG"))}
    environment = {**inherited, "XDG_CONFIG_HOME": str(cwd), "HOME": str(cwd), "PYTHONUTF8": "1"}
    return python(alone.parent / "genreg", *arguments, cwd=cwd, environment=environment)


def test_the_wheels_alone_list_their_model(alone: Path, tmp_path: Path) -> None:
    models = json.loads(genreg(alone, "list", "--installed", "--json", cwd=tmp_path))
    assert [m["name"] for m in models if m["installed"]] == ["nb-iris", "nb-penguins"]
    assert all((model["plugin"], model["installed"]) == ("genreg-nb", True) for model in models)


def test_the_wheels_alone_draw_the_same_samples(alone: Path, tmp_path: Path) -> None:
    lines = genreg(alone, "run", "nb-iris", "-n", "3", "--seed", "0", cwd=tmp_path).splitlines()
    assert lines == [
        "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm),species",
        "5.6,1.9,3.4,1.4,versicolor",
        "6.3,2.9,6.4,2.1,virginica",
        "6.6,3.0,4.7,1.4,versicolor",
    ]


def test_the_wheels_alone_have_healthy_plugins(alone: Path, tmp_path: Path) -> None:
    told = {
        line.partition(" ")[0]: line for line in genreg(alone, "plugins", cwd=tmp_path).splitlines() if line[:1] != " "
    }
    for dist in ("genreg-core", "genreg-nb"):
        assert told[dist].endswith(": ok"), told


def test_the_wheels_alone_train(alone: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x,y\n1.5,a\n2.5,a\n3.5,b\n4.5,b\n", "utf-8")
    genreg(alone, "train", "nb", "--data", "rows.csv", "--label", "y", "--split", "100", "-o", "made", cwd=tmp_path)
    assert len(genreg(alone, "run", "./made", "a", "-n", "2", cwd=tmp_path).splitlines()) == 3


def test_the_strangers_package_is_not_there(alone: Path) -> None:
    names = {row["name"] for row in json.loads(pip(alone, "list", "--format", "json"))}
    assert {"genreg-core", "genreg-nb"} <= names
    assert "genreg" not in names
    assert not names & {"torch", "pandas", "scikit-learn", "pytest"}
