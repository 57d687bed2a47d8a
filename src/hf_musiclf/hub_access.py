"""Who may publish where: the token, the name, one commit; whatever the Hub answers is told in one line."""

import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from hf_musiclf.errors import PublishError, UserError, first_line

URL_PARTS = {"model": "", "dataset": "datasets/", "space": "spaces/"}


@dataclass(frozen=True)
class Destination:
    """A repository on the Hub and the token that may write to it.

    repo_id: user/name. private: None leaves a new one as the account has it. exists: it was there when it was looked
    for.
    """

    repo_id: str
    private: bool | None
    token: str = field(repr=False)
    repo_type: str = "model"
    exists: bool = False

    @property
    def url(self) -> str:
        return f"{constants.ENDPOINT}/{URL_PARTS[self.repo_type]}{self.repo_id}"


def client(token: str | None = None) -> HfApi:
    return HfApi(token=token, library_name="hf-musiclf")


def find_destination(
    name: str, private: bool | None = None, token: str | None = None, repo_type: str = "model"
) -> Destination:
    """Ask the Hub, before any work is done, whether this token may publish under this name; nothing is made there.

    name: NAME, of the token's user, or USER/NAME, or ORGANISATION/NAME. token: None takes that of `hf auth login` or
    HF_TOKEN. Raises UserError for a malformed name, one of somebody else, and a public repository that was asked to be
    private; PublishError without a token, for one that is not accepted or may only read, and where the Hub does not
    answer.
    """
    check_name(name)
    token = token or get_token()
    page = f"{constants.ENDPOINT}/settings/tokens"
    if not token:
        raise PublishError(f"the Hub asks for a token: make one that may write at {page}, then `hf auth login`")
    api = client(token)
    with asking_the_hub():
        try:
            user = api.whoami()
        except HfHubHTTPError as error:
            if error.response.status_code in (401, 403):
                raise PublishError(
                    f"the Hub does not accept the token; make one that may write at {page}, then `hf auth login` (a "
                    "token in HF_TOKEN wins over it)"
                ) from error
            raise
    role = user.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise PublishError(f"the token may only read; make one that may write at {page}, then `hf auth login`")
    owners = [user["name"], *(organisation["name"] for organisation in user.get("orgs", ()))]
    repo_id = name if "/" in name else f"{user['name']}/{name}"
    if repo_id.partition("/")[0] not in owners:
        raise UserError(f"{repo_id} is not yours: the token is of {' and '.join(owners)}; begin the name with one")
    with asking_the_hub():
        try:
            public = not api.repo_info(repo_id, repo_type=repo_type).private
        except RepositoryNotFoundError:
            return Destination(repo_id, private, token, repo_type)
    if private and public:
        raise UserError(
            f"{repo_id} is there already and public; make it private in its settings on the Hub, or choose another name"
        )
    return Destination(repo_id, private, token, repo_type, exists=True)


def check_name(name: str) -> None:
    """Raise UserError where the Hub would not take the name."""
    try:
        validate_repo_id(name)
        if not all(name.split("/")):
            raise HFValidationError("a part of it is empty")
    except HFValidationError as error:
        raise UserError(
            f"{name!r} is no name for the Hub ({first_line(error).rstrip('.')}); take NAME or USER/NAME of letters, "
            "digits, '-', '_' and '.', 96 at most"
        ) from error


def publish_files(
    destination: Destination,
    files: Mapping[str, Path | bytes],
    message: str,
    obsolete: Sequence[str] = (),
    space_sdk: str | None = None,
) -> str:
    """Make the repository where it is not there, and put the files into it; returns its address.

    files: path in the repository -> file here, or its content. obsolete: patterns of files to be taken away where they
    are not among `files`: what another model left there, and would be mixed up with this one.

    All files go in one commit, so that nobody ever finds half a model. That is `create_commit`: where Xet is installed,
    `upload_folder` makes several commits (huggingface_hub 2.4), as `upload_large_folder` does. It goes on where it
    broke off: large files are sent before the commit and kept by their hash, and the next call sends only those that
    the Hub has not got yet. Where nothing has changed, no commit is made.
    """
    api = client(destination.token)
    if not destination.exists:
        api.create_repo(
            destination.repo_id,
            repo_type=destination.repo_type,
            private=destination.private,
            space_sdk=space_sdk,
            exist_ok=True,
        )
    there = api.list_repo_files(destination.repo_id, repo_type=destination.repo_type)
    gone = [path for path in there if path not in files and any(_matches(path, pattern) for pattern in obsolete)]
    # As strings: huggingface_hub reads a file's name in the home folder from them, and bytes as what they are.
    added = [CommitOperationAdd(path, str(file) if isinstance(file, Path) else file) for path, file in files.items()]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warnings while validating metadata")
        api.create_commit(
            destination.repo_id,
            [*added, *(CommitOperationDelete(path) for path in gone)],
            commit_message=message,
            repo_type=destination.repo_type,
        )
    return destination.url


def _matches(path: str, pattern: str) -> bool:
    return fnmatch(path, pattern) and path.count("/") == pattern.count("/")


@contextmanager
def asking_the_hub(what_to_do: str = "") -> Iterator[None]:
    """Whatever goes wrong within, be it the network, the Hub or its client, becomes a PublishError of one line.

    what_to_do: the end of that line; Ctrl-C is told it, too.
    """
    try:
        yield
    except KeyboardInterrupt:
        if what_to_do:
            print(f"\nnot published; {what_to_do}", file=sys.stderr, flush=True)
        raise
    except Exception as error:
        if isinstance(error, UserError) and not isinstance(error, PublishError):
            raise
        reason = str(error) if isinstance(error, PublishError) else why_not_published(error)
        raise PublishError("; ".join(filter(None, (reason, what_to_do)))) from error


def try_again(whole: str, words: Sequence[Any]) -> str:
    """The end of an error's line. whole: what is here and needs not be made again. words: the command."""
    return f"{whole} is whole; try again with `{shlex.join(map(str, words))}`"


def private_words(private: bool | None) -> list[str]:
    """The flag of scripts/push.py, for the command to try again; None, as the account has it, is said by no flag."""
    return [] if private is None else ["--private", str(private)]


def why_not_published(error: BaseException) -> str:
    """The reason in one line: the status that the Hub gave, or what the network did.

    The client wraps the error of one file in a RuntimeError, so causes are looked through.
    """
    seen: BaseException | None = error
    while seen is not None:
        status = getattr(getattr(seen, "response", None), "status_code", None)
        if status:
            return _of_status(status, seen)
        if isinstance(seen, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set, so the Hub is not asked; unset it"
        if isinstance(seen, (HTTPError, ConnectionError)):
            return f"the connection to {constants.ENDPOINT} failed ({first_line(seen).rstrip('.')})"
        seen = seen.__cause__
    return f"the Hub's client gave up: {first_line(error).rstrip('.')}"


def _of_status(status: int, error: Any) -> str:
    said = (getattr(error, "server_message", None) or "").strip().splitlines()
    known: dict[int, str | Callable[[], str]] = {
        401: "the Hub does not accept the token any more",
        402: "the Hub asks for payment: the storage of this account is full",
        403: "the Hub refuses: the token may not write there",
        404: "the Hub has no such repository, or hides it from this token",
        409: "the Hub tells of a conflict: something else is being done with this name",
        412: "somebody else has committed to it at the same time",
        429: "the Hub asks to wait: too many requests",
    }
    reason = known.get(status, f"the Hub {'has trouble' if status >= 500 else 'refuses'}")
    return f"{reason} (HTTP {status}{': ' + said[0] if said else ''})"


def refuse_token(files: Mapping[str, Path | bytes], token: str) -> None:
    """Raise UserError where a file of text holds the token."""
    for path, file in files.items():
        if Path(path).suffix in (".json", ".md", ".csv", ".py", ".txt"):
            if token.encode() in (file if isinstance(file, bytes) else file.read_bytes()):
                raise UserError(f"{path} holds the token; take it out, and make a new token, before it is published")
