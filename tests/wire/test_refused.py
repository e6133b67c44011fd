"""What the stock client prints to users without the necessary role: one sentence, for every kind of log-in."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

from strongroom.identity import User, edit_users, hash_password
from support.keystone import Keystone
from support.service import Service
from support.stock import Stock

PASSWORD = "correct horse battery"


def test_users_from_a_file(serve: Callable[..., Service], stock: Stock, place: Path) -> None:
    users = place / "users.json"
    with edit_users(users) as known:
        known["alice"] = User(password=hash_password(PASSWORD), projects={"shop": "member", "ops": "reader"})
    service = serve(config=f'[identity]\nmethod = "basic"\nuser_file = "{users}"\nattempts = 2\n')

    def as_alice(project: str, password: str = PASSWORD) -> Stock:
        login = {"OS_AUTH_TYPE": "http_basic", "OS_USERNAME": "alice", "OS_PASSWORD": password}
        return stock.with_environment(**login, OS_ENDPOINT=f"{service.url}/v1.0/{project}")

    as_alice("shop")("database instance list")
    as_alice("ops")("database instance list")
    as_alice("ops").refused(403, "role member required", "database backup strategy create --swift-container c")
    as_alice("shop").refused(403, "only administrators", "database backup list --all-projects")
    as_alice("shop").refused(403, "role admin required", "database instance list --all-projects")
    as_alice("shop").refused(403, "only administrators", "database quota show", uuid.uuid4().hex)
    as_alice("lab").refused(403, "no role in project lab", "database instance list")
    for guess in ("one", "two"):
        as_alice("shop", guess).refused(401, "the user or the password is wrong", "database instance list")
    as_alice("shop").refused(413, "too many wrong passwords", "database instance list")


def test_users_from_keystone(serve: Callable[..., Service], stock: Stock, keystone: Keystone, free_port: int) -> None:
    name = f"p-{uuid.uuid4().hex[:8]}"
    project, other = keystone.project(name), keystone.project(f"{name}-other")
    keystone.user("strongroom", ("service", "service"))
    keystone.user("rita", (name, "reader"))
    keystone.user("mallory", (name, "made_up"))
    keystone.forget_endpoint("database")
    keystone.endpoint("database", f"http://127.0.0.1:{free_port}/v1.0/$(project_id)s")
    service = serve(
        config=f"""\
[identity]
method = "keystone"
auth_url = "{keystone.url}"
username = "strongroom"
password = "strongroompw"
token_cache = 0
"""
    )

    def as_user(user: str) -> Stock:
        return stock.with_environment(**keystone.environment(user, name))

    def with_token(token: str, path: str) -> Stock:
        login = {"OS_AUTH_TYPE": "admin_token", "OS_TOKEN": token}
        return stock.with_environment(**login, OS_ENDPOINT=f"{service.url}/v1.0/{path}")

    as_user("rita")("database instance list")
    as_user("rita").refused(403, "role member required", "database backup strategy create --swift-container c")
    as_user("mallory").refused(403, "you have none", "database instance list")
    token = keystone.token("rita", name)
    with_token(token, project)("database instance list")
    with_token(token, other).refused(403, "for another project", "database instance list")
    with_token("gAAAAA" + "B" * 170, project).refused(401, "the token is invalid or has expired", "database instance list")
    keystone.revoke(token)
    with_token(token, project).refused(401, "the token is invalid or has expired", "database instance list")
    kept = keystone.token("rita", name)
    keystone.stop()
    try:
        with_token(kept, project).refused(503, "does not answer", "database instance list")
    finally:
        keystone.start()
