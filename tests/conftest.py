"""What all tests share."""

import os

from hypothesis import settings

# CI looks at the same examples every time; locally new ones are tried, and what they find becomes an @example.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")
