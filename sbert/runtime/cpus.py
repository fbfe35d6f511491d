"""Processors that this process may use. Imports nothing large: the command line asks before it loads anything."""

import math
import os
from pathlib import Path

__all__ = ["available_cpus", "processor_units", "processor_vendor"]

CPU_INFO = Path("/proc/cpuinfo")
CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
CGROUP_V1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def available_cpus() -> int:
    """Return the processors this process may use: the container's quota and the affinity mask, not the host's count."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, min(allowed, math.ceil(quota))) if quota is not None else allowed


def processor_vendor() -> str:
    """Return the name of the processor's maker, such as ``AuthenticAMD``; an empty string where the system does not say."""
    return _processor_field("vendor_id")


def processor_units() -> str:
    """Return the names of all units of the processor; an empty string where the system does not say."""
    return _processor_field("flags", "Features")  # the second is the name on arm64


def _processor_field(*names: str) -> str:
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in fields if name.strip() in names), "")


def _cpu_quota() -> float | None:
    try:
        if CGROUP_V2.is_file():
            limit, period = CGROUP_V2.read_text(encoding="ascii").split()[:2]
            return None if limit == "max" else int(limit) / int(period)
        limit, period = (path.read_text(encoding="ascii").strip() for path in (CGROUP_V1, CGROUP_V1_PERIOD))
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None  # no such control group here, or one that says something else
