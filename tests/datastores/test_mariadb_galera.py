"""The files of a node about its cluster, read as untrusted input, and its options."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strongroom.datastores import GaleraMember, GaleraPosition, Server, Version
from strongroom.datastores.innodb import options as options_module
from strongroom.datastores.mariadb.driver import DATASTORE
from strongroom.datastores.mariadb.galera import config, files, lineage
from strongroom.errors import ConfigurationError, ServerFailed
from support.galera import SCRIPTS

UUID = "8a1e2b3c-0000-4111-8222-0123456789ab"


@pytest.mark.parametrize(
    ("text", "position", "safe"),
    [
        (f"# GALERA saved state\nversion: 2.1\nuuid:    {UUID}\nseqno:   42\nsafe_to_bootstrap: 1\n", f"{UUID}:42", True),
        (f"uuid:    {UUID}\nseqno:   -1\nsafe_to_bootstrap: 0\n", f"{UUID}:-1", False),
        (f"uuid:    {UUID}\n", f"{UUID}:-1", False),
        (f"uuid:    {UUID}\nseqno:   99999999999999999999999\nsafe_to_bootstrap: yes\n", f"{UUID}:-1", False),
        (f"uuid:    {UUID}\nseqno:   12abc\nsafe_to_bootstrap: 10\n", f"{UUID}:-1", False),
    ],
)
def test_saved_state_is_read(tmp_path: Path, text: str, position: str, safe: bool) -> None:
    (tmp_path / "grastate.dat").write_text(text)
    saved = files.read_saved(tmp_path)
    assert saved is not None
    assert (str(saved.position), saved.safe_to_bootstrap) == (position, safe)


@pytest.mark.parametrize("content", [b"", b"safe_to_bootstrap: 1\n", b"uuid: ../../etc\nseqno: 1\n", b"\xff\x00" * 100_000])
def test_an_invalid_saved_state_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "grastate.dat").write_bytes(content)
    (tmp_path / "gvwstate.dat").write_bytes(content)
    assert files.read_saved(tmp_path) is None
    assert files.read_view(tmp_path) is None


def test_a_link_or_a_pipe_instead_of_the_saved_state_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"uuid: {UUID}\n")
    (tmp_path / "grastate.dat").symlink_to(secret)
    with pytest.raises(ConfigurationError):
        files.read_saved(tmp_path)
    os.mkfifo(tmp_path / "gvwstate.dat")
    assert files.read_view(tmp_path) is None  # and it does not wait for a writer


def test_saved_state_is_written_and_read(tmp_path: Path) -> None:
    files.write_saved(tmp_path, GaleraPosition(uuid=UUID, seqno=7), safe_to_bootstrap=True)
    saved = files.read_saved(tmp_path)
    assert saved is not None
    assert (str(saved.position), saved.safe_to_bootstrap) == (f"{UUID}:7", True)
    (tmp_path / "gvwstate.dat").write_text("x")
    files.forget_cluster(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_incomplete_last_view_is_ignored(tmp_path: Path) -> None:
    text = f"my_uuid: {UUID}\n#vwbeg\nview_id: 3 {UUID} 2\nbootstrap: 0\nmember: {UUID} 0\nmember: {'0' + UUID[1:]} 0\n"
    (tmp_path / "gvwstate.dat").write_text(text)
    assert files.read_view(tmp_path) is None
    (tmp_path / "gvwstate.dat").write_text(f"{text}#vwend\n")
    view = files.read_view(tmp_path)
    assert view is not None
    assert view.id == f"3 {UUID} 2"
    assert view.members == ["0" + UUID[1:], UUID]


def server(base: Path, programs: dict[str, Path], **more: object) -> Server:
    return Server(
        id="i",
        datastore="mariadb",
        user="nobody",
        base_dir=base,
        data_dir=base / "data",
        version=Version(datastore="mariadb", series="10.11", number="10.11.18", programs=programs),
        galera=GaleraMember(cluster="shop", node="n2", epoch=3, peers=["127.1.0.1", "127.1.0.2"]),
        **more,  # type: ignore[arg-type]
    )


def test_every_port_of_a_node_is_on_its_own_address(tmp_path: Path) -> None:
    options = config.server_options(
        server(
            tmp_path,
            {"galera": Path("/usr/lib/galera/libgalera_smm.so"), "transfer": SCRIPTS / "wsrep_sst_common"},
            address="127.1.0.2",
            port=3306,
        )
    )
    assert options["wsrep_cluster_name"] == "shop.3"
    assert options["wsrep_cluster_address"] == "gcomm://127.1.0.1,127.1.0.2"
    assert options["wsrep_sst_receive_address"] == "127.1.0.2:4444"
    assert "gmcast.listen_addr=tcp://127.1.0.2:4567" in str(options["wsrep_provider_options"])
    assert "ist.recv_bind=127.1.0.2:4568" in str(options["wsrep_provider_options"])
    assert not any("password" in str(value) for value in options.values())
    text = options_module.format_options("mysqld", options)
    assert 'wsrep_provider_options="' in text  # quoted: it holds semicolons


def test_missing_programs_for_clusters_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="on this host lacks the library of galera-4 and the scripts wsrep_sst"):
        config.server_options(server(tmp_path, {"server": Path("/usr/sbin/mariadbd")}, address="127.1.0.2"))
    with pytest.raises(ConfigurationError, match="no address"):
        config.server_options(server(tmp_path, {"server": Path("/usr/sbin/mariadbd")}))


def test_the_name_on_the_wire_contains_the_epoch() -> None:
    member = GaleraMember(cluster="shop", node="n", epoch=1, peers=[])
    assert member.group != member.model_copy(update={"epoch": 2}).group


def test_lineage_below_and_above_must_agree(tmp_path: Path) -> None:
    assert lineage.ensure_lineage(tmp_path) == lineage.ensure_lineage(tmp_path)  # an empty directory has one as well
    (tmp_path / "mysql").mkdir()
    first = lineage.ensure_lineage(tmp_path)
    assert first == lineage.ensure_lineage(tmp_path)
    (tmp_path / "mysql/strongroom_lineage").write_text("0" * 32 + "\n")  # another node's, sent by rsync
    second = lineage.ensure_lineage(tmp_path)
    assert second not in (first, "0" * 32)
    (tmp_path / "strongroom_lineage").unlink()
    third = lineage.ensure_lineage(tmp_path)
    assert third not in (first, second)
    assert lineage.ensure_lineage(tmp_path, renew=True) != third


def test_only_a_node_may_start_without_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    node = server(tmp_path, {})
    DATASTORE.servers.check_data(node, node.data_dir)
    with pytest.raises(ServerFailed, match="no MariaDB database"):
        DATASTORE.servers.check_data(node.model_copy(update={"galera": None}), node.data_dir)
    (tmp_path / "data/ibdata1").touch()
    with pytest.raises(ServerFailed, match="no MariaDB database"):
        DATASTORE.servers.check_data(node, node.data_dir)
