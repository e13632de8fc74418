"""Changes to a network before it learns: one small file each, each with ``inject_`` that names what it added."""
