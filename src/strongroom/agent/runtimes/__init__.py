"""The ways in which database servers run on a host: a new one is a module here, and a line in ``Lifecycle``."""

from strongroom.agent.runtimes.home import Home
from strongroom.agent.runtimes.lifecycle import JOIN, Lifecycle
from strongroom.agent.runtimes.protocol import Launch, Runtime

__all__ = ["JOIN", "Home", "Launch", "Lifecycle", "Runtime"]
