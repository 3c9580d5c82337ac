"""dtlsffi.core.admission."""
