"""Checks in environments of their own: `nox -l` lists them, `nox -s tests-3.12` runs one."""

from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "tests", "lowest", "backends", "package", "docs"]

# As in the Makefile.
PARALLEL = ["-n", "auto", "--maxprocesses", "4", "--dist", "worksteal"]

# What does not need TensorFlow: the layer, the network, and the estimators around it.
ANY_BACKEND = [
    f"tests/test_{name}.py" for name in ("layers", "network", "reconstructor", "detector")
]

# The lowest versions that pyproject.toml allows.
LOWEST = [
    "click==8.2.1",
    "dask[array,distributed]==2024.8.*",
    "hypothesis==6.100.*",
    "joblib==1.4.*",
    "keras==3.8.*",
    "matplotlib==3.9.*",
    "numpy==2.0.*",
    "onnx==1.17.*",
    "onnxruntime==1.20.*",
    "opencv-python-headless==4.10.*",
    "pandas==2.2.2",
    "pillow==11.0.*",
    "pyparsing<3.3",  # whose new deprecation warning matplotlib 3.9 meets
    "pytest==8.2.*",
    "pytest-cov==5.0.*",
    "pytest-xdist==3.6.*",
    "scikeras==0.13.*",
    "scikit-learn==1.7.*",
    "scipy==1.13.*",
    "skops==0.13.*",
    "tensorflow==2.18.*",
]

# Those that make a score.
ACROSS = {"keras", "numpy", "scikit-learn", "scipy", "tensorflow"}


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the tests and doctests."""
    session.install(".[test]")
    session.run("pytest", "--cov", *PARALLEL, *session.posargs)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions of the dependencies."""
    session.install(".[test]", *LOWEST)
    session.run("pytest", *PARALLEL, *session.posargs)


@nox.session(python="3.11", default=False)
def across_versions(session: nox.Session) -> None:
    """Score with the lowest versions what the newest have saved: bitwise as there."""
    script = str(Path("tests", "data", "write_model_file.py").resolve())
    folder = session.create_tmp()
    session.install(".")
    session.run("python", script, folder)
    session.install(".", *(name for name in LOWEST if name.split("=")[0] in ACROSS))
    session.run("python", script, "--compare", folder)


@nox.session(python="3.11", default=False)
def without_tensorflow(session: nox.Session) -> None:
    """Score an exported model where nothing but NumPy and onnxruntime is installed."""
    session.install(".[onnx]")
    session.run("python", "benchmarks/onnx_without_tensorflow.py")


@nox.session(python="3.11")
@nox.parametrize("backend", ["jax", "torch"])
def backends(session: nox.Session, backend: str) -> None:
    """Run the tests of the network with another Keras backend."""
    session.install(".[test]", backend)
    session.run("pytest", *ANY_BACKEND, *session.posargs, env={"KERAS_BACKEND": backend})


@nox.session(python="3.11")
@nox.parametrize("kind", ["wheel", "sdist"])
def package(session: nox.Session, kind: str) -> None:
    """Build the package, and use what is built away from its source."""
    script = Path("tests", "installed_package.py").resolve()
    folder = Path(session.create_tmp()).resolve()
    for old in folder.glob("sklearn_ncae-*"):
        old.unlink()
    session.install("build")
    session.run("python", "-m", "build", f"--{kind}", "--outdir", str(folder))
    (built,) = folder.glob("sklearn_ncae-*")
    session.install("--force-reinstall", "--no-deps", str(built))
    session.install(f"{built}[cli]")
    session.chdir(folder)
    session.run("python", str(script))


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """Build the documentation, warnings are errors."""
    session.install(".[docs]")
    session.run(
        "sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html"
    )


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Check style and types."""
    session.install(".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(python="3.11", default=False)
def audit(session: nox.Session) -> None:
    """Look the installed dependencies up among known vulnerabilities, over the network."""
    session.install(".[cli,dask,demo,onnx]", "pip-audit")
    session.run("pip-audit", "--local", "--skip-editable")


@nox.session(python="3.11", default=False)
def backend_speed(session: nox.Session) -> None:
    """Measure the Keras backends, write the table of docs/performance.md."""
    session.install(".[benchmark]", "jax", "torch")
    session.run("python", "benchmarks/backends.py", "--write")


@nox.session(python="3.11", default=False)
def clusters(session: nox.Session) -> None:
    """Score with Spark, which needs Java, and with Ray."""
    session.install(".[images]", "pyspark", "ray[data]")
    session.run("python", "benchmarks/spark_and_ray.py")
