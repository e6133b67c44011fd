"""Long-lived duties of servers: each has a wanted state and a process of its own, which is kept alive and outlives the agent."""

from strongroom.agent.duties.duties import DUTY, Duties

__all__ = ["DUTY", "Duties"]
