"""The command ``ncae``, also as ``python -m sklearn_ncae``."""

import sys


def main() -> None:
    """Run the command line, or say how to install what it needs."""
    try:
        import click  # noqa: F401
    except ImportError:
        print(
            "ncae: the command line needs 'click', which is not installed. Install it with: "
            'pip install "sklearn-ncae[cli]"',
            file=sys.stderr,
        )
        sys.exit(2)  # 1 is for defects
    from sklearn_ncae._cli import cli

    cli(prog_name="ncae")


if __name__ == "__main__":
    main()
