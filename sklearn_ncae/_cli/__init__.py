"""The command line: each module is a command, and only reads options and prints results.

What takes long to import (Keras above all) is imported when a command runs, so that ``--help`` is
quick.
"""

import click

import sklearn_ncae
from sklearn_ncae._cli.base import NcaeGroup
from sklearn_ncae._cli.compare import compare
from sklearn_ncae._cli.demo import demo
from sklearn_ncae._cli.export import export
from sklearn_ncae._cli.fit import fit
from sklearn_ncae._cli.info import info
from sklearn_ncae._cli.report import report
from sklearn_ncae._cli.score import score
from sklearn_ncae._cli.tune import tune


@click.group(
    cls=NcaeGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "auto_envvar_prefix": "NCAE",
    },
    epilog='Completion for bash: add  eval "$(_NCAE_COMPLETE=bash_source ncae)"  to ~/.bashrc '
    "(zsh_source and fish_source for the other shells).",
)
@click.version_option(sklearn_ncae.__version__, prog_name="ncae")
def cli() -> None:
    """Find defective parts in images, having seen good ones only.

    \b
    To try it on drawn images:
      ncae demo
    On your own, with a folder of images of good parts:
      ncae fit GOOD_DIR -o part.ncae
      ncae score part.ncae NEW_IMAGES -o scores.csv
      ncae report part.ncae NEW_IMAGES -o report.html
    """


for _command in (fit, score, report, tune, compare, export, info, demo):
    cli.add_command(_command)

__all__ = ["cli"]
