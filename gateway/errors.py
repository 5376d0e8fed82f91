"""One small tree of errors, by who must act (docs/architecture.md, rule 11)."""


class SmartemaError(Exception):
    """Anything that smartema itself raises on purpose; its text is one line for a person."""


class OperatorError(SmartemaError):
    """The operator must change something: configuration, file, permission, missing program."""


class PeerError(SmartemaError):
    """A peer sent what its protocol does not allow; the text names the field and what it held."""


class TransientError(SmartemaError):
    """Nobody must act: a link is down, a peer is slow. It is tried again."""
