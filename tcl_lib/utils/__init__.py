"""Files, devices, provenance and notebooks: what any study needs, nothing of this one."""
