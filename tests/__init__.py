"""A package, since textstat installs one called `tests` too: without this file Python would take that one."""
