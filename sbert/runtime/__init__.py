"""The resources of a process: processors, memory, accelerators, and work ahead of its consumer."""
