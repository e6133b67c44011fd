"""Makes the duties of hosts as they are wanted. An agent has the options of its duties only in memory: it gets them again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from strongroom.agent.client import AgentClient
from strongroom.agent.models import DutyRequest, DutyView
from strongroom.errors import NotFound, StrongroomError
from strongroom.flows.archives.wanted import KIND
from strongroom.flows.site import Site

log = structlog.get_logger()

ANSWER = 10.0
"""Seconds for an answer of an agent."""
STOP = 20.0
"""Seconds to wait for the end of a duty that is not wanted any more. Then the agent continues, and is asked again later."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a host should have."""

    wanted: Mapping[str, DutyRequest]
    """By the id of the duty."""
    unwanted: Sequence[str]
    """Ids of duties to remove."""


@dataclass(slots=True)
class Answer:
    """What a host has."""

    duties: dict[str, DutyView] = field(default_factory=dict)
    """By id, those that are wanted."""
    refused: dict[str, StrongroomError] = field(default_factory=dict)
    """By id: why a duty is not as wanted."""
    removed: set[str] = field(default_factory=set)
    error: StrongroomError | None = None
    """Why the host did not answer."""


def carry_out(site: Site, orders: Mapping[str, Orders]) -> dict[str, Answer]:
    """Make the duties of all hosts as ordered, at the same time. Not on the event loop."""

    async def ask_all() -> dict[str, Answer]:
        answers = await asyncio.gather(*(_ask(site, host, order) for host, order in orders.items()))
        return dict(zip(orders, answers, strict=True))

    found: dict[str, Answer] = site.agents.perform(ask_all())
    return found


async def _ask(site: Site, host: str, orders: Orders) -> Answer:
    answer = Answer()
    try:
        agent = site.agents.client(host)
    except NotFound as error:  # it was removed
        return Answer(removed=set(orders.unwanted), error=error)
    if (cause := site.agents.presence.cause(host)) is not None:  # do not wait for it: the state of the others would become old
        return Answer(error=cause)
    try:
        async with asyncio.timeout(ANSWER):
            views = {view.id: view for view in await agent.duties() if view.kind == KIND}
        for duty_id, request in orders.wanted.items():
            await _keep(agent, duty_id, request, views.get(duty_id), answer)
        for duty_id in orders.unwanted:
            await _remove(agent, duty_id, answer)
    except StrongroomError as error:
        answer.error = error
    except TimeoutError:
        answer.error = StrongroomError(f"the agent of host {host} did not answer within {ANSWER:.0f} seconds")
    return answer


async def _keep(agent: AgentClient, duty_id: str, request: DutyRequest, view: DutyView | None, answer: Answer) -> None:
    try:
        if view is None or not view.has_options or view.digest != request.digest or view.wanted != request.wanted:
            async with asyncio.timeout(ANSWER):
                view = await agent.put_duty(duty_id, request)
    except StrongroomError as error:
        answer.refused[duty_id] = error
    else:
        answer.duties[duty_id] = view


async def _remove(agent: AgentClient, duty_id: str, answer: Answer) -> None:
    try:
        async with asyncio.timeout(STOP):
            await agent.delete_duty(duty_id)
    except StrongroomError as error:
        answer.refused[duty_id] = error
    except TimeoutError:
        answer.refused[duty_id] = StrongroomError(f"it did not end within {STOP:.0f} seconds")
    else:
        answer.removed.add(duty_id)
        log.info("a log archive has ended", duty=duty_id)
