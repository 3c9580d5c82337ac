"""The programs that are measured. Each takes a role and the options of the reference in C, and prints lines of JSON."""
