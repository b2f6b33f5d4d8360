"""Credentials of a pod: handed out for a while (EKS Pod Identity), or for a token (IRSA)."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import boto3
import pytest

from gantry_domain.errors import ConfigurationError
from gantry_domain.object_place import Bucket
from gantry_stores.objects import ObjectStore, StoreUnavailable, prepare_store
from gantry_stores.objects.s3 import S3Store
from gantry_testkit.s3_server import S3Server

ROLE = "arn:aws:iam::123456789012:role/gantry"
LARGE = 9 * 2**20
_SOON = timedelta(seconds=30)

_ASSUMED = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>{AccessKeyId}</AccessKeyId><SecretAccessKey>{SecretAccessKey}</SecretAccessKey>
<SessionToken>{Token}</SessionToken><Expiration>{Expiration}</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""

Credentials = dict[str, str]


class Agent:
    """Hands out `credentials` to whoever shows the token that is in its file now.

    A GET with the token is what the agent of EKS Pod Identity is asked; a POST is for STS. What it
    hands out ends soon, so it is asked again and again.
    """

    def __init__(self, folder: Path) -> None:
        self.token_file = folder / "token"
        self.credentials: Credentials | None = None
        self.handed_out: list[str] = []
        self.turned_away = 0
        self.new_token("first")
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = agent.answer(self.headers.get("Authorization"))
                self.respond(json.dumps(answer) if answer else None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                asked = {name: values[0] for name, values in parse_qs(body).items()}
                assert asked["Action"] == "AssumeRoleWithWebIdentity"
                known = asked["RoleArn"] == ROLE
                answer = agent.answer(asked["WebIdentityToken"] if known else None)
                self.respond(_ASSUMED.format_map(answer) if answer else None)

            def respond(self, text: str | None) -> None:
                body = (text or "").encode()
                self.send_response(200 if text else 403)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def new_token(self, token: str) -> None:
        """As a kubelet does it: the file changes, and only what is in it counts."""
        self.token_file.write_text(token)

    def answer(self, token: str | None) -> Credentials | None:
        if token != self.token_file.read_text() or self.credentials is None:
            self.turned_away += 1
            return None
        self.handed_out.append(self.credentials["AccessKeyId"])
        ends = (datetime.now(UTC) + _SOON).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {**self.credentials, "Expiration": ends}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path)
    yield agent
    agent.close()


@pytest.fixture
def bucket(make_bucket: Callable[..., Bucket], monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket for which this process has no credentials."""
    bucket = make_bucket()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    # Nothing of this machine's own is to help.
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", S3Server.region)
    return bucket


@pytest.fixture
def pod_identity(agent: Agent, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """What the webhook of EKS Pod Identity puts into a pod's environment."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{agent.url}/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(agent.token_file))
    return bucket


def key_of(server: S3Server) -> Credentials:
    access, secret = server.new_key()
    return {"AccessKeyId": access, "SecretAccessKey": secret, "Token": ""}


def put(store: ObjectStore, key: str, size: int) -> None:
    writer = store.create(key)
    try:
        for _ in range(0, size, 2**20):
            writer.write([bytes(min(size, 2**20))])
        writer.commit()
    finally:
        writer.abort()


def use(store: ObjectStore, name: str) -> None:
    """Through both clients: small objects go by one, large ones by the other."""
    put(store, f"{name}/small", 10)
    put(store, f"{name}/large", LARGE)
    assert store.read(f"{name}/small") == bytes(10)
    assert store.stat(f"{name}/large").size == LARGE


def test_credentials_of_pod_identity_are_renewed(
    pod_identity: Bucket, agent: Agent, s3_server: S3Server
) -> None:
    first, second = key_of(s3_server), key_of(s3_server)
    agent.credentials = first
    prepare_store(pod_identity)
    store = S3Store(pod_identity)
    use(store, "first")
    assert set(agent.handed_out) == {first["AccessKeyId"]}

    agent.credentials = second
    agent.new_token("second")
    s3_server.drop_key(first["AccessKeyId"])
    old = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint,
        aws_access_key_id=first["AccessKeyId"],
        aws_secret_access_key=first["SecretAccessKey"],
    )
    with pytest.raises(old.exceptions.ClientError, match=r"AccessDenied|InvalidAccessKeyId"):
        old.list_objects_v2(Bucket=pod_identity.name)
    use(store, "second")
    assert agent.handed_out[-1] == second["AccessKeyId"]
    assert not agent.turned_away
    s3_server.drop_key(second["AccessKeyId"])


def test_an_agent_that_refuses_makes_the_store_unavailable(
    pod_identity: Bucket, agent: Agent, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # botocore waits a second before each of three attempts.
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0.01)
    with pytest.raises(ConfigurationError, match="who hands out the pod's credentials does not"):
        prepare_store(pod_identity)
    store = S3Store(pod_identity)
    with pytest.raises(StoreUnavailable):
        put(store, "a", 10)
    with pytest.raises(StoreUnavailable):
        put(store, "b", LARGE)
    assert agent.turned_away
    agent.credentials = key_of(s3_server)
    use(store, "now")
    s3_server.drop_key(agent.credentials["AccessKeyId"])


def test_a_token_is_exchanged_for_credentials(
    agent: Agent, bucket: Bucket, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, real = s3_server.session()
    bucket = replace(bucket, endpoint=endpoint)
    agent.credentials = {
        "AccessKeyId": real["AccessKeyId"],
        "SecretAccessKey": real["SecretAccessKey"],
        "Token": real["SessionToken"],
    }
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", agent.url)
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(agent.token_file))
    prepare_store(bucket)
    store = S3Store(bucket)
    use(store, "first")
    agent.new_token("second")
    use(store, "second")
    assert not agent.turned_away
    agent.credentials["Token"] = "of somebody else"
    with pytest.raises(StoreUnavailable, match=r"400|403"):
        put(S3Store(bucket), "third", 10)
