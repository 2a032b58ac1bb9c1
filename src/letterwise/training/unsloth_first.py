"""How a process begins in which Unsloth trains: with Unsloth, which is to patch libraries before they are imported.

Imports nothing but the standard library before. Knows nothing about the work.
"""

from __future__ import annotations

import pickle
from multiprocessing.connection import Connection


def start(connection: Connection, work: bytes) -> None:
    """Import Unsloth, and only then what the work needs.

    Args:
        connection: the first argument of the function to call.
        work: that function and its other arguments, pickled.
    """
    import unsloth  # noqa: F401

    function, arguments = pickle.loads(work)
    function(connection, *arguments)
