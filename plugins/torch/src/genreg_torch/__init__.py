"""What torch families share: one loop that loses nothing, devices, precision, strict loading.

``settings`` and ``schedules`` import no torch, so that a family can be described without it; ``loop``, ``weights``,
``moment``, ``memory`` and ``devices`` do.
"""

__version__ = "0.1.0"
