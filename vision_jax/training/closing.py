"""What is used in a `with` block and closed at its end."""

import abc
from types import TracebackType
from typing import TypeVar

Itself = TypeVar("Itself")


class Closing(abc.ABC):
    """Closes itself at the end of a `with` block, however that is left."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends what is under way and lets go of what is held."""

    def __enter__(self: Itself) -> Itself:  # beartype takes no Self of a base class
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
