"""How fast dtlsffi is, measured against plain C on the same libssl: see docs/performance.md, run by ci/bench."""
