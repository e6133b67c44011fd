"""The commands ``strongroom policy …``."""

from __future__ import annotations

from typing import Annotated, Any, Unpack

import typer

from strongroom.cli.commands.job import SHOW as JOB
from strongroom.cli.commands.policy.settings import LIST, SHOW, Settings, parse_end, pick_settings
from strongroom.cli.connection.completion import complete_names
from strongroom.cli.output.columns import Column
from strongroom.cli.output.remarks import note, warn
from strongroom.cli.session import AllProjects, Session, Wait, Yes, command, confirm
from strongroom.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="Policies: when backups are taken automatically, and which are kept.")

Name = Annotated[
    str, typer.Argument(metavar="POLICY", help="Name or id of the policy.", autocompletion=complete_names("policies"))
]
Databases = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DATABASE]...",
        help="Instances and clusters: names or ids.",
        autocompletion=complete_names("instances", "clusters"),
    ),
]
WholeProject = Annotated[
    bool, typer.Option("--whole-project", help="All databases of the project that have no policy of their own, also future ones.")
]


@command(
    app,
    "create",
    example='strongroom policy create gold --full "sun 02:00" --incremental "daily 02:00" --time-zone Europe/Vienna '
    "--keep-within 7d --keep-daily 14 --keep-weekly 8 --max-age 26h\n"
    'strongroom policy create hourly --incremental hourly --max-chain 24 --keep-last 48 --not-between "08:00-18:00"',
)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new policy.")],
    **options: Unpack[Settings],
) -> None:
    """Create a policy. It does nothing until it is attached."""
    settings = pick_settings(options)
    policy = session.client.post("policies", json={"policy": {"name": name, **settings}}).body["policy"]
    _show(session, policy)
    note(f"It does nothing yet; `strongroom policy attach {name} …` attaches it.")


@command(
    app,
    "update",
    example='strongroom policy update gold --incremental "every 6h" --keep-daily 30\n'
    'strongroom policy update gold --incremental ""',
)
def update(
    session: Session,
    policy: Name,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    **options: Unpack[Settings],
) -> None:
    """Change settings of a policy; what is not given stays. New schedules count from now."""
    changes = pick_settings({"name": name, **options})
    if not changes:
        raise InvalidRequest("there is nothing to change", remedy="Give at least one option, for example --keep-daily 30.")
    _show(session, session.client.patch("policies", policy, json={"policy": changes}).body["policy"])


@command(app, "list", example="strongroom policy list")
def list_(session: Session, all_projects: AllProjects = False) -> None:
    """List policies and what they are attached to."""
    query = {"all_projects": True} if all_projects else {}
    columns = [Column("Project", "project_id"), *LIST] if all_projects else LIST
    session.output.rows(session.client.get("policies", **query)["policies"], columns, noun="policies")


@command(app, "show", example="strongroom policy show gold")
def show(session: Session, policy: Name) -> None:
    """Show one policy: its settings, its next due times, what it is attached to."""
    _show(session, session.client.get("policies", policy)["policy"])


@command(app, "delete", example="strongroom policy delete gold")
def delete(session: Session, policy: Name) -> None:
    """Delete a policy that is attached to nothing. No backup is deleted."""
    session.client.delete("policies", policy)


@command(
    app,
    "attach",
    example="strongroom policy attach gold orders billing\nstrongroom policy attach gold orders --project sales\n"
    "strongroom policy attach silver --project sales --yes\nstrongroom policy attach silver --whole-project",
)
def attach(
    session: Session, policy: Name, databases: Databases = None, whole_project: WholeProject = False, yes: Yes = False
) -> None:
    """Attach a policy to instances and clusters. It replaces the one that was attached.

    With --project NAME and no database, it is attached to the whole project, after a confirmation. A database without a backup
    gets a full one as soon as it serves.
    """
    if not databases and not whole_project and session.named_project is not None:
        which = f"all databases of project {session.named_project} that have no policy of their own, also future ones"
        confirm(f"Attach policy {policy} to {which}?", yes)
        whole_project = True
    _act(session, policy, {"attach": _choose(databases, whole_project)})


@command(app, "detach", example="strongroom policy detach gold orders")
def detach(session: Session, policy: Name, databases: Databases = None, whole_project: WholeProject = False) -> None:
    """Detach a policy. The policy of the project then applies, if there is one. No backup is deleted."""
    _act(session, policy, {"detach": _choose(databases, whole_project)})


@command(app, "pause", example='strongroom policy pause gold --reason "the storage is moved" --until 12h')
def pause(
    session: Session,
    policy: Name,
    reason: Annotated[str, typer.Option(help="Why; shown wherever the policy is.")],
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="2026-12-31, 2026-12-31T07:00 (UTC), or 12h, 3d. Default: until it is resumed."),
    ] = None,
) -> None:
    """Begin no runs of a policy. Those that are due meanwhile are recorded as missed."""
    end = {"until": parse_end(until).isoformat()} if until else {}
    _act(session, policy, {"pause": {"reason": reason, **end}})


@command(app, "resume", example="strongroom policy resume gold")
def resume(session: Session, policy: Name) -> None:
    """End a pause. Runs that were missed are not made up for."""
    _act(session, policy, {"resume": {}})


@command(app, "run", example="strongroom policy run gold --instance orders --full\nstrongroom policy run gold --cluster shop")
def run(
    session: Session,
    policy: Name,
    instance: Annotated[
        str | None, typer.Option("--instance", "-i", help="Name or id.", autocompletion=complete_names("instances"))
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="Name or id.", autocompletion=complete_names("clusters"))] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Take a full backup. Default: an incremental, if the policy takes any.")
    ] = False,
    wait: Wait = True,
) -> None:
    """Take a backup now, as the policy has it and in addition to its schedules."""
    database = instance or cluster
    if database is None or (instance and cluster):
        raise InvalidRequest("one database is required", remedy="Pass either --instance or --cluster.")
    body = {"run": {"database": database, **({"kind": "full"} if full else {})}}
    job = session.finish(session.client.post("policies", policy, "action", json=body).job, wait)
    if job is not None:
        session.output.record(job, JOB)


def _choose(databases: list[str] | None, whole_project: bool) -> dict[str, Any]:
    if not databases and not whole_project:
        raise InvalidRequest("no database was named", remedy="Name instances or clusters, or pass --whole-project.")
    return {"databases": databases or [], "whole_project": whole_project}


def _act(session: Session, policy: str, body: dict[str, Any]) -> None:
    session.client.post("policies", policy, "action", json=body)
    _show(session, session.client.get("policies", policy)["policy"])


def _show(session: Session, policy: dict[str, Any]) -> None:
    session.output.record(policy, SHOW)
    for warning in policy["warnings"]:
        warn(f"Warning: {warning}.")
