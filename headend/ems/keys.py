"""The OSCORE contexts of an EMS, one an EMA. Imported only where ``oscore_dir`` names them."""

from __future__ import annotations

from pathlib import Path

from gateway.errors import OperatorError
from gateway.transport.oscore_files import contexts_in
from headend.ems.settings import EmsSettings

try:
    from gateway.transport.oscore import Keys
except ImportError as err:
    raise OperatorError(f"oscore_dir: needs {err.name}: pip install 'smartema[oscore]'") from err


def keys_of(settings: EmsSettings) -> Keys:
    """Raise ``OperatorError`` for a folder that will not do; its contexts are opened with the head."""
    try:
        return Keys(contexts_in(Path(settings.oscore_dir)))
    except OperatorError as err:
        raise OperatorError(f"oscore_dir: {err}") from None
