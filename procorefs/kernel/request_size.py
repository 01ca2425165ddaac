"""How much the kernel asks for in one READ: what it reads ahead, which for FUSE is 128 KiB unless root says more.

A READ costs the daemon the same whether it carries 128 KiB or 1 MiB, so programs that read on and on get twice the
throughput. Single reads stay as small as they are: the kernel's window starts small and grows with sequential reading.
(Documentation/ABI/testing/sysfs-class-bdi, read_ahead_kb)
"""

import logging
from pathlib import Path

log = logging.getLogger(__name__)

READ_AHEAD_KIB = 1024
"""As much as one FUSE request can carry (max_pages is 256)."""


def widen_read_ahead(device: bytes) -> None:
    """Let the kernel read ahead further in the mount of this device number ("0:43"); where it may not, nothing happens.

    To be called after the kernel's INIT was answered, which sets the window anew.
    """
    setting = Path(f"/sys/class/bdi/{device.decode()}/read_ahead_kb")
    try:
        setting.write_text(f"{READ_AHEAD_KIB}\n")
    except OSError as error:
        log.debug("The kernel reads ahead as it does by default (%s: %s).", setting, error.strerror)
