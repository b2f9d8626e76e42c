"""The spec as bytes, for the links between our processes: compact JSON.

Queues keep the order of the file, which is the order in which pools start.
"""

from __future__ import annotations

import msgspec

from supervisor.config.spec import Spec
from supervisor.errors import ConfigError

_encoder = msgspec.json.Encoder()
_spec_decoder = msgspec.json.Decoder(Spec)


def encode(spec: Spec) -> bytes:
    """The whole spec as JSON."""
    return _encoder.encode(spec)


def decode(data: bytes) -> Spec:
    """The spec that `encode` wrote.

    Raises:
        ConfigError: the bytes are no spec of this version.
    """
    try:
        return _spec_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"this is no encoded configuration: {error}") from error
