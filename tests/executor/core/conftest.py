"""What tests of the core share: the fake model server."""

from tests.fakes.fixtures import _model_server, model_server

__all__ = ["_model_server", "model_server"]
