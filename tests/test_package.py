import ast
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import sklearn_ncae


def test_import_loads_no_keras():
    code = (
        "import sys, sklearn_ncae\n"
        "loaded = {'keras', 'tensorflow', 'scikeras', 'jax', 'torch', 'matplotlib', 'PIL'}\n"
        "print(sorted(loaded & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_public_names():
    for name in sklearn_ncae.__all__:
        assert getattr(sklearn_ncae, name).__name__ == name
        assert name in dir(sklearn_ncae)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = sklearn_ncae.Nothing


def public_names() -> list[str]:
    """What users may rely on: classes and functions of modules without a leading underscore."""
    names = []
    modules = pkgutil.walk_packages(sklearn_ncae.__path__, "sklearn_ncae.")
    for module_name in sorted(["sklearn_ncae", *(module.name for module in modules)]):
        if "._" in module_name:
            continue
        module = import_module(module_name)
        defined = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and (inspect.isclass(value) or inspect.isfunction(value))
            and value.__module__ == module_name
        ]
        names += [f"{module_name}.{name}" for name in sorted(getattr(module, "__all__", defined))]
    return names


def test_nothing_public_appears_or_vanishes_unnoticed():
    listed = (Path(__file__).parent / "public_api.txt").read_text().splitlines()
    names = public_names()
    assert names == listed, (
        f"new: {sorted({*names} - {*listed})}, gone: {sorted({*listed} - {*names})}. If this is "
        "meant, say so in CHANGELOG.md and run: "
        "python tests/test_package.py > tests/public_api.txt"
    )


def test_everything_public_is_documented():
    for name in public_names():
        module, _, attribute = name.rpartition(".")
        assert inspect.getdoc(getattr(import_module(module), attribute)), name


def test_versions_agree():
    root = Path(__file__).parents[1]
    for name in ("pyproject.toml", "CITATION.cff"):
        text = (root / name).read_text(encoding="utf-8")
        assert re.search(r'^version( =|:) "?([\d.]+)"?$', text, re.M)[2] == sklearn_ncae.__version__


def test_the_architecture_page_names_every_module():
    text = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = pkgutil.iter_modules(sklearn_ncae.__path__)
    missing = [m.name for m in modules if f"`{m.name}`" not in text and f"`{m.name}/`" not in text]
    assert not missing, f"Give {missing} a room in docs/architecture.md"


def test_rooms_import_from_those_above_them_only():
    root = Path(__file__).parents[1]
    page = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [\w ]+ \| (`.*?) \| ", page, re.M)
    room_of = {
        name.rstrip("/"): room
        for room, modules in enumerate(rows)
        for name in re.findall(r"`([\w/]+)`", modules)
    }
    assert len(rows) == 12
    package = root / "sklearn_ncae"
    for path in package.rglob("*.py"):
        module = path.relative_to(package).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = [one.name for one in node.names]
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path} has a relative import"
                names = [f"{node.module}.{name}" for name in names]
            imported = {name.split(".")[1] for name in names if name.startswith("sklearn_ncae.")}
            for name in imported & room_of.keys() if module != "__init__" else ():
                assert room_of[name] <= room_of[module], (path, name)


if __name__ == "__main__":
    print("\n".join(public_names()))
