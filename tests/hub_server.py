"""A Hub on the loopback, for the real client: it speaks the Hub's protocol over HTTP, keeps all in memory, and fails.

    with HubServer() as hub:
        hub.fail("PUT", "/lfs/", status=503, times=2)
        HfApi(endpoint=hub.url, token="hf_writer").create_repo("ada/x")

Large files come by LFS, in parts where they have more than `hub.part_bytes`; there is no Xet (HF_HUB_DISABLE_XET=1).
The requests and answers are those of huggingface_hub 2.4's own code, which is what they are read from.
"""

import base64
import hashlib
import json
import re
import sys
import threading

from hub_http import API, PREFIX, REPO, HubServer, route
from hub_store import Repository, faults_of_card, is_large

__all__ = ["HubServer"]


# Users and repositories


@route("GET", "/api/whoami-v2")
def whoami(self):
    user = self.store.tokens.get(self.token)
    if user is None:
        return self.refuse(401, None, "Invalid credentials in Authorization header")
    orgs = [{"type": "org", "name": name, "roleInOrg": "write"} for name in user["orgs"]]
    access = {"displayName": "test", "role": user["role"]}
    return self.answer(
        200,
        {"type": "user", "name": user["name"], "orgs": orgs, "auth": {"type": "access_token", "accessToken": access}},
    )


@route("POST", "/api/repos/create")
def create(self):
    asked = self.json()
    repo_type = asked.get("type") or "model"
    owner = asked.get("organization") or (self.store.owners(self.token) or [""])[0]
    repo_id = f"{owner}/{asked['name']}"
    url = f"{self.hub.url}/{'' if repo_type == 'model' else repo_type + 's/'}{repo_id}"
    if not self.may_write(repo_id):
        return None
    if (repo_type, repo_id) in self.store.repositories:
        return self.answer(409, {"error": f"You already created this {repo_type} repo", "url": url})
    private = asked.get("private") or asked.get("visibility") == "private"
    self.store.repositories[repo_type, repo_id] = Repository(repo_type, repo_id, bool(private), asked.get("sdk"))
    return self.answer(200, {"url": url, "name": repo_id, "id": repo_id})


@route("POST", "/api/validate-yaml")
def validate(self):
    asked = self.json()
    faults = faults_of_card(asked["content"], asked["repoType"])
    return self.answer(400 if faults else 200, {"errors": [{"message": text} for text in faults], "warnings": []})


@route("GET", rf"{API}(?:/revision/(?P<revision>[^/]+))?")
def info(self, type, id, revision):
    repository = self.repo(type, id)
    found = repository and repository.at(revision or "main")
    if repository and not found:
        self.refuse(404, "RevisionNotFound", "Invalid rev id")
    if found:
        sha, files = found
        facts = {"_id": id, "id": id, "modelId": id, "sha": sha, "private": repository.private, "tags": []}
        facts |= {"pipeline_tag": "audio-classification", "library_name": "transformers", "sdk": repository.sdk}
        self.answer(200, {**facts, "siblings": [{"rfilename": path} for path in files]})


@route("GET", rf"{API}/refs")
def refs(self, type, id):
    if repository := self.repo(type, id):
        branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.sha}
        self.answer(200, {"branches": [branch], "converts": [], "tags": []})


@route("GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?")
def tree(self, type, id, revision, path):
    repository = self.repo(type, id)
    found = repository and repository.at(revision)
    if repository and not found:
        self.refuse(404, "RevisionNotFound", "Invalid rev id")
    if found:
        inside, deep = f"{path}/" if path else "", self.query.get("recursive", [""])[0].lower() in ("true", "1")
        entries = {}
        for name, file in found[1].items():
            rest = name.removeprefix(inside) if name.startswith(inside) else None
            if rest and ("/" not in rest or deep):
                entries[name] = describe(name, file)
            if rest and "/" in rest:
                folder = inside + rest.partition("/")[0]
                entries.setdefault(folder, {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0})
        if path and not entries:
            self.refuse(404, "EntryNotFound", f"{path} does not exist on {revision}")
        else:
            self.answer(200, list(entries.values()))


def describe(path, file):
    entry = {"type": "file", "path": path, "oid": file.oid[:40], "size": len(file.content)}
    if file.large:
        entry["lfs"] = {"oid": file.oid, "size": len(file.content), "pointerSize": 134}
    return entry


# Uploads: how each file is to come, the large ones, then the commit


@route("POST", rf"{API}/preupload/(?P<revision>[^/]+)")
def preupload(self, type, id, revision):
    if repository := self.repo(type, id, write=True):
        answers = []
        for file in self.json()["files"]:
            there = repository.files.get(file["path"])
            large = is_large(file["path"], base64.b64decode(file["sample"]), file["size"])
            entry = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            answers.append({**entry, "oid": there.oid if there else None})
        self.answer(200, {"files": answers, "commitOid": repository.sha})


@route("POST", rf"{PREFIX}{REPO}\.git/info/lfs/objects/batch")
def lfs_batch(self, type, id):
    if self.repo(type, id, write=True):
        self.answer(200, {"transfer": "basic", "objects": [upload_of(self.hub, one) for one in self.json()["objects"]]})


def upload_of(hub, asked):
    """Where an object of `{"oid", "size"}` is to be sent to; no actions where it is there already."""
    oid, size = asked["oid"], asked["size"]
    if oid in hub.store.large:
        return asked
    href, header = f"{hub.url}/lfs/{oid}", {}
    if size > hub.part_bytes:
        count = -(-size // hub.part_bytes)
        header = {str(part): f"{href}/{part}" for part in range(1, count + 1)} | {"chunk_size": str(hub.part_bytes)}
        href += "/complete"
    verify = {"href": f"{hub.url}/lfs/{oid}/verify"}
    return {**asked, "authenticated": True, "actions": {"upload": {"href": href, "header": header}, "verify": verify}}


@route("PUT", r"/lfs/(?P<oid>\w+)(?:/(?P<part>\d+))?")
def lfs_put(self, oid, part):
    if part:
        self.store.parts.setdefault(oid, {})[int(part)] = self.body
    elif not keep(self, oid, self.body):
        return
    self.answer(200, b"", {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'})


@route("POST", r"/lfs/(?P<oid>\w+)/complete")
def lfs_complete(self, oid):
    parts = self.store.parts.pop(oid, {})
    assert [one["partNumber"] for one in self.json()["parts"]] == sorted(parts)
    if keep(self, oid, b"".join(parts[number] for number in sorted(parts))):
        self.answer(200, {})


def keep(self, oid, content):
    whole = hashlib.sha256(content).hexdigest() == oid
    if whole:
        self.store.large[oid] = content
    else:
        self.refuse(400, None, "the content has another SHA-256")
    return whole


@route("POST", r"/lfs/(?P<oid>\w+)/verify")
def lfs_verify(self, oid):
    there = len(self.store.large.get(oid, b"")) == self.json()["size"]
    self.answer(200 if there else 404, {})


@route("POST", rf"{API}/commit/(?P<revision>[^/]+)")
def commit(self, type, id, revision):
    if repository := self.repo(type, id, write=True):
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        sha, fault = self.store.apply(repository, lines)
        if fault:
            return self.refuse(412 if "refresh" in fault else 400, None, fault)
        self.answer(200, {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{id}/commit/{sha}"})
    return None


# Downloads


@route("GET", rf"{PREFIX}{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
def resolve(self, type, id, revision, path):
    repository = self.repo(type, id)
    found = repository and repository.at(revision)
    if repository and not found:
        self.refuse(404, "RevisionNotFound", "Invalid rev id")
    if found:
        sha, files = found
        if path not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}
            return self.answer(404, {"error": "Entry not found"}, headers)
        send_file(self, sha, files[path])
    return None


def send_file(self, sha, file):
    content, status = file.content, 200
    headers = {"ETag": f'"{file.oid}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
    if file.large:
        headers |= {"X-Linked-Etag": f'"{file.oid}"', "X-Linked-Size": str(len(content))}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
    if asked:
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if first > last:
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"], status = f"bytes {first}-{last}/{len(content)}", 206
        content = content[first : last + 1]
    self.answer(status, content, {**headers, "Content-Type": "application/octet-stream"})
    return None


if __name__ == "__main__":  # python tests/hub_server.py 8123: to try things by hand, with the token hf_writer
    with HubServer(port=int(sys.argv[1])) as hub:
        print(f"HF_ENDPOINT={hub.url} HF_TOKEN=hf_writer HF_HUB_DISABLE_XET=1", flush=True)
        threading.Event().wait()
