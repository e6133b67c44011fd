"""Every option of the configuration, declared once: one module per section. ``settings`` loads their values.

They are in separate modules because workers need some sections but never read files or the environment, and importing the
library for that takes longer than a small backup.
"""

from strongroom.sections.agent import Agent
from strongroom.sections.artifact import Artifact
from strongroom.sections.datastores import Datastores
from strongroom.sections.encryption import Encryption
from strongroom.sections.flavors import Flavor, default_flavors
from strongroom.sections.hosts import Hosts
from strongroom.sections.identity import Identity
from strongroom.sections.metrics import Metrics
from strongroom.sections.quotas import Quotas
from strongroom.sections.retention import Retention
from strongroom.sections.section import AGENT_PORT, CONTAINER_PATTERN, DEFAULT_PORT, HOST_PATTERN, Section
from strongroom.sections.service import Service
from strongroom.sections.storage import Storage, TokenStorage

__all__ = [
    "AGENT_PORT",
    "CONTAINER_PATTERN",
    "DEFAULT_PORT",
    "HOST_PATTERN",
    "Agent",
    "Artifact",
    "Datastores",
    "Encryption",
    "Flavor",
    "Hosts",
    "Identity",
    "Metrics",
    "Quotas",
    "Retention",
    "Section",
    "Service",
    "Storage",
    "TokenStorage",
    "default_flavors",
]
