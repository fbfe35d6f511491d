"""What the machine gives a process: processors, memory, accelerators, and work ahead of its consumer."""
