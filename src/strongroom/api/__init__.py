"""The HTTP API (Trove's v1.0 with extensions), and the service process."""

from strongroom.api.app import create_app
from strongroom.api.service import serve

__all__ = ["create_app", "serve"]
