"""What a Hub keeps, in memory: users by their tokens, repositories with their commits, large files by their hash."""

import base64
import fnmatch
import hashlib
import itertools
from dataclasses import dataclass, field

import yaml

# As the Hub's own .gitattributes of a new repository has them, as far as ours have such files.
LARGE = ("*.safetensors", "*.bin", "*.parquet", "*.png", "*.npy", "*.wav", "*.mp3")
SPACE_SDKS = ("gradio", "streamlit", "docker", "static")


def git_oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class StoredFile:
    """content: its bytes. large: it came by LFS, and is known by its SHA-256."""

    content: bytes
    large: bool

    @property
    def oid(self):
        return hashlib.sha256(self.content).hexdigest() if self.large else git_oid(self.content)


@dataclass
class Repository:
    """commits: (sha, summary, path -> StoredFile), the first one empty but for .gitattributes."""

    repo_type: str
    repo_id: str
    private: bool
    sdk: str | None = None
    commits: list = field(default_factory=list)

    def __post_init__(self):
        self.commit("initial commit", {".gitattributes": StoredFile(b"*.safetensors filter=lfs\n", False)})

    def commit(self, summary, files):
        sha = hashlib.sha1(f"{self.repo_type} {self.repo_id} {len(self.commits)}".encode()).hexdigest()
        self.commits.append((sha, summary, files))
        return sha

    @property
    def sha(self):
        return self.commits[-1][0]

    @property
    def files(self):
        return self.commits[-1][2]

    def at(self, revision):
        """sha and files of a branch or commit, None where there is none."""
        if revision == "main":
            return self.sha, self.files
        return next(((sha, files) for sha, _, files in self.commits if sha == revision), None)


class Store:
    """tokens: token -> `{"name", "role", "orgs"}`. repositories: (type, id) -> Repository. large: hash -> bytes."""

    def __init__(self):
        self.tokens = {"hf_writer": {"name": "ada", "role": "write", "orgs": ["choir"]}}
        self.repositories = {}
        self.large = {}
        self.parts = {}
        self.numbers = itertools.count()

    def owners(self, token):
        user = self.tokens.get(token)
        return [user["name"], *user["orgs"]] if user else []

    def find(self, repo_type, repo_id, token):
        """The repository, None where it is not there or hidden from the token."""
        found = self.repositories.get((repo_type, repo_id))
        if found and found.private and repo_id.partition("/")[0] not in self.owners(token):
            return None
        return found

    def apply(self, repository, lines):
        """Make one commit of the lines of a commit request; returns its sha, or what is wrong with it."""
        files, header = dict(repository.files), lines[0]["value"]
        if header.get("parentCommit") not in (None, repository.sha):
            return None, "A commit has happened since. Please refresh and try again."
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = StoredFile(base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                content = self.large.get(value["oid"])
                if content is None:
                    return None, f"LFS pointer pointed to a file that does not exist: {value['path']}"
                files[value["path"]] = StoredFile(content, True)
            elif line["key"] == "deletedFile":
                if files.pop(value["path"], None) is None:
                    return None, f"A file with this name doesn't exist: {value['path']}"
            else:
                return None, f"unknown key {line['key']}"
        return repository.commit(header["summary"], files), None


def is_large(path, sample, size):
    """Whether a file comes by LFS: by its name, its size, or because it is no text."""
    if any(fnmatch.fnmatch(path, pattern) for pattern in LARGE) or size > 10_000_000:
        return True
    return b"\0" in sample


def faults_of_card(content, repo_type):
    """What the Hub would refuse in the metadata of a README.md, a list of sentences."""
    if not content.startswith("---\n"):
        return []
    try:
        data = yaml.safe_load(content.split("---\n")[1]) or {}
    except yaml.YAMLError as error:
        return [f"it is no YAML: {error}"]
    faults = [f'"{key}" must be a list' for key in ("tags", "models") if not isinstance(data.get(key, []), list)]
    if repo_type == "space" and data.get("sdk") not in SPACE_SDKS:
        faults.append(f'"sdk" must be one of {SPACE_SDKS}')
    for model in data.get("model-index", []):
        for result in model.get("results", []):
            given = (
                result.get("task", {}).get("type"),
                *(result.get("dataset", {}).get(key) for key in ("type", "name")),
            )
            if not model.get("name") or not all(given):
                faults.append('"model-index" lacks a name, task.type, dataset.type or dataset.name')
            for metric in result.get("metrics", [{}]):
                if not metric.get("type") or "value" not in metric:
                    faults.append('"model-index" has a metric without type or value')
    return faults
