"""Files of the Hugging Face Hub, by `hf://OWNER/NAME[@REVISION][/FILE]`."""

import re
from pathlib import Path
from urllib.parse import unquote

from vision_jax.errors import InputError

START = "hf://"
PLACE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+))?(/(?P<file>[^@]+))?/?")
FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "flax_model.msgpack",
)
"""Tried in this order where no file is named."""
OWNERS = {"timm": "timm"}
"""The library whose weights an owner publishes, where two libraries share the tensors' names."""


def local_file(place: str | Path) -> Path:
    """Return a file of weights, downloaded first if it is on the Hugging Face Hub.

    What was downloaded before comes from huggingface_hub's cache, without a network too.

    Args:
        place: a path, or `hf://OWNER/NAME[@REVISION][/FILE]`. Without FILE it is the first that is
            there of `model.safetensors`, `pytorch_model.bin`, …; a slash in REVISION is `%2F`.

    Raises:
        InputError: huggingface_hub is not installed, or the file cannot be had; the message says
            why.
    """
    if not str(place).startswith(START):
        return Path(place)
    parts = PLACE.fullmatch(str(place))
    if parts is None or ".." in str(parts["file"]).split("/"):
        raise InputError(f"{place} must have the form hf://OWNER/NAME[@REVISION][/FILE]")
    revision = unquote(parts["revision"]) if parts["revision"] else None
    names = (parts["file"],) if parts["file"] else FILES
    reached = True
    for name in names:
        try:
            return _download(parts["repo"], name, revision, local_files_only=not reached)
        except _NotThereError as error:
            reached = reached and error.reached
        except InputError as error:
            raise InputError(f"{place} cannot be had: {error}") from None
    what = f"no {' or '.join(names[:2])}"
    if not reached:
        raise InputError(f"{place}: the Hub cannot be reached, and its cache here holds {what}")
    more = "" if parts["file"] else "; name a file: hf://OWNER/NAME/FILE"
    raise InputError(f"{place}: {parts['repo']} holds {what}{more}")


def library_of(place: str | Path) -> str | None:
    """Return the library that the owner of a repository publishes; None of other places."""
    parts = PLACE.fullmatch(str(place))
    return OWNERS.get(parts["repo"].partition("/")[0]) if parts else None


class _NotThereError(Exception):
    """Neither the repository, if it could be reached, nor the cache holds the file."""

    def __init__(self, *, reached: bool) -> None:
        self.reached = reached


def _download(repo: str, name: str, revision: str | None, *, local_files_only: bool) -> Path:
    """Download a file, or find it in the cache."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise InputError("it needs huggingface_hub: pip install 'vision_jax[hub]'") from None
    try:
        path = huggingface_hub.hf_hub_download(
            repo, name, revision=revision, local_files_only=local_files_only
        )
        return Path(path)
    except errors.GatedRepoError:
        reason = f"{repo} is gated: accept its terms on the Hub, then log in by `hf auth login`"
    except errors.RepositoryNotFoundError:
        reason = f"there is no repository {repo}, or it is private: log in by `hf auth login`"
    except errors.RevisionNotFoundError:
        reason = f"{repo} has no revision {revision}"
    except errors.LocalEntryNotFoundError:
        raise _NotThereError(reached=False) from None
    except errors.EntryNotFoundError:
        raise _NotThereError(reached=True) from None
    except Exception as error:  # whatever a network and its libraries may raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
    raise InputError(reason)
