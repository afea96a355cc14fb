import subprocess
import sys

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
