"""A real S3 server for tests: Ceph's object gateway with its monitor and one storage in memory.

The programs are Debian's packages in `PACKAGES`; they are not started by the system.
"""

import base64
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from contextlib import suppress
from typing import Any

import boto3
from botocore.config import Config

from gantry_testkit import unprivileged
from gantry_testkit.ports import free_port

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common")
_PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "ceph", "ceph-authtool", "monmaptool")
_START_SECONDS = 90.0

_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = {monitor}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$name.asok
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 8589934592
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 1
mon data avail crit = 1
log to file = false
mon cluster log to file = false
log to stderr = true
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw data = {folder}
rgw thread pool size = 64
rgw lc debug interval = 0
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {kms_key}={kms_secret}
"""

_CAPABILITIES = {
    "mon.": ("mon", "allow *"),
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "osd.0": ("mon", "allow profile osd", "osd", "allow *"),
    "client.rgw": ("mon", "allow rw", "osd", "allow rwx"),
}

_numbers = itertools.count(1)


def missing() -> list[str]:
    """The programs of the server that this machine lacks."""
    return [program for program in _PROGRAMS if shutil.which(program) is None]


class S3Server:
    """One server with one account; its buckets are gone when it stops. Starts in some 12 s."""

    region = "default"
    access_key = "gantry-tests"
    secret_key = "the secret of the tests"
    kms_key = "key-of-the-tests"
    """The name of a key with which it encrypts objects that ask for `aws:kms`."""

    def __init__(self) -> None:
        self.folder = unprivileged.private_folder("gantry-s3-")
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._log = (self.folder / "log").open("wb")
        self._configuration = self.folder / "ceph.conf"
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._start()
        except BaseException:  # no server is left behind, Ctrl-C included
            self.close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a client is let in."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
        }

    def client(self, service: str = "s3", *, endpoint: str = "") -> Any:
        """A new client of boto3, for what the tests do themselves."""
        return boto3.client(
            service,
            endpoint_url=endpoint or self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                connect_timeout=5,
                read_timeout=30,
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def create_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = self.unused_name()
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name

    def unused_name(self) -> str:
        """The name of a bucket that is not there."""
        return f"tests-{next(_numbers)}-{uuid.uuid4().hex[:8]}"

    def forbid(self, bucket: str, action: str) -> None:
        """Deny everybody one action (such as ``s3:PutObject``) on a bucket and what is in it."""
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": action,
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        self.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    def new_key(self) -> tuple[str, str]:
        """Another access key of the account, and its secret."""
        access, secret = f"key-{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
        self._ceph(
            *("radosgw-admin", "key", "create", "--uid=tests", "--key-type=s3"),
            *(f"--access-key={access}", f"--secret-key={secret}"),
        )
        return access, secret

    def drop_key(self, access: str) -> None:
        """Whoever has that access key is let in no longer."""
        self._ceph("radosgw-admin", "key", "rm", "--uid=tests", f"--access-key={access}")

    def session(self) -> tuple[str, dict[str, str]]:
        """A second gateway with STS, and credentials of it, good with their token alone.

        Its own, for with STS a gateway no longer says what is wrong with a key.
        """
        port = free_port()
        self._spawn(
            *("radosgw", "-n", "client.rgw", "-f", "--rgw-s3-auth-use-sts=true"),
            *("--rgw-sts-key=0123456789abcdef", f"--rgw-frontends=beast endpoint=127.0.0.1:{port}"),
        )
        allowed = {"Effect": "Allow", "Action": ["sts:GetSessionToken"], "Resource": ["*"]}
        policy = {"Version": "2012-10-17", "Statement": [allowed]}
        self._ceph("radosgw-admin", "caps", "add", "--uid=tests", "--caps=user-policy=*")
        self._await_gateway(port)
        endpoint = f"http://127.0.0.1:{port}"
        self.client("iam", endpoint=endpoint).put_user_policy(
            UserName="tests", PolicyName="sessions", PolicyDocument=json.dumps(policy)
        )
        return endpoint, self.client("sts", endpoint=endpoint).get_session_token()["Credentials"]

    def at_rest(self, key: str) -> bytes:
        """The bytes that lie on its disk for the objects under a key, of whatever bucket."""
        pool = ("rados", "-p", "default.rgw.buckets.data")
        named = self._ceph(*pool, "ls").decode().splitlines()
        content, copy = b"", self.folder / "copy"
        for name in named:
            if key in name:
                self._ceph(*pool, "get", name, str(copy))
                content += copy.read_bytes()
        return content

    def close(self) -> None:
        """Stops the server and removes its folder."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGKILL)  # nothing of it is to be kept
        for process in self._processes:
            process.wait(30)
        self._processes.clear()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        fsid, disk = uuid.uuid4(), str(uuid.uuid4())
        monitor = f"[v2:127.0.0.1:{free_port()}/0]"
        self._configuration.write_text(
            _CONFIGURATION.format(
                fsid=fsid,
                monitor=monitor,
                folder=self.folder,
                port=self.port,
                kms_key=self.kms_key,
                kms_secret=base64.b64encode(os.urandom(32)).decode(),
            )
        )
        self._configuration.chmod(0o644)
        keyring = self.folder / "keyring"
        for number, (name, capabilities) in enumerate(_CAPABILITIES.items()):
            pairs = zip(capabilities[::2], capabilities[1::2], strict=True)
            self._run(
                *("ceph-authtool", *(["-C"] if number == 0 else []), str(keyring)),
                *("--gen-key", "-n", name),
                *(part for pair in pairs for part in ("--cap", *pair)),
            )
        monmap = str(self.folder / "monmap")
        self._run("monmaptool", "--create", "--addv", "a", monitor, "--fsid", str(fsid), monmap)
        monitor_files = ("-i", "a", "--monmap", monmap, "--keyring", str(keyring))
        self._ceph("ceph-mon", "--mkfs", *monitor_files)
        self._spawn("ceph-mon", "-i", "a", "-f")
        self._ceph("ceph", "auth", "import", "-i", str(keyring))
        self._ceph("ceph", "osd", "new", disk)
        (self.folder / "osd").mkdir()
        who = unprivileged.account()
        shutil.chown(self.folder / "osd", who.pw_uid, who.pw_gid)
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._spawn("ceph-osd", "-i", "0", "-f")
        self._spawn("radosgw", "-n", "client.rgw", "-f")
        self._ceph(
            *("radosgw-admin", "user", "create", "--uid=tests", "--display-name=tests"),
            *(f"--access-key={self.access_key}", f"--secret-key={self.secret_key}"),
        )
        self._await_gateway(self.port)

    def _await_gateway(self, port: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                return
            if time.monotonic() > deadline or any(p.poll() is not None for p in self._processes):
                raise RuntimeError(f"the S3 server did not start: {self._said()}")
            time.sleep(0.05)

    def _run(self, *command: str) -> bytes:
        done = unprivileged.run(command, cwd=self.folder)
        if done.returncode:
            said = done.stdout.decode(errors="replace")
            raise RuntimeError(
                f"{command} ended with {done.returncode}: {said[-2000:]} {self._said()}"
            )
        return done.stdout

    def _ceph(self, program: str, *arguments: str) -> bytes:
        return self._run("timeout", f"{_START_SECONDS:.0f}", program, *self._options, *arguments)

    def _spawn(self, program: str, *arguments: str) -> None:
        self._processes.append(
            unprivileged.spawn(
                [program, *self._options, *arguments],
                cwd=self.folder,
                log=self._log,
                stop_signal=signal.SIGKILL,
            )
        )

    @property
    def _options(self) -> tuple[str, str]:
        return "-c", str(self._configuration)

    def _said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]
