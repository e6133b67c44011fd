"""What an operator's Kolla wrote in a dozen steps is restored to a whole cluster in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.cluster import Shop, cluster_service
from support.foreign import Source
from support.service import Service

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with cluster_service() as service:
        yield service


def test_a_full_and_an_incremental_of_kolla_restore_to_all_nodes(service: Service) -> None:
    shop = Shop(service)
    volume = service.place / "mariadb_backup"
    full = volume / "mysqlbackup-10-12-2021-1639166052.qp.xbc.xbs.gz"
    child = volume / "incremental-20-mysqlbackup-10-12-2021-1639169695.qp.xbc.xbs.gz"
    source = Source(service, service.get(f"/instances/{shop.ids[2]}")["instance"])
    source.stream(full, "--history=10-12-2021", format="mbstream")
    wanted = shop.write("in the incremental")
    source.stream(child, "--incremental-history-name=10-12-2021", "--history=10-12-2021", format="mbstream")
    assert shop.write("lost") != wanted

    service.cli("backup", "import", str(full), "--name", "full")
    service.cli("backup", "import", str(child), "--name", "child", "--parent", "full")
    before = shop.view["uuid"]
    shop.restore("child")
    shop.require(wanted)
    assert shop.view["uuid"] != before
    assert shop.backup("own")["status"] == "COMPLETED"
