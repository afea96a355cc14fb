"""The pages of the documentation: their examples run, and what they point to is there."""

import doctest
import re
import runpy
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
WRITTEN = [path for path in DOCS.rglob("*.md") if not {"_build", "gallery"} & set(path.parts)]
PAGES = {str(path.relative_to(ROOT)): path for path in sorted(WRITTEN)}


# pytest collects docs/*.md by itself.
@pytest.mark.parametrize("name", [name for name in PAGES if name.count("/") > 1])
def test_examples_of_the_inner_pages_run(name):
    # Indented examples in lists as well.
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, _ = doctest.testfile(str(PAGES[name]), module_relative=False, optionflags=options)
    assert failed == 0


def exists(page, target):
    """Whether a page or picture is there, or will be when the gallery has been made."""
    path = (page.parent / target).resolve()
    if path.exists():
        return True
    if path.parent == DOCS / "gallery":
        return path.name == "index.rst" or (EXAMPLES / path.with_suffix(".py").name).exists()
    if path.parent == DOCS / "gallery" / "images":
        example, number = re.fullmatch(r"sphx_glr_(\w+)_(\d{3})\.png", path.name).groups()
        source = (EXAMPLES / f"{example}.py").read_text(encoding="utf-8")
        return int(number) <= source.count("plt.show()") + source.count(".plot(max_pairs")
    return path == DOCS / "api" / "index.rst"


@pytest.mark.parametrize("name", [*PAGES, "README.md"])
def test_links_lead_somewhere(name):
    page = ROOT / name
    # Not in code.
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    lost = [target for target in targets if not exists(page, target)]
    assert not lost


@pytest.mark.parametrize("name", PAGES)
def test_names_of_the_api_are_right(name):
    text = PAGES[name].read_text(encoding="utf-8")
    for role, target in re.findall(r"\{(class|func|mod|meth)\}`~?([\w.]+)`", text):
        if role == "mod":
            import_module(target)
            continue
        module, _, attribute = target.rpartition(".")
        assert hasattr(import_module(module), attribute), target


def test_the_gallery_has_an_order():
    order = runpy.run_path(str(DOCS / "gallery_order.py"))["ORDER"]
    assert sorted(order) == sorted(path.name for path in EXAMPLES.glob("plot_*.py"))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("plot_*.py")), ids=lambda path: path.stem)
def test_examples_of_the_gallery_begin_with_a_title(path):
    title, underline, *_ = path.read_text(encoding="utf-8").splitlines()[1:]
    assert underline == "=" * len(title)
