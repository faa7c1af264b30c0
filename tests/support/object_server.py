"""A real S3 server on loopback for the tests of object stores: SeaweedFS, from its PyPI package."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BUCKET = "bucket"
START_S = 60


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        environment: what reaches it, and names its bucket's owner.
        metrics: URL of its counters.
    """

    environment: dict[str, str]
    metrics: str


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Start a server with an empty bucket; it ends with the block."""
    binary = shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"
    keys = {"accessKey": "test", "secretKey": "loopback-only"}
    actions = ["Admin", "Read", "Write", "List"]
    identity = {"name": "test", "credentials": [keys], "actions": actions}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    command = [binary, "-logdir", folder, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-dir={folder / 'data'}", "-filer", "-s3", f"-s3.config={folder / 's3.json'}"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    command += ["-master.volumeSizeLimitMB=64", "-volume.max=30", "-metricsIp=127.0.0.1"]
    ports = {name: _free_port() for name in ("master", "volume", "filer", "s3")}
    for name, port in ports.items():
        command += [f"-{name}.port={port}", f"-{name}.port.grpc={_free_port()}"]
    metrics = _free_port()
    command.append(f"-metricsPort={metrics}")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=log, stderr=log, cwd=folder
        )
    try:
        environment = {
            "AWS_ACCESS_KEY_ID": keys["accessKey"],
            "AWS_SECRET_ACCESS_KEY": keys["secretKey"],
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
        }
        _make_bucket(process, environment, folder / "log")
        yield Server(environment, f"http://127.0.0.1:{metrics}/metrics")
    finally:
        process.kill()  # it has nothing to save, and takes its time where it is asked
        process.wait()


def _make_bucket(process: subprocess.Popen[bytes], environment: dict[str, str], log: Path) -> None:
    """Make the bucket once the server answers, and wait until it stores."""
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    config = {name.lower(): value for name, value in environment.items()}
    allow = {"allow_http": True}
    config.pop("aws_allow_http")
    deadline = time.monotonic() + START_S
    # The server makes a bucket that is put to at its root, as S3's CreateBucket does.
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
        try:
            _create_bucket(environment)
            store = S3Store(BUCKET, config=config, client_options=allow)  # type: ignore[arg-type]
            store.put("ready", b"")
            store.delete("ready")
            return
        except (BaseError, OSError):
            time.sleep(0.2)


def _create_bucket(environment: dict[str, str]) -> None:
    """CreateBucket, signed as AWS Signature Version 4 asks."""
    import datetime
    import hashlib
    import hmac
    import urllib.error
    import urllib.request

    host = environment["AWS_ENDPOINT_URL"].removeprefix("http://")
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    empty = hashlib.sha256(b"").hexdigest()
    signed = "host;x-amz-content-sha256;x-amz-date"
    headers = f"host:{host}\nx-amz-content-sha256:{empty}\nx-amz-date:{now}\n"
    canonical = f"PUT\n/{BUCKET}\n\n{headers}\n{signed}\n{empty}"
    scope = f"{now[:8]}/{environment['AWS_REGION']}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{environment['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}"
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    request = urllib.request.Request(
        f"{environment['AWS_ENDPOINT_URL']}/{BUCKET}",
        method="PUT",
        headers={
            "x-amz-content-sha256": empty,
            "x-amz-date": now,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={environment['AWS_ACCESS_KEY_ID']}/"
            f"{scope}, SignedHeaders={signed}, Signature={signature}",
        },
    )
    with contextlib.suppress(urllib.error.HTTPError):  # it is there already, or not ready yet
        urllib.request.urlopen(request, timeout=10).close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
