"""dtlsffi.core.draining."""
