"""Settings: what the file and the environment may say, and the one line that names a mistake."""

from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from gantry_domain.errors import ConfigurationError
from gantry_domain.object_place import Bucket
from gantry_runtime.settings import Settings, load_settings

Load = Callable[..., Settings]


def test_an_empty_environment_means_the_embedded_default(tmp_path: Path) -> None:
    settings = load_settings({"GANTRY_DATA": str(tmp_path), "PATH": "/bin"})
    assert settings.ae_titles == ("GANTRY",)
    assert settings.listen.address == "127.0.0.1"
    assert settings.objects_place == tmp_path / "objects"
    assert settings.ports.dimse == 11112
    assert settings.ports.http == 8080
    assert settings.unknown_partners.store == "accept"


def test_bulk_data_wait_where_there_is_room(load: Load, tmp_path: Path) -> None:
    """In memory, which /tmp may be, only where nothing better is known."""
    assert load_settings({"GANTRY_DATA": str(tmp_path)}).spool == tmp_path / "spool"
    assert load("objects: s3://bucket").spool is None
    assert load("{objects: s3://bucket, http: {spool: room}}").spool == tmp_path / "room"
    assert load("http: {spool: /var/room}").spool == Path("/var/room")


def test_all_of_a_file_arrives(load: Load, tmp_path: Path) -> None:
    settings = load(
        """
        ae_titles: [GANTRY, OLDGATEWAY]
        timezone: Asia/Hong_Kong
        database: postgresql://gantry@db.example:5433/pacs?sslmode=require
        broker: redis://redis.example:6379/2
        objects: store
        listen: {address: 127.0.0.2, tls_port: 2762, query_tls_port: 2763,
                 tls_certificate: own.pem, tls_key: /k/own.key, tls_ca: ca.pem,
                 proxies: [10.9.0.0/16]}
        partners:
          - {ae_title: CT01, certificate: [ct01.example], hosts: [10.1.2.0/24, "fd00::1"],
             charset: GB18030, partition: north,
             duplicates: take_last}
          - {ae_title: READING, address: "reading.example:11112", calling_ae: GANTRYOUT,
             max_associations: 2, transfer_syntaxes: [1.2.840.10008.1.2]}
        unknown_partners: refuse
        worker: {processes: 3, batch: 50}
        ingress: {processes: 4, max_associations: 7, acse_timeout: 500ms, dimse_timeout: 2m,
                  network_timeout: 1h, max_pdu: 16384, max_object_size: 3GiB, store_patience: 5s,
                  sop_classes: [1.2.3.4.5], max_associations_per_ae: 3, max_pdu_sent: 8192,
                  send_timeout: 4s, max_associations_per_host: 5, minimum_rate: 0}
        sweep: {after: 10s, every: 2s, limit: 5}
        """,
        GANTRY_PORT_BASE="300",
        GANTRY_TLS_KEY_PASSWORD="hush",
        GANTRY_DATABASE_PASSWORD="p@ss/word",
        GANTRY_BROKER_PASSWORD="s:cret",
    )
    assert settings.ae_titles == ("GANTRY", "OLDGATEWAY")
    assert settings.zone.key == "Asia/Hong_Kong"
    assert (
        settings.database_url
        == "postgresql+psycopg://gantry:p%40ss%2Fword@db.example:5433/pacs?sslmode=require"
    )
    assert settings.broker_url == "redis://:s%3Acret@redis.example:6379/2"
    assert settings.objects_place == tmp_path / "store"
    assert settings.partners[0].hosts == (ip_network("10.1.2.0/24"), ip_network("fd00::1"))
    assert settings.tls == (tmp_path / "own.pem", Path("/k/own.key"), tmp_path / "ca.pem")
    assert settings.tls_key_password is not None
    assert settings.tls_key_password.get_secret_value() == "hush"
    assert settings.listen.proxies == (ip_network("10.9.0.0/16"),)
    assert settings.partners[0].certificate == ("ct01.example",)
    assert settings.partners[0].duplicates == "take_last"
    assert settings.partners[1].partition == "main"
    assert settings.partners[1].hosts is None
    assert settings.unknown_partners.store == "refuse"
    assert settings.ingress.acse_timeout == timedelta(milliseconds=500)
    assert settings.ingress.max_object_size == 3 * 2**30
    assert settings.ingress.max_associations_per_ae == 3
    assert settings.ingress.max_associations_per_host == 5
    assert (settings.ingress.minimum_rate, settings.query.minimum_rate) == (0, 1024)
    assert settings.ingress.max_pdu_sent == 8192
    assert settings.ingress.send_timeout == timedelta(seconds=4)
    assert settings.partners[1].max_associations == 2
    assert settings.partners[1].transfer_syntaxes == ("1.2.840.10008.1.2",)
    assert settings.ingress.sop_classes == ("1.2.3.4.5",)
    assert settings.sweep.every == timedelta(seconds=2)
    assert settings.ports.ingress_metrics == 9401


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("broker: redis://r/0\ningress: {max_associations_per_ae: 3}", True),
        ("broker: redis://r/0\ningress: {max_associations_per_host: 3}", True),
        ("broker: redis://r/0\npartners: [{ae_title: A, max_associations: 3}]", True),
        ("broker: redis://r/0", False),
        (
            "broker: redis://r/0\ningress: {max_associations_per_ae: 3, cluster_limits: false}",
            False,
        ),
        ("ingress: {max_associations_per_ae: 3}", False),
        ("ingress: {max_associations_per_ae: 3, cluster_limits: true}", True),
    ],
)
def test_limits_of_callers_hold_in_the_cluster_where_there_may_be_one(
    load: Load, text: str, shared: bool
) -> None:
    settings = load(text)
    assert settings.limits_in_cluster(settings.ingress) is shared


def test_the_object_store_may_be_a_bucket(load: Load, tmp_path: Path) -> None:
    plain = load("objects: s3://images").objects_place
    assert isinstance(plain, Bucket)
    assert (plain.name, plain.prefix, plain.endpoint) == ("images", "", None)
    assert not plain.path_style
    assert not plain.create
    told = load(
        """
        objects:
          url: s3://images/north/main
          endpoint: https://rgw.example:7480
          region: hk-1
          ca_file: ca.pem
          timeout: 5s
          create: true
          versioning: true
          encryption: aws:kms
          kms_key: our-key
        """
    ).objects_place
    assert told == Bucket(
        name="images",
        prefix="north/main",
        endpoint="https://rgw.example:7480",
        region="hk-1",
        path_style=True,
        ca_file=tmp_path / "ca.pem",
        timeout=5.0,
        create=True,
        versioning=True,
        encryption="aws:kms",
        kms_key="our-key",
    )
    assert str(told) == "s3://images/north/main"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 131072),
        ("ingress: {max_pdu: 48KiB}", 49152),
        ("ingress: {max_pdu: 49152}", 49152),
        ("ingress: {max_pdu: 0}", 0),
    ],
)
def test_the_largest_pdu(load: Load, text: str, expected: int) -> None:
    assert load(text).ingress.max_pdu == expected


def test_the_broker_may_be_a_socket(load: Load) -> None:
    settings = load("broker: redis+socket:///run/redis.sock", GANTRY_BROKER_PASSWORD="x")
    assert settings.broker_url == "redis+socket://:x@/run/redis.sock"


def test_settings_do_not_change(load: Load) -> None:
    with pytest.raises(ValidationError):
        load().port_base = 100


def test_secrets_are_not_shown(load: Load) -> None:
    settings = load(
        "database: postgresql://u@h/d",
        GANTRY_DATABASE_PASSWORD="hush",
        GANTRY_TLS_KEY_PASSWORD="hush",
        GANTRY_DIMSE_PASSCODES='{"ct01": "hush"}',
        GANTRY_DIMSE_JWT_SECRET="hush",
    )
    assert settings.dimse_passcodes["ct01"].get_secret_value() == "hush"
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ae_title: [X]", "ae_title: unknown key, did you mean ae_titles?"),
        (
            "partners: [{ae_title: CT01, adress: 'x:1'}]",
            "partners[0].adress: unknown key, did you mean address?",
        ),
        ("sweep: {evry: 5s}", "sweep.evry: unknown key, did you mean every?"),
        ("zzz: 1", "zzz: unknown key; known are ae_titles, auth,"),
        ("data: /x", "data: unknown key"),
        ("port_base: 100", "port_base: unknown key"),
        ("database_password: x", "database_password: unknown key, did you mean database?"),
        ("partners: [{hosts: [10.0.0.1]}]", "partners[0].ae_title: is required"),
        ("ae_titles: [THISTITLEISTOOLONG]", "an AE title has 1 to 16 characters, this has 18"),
        (r"ae_titles: ['A\B']", "no backslash"),
        ("ae_titles: [' A']", "neither begins nor ends with a space"),
        ("ae_titles: [NO]", "ae_titles[0]: must be text (in quotes"),
        ("ae_titles: []", "ae_titles: must have at least 1 item"),
        ("ae_titles: [A, A]", "listed twice"),
        ("ae_titles: GANTRY", "ae_titles: must be a list"),
        ("partners: [{ae_title: A}, {ae_title: A}]", "the partner A is listed twice"),
        ("partners: [{ae_title: A, hosts: [10.0.0.1/24]}]", "has host bits set"),
        ("partners: [{ae_title: A, hosts: []}]", "admits nobody"),
        ("partners: [{ae_title: A, charset: UTF-8}]", "no defined term of Specific Character Set"),
        ("partners: [{ae_title: A, partition: North}]", "small letters"),
        ("partners: [{ae_title: A, address: host}]", "is not host:port"),
        ("partners: [{ae_title: A, address: 'host:99999'}]", "is not host:port"),
        ("partners: [{ae_title: A, transfer_syntaxes: []}]", "accepts nothing"),
        ("partners: [{ae_title: A, transfer_syntaxes: [1.2.3.4]}]", "1.2.3.4 is no transfer"),
        ("ingress: {sop_classes: ['1.02.3']}", "ingress.sop_classes[0]: '1.02.3' is no UID"),
        ("ingress: {accept_classes: []}", "ingress.accept_classes: an empty list accepts nothing"),
        ("ingress: {accept_classes: [1.2.3]}", "accept_classes: 1.2.3 is no storage class that is"),
        ("partners: [{ae_title: A, accept_classes: [1.2.3]}]", "partners[0].accept_classes: 1.2.3"),
        ("partners: [{ae_title: A, may: [query]}]", "may[0]: must be 'store', 'find', 'move',"),
        ("partners: [{ae_title: A, duplicates: maybe}]", "must be 'keep_first' or 'take_last'"),
        ("timezone: Mars/Olympus", "is no time zone"),
        ("database: mysql://x/y", "database: write a URL such as postgresql://"),
        ("database: postgresql://u:hush@h/d", "put it in GANTRY_DATABASE_PASSWORD"),
        ("database: postgresql://h/d?password=hush", "put it in GANTRY_DATABASE_PASSWORD"),
        ("broker: redis://:hush@h/0", "put it in GANTRY_BROKER_PASSWORD"),
        ("broker: amqp://h", "broker: write a URL such as redis://"),
        ("objects: http://bucket", "objects.url: 'http://bucket' is not s3://bucket"),
        ("objects: s3://Bucket", "is not s3://bucket or s3://bucket/prefix"),
        ("objects: s3://bucket/a//b", "is not s3://bucket or s3://bucket/prefix"),
        ("objects: ' '", "objects.folder: write the path of a folder"),
        ("objects: {}", "objects: write either a folder or the url of a bucket"),
        ("objects: {folder: a, region: b}", "objects: a folder needs no other keys"),
        ("objects: {url: s3://bucket, end_point: x}", "did you mean endpoint?"),
        ("objects: {url: s3://bucket, endpoint: rgw}", "is not the start of a web address"),
        ("objects: {url: s3://bucket, access_key: x}", "objects.access_key: unknown key"),
        ("objects: {url: s3://bucket, encryption: rot13}", "objects.encryption: must be"),
        ("objects: {url: s3://bucket, kms_key: x}", "kms_key belongs to the encryption aws:kms"),
        ("listen: {address: localhost}", "listen.address: 'localhost' is no IP address"),
        ("listen: {tls_port: 2762}", "listen: tls_port needs tls_certificate and tls_key"),
        ("listen: {query_tls_port: 2763}", "listen: query_tls_port needs tls_certificate"),
        (
            "listen: {tls_port: 1, query_tls_port: 1, tls_certificate: a, tls_key: b}",
            "tls_port and query_tls_port are one port",
        ),
        ("listen: {tls_key: x}", "of no use without tls_port"),
        ("ingress: {minimum_rate: -1}", "ingress.minimum_rate"),
        ("partners: [{ae_title: A, certificate: [x]}]", "listen.tls_ca does not say who signs"),
        ("listen: {address: 0.0.0.0}", "write `auth: none`"),
        ("sweep: {after: 5}", "sweep.after: write a duration with its unit"),
        ("sweep: {after: 0s}", "sweep.after: a duration is more than zero"),
        ("ingress: {max_object_size: 3 GB!}", "ingress.max_object_size: write a size"),
        ("ingress: {max_pdu: 4095}", "ingress.max_pdu: write 4KiB to 16MiB, or 0 for unlimited"),
        ("ingress: {max_pdu: 17MiB}", "ingress.max_pdu: write 4KiB to 16MiB, or 0 for unlimited"),
        ("query: {max_pdu: false}", "query.max_pdu: write a size"),
        ("ingress: {store_patience: 6m}", "ingress.store_patience: at most 5m"),
        ("hl7: {mapping: {AccesionNumber: [OBR-18]}}", "AccesionNumber is no attribute"),
        ("hl7: {mapping: {AccessionNumber: ['OBR:18']}}", "'OBR:18' is no path of HL7"),
        ("hl7: {ignore: [oru]}", "'oru' is no type of message"),
        ("hl7: {charset: BIG6}", "hl7.charset: 'BIG6' is no defined term"),
        ("worklist: {stations: [{modality: CT}]}", "worklist.stations[0].ae_titles"),
        ("ingress: {processes: 0}", "ingress.processes: must be greater than or equal to 1"),
        ("ingress: {processes: '2'}", "ingress.processes: must be a valid integer"),
        ("worker: 3", "worker: must be a mapping"),
        ("unknown_partners: maybe", "unknown_partners.store: must be 'accept' or 'refuse'"),
        ("- a\n- b", "must be a mapping of keys to values"),
        ("a: [", "line 1:"),
        ("broker: null\nbroker: null", "line 2: the key broker is written twice"),
        ("\x00", "is no YAML text"),
    ],
)
def test_a_mistake_is_one_line_with_the_file_and_the_key(
    load: Load, tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'gantry.yaml'}: ")
    assert expected in line
    assert "\n" not in line
    assert "hush" not in line


@pytest.mark.parametrize("text", ["hush", "[]", "{}", '{"a": 1}', '{"hush": ""}', '{"": "hush"}'])
def test_passcodes_are_a_mapping_and_not_shown(load: Load, text: str) -> None:
    with pytest.raises(ConfigurationError, match="GANTRY_DIMSE_PASSCODES must be") as caught:
        load(GANTRY_DIMSE_PASSCODES=text)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_identity_that_nobody_can_prove_is_not_required(load: Load) -> None:
    with pytest.raises(ConfigurationError, match=r"user_identity\.required: nobody could prove"):
        load("user_identity: {required: true}")
    settings = load("user_identity: {required: true}", GANTRY_DIMSE_JWT_SECRET="x")
    assert settings.user_identity.required


def test_the_open_door_can_be_written_out(load: Load) -> None:
    assert not load("listen: {address: 0.0.0.0}\nauth: none").listen.loopback


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_settings({"GANTRY_CONFIG": str(tmp_path / "nowhere.yaml")})


@pytest.mark.parametrize("name", ["GANTRY_PORTBASE", "GANTRY_CONFG", "GANTRY_SERVICE_HOST"])
def test_an_unknown_name_in_the_environment_is_refused(load: Load, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} in the environment means nothing"):
        load(**{name: "1"})


@pytest.mark.parametrize("base", ["50", "-100", "20100", "x", "1e3", "²00"])
def test_a_port_base_is_a_small_multiple_of_100(load: Load, base: str) -> None:
    with pytest.raises(ConfigurationError, match="GANTRY_PORT_BASE"):
        load(GANTRY_PORT_BASE=base)


def test_data_is_never_kept_in_the_source_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert load_settings({"HOME": "/home/x"}).data == Path("/home/x/.local/share/gantry")
    settings = load_settings({"HOME": "/home/x", "XDG_DATA_HOME": "/somewhere"})
    assert settings.data == Path("/somewhere/gantry")
    with pytest.raises(ConfigurationError, match="name a folder in GANTRY_DATA"):
        load_settings({"HOME": ""})
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert load_settings({}).data == Path("/var/lib/gantry")


def test_the_embedded_urls_need_a_first_start(load: Load) -> None:
    settings = load()
    with pytest.raises(ConfigurationError, match="nothing was ever started in"):
        _ = settings.database_url
    secrets = settings.data / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "database").write_text("abc\n")
    (secrets / "broker").write_text("def\n")
    assert settings.database_url.startswith("postgresql+psycopg://gantry:abc@/gantry?host=")
    assert settings.broker_url.startswith("redis+socket://:def@/")


def test_a_long_data_folder_still_has_short_sockets(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    places = load_settings({"GANTRY_DATA": str(long)}).embedded
    assert len(str(places.postgres_sockets / ".s.PGSQL.5432")) < 108
    assert places.run == load_settings({"GANTRY_DATA": str(long)}).embedded.run
    other = load_settings({"GANTRY_DATA": str(tmp_path / ("y" * 100))}).embedded
    assert other.run != places.run


@pytest.mark.parametrize(
    ("text", "strangers_may"),
    [
        ("", True),
        ("listen: {address: 0.0.0.0}\nauth: none", False),
        ("listen: {address: 0.0.0.0}\nauth: none\nunknown_partners: accept", True),
        ("listen: {address: 0.0.0.0}\nauth: none\nunknown_partners: {query: accept}", True),
        ("unknown_partners: {store: refuse}", True),
        ("unknown_partners: refuse", False),
        ("unknown_partners: {query: refuse}", False),
    ],
)
def test_who_may_query(load: Load, text: str, strangers_may: bool) -> None:
    assert load(text).strangers_may_query is strangers_may


def test_the_door_of_queries_has_limits_of_its_own(load: Load) -> None:
    settings = load("query: {processes: 1, max_associations: 9, max_matches: 500}")
    assert (settings.query.processes, settings.query.max_associations) == (1, 9)
    assert settings.query.max_matches == 500
    assert settings.ingress.max_associations == 100
    assert load().query.max_matches is None
