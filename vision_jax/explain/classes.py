"""Classes by what people call them."""

import difflib

from vision_jax.errors import InputError
from vision_jax.run.run import Run

_LISTED = 20  # classes up to which a message names all


def class_number(run: Run, asked: str | int, *, name: str = "target") -> int:
    """Find a class by its name or number.

    Args:
        run: a classifier.
        asked: a name, upper and lower case alike, or a number; where names are numbers, a name.
        name: what the class is called in messages.

    Returns:
        The class's number.

    Raises:
        InputError: there is no such class, several have that name, or the run is no classifier.
    """
    names = run.info.label_names
    if names is None:
        raise InputError(f"{name} is {asked!r}, but {run.workdir} tells no classes apart")
    text = str(asked)
    for found in (
        [i for i, each in enumerate(names) if each == text],
        [i for i, each in enumerate(names) if each.casefold() == text.casefold()],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            numbers = ", ".join(map(str, found))
            raise InputError(f"{name} is {text!r}, the name of classes {numbers}; give a number")
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise InputError(f"{name} is {text!r}; {_choices(text, names)}")


def _choices(text: str, names: tuple[str, ...]) -> str:
    if len(names) <= _LISTED:
        return f"it must be one of {', '.join(names)}"
    whole = [each for each in names if text.casefold() in each.casefold()]
    near = whole or difflib.get_close_matches(text, names, n=5)
    hint = f"did you mean {', '.join(near[:5])}? " if near else ""
    return f"{hint}it must be one of {len(names)} classes, by name or number"
