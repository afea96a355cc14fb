"""What the commands share: errors in one line, exit codes, options, progress."""

import errno
import os
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import click

FAILED = 2
INTERRUPTED = 130

MODEL = click.Path(exists=True, dir_okay=False)
FOLDER = click.Path(exists=True, file_okay=False)


class Output(click.Path):
    """A file to write, whose name says what it will hold: it ends in one of some suffixes, if any.

    Whether it can be written is found before the work is done.
    """

    def __init__(self, *suffixes: str) -> None:
        super().__init__(dir_okay=False)
        self.suffixes = suffixes

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Refuse other names, such as that of a model for a report, and folders that are not."""
        if self.suffixes and not os.fspath(value).lower().endswith(self.suffixes):
            self.fail(f"{value!r} must end in {' or '.join(self.suffixes)}.", param, ctx)
        folder = os.path.dirname(os.path.realpath(value))
        if not os.path.isdir(folder):
            self.fail(f"there is no folder {folder!r} to write {value!r} into.", param, ctx)
        if not os.access(folder, os.W_OK):
            self.fail(f"the folder {folder!r} of {value!r} cannot be written to.", param, ctx)
        return super().convert(value, param, ctx)


def _set_verbose(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:  # a command that another one runs is as verbose as that
        context.meta["verbose"] = True


class NcaeCommand(click.Command):
    """A command with the option `--verbose`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--verbose"],
                is_flag=True,
                expose_value=False,
                callback=_set_verbose,
                help="Show the traceback of an error.",
            )
        )


class NcaeGroup(click.Group):
    """Lists its commands in the order in which they are used; their errors take one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of definition."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn what it raises into a line and an exit code."""
        try:
            with warnings.catch_warnings():
                # What concerns users is shown; what concerns the authors of code is not.
                warnings.simplefilter("ignore")
                warnings.simplefilter("default", UserWarning)
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, click.exceptions.NoArgsIsHelpError):
            raise
        except KeyboardInterrupt:
            say("ncae: interrupted; the output was not written.")
            ctx.exit(INTERRUPTED)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                # The reader of the output has gone: what is left of it has no place to go.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                ctx.exit(FAILED)
            if ctx.meta.get("verbose"):
                traceback.print_exc()
            say(f"ncae: {_in_one_line(error, ctx)}")
            ctx.exit(FAILED)


def _in_one_line(error: Exception, ctx: click.Context) -> str:
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else ctx.command_path
        text = f"{error.format_message()} See: {path} --help"
    elif isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, OSError | ValueError | TypeError | ImportError) and str(error):
        text = str(error)  # written to be read
    else:
        text = f"{type(error).__name__}: {error} (--verbose shows where)"
    return " ".join(text.split())


def _show_warning(message: Any, *args: Any, **kwargs: Any) -> None:
    click.echo(f"ncae: warning: {' '.join(str(message).split())}", err=True)


class ImageSize(click.ParamType):  # type: ignore[type-arg]  # generic in newer click
    """A side or HEIGHTxWIDTH in pixels, or "native"."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int] | None:
        """Return (height, width), or None for "native"."""
        if not isinstance(value, str):
            return value
        if value == "native":
            return None
        try:
            sides = [int(side) for side in value.lower().split("x")]
        except ValueError:
            sides = []
        if len(sides) not in (1, 2) or min(sides) < 8:
            self.fail(
                f"{value!r} is no size; give a side such as 128, HEIGHTxWIDTH such as 96x160 (at "
                "least 8 pixels), or native.",
                param,
                ctx,
            )
        return sides[0], sides[-1]


class Pattern(click.ParamType):  # type: ignore[type-arg]  # generic in newer click
    """A regular expression."""

    name = "pattern"

    def convert(self, value: Any, param: Any, ctx: Any) -> re.Pattern[str]:
        """Compile it."""
        try:
            return re.compile(value)
        except re.error as error:
            self.fail(f"{value!r} is no regular expression: {error}.", param, ctx)


def say(text: str) -> None:
    """Tell the user something that is not a result: on standard error."""
    click.echo(text, err=True)


def start_tensorflow() -> None:
    """Import Keras and TensorFlow, whose start-up notes are no news to users."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)  # they come from C++, past sys.stderr
        try:
            import keras

            keras.ops.zeros(1)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def is_onnx(path: str) -> bool:
    """Tell an exported file from a model file, by its name."""
    return path.lower().endswith(".onnx")


def load_detector(path: str) -> Any:
    """Load a model file, or an exported ONNX file."""
    if is_onnx(path):
        from sklearn_ncae.onnx import OnnxDetector

        return OnnxDetector(path)
    from sklearn_ncae import persistence

    if persistence.info(path)["n_weights"] != 0:  # texture alone has none
        start_tensorflow()
    return persistence.load(path)


def image_files(paths: Iterable[str]) -> list[str]:
    """List image files; none at all is an error."""
    from sklearn_ncae.datasets import IMAGE_SUFFIXES
    from sklearn_ncae.file_scoring import find_image_files

    paths = list(paths)
    found = find_image_files(paths)
    if not found:
        raise ValueError(
            f"There are no image files in {', '.join(map(repr, paths))}: looked for names that end "
            f"in {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return found


def labelled_files(folder: str, good: Sequence[str] = ()) -> tuple[list[str], Any]:
    """List the files of a folder that is sorted by label, and the labels, but for training images.

    Raises
    ------
    ValueError
        If the folder is not sorted by label.
    """
    from sklearn_ncae.datasets import load_image_folder

    parts = load_image_folder(folder, load=False, **({"good": good} if good else {}))
    n_others = count_unlabelled(folder, parts.paths)
    if n_others and (parts.target == 1).all():
        raise ValueError(
            f"{folder!r} has a subfolder of good images and {n_of(n_others, 'image')} beside it, "
            "but no subfolder of defects. Move those into one, such as defect."
        )
    if n_others:
        say(f"{n_of(n_others, 'image')} in no subfolder left out")
    shown = parts.split != "train"
    if not shown.any():
        shown = ~shown
    elif not shown.all():
        say(f"{n_of(int((~shown).sum()), 'image')} in the train folder left out")
    return list(parts.paths[shown]), parts.target[shown]


def count_unlabelled(folder: str, labelled: Iterable[str]) -> int:
    """Return how many images of a folder are not among those that its subfolders label."""
    known = {os.path.abspath(path) for path in labelled}
    files = [file for file in image_files([folder]) if os.path.abspath(file) not in known]
    # Masks of defects lie beside the images in some data sets.
    return sum("ground_truth" not in file.lower().split(os.sep) for file in files)


def refuse_defects(paths: Iterable[str]) -> None:
    """Raise if a folder has subfolders of good images and of others, where good ones are wanted."""
    from sklearn_ncae.datasets import load_image_folder

    for path in filter(os.path.isdir, paths):
        try:
            parts = load_image_folder(path, load=False)
        except ValueError:  # not sorted into good and others
            continue
        others = sorted(set(parts.kind[parts.target == -1]))
        if others:
            raise ValueError(
                f"{path!r} holds good images and others, in the folders {', '.join(others)}, and "
                "all would be taken for good ones. Name the folder of the good images."
            )


def names_of_parts(
    pattern: re.Pattern[str], paths: Sequence[str], files: Sequence[str]
) -> list[str]:
    """Return what a pattern matches in each file, as seen from that of the paths that it is in."""
    folders = [os.path.abspath(path) for path in paths if os.path.isdir(path)]
    names = []
    for file in map(os.path.abspath, files):
        above = [folder for folder in folders if file.startswith(os.path.join(folder, ""))]
        seen = os.path.relpath(file, above[0]) if above else os.path.basename(file)
        match = pattern.search(seen.replace(os.sep, "/"))
        names.append(match[0] if match else "")
    unnamed = [file for file, name in zip(files, names, strict=True) if not name]
    if unnamed:
        raise click.UsageError(
            f"--group-by {pattern.pattern!r} must match in every file, but finds nothing in "
            f"{len(unnamed)} of {len(files)}, such as {unnamed[0]!r}."
        )
    if len(set(names)) == 1 and len(names) > 1:
        raise click.UsageError(
            f"--group-by {pattern.pattern!r} finds {names[0]!r} in all {len(names)} files: it must "
            "tell the parts apart."
        )
    return names


def progress_bar(length: int, label: str) -> AbstractContextManager[Any]:
    """Return a bar with the time left; without a terminal only the label is printed."""
    return click.progressbar(
        length=length, label=label, file=sys.stderr, show_eta=True, width=30, show_pos=True
    )


def n_of(count: int, what: str) -> str:
    """Return a number of things, such as "1 image" or "1,200 images"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the size of the images, and whether they are read in colour."""
    size = click.option(
        "--size",
        type=ImageSize(),
        default="128",
        show_default=True,
        help="Images are brought to this side, or HEIGHTxWIDTH, whatever their aspect ratio; "
        "native keeps theirs. Larger ones show smaller defects and take longer.",
    )
    color = click.option(
        "--color/--gray", default=False, show_default=True, help="Whether hue tells good from bad."
    )
    return size(color(command))


def group_by_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that tells which images show the same part."""
    return click.option(
        "--group-by",
        type=Pattern(),
        help="Where several images show one part: a regular expression, such as 'part[0-9]+'. Its "
        "first match in the path, as seen from the given folder, names the part. Parts are held "
        "out whole, and count once for the threshold.",
    )(command)


def jobs_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option for the threads that read files."""
    return click.option(
        "-j",
        "--jobs",
        type=int,
        default=1,
        show_default=True,
        callback=_not_zero,
        help="Threads that read files; -1 means one for each processor.",
    )(command)


def refuse_given(*names: str, why: str) -> None:
    """Refuse options of the command line that would change nothing."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{why}: leave out --{name.replace('_', '-')}.")


def _not_zero(context: click.Context, option: click.Parameter, value: int) -> int:
    if value == 0:
        raise click.BadParameter("0 threads read nothing; give 1 or more, or -1.")
    return value


def report_unreadable(errors: Iterable[str]) -> None:
    """Say why files are left out; the reasons name them."""
    for error in errors:
        say(f"ncae: left out: {error}")
