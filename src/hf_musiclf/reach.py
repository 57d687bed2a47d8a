"""Whether the Hub can be reached, found out once and at once."""

import socket
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

TIMEOUT_SECONDS = 5


@lru_cache(maxsize=1)
def hub_is_out_of_reach() -> bool:
    """Whether to look into the Hub's local cache alone.

    Without a network the Hub's client tries five times over half a minute, and says so each time. Behind a proxy
    nothing is tried here, since the proxy looks names up.
    """
    if constants.HF_HUB_OFFLINE:
        return True
    if getproxies().get("https"):
        return False
    endpoint = urlsplit(constants.ENDPOINT)
    port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
    try:
        socket.create_connection((endpoint.hostname, port), timeout=TIMEOUT_SECONDS).close()
    except OSError:
        return True
    return False


def only_local(name: str) -> bool:
    """Whether to load `name`, a folder or a Hub id, without asking the Hub."""
    return Path(name).is_dir() or hub_is_out_of_reach()


def why_not_here(name: str) -> str:
    """The rest of a sentence for a model that is not there, where the network may be the reason; else empty."""
    if Path(name).is_dir() or not hub_is_out_of_reach():
        return ""
    return "it is no folder here, nor in the Hub's cache, and the Hub cannot be reached"
