"""The HTTP API: Trove's v1.0 and our extensions; and the service that runs it with everything behind it."""

from strongroom.api.app import create_app
from strongroom.api.service import serve

__all__ = ["create_app", "serve"]
